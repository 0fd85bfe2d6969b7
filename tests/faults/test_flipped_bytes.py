"""Bytes flipped on the disks: of two nodes masked and reported, of three a clean error."""

import random

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from urllib3.exceptions import HTTPError, ProtocolError

from harness.cluster import Cluster, Writers
from harness.damage import flip_chunks
from harness.process import wait_until

SIZES = {"copied": 70_000, "coded": 300_000, "long": 5_000_000}


def test_flipped_bytes_of_two_nodes_are_masked_and_of_three_refused(tmp_path):
    with Cluster(tmp_path) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="rot")
        keys = {f"{kind}-{i}": size for kind, size in SIZES.items() for i in range(6)}
        for key, size in keys.items():
            client.put_object(Bucket="rot", Key=key, Body=Writers.body(key, size))

        rng = random.Random(7)
        nodes = cluster.names("store")
        damaged = nodes[:2]
        for name in damaged:
            cluster.processes[name].stop()
            assert flip_chunks(cluster.disks[name], rng) > 0
        cluster.start(damaged)
        cluster.ready()
        for key, size in keys.items():
            body = client.get_object(Bucket="rot", Key=key)["Body"].read()
            assert body == Writers.body(key, size), key

        def reported():
            code, status = cluster.status()
            return code == 1 and status["data"]["damaged_shards"] > 0 and status

        status = wait_until("the damage is in status", reported, 30, every_s=0.3)
        assert any("damaged" in reason for reason in status["reasons"]), status["reasons"]
        logs = "".join(cluster.processes[n].text() for n in cluster.processes)
        assert "damaged" in logs

        third = nodes[2]
        cluster.processes[third].stop()
        assert flip_chunks(cluster.disks[third], rng) > 0
        cluster.start([third])
        cluster.ready()
        refused = 0
        for key, size in keys.items():
            try:
                body = client.get_object(Bucket="rot", Key=key)["Body"].read()
            except (ClientError, ResponseStreamingError, ProtocolError, HTTPError) as error:
                refused += 1
                if isinstance(error, ClientError):
                    assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
                continue
            assert body == Writers.body(key, size), f"{key}: wrong bytes were served"
        assert refused > 0, "three damaged nodes of 4+2 can't have left everything readable"

        # A bad object can always be overwritten and deleted.
        client.put_object(Bucket="rot", Key="long-0", Body=b"new")
        assert client.get_object(Bucket="rot", Key="long-0")["Body"].read() == b"new"
        for key in keys:
            client.delete_object(Bucket="rot", Key=key)
        assert client.list_objects_v2(Bucket="rot")["KeyCount"] == 0
        with pytest.raises(ClientError):
            client.get_object(Bucket="rot", Key="coded-1")
