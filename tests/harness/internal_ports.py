"""The internal ports of a cluster's processes, called with a certificate of one's choice."""

import ssl

import httpx

OK = "0"
PERMISSION_DENIED = "7"
# The most shards that a node lists in one answer.
LIST_MAX = 1000


def identity_of(cluster, name):
    """The directory with the certificate of a process, or of the operator."""
    return cluster.directory / name / "tls"


def context(cluster, identity):
    made = ssl.create_default_context(cafile=str(cluster.ca / "ca.crt"))
    made.check_hostname = False
    if identity is not None:
        made.load_cert_chain(identity / "node.crt", identity / "node.key")
    return made


def grpc(cluster, port, identity, method, message=b""):
    """Calls a method; returns the grpc-status, or raises if there is no answer at all."""
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    with httpx.Client(http1=False, http2=True, verify=context(cluster, identity)) as client:
        answer = client.post(
            f"https://127.0.0.1:{port}{method}",
            content=frame,
            headers={"content-type": "application/grpc", "te": "trailers"},
            timeout=10,
        )
        # httpx shows no trailers; if the call succeeded, the status is in them.
        return answer.headers.get("grpc-status", OK), answer.content


def http(cluster, port, identity, path):
    with httpx.Client(verify=context(cluster, identity)) as client:
        return client.get(f"https://127.0.0.1:{port}{path}", timeout=10).status_code


def varint(number):
    """A number as protobuf writes it."""
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def count_of_first_field(message):
    """How many messages a reply holds in its field 1, which comes before all others."""
    count, at = 0, 0
    while at < len(message) and message[at] == 0x0A:
        length = message[at + 1]
        assert length < 0x80, "longer than any name of a shard"
        at += 2 + length
        count += 1
    return count


def shards_listed(cluster, name, disk, volume):
    """How many shards of a volume a storage node lists on a disk: `ShardControl/List`."""
    asked = b"\x0a\x10" + bytes.fromhex(disk)
    asked += b"\x10" + varint(volume) + b"\x20" + varint(LIST_MAX)
    port = cluster.processes[name].ports[0]
    operator = identity_of(cluster, "operator")
    status, answer = grpc(cluster, port, operator, "/megalith.v1.ShardControl/List", asked)
    assert status == OK, (name, disk, volume, status)
    # An answer is one frame: a flag, four bytes of length, the message.
    assert int.from_bytes(answer[1:5], "big") == len(answer) - 5, answer
    count = count_of_first_field(answer[5:])
    assert count < LIST_MAX, "more than one answer holds"
    return count
