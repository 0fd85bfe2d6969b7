"""3 metadata members, 6 storage nodes (4+2), 2 gateways: what may die, and what must go on."""

import time

import pytest

from harness.cluster import Cluster, Writers
from harness.process import wait_until

SIZES = (0, 100, 4_096, 5_000, 70_000, 131_072, 300_000, 3_000_000)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def read_everything(cluster, gateway, bucket, keys):
    client = cluster.client(gateway, retries=3)
    for key, size in keys.items():
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert body == Writers.body(key, size), key


def test_two_nodes_a_member_and_a_gateway_die_and_return(cluster):
    client = cluster.client("gateway-1")
    client.create_bucket(Bucket="survivors")
    keys = {f"before/{size}": size for size in SIZES}
    for key, size in keys.items():
        client.put_object(Bucket="survivors", Key=key, Body=Writers.body(key, size))
    code, status = cluster.status()
    assert code == 0, status

    leader = next(m["node"] for m in status["metadata"]["members"] if m["leader"])
    dead = ["store-11", "store-14", f"meta-{leader}", "gateway-1"]
    cluster.kill(*dead)
    killed_at = time.monotonic()

    def write_goes_through():
        key = f"during/{time.monotonic_ns()}"
        cluster.client("gateway-2").put_object(
            Bucket="survivors", Key=key, Body=Writers.body(key, 300_000)
        )
        keys[key] = 300_000
        return True

    wait_until("a write is acknowledged again", write_goes_through, 5)
    assert time.monotonic() - killed_at < 5
    read_everything(cluster, "gateway-2", "survivors", keys)

    for size in SIZES:
        key = f"shrunken/{size}"
        keys[key] = size
        cluster.client("gateway-2").put_object(
            Bucket="survivors", Key=key, Body=Writers.body(key, size)
        )
    code, status = cluster.status()
    assert code == 1, status
    assert any("store" in reason or "node" in reason for reason in status["reasons"]), status
    profiles = {volume["profile"] for volume in status["volumes"] if volume["shrunk"]}
    assert profiles == {"2+2"}, status["volumes"]

    cluster.start(dead)
    wait_until(
        "the shrunken volumes are known and everybody is back",
        lambda: all(n["alive"] for n in cluster.status()[1]["nodes"])
        and all(m["alive"] for m in cluster.status()[1]["metadata"]["members"]),
        30,
        every_s=0.3,
    )
    code, status = cluster.status()
    assert any(volume["shrunk"] for volume in status["volumes"])
    read_everything(cluster, "gateway-1", "survivors", keys)


def test_one_process_of_each_kind_stops_cleanly_and_comes_back(cluster):
    client = cluster.client("gateway-2", retries=3)
    client.create_bucket(Bucket="rolling")
    keys = {}
    for name in ["store-12", "meta-1", "meta-2", "meta-3", "gateway-1"]:
        cluster.processes[name].stop()
        key = f"without-{name}"
        keys[key] = 200_000
        wait_until(
            f"writes go on without {name}",
            lambda key=key: client.put_object(
                Bucket="rolling", Key=key, Body=Writers.body(key, 200_000)
            ),
            10,
        )
        cluster.start([name])
        wait_until(
            f"{name} is back",
            lambda: all(n["alive"] for n in cluster.status()[1]["nodes"])
            and all(m["alive"] for m in cluster.status()[1]["metadata"]["members"]),
            30,
            every_s=0.3,
        )
    cluster.ready()
    read_everything(cluster, "gateway-1", "rolling", keys)
