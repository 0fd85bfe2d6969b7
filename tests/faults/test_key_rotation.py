"""Rotation of key-encryption keys while clients write, and with everything killed in its midst."""

import json
import os
import random
import re
import shutil
import subprocess
import urllib.request

import pytest

from harness.cluster import Cluster, Writers
from harness.expect import MIB, PART, content, same
from harness.process import BINARY, run, wait_until

OBJECTS = int(os.environ.get("MEGALITH_ROTATION_OBJECTS", "600"))
# So many kills must be proven to have fallen between two steps, within so many rotations.
KILLS = int(os.environ.get("MEGALITH_ROTATION_KILLS", "2"))
ROTATIONS_MAX = 10 * KILLS


def keys(cluster):
    """What `status` says of the rotation; None if there was none."""
    return cluster.status()[1]["keys"]


def checked(cluster):
    """No row contradicts another: no record names a key that is gone, and the counts are right."""
    done = run("check", "--config", cluster.operator, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def versions(cluster):
    done = run("key", "check", "-o", "json", "--config", cluster.operator)
    return json.loads(done.stdout)["kek_versions"]


def second_account(cluster):
    """An account with a key that was disabled: its record is sealed, too."""
    run("account", "create", "other", "--config", cluster.operator)
    made = run("key", "create", "--account", "other", "-o", "json", "--config", cluster.operator)
    key = json.loads(made.stdout)["access_key"]
    run("key", "disable", key, "--config", cluster.operator)
    return key


def written(cluster, count):
    with Writers(cluster, "box", sizes=(100, 100, 100, 100, 70_000, 300_000)) as writers:
        wait_until("objects are acknowledged", lambda: len(writers.acknowledged) >= count, 120)
    return writers


def test_rotations_killed_between_two_steps_lose_nothing(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=3, gateways=2) as cluster:
        s3 = cluster.client()
        s3.create_bucket(Bucket="box")
        second_account(cluster)
        body = content("parts", PART + MIB)
        upload = s3.create_multipart_upload(Bucket="box", Key="parts")["UploadId"]
        name = {"Bucket": "box", "Key": "parts", "UploadId": upload}
        first = s3.upload_part(**name, PartNumber=1, Body=body[:PART])["ETag"]
        before = written(cluster, OBJECTS)
        begun_amid_kills(cluster)

        proven = []
        for _ in range(ROTATIONS_MAX):
            while not ended(cluster):
                proven += killed(cluster, before)
            checked(cluster)
            before.verify()
            at = keys(cluster)
            assert (at["left"], at["closed"], at["passed_all"]) == (0, 0, True)
            assert versions(cluster) == [at["version"]]
            if len(proven) >= KILLS:
                break
            run("key", "rotate", "--grace-seconds", "1", "--config", cluster.operator)
        print(f"killed between two steps, with so many rows sealed again: {proven}")
        assert len(proven) >= KILLS, proven

        # The upload was begun under the first key.
        second = s3.upload_part(**name, PartNumber=2, Body=body[PART:])["ETag"]
        parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
        s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
        same(s3.get_object(Bucket="box", Key="parts")["Body"].read(), body)
        assert len(s3.list_buckets()["Buckets"]) == 1
        before.verify("gateway-2")


def begun_amid_kills(cluster):
    """Begins a rotation by a command that dies somewhere; if it has begun nothing, it is run again.
    """
    for _ in range(20):
        begun = subprocess.Popen([BINARY, "key", "rotate", "--grace-seconds", "1",
                                  "--config", cluster.operator],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            begun.wait(timeout=random.random() * 0.4)
        except subprocess.TimeoutExpired:
            begun.kill()
            begun.wait()
        if keys(cluster) is not None:
            break
    assert keys(cluster)["version"] == 2
    again = run("key", "rotate", "--grace-seconds", "1", "--config", cluster.operator, check=False)
    assert again.returncode != 0 or keys(cluster)["version"] == 3


def killed(cluster, before):
    """Kills everything once gateways have sealed a number of rows again, and starts it again.
    Returns how many rows were sealed again, if the kill fell between the first row and the last:
    the members say so while no gateway runs."""
    at = keys(cluster)
    rows = random.randint(1, max(1, at["left"]))
    if not at["passed_all"]:
        wait_until(f"{rows} rows are sealed again, or all are passed",
                   lambda: any(resealed(cluster) >= rows for _ in range(50))
                   or keys(cluster)["passed_all"], 60, every_s=0)
    else:
        wait_until("the older keys are deleted", lambda: ended(cluster), 60)
    cluster.kill()
    members = cluster.names("meta")
    cluster.start(members)
    found = wait_until("the members lead", lambda: keys(cluster), 60)
    cluster.start([name for name in cluster.processes if name not in members])
    cluster.ready()
    before.verify(keys=random.sample(sorted(before.acknowledged.items()), 20))
    return [found["resealed"]] if found["resealed"] and not found["passed_all"] else []


def ended(cluster):
    """Whether the older keys are deleted."""
    return keys(cluster)["dropped_ms"] is not None


def resealed(cluster):
    """How many rows the gateways have sealed again since they were started."""
    rows = 0
    for port in cluster.health_ports.values():
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            count = re.search(rb"^megalith_rows_resealed_total (\d+)", answer.read(), re.MULTILINE)
            rows += int(count.group(1)) if count else 0
    return rows


def test_clients_notice_nothing_of_a_rotation(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=1, gateways=2) as cluster:
        s3 = cluster.client()
        s3.create_bucket(Bucket="box")
        before = written(cluster, 300)
        with Writers(cluster, "box", threads=4, sizes=(100, 5_000)) as during:
            for version in (2, 3):
                done = run("key", "rotate", "--grace-seconds", "2", "--wait",
                           "--config", cluster.operator)
                assert f"under key-encryption key {version}, and the older keys" in done.stdout
                assert versions(cluster) == [version]
                # What nobody has written since is read by who didn't seal it again.
                for gateway in cluster.names("gateway"):
                    before.verify(gateway)
                count = len(during.acknowledged)
                wait_until("writes go on", lambda c=count: len(during.acknowledged) > c + 20, 30)
        assert not during.maybe, during.maybe
        during.verify()
        checked(cluster)
        assert cluster.status()[1]["keys"]["version"] == 3
        assert "key-encryption key 3" in run("status", "--config", cluster.operator).stdout


def restored(cluster, place):
    """Puts all metadata members back to the backup in `place`, while gateways and nodes run on."""
    members = cluster.names("meta")
    cluster.kill(*members)
    for name in members:
        directory = cluster.directory / name
        shutil.rmtree(directory / "metadata")
        run("meta", "restore", "--config", directory / "node.toml", "--from", place)
    cluster.start(members)
    cluster.ready()


@pytest.mark.parametrize("rotates", ["gateway-1", "gateway-2"])
def test_a_key_that_a_restore_took_away_seals_nothing(tmp_path, rotates):
    """Gateways that outlive a restore hold a key 2 that is gone. Then another key 2 is made."""
    with Cluster(tmp_path, metadata=1, storage=1, gateways=2) as cluster:
        s3 = cluster.client()
        s3.create_bucket(Bucket="box")
        before = written(cluster, 100)
        backup = tmp_path / "backup"
        run("meta", "backup", "--config", cluster.operator, "--to", backup)
        rotate = ("key", "rotate", "--grace-seconds", "1", "--wait", "--config", cluster.operator)
        run(*rotate)
        wrote, reads = cluster.client("gateway-1"), cluster.client("gateway-2")
        wrote.put_object(Bucket="box", Key="late", Body=b"late")
        assert reads.get_object(Bucket="box", Key="late")["Body"].read() == b"late"
        for name in cluster.names("gateway"):
            before.verify(name)

        restored(cluster, backup)
        for name in cluster.names("gateway"):
            before.verify(name)
        # One of the two does the work.
        other = next(name for name in cluster.names("gateway") if name != rotates)
        cluster.processes[other].pause()
        try:
            run(*rotate)
        finally:
            cluster.processes[other].resume()
        assert versions(cluster) == [2]
        for number, name in enumerate(cluster.names("gateway")):
            before.verify(name)
            cluster.client(name).put_object(Bucket="box", Key=f"after-{number}", Body=b"after")
        # What opens it is in the table, not only in somebody's memory.
        gateways = cluster.names("gateway")
        cluster.kill(*gateways)
        cluster.start(gateways)
        cluster.ready()
        for name in gateways:
            before.verify(name)
            for number in range(2):
                got = cluster.client(name).get_object(Bucket="box", Key=f"after-{number}")
                assert got["Body"].read() == b"after"
        checked(cluster)
