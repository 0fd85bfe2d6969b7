"""Rotation of key-encryption keys while clients write, and with everything killed in its midst."""

import json
import os
import random
import re
import subprocess
import urllib.request

from harness.cluster import Cluster, Writers
from harness.expect import MIB, PART, content, same
from harness.process import BINARY, run, wait_until

OBJECTS = int(os.environ.get("MEGALITH_ROTATION_OBJECTS", "600"))


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


def test_a_rotation_amid_kills_of_everything_loses_nothing(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=3, gateways=2) as cluster:
        s3 = cluster.client()
        s3.create_bucket(Bucket="box")
        second_account(cluster)
        body = content("parts", PART + MIB)
        upload = s3.create_multipart_upload(Bucket="box", Key="parts")["UploadId"]
        name = {"Bucket": "box", "Key": "parts", "UploadId": upload}
        first = s3.upload_part(**name, PartNumber=1, Body=body[:PART])["ETag"]
        before = written(cluster, OBJECTS)

        # The command that begins it dies somewhere; if it has begun nothing, it is run again.
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
        again = run("key", "rotate", "--grace-seconds", "1", "--config", cluster.operator,
                    check=False)
        assert again.returncode != 0 or keys(cluster)["version"] == 3

        kills, seen = 0, ended(cluster)
        while keys(cluster)["dropped_ms"] is None:
            wait_until("a step is done", lambda s=seen: stepped(cluster, s), 60, every_s=0.002)
            cluster.kill()
            kills += 1
            assert kills < 40
            cluster.start()
            cluster.ready()
            checked(cluster)
            before.verify()
            seen = ended(cluster)
        # How many there are is chance: a step of 256 rows is quicker than a kill, and the old key
        # may go while everything is read.
        print(f"{kills} kills")
        assert kills >= 1, kills
        assert versions(cluster) == [keys(cluster)["version"]]
        at = keys(cluster)
        assert (at["left"], at["closed"], at["passed_all"]) == (0, 0, True)

        # The upload was begun under the old key.
        second = s3.upload_part(**name, PartNumber=2, Body=body[PART:])["ETag"]
        parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
        s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
        same(s3.get_object(Bucket="box", Key="parts")["Body"].read(), body)
        assert len(s3.list_buckets()["Buckets"]) == 1
        before.verify("gateway-2")


def ended(cluster):
    """Whether all rows are passed, and whether the older keys are deleted."""
    at = keys(cluster)
    return at["passed_all"], at["dropped_ms"] is not None


def resealed(cluster):
    """Whether a gateway has sealed rows again since it was started."""
    for port in cluster.health_ports.values():
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            if re.search(rb"^megalith_rows_resealed_total [1-9]", answer.read(), re.MULTILINE):
                return True
    return False


def stepped(cluster, seen):
    """The same, or the end has come nearer. Metrics are asked often, being quick."""
    return any(resealed(cluster) for _ in range(30)) or ended(cluster) != seen


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
