"""`status` names a disk that is much slower than the others, or that hangs, while it is so."""

import pytest

from harness.cluster import Cluster, Writers
from harness.process import wait_until
from harness.slow_disk import HANGS, SlowDisk

# How soon an operator is told.
SOON_S = 5
# More than ten times what a sync takes on a busy machine.
LATE_MS = 2_000


def id_of(disk):
    return (disk / "superblock").read_bytes()[32:48].hex()


@pytest.fixture
def running(tmp_path):
    """A cluster under load, a disk of it, and what makes that disk slow."""
    disk = tmp_path / "store-11" / "disk"
    slow = SlowDisk(tmp_path / "slow", disk)
    cluster = Cluster(tmp_path, metadata=1, storage=4, gateways=1,
                      process_env=lambda name: slow.env() if name == "store-11" else {})
    with cluster:
        cluster.client().create_bucket(Bucket="bucket")
        with Writers(cluster, "bucket", threads=4, sizes=(300_000,)) as writers:
            wait_until("all is well under load", lambda: is_well(cluster) and writers.acknowledged,
                       deadline_s=60)
            yield cluster, id_of(disk), slow, writers
            slow.set(0)
            writers.stop()
        writers.verify()


def is_well(cluster):
    code, status = cluster.status()
    return code == 0 and not status["reasons"]


def told(cluster, disk, words):
    """True if `status` and its exit code say it of that disk, and of no other one."""
    code, status = cluster.status()
    named = [reason for reason in status["reasons"] if words in reason]
    return code == 1 and status["health"] == "degraded" and named and all(
        disk in reason for reason in named)


def test_a_slow_disk_is_named_while_it_is_slow(running):
    cluster, disk, slow, writers = running
    slow.set(LATE_MS)
    wait_until("it is named", lambda: told(cluster, disk, "is slow"), deadline_s=SOON_S)
    before = len(writers.acknowledged)
    slow.set(0)
    wait_until("all is well again", lambda: is_well(cluster), deadline_s=60)
    assert len(writers.acknowledged) > before


def test_a_disk_that_hangs_is_named_closed_and_taken_back(running):
    cluster, disk, slow, writers = running
    slow.set(HANGS)
    wait_until("it is named", lambda: told(cluster, disk, "hangs"), deadline_s=SOON_S)
    wait_until("it is closed", lambda: told(cluster, disk, "takes no new shards"), deadline_s=15)
    before = len(writers.acknowledged)
    wait_until("writes go on without it", lambda: len(writers.acknowledged) > before + 10,
               deadline_s=30)
    slow.set(0)
    wait_until("all is well again", lambda: is_well(cluster), deadline_s=60)
