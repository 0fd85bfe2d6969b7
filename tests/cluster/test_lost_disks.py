"""`status` follows disks: one that is gone, or another in its place, is named with what it held."""

import pytest

from harness.cluster import Cluster, Writers
from harness.process import wait_until

KEYS = 12
SIZE = 1 << 20
# How soon an operator is told.
SOON_S = 5


def id_of(disk):
    return (disk / "superblock").read_bytes()[32:48].hex()


def in_use(cluster, name):
    """The disk of a node on which the open volumes have their slots."""
    return max(cluster.all_disks[name],
               key=lambda path: sum(f.stat().st_blocks for f in path.rglob("*.chunk")))


def told_of(cluster, disk, health):
    """The reasons that name the disk, if `status` and its exit code say `health`."""
    code, status = cluster.status()
    named = [reason for reason in status["reasons"] if disk in reason]
    right = status["health"] == health and code == {"healthy": 0, "degraded": 1}[health]
    return named if right else []


def is_healthy(cluster):
    code, status = cluster.status()
    assert code == 0, status["reasons"]
    assert status["health"] == "healthy", status["reasons"]
    return not status["reasons"]


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=6, gateways=1, disks=2) as running:
        client = running.client()
        client.create_bucket(Bucket="bucket")
        for n in range(KEYS):
            client.put_object(Bucket="bucket", Key=f"k{n}", Body=Writers.body(f"k{n}", SIZE))
        wait_until("all is well", lambda: is_healthy(running), deadline_s=30)
        yield running


def test_a_disk_that_is_gone_after_a_restart_is_named_until_it_is_back(cluster):
    lost = in_use(cluster, "store-11")
    disk, away, node = id_of(lost), lost.with_name("away"), cluster.processes["store-11"]
    node.stop()
    lost.rename(away)
    node.start()
    wait_until("the node is heard", cluster.all_heard, deadline_s=60)
    told = wait_until("status names the disk", lambda: told_of(cluster, disk, "degraded"),
                      deadline_s=SOON_S)
    assert any("is missing" in reason and "segments" in reason for reason in told), told
    _, status = cluster.status()
    assert any(volume["living"] < volume["members"] for volume in status["volumes"])

    node.stop()
    away.rename(lost)
    node.start()
    wait_until("it is taken back", lambda: is_healthy(cluster), deadline_s=60)


@pytest.mark.parametrize("instead", ["nothing", "another"])
def test_a_disk_that_goes_while_its_node_runs_is_named_until_it_is_back(cluster, instead):
    lost = in_use(cluster, "store-11")
    disk, away = id_of(lost), lost.with_name("away")
    lost.rename(away)
    if instead == "another":
        lost.mkdir()
        other = next(d for d in cluster.all_disks["store-12"] if d != in_use(cluster, "store-12"))
        (lost / "superblock").write_bytes((other / "superblock").read_bytes())
    told = wait_until("status names the disk", lambda: told_of(cluster, disk, "degraded"),
                      deadline_s=SOON_S)
    assert any("takes no new shards" in reason for reason in told), told
    if instead == "another":
        (lost / "superblock").unlink()
        lost.rmdir()
    away.rename(lost)
    wait_until("it is taken back", lambda: is_healthy(cluster), deadline_s=60)
