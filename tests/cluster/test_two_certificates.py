"""A machine that stores and votes has two certificates, and one can be denied without the other."""

import socket
import ssl

import httpx
import pytest

from harness.cluster import Cluster
from harness.internal_ports import OK, PERMISSION_DENIED, context, grpc
from harness.megalith_up import Up
from harness.process import run, wait_until

SAID = "the cluster has denied this process's certificate"
REFUSED = "refused a denied certificate"
LARGE = b"x" * 300_000


def shown(directory):
    """What `cert show` prints of the certificate in a directory: one role, or it fails."""
    lines = run("cert", "show", directory / "node.crt").stdout.splitlines()
    assert len(lines) == 1, lines
    return lines[0].split()


def on_the_wire(cluster, port, identity, name):
    """The certificate that a port shows to whoever asks for a name."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context(cluster, identity).wrap_socket(plain, server_hostname=name) as held:
        return held.getpeercert(binary_form=True)


def in_file(directory):
    return ssl.PEM_cert_to_DER_cert((directory / "node.crt").read_text())


def test_a_denied_storage_certificate_leaves_its_member_voting(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=1, gateways=1, members_store=True) as cluster:
        storage = cluster.directory / "meta-1" / "tls"
        metadata = cluster.directory / "meta-1" / "tls-metadata"
        operator = cluster.operator.parent / "tls"
        rpc, data = cluster.processes["meta-1"].ports
        other = cluster.processes["meta-2"].ports[0]

        def log(name):
            return cluster.processes[name].log.read_text()

        def alive(kind):
            _, status = cluster.status()
            rows = status["metadata"]["members"] if kind == "members" else status["nodes"]
            return {row["node"] for row in rows if row["alive"]}

        # Two certificates of one role each, and each port shows the one that is called.
        assert shown(storage)[:4] == ["--role", "storage", "--id", "1"]
        assert shown(metadata)[:4] == ["--role", "metadata", "--id", "1"]
        for port, name, found in [
            (rpc, "storage", storage), (rpc, "metadata", metadata), (rpc, "else", metadata),
            (rpc, None, metadata), (data, "storage", storage), (data, "metadata", storage),
        ]:
            assert on_the_wire(cluster, port, operator, name) == in_file(found), (port, name)

        # Whoever steals the storage certificate is no member.
        for method in ("RaftTransport/Messages", "RaftTransport/Snapshot", "RaftTransport/Knock",
                       "Metadata/Backup", "Metadata/ChangeMembers"):
            status, _ = grpc(cluster, other, storage, f"/megalith.v1.{method}")
            assert status == PERMISSION_DENIED, method
        # A member's own gets the rows.
        status, rows = grpc(cluster, other, metadata, "/megalith.v1.RaftTransport/Snapshot")
        assert status == OK
        assert rows
        assert grpc(cluster, other, storage, "/megalith.v1.Cluster/Health")[0] == OK

        client = cluster.client()
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=LARGE)
        assert alive("nodes") == {1, 2, 3, 11}

        def reads():
            return client.get_object(Bucket="kept", Key="k")["Body"].read() == LARGE

        denied = shown(storage)
        run("cert", "deny", *denied, "--config", cluster.operator)
        wait_until("it says why", lambda: SAID in log("meta-1"))
        said = [line for line in log("meta-1").splitlines() if SAID in line]
        assert all(f"serial={denied[-1]}" in line for line in said), said
        wait_until("its disks are gone", lambda: alive("nodes") == {2, 3, 11})
        assert alive("members") == {1, 2, 3}
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            grpc(cluster, other, storage, "/megalith.v1.Cluster/Health")
        assert grpc(cluster, other, metadata, "/megalith.v1.Cluster/Health")[0] == OK
        logs = [log(name) for name in cluster.names("meta")]
        assert any(REFUSED in text for text in logs)
        assert reads()

        # Its vote is needed now, in the old process and in a new one.
        cluster.kill("meta-3")
        wait_until("two members go on", lambda: client.create_bucket(Bucket="with-its-vote"))
        cluster.kill("meta-1")
        cluster.start(["meta-1"])
        wait_until("two members go on", lambda: client.create_bucket(Bucket="with-its-vote-again"))
        cluster.start(["meta-3"])
        # A node is heard before its member is.
        wait_until("all members vote", lambda: alive("members") == {1, 2, 3})
        wait_until("its disks stay away, and nobody else's", lambda: alive("nodes") == {2, 3, 11})
        assert reads()

        run("cert", "allow", *denied, "--config", cluster.operator)
        wait_until("its disks are back", lambda: alive("nodes") == {1, 2, 3, 11})
        assert reads()


def test_a_denied_member_keeps_its_disks_and_gets_a_new_certificate(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=1, gateways=1, members_store=True) as cluster:
        metadata = cluster.directory / "meta-1" / "tls-metadata"
        rpc = cluster.processes["meta-1"].ports[0]

        def log():
            return cluster.processes["meta-1"].log.read_text()

        def alive():
            _, status = cluster.status()
            members = {row["node"] for row in status["metadata"]["members"] if row["alive"]}
            return members, {row["node"] for row in status["nodes"] if row["alive"]}

        client = cluster.client()
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=LARGE)
        wait_until("all are there", lambda: alive() == ({1, 2, 3}, {1, 2, 3, 11}))

        denied = shown(metadata)
        run("cert", "deny", *denied, "--config", cluster.operator)
        wait_until("it says why", lambda: SAID in log())
        said = [line for line in log().splitlines() if SAID in line]
        assert all(f"serial={denied[-1]}" in line for line in said), said
        wait_until("its vote is gone, its disks are not",
                   lambda: alive() == ({2, 3}, {1, 2, 3, 11}))
        # The process refuses its own member, too, and a new process has the list on its disks.
        cluster.kill("meta-1")
        wait_until("its disks are gone", lambda: alive() == ({2, 3}, {2, 3, 11}))
        cluster.start(["meta-1"])
        wait_until("its disks are back", lambda: alive() == ({2, 3}, {1, 2, 3, 11}))
        client.put_object(Bucket="kept", Key="also", Body=LARGE)

        # A new certificate for the role is another serial number.
        new = cluster.directory / "new"
        issue = ("cert", "issue", "--id", 1, "--ca-dir", cluster.ca)
        run(*issue, "--role", "metadata", "--dir", new)
        cluster.kill("meta-1")
        wait_until("its disks are gone", lambda: alive() == ({2, 3}, {2, 3, 11}))
        for file in new.iterdir():
            (metadata / file.name).write_bytes(file.read_bytes())
        cluster.start(["meta-1"])
        wait_until("it votes again", lambda: alive() == ({1, 2, 3}, {1, 2, 3, 11}))
        operator = cluster.operator.parent / "tls"
        assert on_the_wire(cluster, rpc, operator, "metadata") == in_file(new)
        cluster.kill("meta-3")
        wait_until("its vote counts", lambda: client.create_bucket(Bucket="with-its-vote"))
        for key in ("k", "also"):
            assert client.get_object(Bucket="kept", Key=key)["Body"].read() == LARGE


def test_one_server_has_two_certificates_also_after_a_restart(tmp_path):
    with Up(tmp_path) as up:
        tls = up.data / "tls"

        def alive():
            return [node["alive"] for node in up.status()[1]["nodes"]]

        up.client().create_bucket(Bucket="kept")
        up.client().put_object(Bucket="kept", Key="k", Body=LARGE)
        before = [shown(tls / name) for name in ("node", "metadata")]
        assert [one[:4] for one in before] == [
            ["--role", "storage", "--id", "1"], ["--role", "metadata", "--id", "1"],
        ]
        up.process.stop()
        up.start()
        assert [shown(tls / name) for name in ("node", "metadata")] == before
        assert up.client().get_object(Bucket="kept", Key="k")["Body"].read() == LARGE

        up.command("cert", "deny", *before[0])
        wait_until("the node is not heard", lambda: alive() == [False])
        # The member answers and takes changes.
        up.command("account", "create", "another")
        up.command("cert", "allow", *before[0])
        wait_until("the node is heard", lambda: alive() == [True])
        # The gateway may hear of it later than the member.
        got = wait_until("the gateway reaches the node",
                         lambda: up.client().get_object(Bucket="kept", Key="k"))
        assert got["Body"].read() == LARGE
