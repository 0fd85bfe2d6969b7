"""A clock a year ahead or back, on each kind of process, under load.

Times of objects are the group's: a gateway's own clock says nothing in them, nor in judging a
signature, and a metadata member whose clock is wrong does not lead.
"""

import time
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from harness.cluster import Cluster, Writers
from harness.process import run, wait_until
from harness.wrong_clock import Clocks

YEAR_S = 365 * 24 * 3600
APART_MAX_S = 120


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clocks")
    clocks = Clocks(directory / "clocks")
    with Cluster(directory / "cluster", metadata=3, storage=3, gateways=2,
                 process_env=clocks.env) as cluster:
        cluster.client().create_bucket(Bucket="clocks")
        yield cluster, clocks


def leader(cluster):
    _, status = cluster.status()
    return next(f"meta-{m['node']}" for m in status["metadata"]["members"] if m["leader"])


def times_are_right(client, prefix=""):
    """Every object says that it was written in the last minutes; returns how many there are."""
    now = datetime.now(UTC).timestamp()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="clocks", Prefix=prefix)
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    for entry in entries:
        apart = abs(now - entry["LastModified"].timestamp())
        assert apart < APART_MAX_S + 600, f"{entry['Key']}: {apart:.0f} s apart"
    return len(entries)


def under_load(cluster, client, what):
    """Runs `what()` while objects are written, and goes on until 50 more were acknowledged."""
    with Writers(cluster, "clocks", threads=4, sizes=(100, 70_000)) as writers:
        wait_until("writes are acknowledged", lambda: len(writers.acknowledged) > 20)
        what()
        before = len(writers.acknowledged)
        wait_until("writes go on", lambda: len(writers.acknowledged) > before + 50,
                   deadline_s=60)
    writers.verify(gateway="gateway-1")
    cluster.check_running()
    assert times_are_right(client) > 50


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_the_leader_of_the_metadata(running, ahead_s):
    cluster, clocks = running
    wrong = leader(cluster)

    def move():
        clocks.set(wrong, ahead_s)
        wait_until("another member leads", lambda: leader(cluster) != wrong, deadline_s=60)

    under_load(cluster, cluster.client(), move)
    code, status = cluster.status()
    assert code == 1, status["reasons"]
    number = wrong.split("-")[1]
    assert any(f"clock of metadata member {number}" in why for why in status["reasons"])
    clocks.set(wrong, 0)
    wait_until("the clock is right again", lambda: cluster.status()[0] == 0, deadline_s=60)


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_a_storage_node(running, ahead_s):
    cluster, clocks = running
    under_load(cluster, cluster.client(), lambda: clocks.set("store-12", ahead_s))
    clocks.set("store-12", 0)
    wait_until("all is well", lambda: cluster.all_heard(), deadline_s=60)


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_a_gateway(running, ahead_s):
    cluster, clocks = running
    other = cluster.client("gateway-2")
    key = f"by-gateway-2/{ahead_s}"

    def move():
        clocks.set("gateway-2", ahead_s)
        # The client's clock is right, and its signature is good.
        other.put_object(Bucket="clocks", Key=key, Body=b"bytes")

    under_load(cluster, cluster.client(), move)
    assert times_are_right(cluster.client(), key) == 1
    head = other.head_object(Bucket="clocks", Key=key)
    assert abs(head["LastModified"].timestamp() - time.time()) < APART_MAX_S
    clocks.set("gateway-2", 0)


def test_an_operator_repairs_a_cluster_whose_only_member_was_wrong(tmp_path):
    clocks = Clocks(tmp_path / "clocks")
    with Cluster(tmp_path / "cluster", metadata=1, storage=3, gateways=1,
                 process_env=clocks.env) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="clocks")

        def written():
            """How far ahead a new object's time is, in seconds."""
            client.put_object(Bucket="clocks", Key="key", Body=b"bytes")
            head = client.head_object(Bucket="clocks", Key="key")
            return head["LastModified"].timestamp() - time.time()

        def refused():
            try:
                client.put_object(Bucket="clocks", Key="key", Body=b"bytes")
            except ClientError as error:
                return error.response["Error"]["Code"] == "RequestTimeTooSkewed"
            return False

        assert abs(written()) < APART_MAX_S

        clocks.set("meta-1", YEAR_S)
        # A single member has only its own clock. By it, every request is a year old.
        wait_until("its time is the group's", refused)
        clocks.set("meta-1", 0)
        assert refused(), "time does not run back by itself"
        told = run("meta", "reset-clock", "--config", cluster.operator).stdout
        assert "the group's time is its leader's now, 0 s" in told
        wait_until("the time is right", lambda: abs(written()) < APART_MAX_S)
