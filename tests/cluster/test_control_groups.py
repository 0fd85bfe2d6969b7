"""In a control group of 512 MiB a process serves under load and is not killed."""

import os
from contextlib import ExitStack

import pytest

from harness.cluster import Cluster
from harness.control_group import ControlGroup, Unavailable
from harness.load import Load
from harness.megalith_up import Up

LIMIT = 512 << 20
SECONDS = int(os.environ.get("MEGALITH_GROUP_S", "10"))


@pytest.fixture
def groups():
    """Makes groups; their processes must have ended before it ends."""
    with ExitStack() as stack:
        def make():
            try:
                return stack.enter_context(ControlGroup(LIMIT))
            except Unavailable as why:
                pytest.skip(str(why))
        yield make


def under_load(port, keys, client):
    """Well-behaved clients beside slow ones, and large objects."""
    client.create_bucket(Bucket="load")
    with Load("open", port, keys, "load", 1, rate=1) as first:
        assert first.told()["failed"] == 0
    # A small load: the machine of the tests has other work as well.
    again = {"prepared": "true"}
    with Load("open", port, keys, "load", SECONDS, rate=40, **again) as well, \
            Load("slow-puts", port, keys, "load", SECONDS, clients=300, every_ms=1000), \
            Load("capacity", port, keys, "load", SECONDS, clients=32, **again):
        return well.told()


def judge(processes, groups, told):
    peaks = {process.name: process.status_value("VmHWM") // 1024 for process in processes}
    print("peak MiB:", peaks, told)
    for process, group in zip(processes, groups, strict=True):
        process.must_run()
        assert str(process.process.pid) in group.members(), f"{process.name} is in no group"
        assert group.killed() == 0
        assert peaks[process.name] < LIMIT >> 20
    assert told["requests"] > told["failed"], told


def test_up_serves_in_half_a_gib(tmp_path, groups):
    group = groups()
    with Up(tmp_path, wrap=group.wrap) as up:
        told = under_load(up.port, up.credentials, up.client())
        judge([up.process], [group], told)


def test_a_gateway_and_a_node_serve_in_half_a_gib_each(tmp_path, groups):
    named = {"gateway-1": groups(), "store-11": groups()}

    def wrap(name):
        return named[name].wrap if name in named else []

    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, wrap=wrap) as cluster:
        port = cluster.gateway_ports["gateway-1"]
        told = under_load(port, cluster.keys, cluster.client())
        judge([cluster.processes[name] for name in named], named.values(), told)
