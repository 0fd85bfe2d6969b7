"""A GET that has begun ends with the bytes it began with; a dead gateway's leases are closed."""

import time

from harness.cluster import Cluster
from harness.process import wait_until
from harness.streams import MIB, Pattern

# Seconds; in operation they are 60 and 900.
LIFE_S, AFTER_S = 3, 4
SHORT = {
    "MEGALITH_METADATA__GATEWAY_LIFE_S": str(LIFE_S),
    "MEGALITH_METADATA__DELETE_AFTER_S": str(AFTER_S),
}
# Two segments; most of it is on no buffer's way when the object goes.
SIZE = 100 * MIB


def pending(cluster):
    return cluster.status()[1]["data"]["deletes_pending"]


def gateways(cluster):
    """The numbers of the gateways that hold leases."""
    return {lease["gateway"] for lease in cluster.status()[1]["leases"]}


def begin(client, key):
    """Writes an object and begins to read it."""
    put = client.put_object
    put(Bucket="box", Key=key, Body=Pattern(key, SIZE), ContentLength=SIZE)
    body = client.get_object(Bucket="box", Key=key)["Body"]
    expected = Pattern(key, SIZE)
    assert body.read(MIB) == expected.read(MIB)
    return body, expected


def finish(body, expected):
    while piece := body.read(MIB):
        assert piece == expected.read(len(piece))
    assert expected.tell() == SIZE


def test_a_get_ends_with_its_bytes_though_the_object_is_replaced_and_deleted(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=2, node_env=SHORT) as cluster:
        client = cluster.client(request_checksum_calculation="when_required")
        client.create_bucket(Bucket="box")
        replaced, deleted = begin(client, "replaced"), begin(client, "deleted")
        client.put_object(Bucket="box", Key="replaced", Body=b"new")
        # By another gateway: the reader's own knows nothing of it.
        cluster.client("gateway-2").delete_object(Bucket="box", Key="deleted")
        queued = pending(cluster)
        assert queued > 0
        # Long enough for every delete that waits for no read.
        end = time.monotonic() + LIFE_S + 2 * AFTER_S
        wait_until("deletes would have been done", lambda: time.monotonic() > end)
        assert pending(cluster) == queued
        finish(*replaced)
        finish(*deleted)
        wait_until("the shards are deleted once nobody reads", lambda: pending(cluster) == 0)
        for name in cluster.names("gateway"):
            assert "a shard could not be read" not in cluster.processes[name].text()


def test_a_delete_does_not_wait_for_the_reads_of_a_dead_gateway(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=2, node_env=SHORT) as cluster:
        client = cluster.client("gateway-2", request_checksum_calculation="when_required")
        client.create_bucket(Bucket="box")
        _reader = begin(client, "gone")
        cluster.kill("gateway-2")
        cluster.client().delete_object(Bucket="box", Key="gone")
        assert pending(cluster) > 0
        wait_until("the shards are deleted", lambda: pending(cluster) == 0)


def test_the_leases_of_a_killed_gateway_are_closed_and_no_others(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=3, gateways=2, node_env=SHORT) as cluster:
        cluster.client().create_bucket(Bucket="box")
        for name in ("gateway-1", "gateway-2"):
            client = cluster.client(name)
            client.put_object(Bucket="box", Key=name, Body=b"x" * 9_000)
            client.delete_object(Bucket="box", Key=name)
        assert gateways(cluster) == {1, 2}
        cluster.kill("gateway-2")
        wait_until("its leases are closed", lambda: gateways(cluster) == {1})
        # That stands in the rows, which are all that a new leader knows.
        members = cluster.status()[1]["metadata"]["members"]
        leader = next(f"meta-{member['node']}" for member in members if member["leader"])
        cluster.kill(leader)
        assert wait_until("another one leads", lambda: gateways(cluster)) == {1}
        cluster.start([leader])
        # The living one goes on with the lease that it has.
        cluster.client().put_object(Bucket="box", Key="again", Body=b"y" * 9_000)
        assert "lease" not in cluster.processes["gateway-1"].text()
        cluster.start(["gateway-2"])
        cluster.ready()
        cluster.client("gateway-2").put_object(Bucket="box", Key="back", Body=b"z" * 9_000)
        assert gateways(cluster) == {1, 2}
