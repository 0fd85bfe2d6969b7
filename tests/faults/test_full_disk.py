"""Full disks: writes are refused with S3's error, nothing is lost, deletes make room again."""

import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from harness.cluster import Cluster, Writers
from harness.process import wait_until

MIB = 1 << 20
DISK = 256 * MIB
SIZE = 4 * MIB
AT_ONCE_S = 1.5


def refused_after(client):
    """The seconds until a PUT is answered that there is no room."""
    began = time.monotonic()
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket="full", Key="no-room", Body=Writers.body("no-room", SIZE))
    assert "have room for new objects" in refused.value.response["Error"]["Message"]
    return time.monotonic() - began


@pytest.fixture
def small_disks():
    """Mounts a small file system on each disk's directory."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount small file systems")
    mounted = []

    def mount(path):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)],
            capture_output=True, text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"can't mount a tmpfs here: {done.stderr.strip()}")
        mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


def test_full_disks_refuse_writes_keep_reads_and_come_back_by_deletes(tmp_path, small_disks):
    cluster = Cluster(tmp_path, metadata=1, storage=3, gateways=1, prepare_disk=small_disks)
    with cluster:
        client = cluster.client()
        client.create_bucket(Bucket="full")
        kept = []
        refusal = None
        for number in range(2 * DISK // SIZE):
            key = f"o{number:04}"
            try:
                client.put_object(Bucket="full", Key=key, Body=Writers.body(key, SIZE))
                kept.append(key)
            except ClientError as error:
                refusal = error
                break
        assert refusal is not None, "disks of 256 MiB can't hold 512 MiB"
        assert len(kept) > 10
        meta = refusal.response["ResponseMetadata"]
        assert meta["HTTPStatusCode"] in (503, 507), refusal
        assert refusal.response["Error"]["Code"] in ("SlowDown", "ServiceUnavailable",
                                                     "InsufficientStorage"), refusal

        # Named in status, and everything that was acknowledged is there.
        def told():
            code, status = cluster.status()
            return code > 0 and status["reasons"]

        reasons = wait_until("status says why", told, 20, every_s=0.3)
        assert any("full" in reason for reason in reasons), reasons
        for key in kept:
            assert client.get_object(Bucket="full", Key=key)["Body"].read() == Writers.body(
                key, SIZE), key
        # A client may wait for disks that were full just now, and none waits after it.
        taken = [refused_after(client) for _ in range(3)]
        assert taken[0] < 10 and max(taken[1:]) < AT_ONCE_S, taken
        # Small objects live with the metadata and need no disk.
        client.put_object(Bucket="full", Key="small", Body=b"still works")

        # After a restart on full disks everything can still be read.
        for name in cluster.names("store"):
            cluster.processes[name].stop()
        cluster.start(cluster.names("store"))
        wait_until("the nodes have opened their disks", cluster.opened, 30)
        cluster_heard = lambda: all(n["alive"] for n in cluster.status()[1]["nodes"])  # noqa: E731
        wait_until("the nodes are back", cluster_heard, 30, every_s=0.3)
        assert client.get_object(Bucket="full", Key=kept[0])["Body"].read() == Writers.body(
            kept[0], SIZE)

        # Deletes work on full disks and make room.
        gone, kept = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        for key in gone:
            client.delete_object(Bucket="full", Key=key)

        def writes():
            client.put_object(Bucket="full", Key="again", Body=Writers.body("again", SIZE))
            return True

        wait_until("writes are taken again", writes, 60, every_s=0.5)
        for key in [*kept, "again"]:
            assert client.get_object(Bucket="full", Key=key)["Body"].read() == Writers.body(
                key, SIZE), key
