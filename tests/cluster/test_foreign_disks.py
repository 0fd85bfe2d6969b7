"""A disk is its superblock's: nobody takes it by its id, and it moves with its directory."""

import base64
import json
import struct

import pytest

from harness.blake3 import derived
from harness.checksums import RAW
from harness.cluster import Cluster, Writers
from harness.internal_ports import OK, PERMISSION_DENIED, grpc, identity_of
from harness.process import wait_until

MIB = 1 << 20
KEYS = 12
DELETES = 14
CLUSTER_AND_ID = slice(16, 48)
ID = slice(32, 48)
GENERATION = 56
SECRET = slice(64, 96)
CRC = 124
PROOF_CONTEXT = "megalith 2026 proof of having a disk's superblock v1"


def id_of(disk):
    return (disk / "superblock").read_bytes()[ID].hex()


def delete_queue(cluster, name, disk):
    """Asks for a disk's delete queue as a storage node; returns the status of the call."""
    # At most five, from the head on, as far as they are due.
    query = bytes([1, DELETES]) + bytes.fromhex(disk) + bytes([5, 0, 0])
    meta = cluster.processes["meta-1"].ports[0]
    return grpc(cluster, meta, identity_of(cluster, name), "/megalith.v1.Metadata/Query",
                b"\x0a" + bytes([len(query)]) + query)[0]


def forge(directory, original):
    """Makes an empty disk that says that it is another one; its secret is made up."""
    directory.mkdir()
    (directory / "chunks").mkdir()
    forged = bytearray((original / "superblock").read_bytes())
    assert len(forged) == CRC + 4
    forged[SECRET] = bytes(32)
    struct.pack_into("<Q", forged, GENERATION, 99)
    forged[CRC:] = RAW["CRC32C"](forged[:CRC])[::-1]
    (directory / "superblock").write_bytes(forged)


def shown(value):
    """How bytes may look in a text."""
    numbers = ", ".join(str(byte) for byte in value)
    return {value.hex(), value.hex().upper(), base64.b64encode(value).decode(), numbers}


def nobody_is_told(cluster, superblock):
    """A disk's secret and the proof made from it are in no log and no answer."""
    secret = superblock[SECRET]
    proof = derived(PROOF_CONTEXT, superblock[CLUSTER_AND_ID] + secret)
    # It is the right one: the log of the metadata group is where it stands.
    logs = (cluster.directory / "meta-1" / "metadata").rglob("*.log")
    assert any(proof in path.read_bytes() for path in logs)
    told = {name: process.text() for name, process in cluster.processes.items()}
    told["status"] = json.dumps(cluster.status())
    for who, text in told.items():
        for form in shown(secret) | shown(proof):
            assert form not in text, who


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, disks=2) as running:
        yield running


@pytest.fixture
def bodies(cluster):
    cluster.client().create_bucket(Bucket="bucket")
    bodies = {f"key-{n}": Writers.body(f"key-{n}", MIB) for n in range(KEYS)}
    for key, body in bodies.items():
        cluster.client().put_object(Bucket="bucket", Key=key, Body=body)
    return bodies


def read_all(cluster, bodies):
    for key, body in bodies.items():
        assert cluster.client().get_object(Bucket="bucket", Key=key)["Body"].read() == body, key


def in_use(cluster, name):
    """The disk of a node on which the open volumes have their slots."""
    return max(cluster.all_disks[name],
               key=lambda path: sum(f.stat().st_blocks for f in path.rglob("*.chunk")))


def disks_of(cluster, node):
    """A node's disks as the leader last heard of them: why each is closed."""
    _, status = cluster.status()
    found = next(n for n in status["nodes"] if n["node"] == node)
    return {disk["disk"]: disk["closed"] for disk in found["disks"]}


def start(cluster, name):
    cluster.processes[name].start()
    wait_until(f"{name} is heard from", cluster.all_heard, deadline_s=60)


def test_who_only_knows_a_disks_id_does_not_get_it(cluster, bodies):
    victim = in_use(cluster, "store-11")
    disk, away = id_of(victim), victim.with_name("away")
    # The victim's disk is away, and so free: its node has registered without it.
    cluster.processes["store-11"].stop()
    victim.rename(away)
    start(cluster, "store-11")
    wait_until("the disk is free", lambda: disk not in disks_of(cluster, 11))
    # Its node has let go of it, and so asks in vain until it has it again.
    assert delete_queue(cluster, "store-11", disk) == PERMISSION_DENIED
    volumes = {v["volume"]: v["epoch"] for v in cluster.status()[1]["volumes"]}

    # Another storage node, with its own valid certificate, says that it has that disk.
    thief = cluster.processes["store-12"]
    kept, replaced = cluster.all_disks["store-12"]
    thief.stop()
    replaced.rename(replaced.with_name("not-mine"))
    forge(replaced, away)
    start(cluster, "store-12")
    wait_until("the disk is refused", lambda: disks_of(cluster, 12).get(disk))
    assert "not the one that the cluster knows" in disks_of(cluster, 12)[disk]
    assert "the cluster refuses a disk" in thief.text()
    assert "refused to register a disk" in cluster.processes["meta-1"].text()
    # Its other disk serves.
    assert disks_of(cluster, 12)[id_of(kept)] is None
    assert delete_queue(cluster, "store-12", id_of(kept)) == OK
    # The foreign one's slots and queue are as before.
    assert delete_queue(cluster, "store-12", disk) == PERMISSION_DENIED
    after = {v["volume"]: v["epoch"] for v in cluster.status()[1]["volumes"]}
    assert {v: after[v] for v in volumes} == volumes

    # Its own node gets it back, and everything is there.
    cluster.processes["store-11"].stop()
    away.rename(victim)
    start(cluster, "store-11")
    wait_until("it is back", lambda: disks_of(cluster, 11).get(disk, "away") is None)
    assert delete_queue(cluster, "store-11", disk) == OK
    read_all(cluster, bodies)
    nobody_is_told(cluster, (victim / "superblock").read_bytes())


def test_a_disk_moves_with_its_directory_once_its_old_node_lets_go(cluster, bodies):
    moved = in_use(cluster, "store-11")
    disk = id_of(moved)
    old, new = cluster.processes["store-11"], cluster.processes["store-12"]
    # The disk of the new node that holds nothing.
    place = next(d for d in cluster.all_disks["store-12"] if d != in_use(cluster, "store-12"))
    old.stop()
    new.stop()
    place.rename(place.with_name("empty"))
    moved.rename(place)
    new.start()
    wait_until("it is the old node's yet", lambda: disks_of(cluster, 12).get(disk))
    assert "served by node-11" in disks_of(cluster, 12)[disk]
    read_all(cluster, bodies)
    start(cluster, "store-11")
    wait_until("the new node has it", lambda: disks_of(cluster, 12).get(disk, "?") is None)
    assert disk not in disks_of(cluster, 11)
    wait_until("everything is read from where it is now",
               lambda: read_all(cluster, bodies) is None)
    assert delete_queue(cluster, "store-12", disk) == OK
    assert delete_queue(cluster, "store-11", disk) == PERMISSION_DENIED
