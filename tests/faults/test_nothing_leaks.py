"""Plaintext and key names are on no storage disk; secrets are in no log."""

import base64
import os
import uuid

from harness.cluster import Cluster

MIB = 1 << 20


def occurrences(directory, needles):
    """Files below `directory` that hold one of the needles."""
    found = []
    for path in directory.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        found += [(str(path), needle) for needle in needles if needle in data]
    return found


def test_canary_is_on_no_storage_disk_and_no_secret_in_any_log(tmp_path):
    canary = f"CANARY-{uuid.uuid4()}".encode()
    name = f"key-name-{uuid.uuid4()}"
    with Cluster(tmp_path, log="debug") as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="canary-bucket")
        for size in (1_000, 100_000, 2 * MIB):
            body = (canary * (size // len(canary) + 1))[:size]
            client.put_object(Bucket="canary-bucket", Key=f"{name}/{size}", Body=body,
                              Metadata={"note": canary.decode()})
            assert client.get_object(Bucket="canary-bucket", Key=f"{name}/{size}")[
                "Body"].read() == body
        url = client.generate_presigned_url(
            "get_object", Params={"Bucket": "canary-bucket", "Key": f"{name}/1000"})
        import urllib.request
        assert urllib.request.urlopen(url).status == 200
        signature = url.split("X-Amz-Signature=")[1][:64].encode()

        # It can be found where it is not encrypted: the search itself works.
        (tmp_path / "plain").mkdir()
        (tmp_path / "plain" / "file").write_bytes(b"x" * 100 + canary)
        assert occurrences(tmp_path / "plain", [canary])

        for disk in cluster.disks.values():
            assert sum(p.stat().st_size for p in disk.rglob("*")) > 100_000
            assert occurrences(disk, [canary, name.encode(), b"canary-bucket"]) == []
        for member in cluster.names("meta"):
            assert occurrences(tmp_path / member / "metadata", [canary]) == []

        root = cluster.root_key.read_text().strip()
        secrets = [cluster.keys[1].encode(), root.encode(), bytes.fromhex(root),
                   base64.b64encode(bytes.fromhex(root)), canary, signature]
        for process in cluster.processes.values():
            log = process.log.read_bytes()
            assert log, process.name
            for secret in secrets:
                assert secret not in log, f"{process.name} logs a secret: {secret[:12]}…"
        assert os.stat(cluster.root_key).st_mode & 0o077 == 0
