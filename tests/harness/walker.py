"""What is on the disks and nothing answers for: rows and disks of a cluster at rest, compared."""

import contextlib
import http.client
import json
import tempfile
import threading
from pathlib import Path

from .cluster import Writers
from .internal_ports import OK, grpc, identity_of, shards_listed
from .process import BINARY, run, wait_until

# Built beside the binary: `cargo build --workspace --example walker`.
WALKER = BINARY.parent / "examples" / "walker"
LEFT = ("unnamed", "leased", "queued", "trashed", "missing")
# For a cluster whose deletes need not wait for reads: `node_env` of `Cluster`.
DELETES_SOON = {
    "MEGALITH_METADATA__GATEWAY_LIFE_S": "3",
    "MEGALITH_METADATA__DELETE_AFTER_S": "1",
}
# For storage nodes whose chunk files are finished, and their dead bytes given back, soon.
SPACE_SOON = {"MEGALITH_STORAGE__FINISH_AFTER_S": "1"}
# The same, and what nobody names is looked for all the time and not kept in the trash.
ORPHANS_SOON = {
    **SPACE_SOON,
    "MEGALITH_STORAGE__TRASH_DAYS": "0",
    "MEGALITH_STORAGE__ORPHAN_CHECK_S": "1",
}
# The most that disks may take beyond what they took before writes that came to nothing.
SPARE_PERCENT = 5
MIB = 1 << 20
BLOCK = 4096
NOTHING = bytes(BLOCK)


def walk(cluster, deadline_s=60):
    """Stops the storage nodes and returns what the walker says of their disks.

    Waits until no delete is left. Nobody may write meanwhile. `unnamed` are shards that no row
    names and no lease explains; `leased` are those whose lease is open, that a running gateway may
    yet name; `queued` wait for their delete; `trashed` are in the trash of their disk; `missing`
    are shards that should be there."""
    wait_until("no delete is left",
               lambda: cluster.status()[1]["data"]["deletes_pending"] == 0, deadline_s)
    with tempfile.TemporaryDirectory(dir=cluster.directory) as directory:
        backup = Path(directory) / "rows"
        run("meta", "backup", "--config", cluster.operator, "--to", backup)
        cluster.kill(*(name for name in cluster.names("store")
                       if cluster.processes[name].running()))
        disks = [disk for disks in cluster.all_disks.values() for disk in disks]
        return json.loads(run(backup, *disks, program=WALKER).stdout)


def nothing_is_left(cluster, deadline_s=60):
    """Waits until rows name every shard, and each is there. The nodes run again afterwards.

    A gateway discards what a failed write left after it has answered, so this may take a while."""
    def left():
        found = walk(cluster)
        cluster.start(cluster.names("store"))
        cluster.ready()
        left = {what: found[what][:10] for what in LEFT if found[what]}
        assert not left, (left, {what: len(found[what]) for what in left}, found["shards"])
        return found
    return wait_until("rows and disks agree", left, deadline_s)


def shards(cluster, names):
    """How many shards each of these nodes itself lists on its disk."""
    _, status = cluster.status()
    volumes = [volume["volume"] for volume in status["volumes"]]
    disks = {f"store-{node['node']}": node["disks"][0]["disk"] for node in status["nodes"]}
    return {name: sum(shards_listed(cluster, name, disks[name], volume) for volume in volumes)
            for name in names}


def written_blocks_of(cluster):
    """The same of all disks of a cluster."""
    return sum(written_blocks(disk) for disks in cluster.all_disks.values() for disk in disks)


def written_blocks(disk):
    """How many blocks of a disk's chunk files hold anything but zeros."""
    count = 0
    for path in disk.rglob("*.chunk"):
        with path.open("rb") as file:
            while piece := file.read(256 * BLOCK):
                count += sum(piece[at : at + BLOCK] != NOTHING
                             for at in range(0, len(piece), BLOCK))
    return count


def on_stores(settings):
    """`process_env` of a `Cluster`: sets `settings` for its storage nodes alone."""
    return lambda name: settings if name.startswith("store") else {}


def allocated(cluster):
    """Bytes that the file systems say the files of all disks take: `st_blocks`, so holes count
    nothing and space reserved in advance counts whole."""
    total = 0
    for disk in (disk for disks in cluster.all_disks.values() for disk in disks):
        for path in disk.rglob("*"):
            # Files come and go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_blocks * 512
    return total


def ends_with_a_record(chunk):
    """False if space that was reserved in advance is still there behind the last record."""
    with chunk.open("rb") as file:
        file.seek(-BLOCK, 2)
        return file.read(BLOCK) != NOTHING


def at_rest(cluster, deadline_s=60):
    """Waits until every chunk file is finished, and cut to its length. Returns the bytes that the
    disks take then."""
    def finished():
        for disks in cluster.all_disks.values():
            for chunk in (path for disk in disks for path in disk.rglob("*.chunk")):
                assert chunk.with_suffix(".index").exists(), f"{chunk} is open"
                assert ends_with_a_record(chunk), f"{chunk} keeps space that it does not need"
        return allocated(cluster)
    return wait_until("every chunk file is finished", finished, deadline_s)


def space_is_back(cluster, before, deadline_s=90):
    """Waits until the disks take at most 5 % more than `before`, of `at_rest`. Writes that came to
    nothing have ended; nobody writes meanwhile."""
    def back():
        now = allocated(cluster)
        assert now * 100 <= before * (100 + SPARE_PERCENT), (
            f"{now} bytes are taken, {before} before; "
            f"{written_blocks_of(cluster)} blocks hold anything")
        return now
    return wait_until(f"disks are back to within {SPARE_PERCENT} %", back, deadline_s)


def kill_amid_a_put(cluster, bucket):
    """kill -9 of gateway-1 once every node has a whole segment of a longer body."""
    body = Writers.body("long", 130 * MIB)
    nodes = cluster.names("store")
    before = shards(cluster, nodes)

    def put():
        with contextlib.suppress(OSError, http.client.HTTPException):
            cluster.bare().put(bucket, "long", body)

    writer = threading.Thread(target=put)
    writer.start()

    def whole():
        now = shards(cluster, nodes)
        return all(now[name] > before[name] for name in nodes)
    wait_until("a segment is whole", whole, 60, 0.01)
    cluster.kill("gateway-1")
    writer.join(timeout=60)


def close_leases(cluster, gateway):
    """Closes the first leases of a gateway that is gone, as an operator."""
    member = next(m for m in cluster.status()[1]["metadata"]["members"] if m["leader"])
    port = int(member["address"].rsplit(":", 1)[1])
    for lease in range(8):
        # A megalith-model `Envelope`: version 1, no key, command 6, gateway and lease.
        envelope = bytes([1, 0, 6, gateway, lease])
        message = b"\x0a" + bytes([len(envelope)]) + envelope
        status, answer = grpc(cluster, port, identity_of(cluster, "operator"),
                              "/megalith.v1.Metadata/Propose", message)
        assert status == OK and answer, (lease, status)
