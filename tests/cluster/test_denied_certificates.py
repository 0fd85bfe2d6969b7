"""A denied certificate is refused by everybody, after a restart too, until it is allowed."""

import socket
import ssl

import httpx
import pytest
from botocore.exceptions import ClientError

from harness.cluster import Cluster
from harness.internal_ports import context, identity_of
from harness.process import run, wait_until

SAID = "the cluster has denied this process's certificate"


def connected(cluster, port, identity):
    """An open connection whose handshake both ends have finished."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context(cluster, identity_of(cluster, identity)).wrap_socket(plain)


def refused(cluster, port, identity):
    """Whether a new connection is refused, with the alert that says why."""
    try:
        with connected(cluster, port, identity) as held:
            held.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            return not held.recv(1)
    except ssl.SSLError as error:
        assert "REVOKED" in str(error), error
        return True


def ended(held):
    try:
        return held.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def test_a_denied_gateway_is_refused_everywhere_until_it_is_allowed(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=3, gateways=2) as cluster:
        def cert(*args, check=True):
            return run("cert", *args, "--config", cluster.operator, check=check)

        def shown(name):
            file = identity_of(cluster, name) / "node.crt"
            return run("cert", "show", file).stdout.split()

        def reads(name):
            got = cluster.client(name).get_object(Bucket="kept", Key="k")
            return got["Body"].read() == b"x" * 9

        def serves(name):
            health = f"http://127.0.0.1:{cluster.health_ports[name]}/health/ready"
            return httpx.get(health, timeout=10).status_code == 200

        def log():
            return cluster.processes["gateway-2"].log.read_text()

        first = cluster.client("gateway-1")
        first.create_bucket(Bucket="kept")
        first.put_object(Bucket="kept", Key="k", Body=b"x" * 9)
        assert reads("gateway-2")
        stores = [cluster.processes[name].ports for name in cluster.names("store")]
        members = [cluster.processes[name].ports[0] for name in cluster.names("meta")]
        everybody = [*(port for ports in stores for port in ports), *members]
        held = [connected(cluster, port, "gateway-2") for port in everybody]

        denied = shown("gateway-2")
        assert denied[:4] == ["--role", "gateway", "--id", "2"], denied
        cert("deny", *denied)
        assert denied[-1] in cert("list").stdout
        # Connections that were open end, and no new one is accepted.
        for one in held:
            wait_until("an open connection ends", lambda one=one: ended(one))
        for port in everybody:
            wait_until("all refuse it", lambda port=port: refused(cluster, port, "gateway-2"))
        with pytest.raises(ClientError) as failed:
            cluster.client("gateway-2", retries=1).get_object(Bucket="kept", Key="k")
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        wait_until("it says why", lambda: SAID in log())
        assert not serves("gateway-2")
        assert reads("gateway-1")
        assert serves("gateway-1")

        # Nobody denies itself, or a member as a whole.
        itself = cert("deny", *shown("operator"), check=False)
        assert itself.returncode != 0
        assert "would deny the certificate that asks for it" in itself.stderr
        for role in ["metadata", "storage"]:
            whole = cert("deny", "--role", role, "--id", 1, check=False)
            assert "node 1 is a member of the metadata group" in whole.stderr, whole

        # The nodes have kept the list: they refuse also while no member can tell them.
        cluster.kill()
        cluster.processes["gateway-2"].process = None
        cluster.start(cluster.names("store"))
        for _, data in stores:
            wait_until("a node refuses it", lambda data=data: refused(cluster, data, "gateway-2"))
        before = log().count(SAID)
        cluster.start([*cluster.names("meta"), "gateway-1"])
        cluster.ready()
        assert reads("gateway-1")
        cluster.start(["gateway-2"])
        wait_until("it is refused and says so", lambda: log().count(SAID) > before)

        cert("allow", *denied)
        assert cert("list").stdout == ""
        assert "is not on the deny list" in cert("allow", *denied, check=False).stderr
        wait_until("it serves again", lambda: reads("gateway-2") and serves("gateway-2"))
