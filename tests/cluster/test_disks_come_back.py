"""A node serves what it has: it runs on without its disks, and takes each once it is there."""

import pytest

from harness.cluster import Cluster, Writers
from harness.process import wait_until

KEYS = {f"key-{n}": 100_000 + 400_000 * (n % 2) for n in range(8)}
DISKS = 2


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, disks=DISKS) as running:
        client = running.client(retries=3)
        client.create_bucket(Bucket="kept")
        for key, size in KEYS.items():
            client.put_object(Bucket="kept", Key=key, Body=Writers.body(key, size))
        yield running


def read_all(cluster):
    for key, size in KEYS.items():
        body = cluster.client(retries=3).get_object(Bucket="kept", Key=key)["Body"].read()
        assert body == Writers.body(key, size), key


def unmount(disk):
    disk.rename(disk.with_name(disk.name + "-away"))
    disk.mkdir()


def mount(disk):
    disk.rmdir()
    disk.with_name(disk.name + "-away").rename(disk)


def is_whole(cluster):
    """True if all disks of all nodes take shards. What was written meanwhile is owed still."""
    code, status = cluster.status()
    open_ = [disk for node in status["nodes"] for disk in node["disks"] if not disk["closed"]]
    return code < 2 and len(open_) == 3 * DISKS


def is_alive(cluster, number):
    return any(n["alive"] for n in cluster.status()[1]["nodes"] if n["node"] == number)


def test_a_node_that_starts_without_disks_takes_them_as_they_come(cluster):
    node, disks = cluster.processes["store-11"], cluster.all_disks["store-11"]
    node.stop()
    for disk in disks:
        unmount(disk)
    node.start()
    wait_until("the node is heard without disks", lambda: is_alive(cluster, 11), deadline_s=60)
    read_all(cluster)
    for disk in disks:
        mount(disk)
    wait_until("all disks serve", lambda: is_whole(cluster), deadline_s=60)
    assert node.text().count("disk not opened") == DISKS, "said once for each"
    # Their shards count: those of another node are away now.
    cluster.kill("store-12")
    read_all(cluster)


def test_disks_that_go_under_a_running_node_are_taken_back(cluster):
    disks = cluster.all_disks["store-11"]
    for disk in disks:
        unmount(disk)
    wait_until("the cluster is told", lambda: not is_whole(cluster), deadline_s=30)
    client = cluster.client(retries=3)
    for n in range(4):
        client.put_object(Bucket="kept", Key=f"late-{n}", Body=Writers.body(f"late-{n}", 300_000))
    for disk in disks:
        mount(disk)
    wait_until("all disks serve", lambda: is_whole(cluster), deadline_s=60)
    cluster.kill("store-12")
    read_all(cluster)
    for n in range(4):
        body = client.get_object(Bucket="kept", Key=f"late-{n}")["Body"].read()
        assert body == Writers.body(f"late-{n}", 300_000)
