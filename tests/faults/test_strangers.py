"""Without the right certificate, no internal port of a real process gives an answer."""

import ssl

import httpx
import pytest

from harness.cluster import Cluster
from harness.internal_ports import OK, PERMISSION_DENIED, grpc, http, identity_of
from harness.process import free_ports, run


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

    for number, fields in [(DELETES, b"\x05"), (DISK_VOLUMES, b"")]:
        assert ask(storage, number, disks[11] + fields) == OK
        assert ask(storage, number, disks[12] + fields) == PERMISSION_DENIED
        assert ask(gateway, number, disks[12] + fields) == PERMISSION_DENIED
    # Sealed keys are the gateways', figures about the cluster the operator's.
    assert ask(storage, KEKS) == PERMISSION_DENIED
    assert ask(gateway, KEKS) == OK
    assert ask(gateway, DATA) == PERMISSION_DENIED
    assert ask(identity_of(cluster, "operator"), DATA) == OK
