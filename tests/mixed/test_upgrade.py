"""One cluster run by two programs, in both directions, through a whole upgrade under load.

The old program runs level 1. The new one runs levels 1 to 3 and has a command and a field of a row
that wait for level 3 (`next_level.patch`); its `meta reset-clock` also proposes that command. Of
level 2 are the rotations of keys."""

import os
import re
from pathlib import Path

import pytest

from harness.cluster import Cluster, Writers
from harness.process import run, wait_until

BUCKET = "mixed"
OLD = Path(os.environ.get("MEGALITH_OLD_BIN", "old"))
NEW = Path(os.environ.get("MEGALITH_NEW_BIN", "new"))
TOO_OLD = re.compile(
    r"the cluster is at level 3, and this program runs level 1: upgrade it; its data is untouched")
PART = 5 << 20


def level(cluster):
    return cluster.status()[1]["level"]


def leader(cluster):
    members = cluster.status()[1]["metadata"]["members"]
    return next((f"meta-{one['node']}" for one in members if one["leader"]), None)


def operate(cluster, *args, program=NEW):
    return run(*args, "--config", cluster.operator, check=False, program=program)


class Upgrade:
    """A cluster whose processes change their program one by one, while clients write."""

    def __init__(self, cluster, writers):
        self.cluster = cluster
        self.writers = writers
        self.new = set()

    def acknowledges(self):
        """Waits until clients have been answered anew, through every gateway."""
        before = len(self.writers.acknowledged)
        wait_until("clients are served", lambda: len(self.writers.acknowledged) > before + 20, 60)

    def change(self, name, program=NEW):
        """Stops a process and starts it with another program."""
        process = self.cluster.processes[name]
        process.stop()
        process.use(program)
        process.start()
        (self.new.add if program == NEW else self.new.discard)(name)
        wait_until(f"the cluster hears {name}", self.heard, 90, every_s=0.2)
        self.acknowledges()

    def heard(self):
        self.cluster.check_running()
        return self.cluster.all_heard() and leader(self.cluster)

    def lead(self, wanted):
        """Restarts leaders until one of `wanted` leads."""
        for _ in range(12):
            now = wait_until("a member leads", lambda: leader(self.cluster), 60)
            if now in wanted:
                return now
            self.change(now, NEW if now in self.new else OLD)
        raise AssertionError(f"none of {wanted} came to lead")

    def refused(self, names):
        """The level can't be raised while these run the old program."""
        done = operate(self.cluster, "meta", "raise-level")
        assert done.returncode != 0, done.stdout
        said = done.stdout + done.stderr
        for name in names:
            assert f"{spoken(name)} runs level 1" in said, said
        held = level(self.cluster)["held_back_by"]
        assert held == [f"{spoken(name)} runs level 1" for name in names], held

    def still_old(self):
        kinds = ("meta", "store", "gateway")
        return [name for kind in kinds for name in self.cluster.names(kind)
                if name not in self.new]


def spoken(name):
    kind, number = name.split("-")
    kinds = {"meta": "metadata member", "store": "storage node", "gateway": "gateway"}
    return f"{kinds[kind]} {number}"


def members_upgraded(upgrade):
    """One after the other, with leaders of either program, and none of them can be left out."""
    cluster = upgrade.cluster
    first = next(name for name in cluster.names("meta") if name != leader(cluster))
    upgrade.change(first)
    old = [name for name in cluster.names("meta") if name != first]
    upgrade.lead(old)
    done = operate(cluster, "meta", "reset-clock")
    assert done.returncode != 0, "an old leader can't know the new command"
    upgrade.acknowledges()
    upgrade.lead([first])
    done = operate(cluster, "meta", "reset-clock")
    assert done.returncode != 0 and "this takes level 3" in done.stderr, done.stderr
    upgrade.acknowledges()
    upgrade.refused(upgrade.still_old())
    for name in old:
        upgrade.change(name)


def begin_upload(client, key):
    return client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]


def complete_upload(client, key, upload):
    body = Writers.body(key, PART)
    etag = client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1,
                              Body=body)["ETag"]
    client.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body


def an_old_program_refuses(cluster, name):
    """It says why, ends by itself, and the new one goes on with its data."""
    process = cluster.processes[name]
    process.stop()
    process.use(OLD)
    begin = len(process.text())
    process.start()
    wait_until(f"{name} stops itself", lambda: not process.running(), 60)
    assert process.process.returncode != 0
    said = process.text()[begin:]
    assert TOO_OLD.search(said), said
    process.use(NEW)
    process.start()
    wait_until(f"{name} is back", lambda: cluster.check_running() or cluster.all_heard(), 90)


@pytest.mark.parametrize("metadata, storage", [(3, 3)])
def test_a_cluster_is_upgraded_under_load(tmp_path, metadata, storage):
    cluster = Cluster(tmp_path, metadata=metadata, storage=storage, gateways=2)
    for process in cluster.processes.values():
        process.use(OLD)
    with cluster:
        client = cluster.client()
        client.create_bucket(Bucket=BUCKET)
        begun = begin_upload(client, "begun-at-level-1")
        with Writers(cluster, BUCKET, threads=4) as writers:
            upgrade = Upgrade(cluster, writers)
            assert level(cluster)["level"] == 1
            upgrade.change("gateway-1")
            members_upgraded(upgrade)
            for name in cluster.names("store"):
                upgrade.change(name)
            # An old gateway in a cluster that is new otherwise.
            upgrade.refused(["gateway-2"])
            upgrade.change("gateway-2")
            assert level(cluster) == {"level": 1, "highest": 3, "held_back_by": []}
            rotate = ["key", "rotate", "--wait", "--grace-seconds", "1"]
            done = operate(cluster, *rotate)
            assert done.returncode != 0 and "this takes level 2" in done.stderr, done.stderr
            done = operate(cluster, "meta", "raise-level")
            assert done.returncode == 0 and "at level 3" in done.stdout, done.stderr
            assert level(cluster)["level"] == 3
            upgrade.acknowledges()
            done = operate(cluster, "meta", "reset-clock")
            assert done.returncode == 0, done.stderr
            complete_upload(client, "begun-at-level-1", begun)
            complete_upload(client, "of-level-3", begin_upload(client, "of-level-3"))
            # Everything that the old program has sealed, too.
            done = operate(cluster, *rotate)
            assert done.returncode == 0, done.stderr
            upgrade.acknowledges()
            followers = [name for name in cluster.names("meta") if name != leader(cluster)]
            for name in [followers[0], "store-11", "gateway-2"]:
                an_old_program_refuses(cluster, name)
                upgrade.acknowledges()
        assert len(writers.acknowledged) > 200
        for gateway in cluster.names("gateway"):
            wait_until(f"{gateway} serves", lambda g=gateway: cluster.client(g).list_buckets(), 60)
            writers.verify(gateway)
        print(f"{len(writers.acknowledged)} objects acknowledged, {len(writers.maybe)} unknown")
