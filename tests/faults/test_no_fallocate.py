"""Disks on a file system that reserves and punches nothing, as some network and container ones."""

import pytest

from harness import syscall_trace
from harness.cluster import Cluster, Writers
from harness.process import wait_until

SIZES = {"inline": 100, "copied": 70_000, "coded": 3_000_000}


def test_a_cluster_lives_without_fallocate(tmp_path):
    if reason := syscall_trace.impossible():
        pytest.skip(reason)

    def wrap(name):
        if name.startswith("gateway"):
            return []
        return syscall_trace.refusing("fallocate", "EOPNOTSUPP", tmp_path / f"{name}.calls")

    with Cluster(tmp_path / "cluster", metadata=1, storage=3, gateways=1, wrap=wrap) as cluster:
        client = cluster.client(retries=3)
        client.create_bucket(Bucket="kept")

        def put(generation):
            for key, size in SIZES.items():
                client.put_object(Bucket="kept", Key=f"{key}-{generation}",
                                  Body=Writers.body(f"{key}-{generation}", size))

        for generation in range(3):
            put(generation)
            members = cluster.names("meta") + cluster.names("store")
            cluster.kill(*members)
            cluster.start(members)
            cluster.ready()
            for key, size in SIZES.items():
                for earlier in range(generation + 1):
                    name = f"{key}-{earlier}"
                    body = client.get_object(Bucket="kept", Key=name)["Body"].read()
                    assert body == Writers.body(name, size), name
        for key in SIZES:
            client.delete_object(Bucket="kept", Key=f"{key}-0")
        assert len(client.list_objects_v2(Bucket="kept")["Contents"]) == 2 * len(SIZES)
        wait_until("the cluster is healthy", lambda: cluster.status()[0] == 0, 30)
        log = "".join(cluster.processes[name].text() for name in cluster.processes)
        assert "log damaged" not in log and "is damaged" not in log, log
    for name in ("meta-1", cluster.names("store")[0]):
        assert "INJECTED" in (tmp_path / f"{name}.calls").read_text(), name
