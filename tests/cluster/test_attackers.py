"""One account's attackers don't stop a gateway for the others, nor make it ask without end."""

import http.client
import json
import re

import pytest

from harness.cluster import Cluster
from harness.load import Load
from harness.process import run, wait_until

SECONDS = 8
MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A gateway with little memory."""
    def env(name):
        little = {"MEGALITH_GATEWAY__MEMORY_BYTES": str(64 * MIB)}
        return little if name.startswith("gateway") else {}

    directory = tmp_path_factory.mktemp("attackers")
    with Cluster(directory, metadata=1, storage=3, gateways=1, process_env=env) as running:
        running.client().create_bucket(Bucket="load")
        yield running


@pytest.fixture(scope="module")
def attacker(cluster):
    """The keys of another account, with a bucket of its own."""
    run("account", "create", "attacker", "--config", cluster.operator)
    made = run("key", "create", "--account", "attacker", "-o", "json", "--config",
               cluster.operator)
    key = json.loads(made.stdout)
    bare = cluster.bare()
    bare.access_key, bare.secret = key["access_key"], key["secret_key"]
    status = bare.request("PUT", "/attack")[0]
    assert status == 200
    return key["access_key"], key["secret_key"]


def counter(cluster, name):
    connection = http.client.HTTPConnection(
        "127.0.0.1", cluster.health_ports["gateway-1"], timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


@pytest.mark.parametrize("kind, settings", [
    ("slow-puts", {"clients": 300, "every_ms": 1000}),
    ("slow-puts", {"clients": 300, "every_ms": 1000, "first_bytes": 300_000}),
    ("chunks", {"clients": 200, "bytes_per_s": 16_384}),
    ("slow-gets", {"clients": 200, "every_ms": 1000}),
    ("heads", {"clients": 20}),
])
def test_others_are_served_under(cluster, attacker, kind, settings):
    port = cluster.gateway_ports["gateway-1"]
    with Load(kind, port, attacker, "attack", 3 * SECONDS, **settings):
        # All of its connections have come when the first ones of the others do.
        enough = settings["clients"] // 2
        wait_until("the attack has begun", lambda: len(open_sockets(port)) > enough)
        with Load("open", port, cluster.keys, "load", SECONDS, rate=10) as others:
            told = others.told()
    print(kind, told)
    assert told["failed"] == 0, told


def open_sockets(port):
    """The connections to a port, as their clients have them."""
    with open("/proc/net/tcp") as file:
        return [line for line in file if f":{port:04X} 01" in line]


def test_made_up_access_keys_are_hardly_asked_for(cluster, attacker):
    port = cluster.gateway_ports["gateway-1"]

    def asked(**settings):
        before = counter(cluster, "megalith_s3_keys_asked_total")
        with Load("keys", port, attacker, "attack", SECONDS, clients=16, rate=200,
                  **settings) as load:
            told = load.told()
        assert sum(told["outcomes"].values()) > SECONDS * 100, told
        return counter(cluster, "megalith_s3_keys_asked_total") - before, told["took_s"]

    questions, _ = asked(malformed="true")
    assert questions == 0
    questions, took = asked(ids=10)
    # Each is asked for once a second at most.
    assert 10 <= questions <= 10 * (took + 1)
