"""Without the right certificate, no internal port of a real process gives an answer."""

import contextlib
import socket
import ssl

import httpx
import pytest

from harness.cluster import Cluster
from harness.internal_ports import OK, PERMISSION_DENIED, context, grpc, http, identity_of
from harness.process import free_ports, run, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("strangers")
    with Cluster(directory, metadata=1, storage=3, gateways=1) as running:
        yield running


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A storage node's certificate by another cluster's authority."""
    directory = tmp_path_factory.mktemp("foreign")
    rpc, data = free_ports(2)
    run("node", "init", "--id", 11, "--dir", directory / "node", "--ca-dir", directory / "ca",
        "--host", "127.0.0.1", "--disk", directory / "disk",
        "--rpc-listen", f"127.0.0.1:{rpc}", "--data-listen", f"127.0.0.1:{data}",
        "--metadata-member", f"1=127.0.0.1:{rpc}")
    return directory / "node" / "tls"


def create_bucket(name):
    """A `ProposeRequest` for a gateway's command (postcard after a version byte)."""
    seal = b"not looked at by metadata"
    command = bytes([10, 99, len(name)]) + name + bytes([1, len(seal)]) + seal
    envelope = bytes([1, 0]) + command
    return b"\x0a" + bytes([len(envelope)]) + envelope


def question(number, fields=b""):
    """A `QueryRequest` with the question of this number (postcard after a version byte)."""
    query = bytes([1, number]) + fields
    return b"\x0a" + bytes([len(query)]) + query


KEKS, DELETES, DATA, DISK_VOLUMES = 11, 14, 15, 16
SHARD = "/v1/shards/" + "0" * 32 + "/1/1/0/0?first=0&count=1"


@pytest.mark.parametrize("who", ["nobody", "foreign"])
def test_strangers_get_no_answer_from_any_port(cluster, foreign, who):
    identity = None if who == "nobody" else foreign
    for name in ["meta-1", *cluster.names("store")]:
        rpc, data = cluster.processes[name].ports
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            grpc(cluster, rpc, identity, "/megalith.v1.Cluster/Health")
        if name != "meta-1":
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                http(cluster, data, identity, SHARD)


def test_plain_text_gets_no_answer(cluster):
    for name in ["meta-1", *cluster.names("store")]:
        for port in cluster.processes[name].ports[: 1 if name == "meta-1" else 2]:
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/", timeout=15)


def test_roles_do_only_what_is_theirs(cluster):
    storage, gateway = identity_of(cluster, "store-11"), identity_of(cluster, "gateway-1")
    operator = identity_of(cluster, "operator")
    meta = cluster.processes["meta-1"].ports[0]
    store_rpc, store_data = cluster.processes["store-12"].ports
    propose = "/megalith.v1.Metadata/Propose"
    # A storage node may not do what a gateway may, even with the same bytes.
    assert grpc(cluster, meta, storage, propose, create_bucket(b"stolen"))[0] == PERMISSION_DENIED
    assert grpc(cluster, meta, gateway, propose, create_bucket(b"rightful"))[0] == OK
    for port, identity, method in [
        (meta, storage, "/megalith.v1.RaftTransport/Messages"),
        (meta, gateway, "/megalith.v1.RaftTransport/Snapshot"),
        (meta, gateway, "/megalith.v1.Cluster/Join"),
        (meta, operator, "/megalith.v1.Cluster/Heartbeat"),
        (store_rpc, gateway, "/megalith.v1.ShardControl/Scrub"),
        (store_rpc, storage, "/megalith.v1.ShardControl/Scrub"),
        (meta, gateway, "/megalith.v1.Metadata/Nothing"),
        (meta, operator, "/no.such.Service/Method"),
        (store_rpc, gateway, "/"),
    ]:
        assert grpc(cluster, port, identity, method)[0] == PERMISSION_DENIED, method
    assert http(cluster, store_data, operator, SHARD) == 403
    # Its disk is not here, which says nothing of the shard.
    assert http(cluster, store_data, gateway, SHARD) == 500
    names = [b["Name"] for b in cluster.client().list_buckets()["Buckets"]]
    assert "stolen" not in names


def test_a_storage_node_asks_about_its_own_disks_only(cluster):
    storage, gateway = identity_of(cluster, "store-11"), identity_of(cluster, "gateway-1")
    meta = cluster.processes["meta-1"].ports[0]
    _, status = cluster.status()
    disks = {node["node"]: bytes.fromhex(node["disks"][0]["disk"]) for node in status["nodes"]}

    def ask(identity, number, fields=b""):
        method = "/megalith.v1.Metadata/Query"
        return grpc(cluster, meta, identity, method, question(number, fields))[0]

    for number, fields in [(DELETES, b"\x05\0\0"), (DISK_VOLUMES, b"")]:
        assert ask(storage, number, disks[11] + fields) == OK
        assert ask(storage, number, disks[12] + fields) == PERMISSION_DENIED
        assert ask(gateway, number, disks[12] + fields) == PERMISSION_DENIED
    # Sealed keys are the gateways', figures about the cluster the operator's.
    assert ask(storage, KEKS) == PERMISSION_DENIED
    assert ask(gateway, KEKS) == OK
    assert ask(gateway, DATA) == PERMISSION_DENIED
    assert ask(identity_of(cluster, "operator"), DATA) == OK


# Of one peer to a gRPC port.
CONNECTIONS_MAX = 256


def still_open(stream):
    """False once the other side has closed the connection."""
    try:
        # A server of HTTP/2 says something first.
        return stream.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_one_peer_takes_its_share_of_connections_and_no_more(cluster):
    greedy = context(cluster, identity_of(cluster, "store-13"))
    greedy.set_alpn_protocols(["h2"])
    port = cluster.processes["meta-1"].ports[0]
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(CONNECTIONS_MAX + 50):
            tcp = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            streams.append(stack.enter_context(greedy.wrap_socket(tcp)))
        wait_until("the metadata member says so",
                   lambda: "too many connections of this peer"
                   in cluster.processes["meta-1"].text())
        for stream in streams:
            stream.settimeout(2)
        alive = sum(still_open(stream) for stream in streams)
        # The node itself has some of its share.
        assert CONNECTIONS_MAX - 20 <= alive <= CONNECTIONS_MAX
        # Everybody else is served as before.
        client = cluster.client()
        client.create_bucket(Bucket="meanwhile")
        client.put_object(Bucket="meanwhile", Key="key", Body=b"x" * 300_000)
        got = client.get_object(Bucket="meanwhile", Key="key")["Body"].read()
        assert got == b"x" * 300_000
        operator = identity_of(cluster, "operator")
        assert grpc(cluster, port, operator, "/megalith.v1.Cluster/Health")[0] == OK
    wait_until("the greedy peer is served again",
               lambda: grpc(cluster, port, identity_of(cluster, "store-13"),
                            "/megalith.v1.Cluster/Health")[0] == OK)
