"""No acknowledgement precedes its sync, and many writes share one: seen from outside, by strace."""

import collections
import contextlib
import threading
import time

import pytest

from harness import syscall_trace
from harness.cluster import Cluster, Writers
from harness.process import wait_until

SIZE = 200_000
ALONE, TOGETHER, EACH = 40, 64, 4
# 4+2 with one receipt fewer than members; a majority of three.
RECEIPTS, MAJORITY = 5, 2
WATCHED = "store-11"
DISK_CALLS = ("pwritev", "fdatasync", "fsync")


class Phase:
    """The PUTs of one part of the test, and its time."""

    def __init__(self):
        self.puts = []
        self.begin = self.end = None

    @contextlib.contextmanager
    def timed(self):
        self.begin = time.time()
        yield self
        self.end = time.time()

    def put(self, bare, key):
        begin = time.time()
        status, _, body = bare.put("syncs", key, Writers.body(key, SIZE))
        self.puts.append((key, begin, time.time()))
        assert status == 200, (key, status, body)

    def within(self, calls):
        return [call for call in calls if self.begin <= call.begin <= self.end]


def alone(cluster):
    bare = cluster.bare()
    with Phase().timed() as phase:
        for number in range(ALONE):
            phase.put(bare, f"alone-{number:03}")
    return phase


def together(cluster):
    phase = Phase()
    failed = []

    def client(number):
        try:
            bare = cluster.bare()
            for turn in range(EACH):
                phase.put(bare, f"together-{number:02}-{turn}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(TOGETHER)]
    with phase.timed():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
    assert not failed, failed[0]
    return phase


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """(phases by name, every process's calls, the watched node's data port)"""
    reason = syscall_trace.impossible()
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("syncs")
    traces = directory / "traces"
    traces.mkdir()

    def wrap(name):
        if name.startswith("gateway"):
            return []
        more = ("writev", "sendto", "sendmsg", "write") if name == WATCHED else ()
        # Checks a whole append of the log, but only the ends of a shard's records.
        return syscall_trace.under(traces, name, DISK_CALLS + more,
                           1 << 20 if name.startswith("meta") else 4_300)

    with Cluster(directory / "cluster", gateways=1, wrap=wrap) as cluster:
        cluster.client().create_bucket(Bucket="syncs")
        # By then every volume has its first file: making one takes extra syncs.
        for number in range(24):
            warm = f"warm-{number}"
            wait_until("a first write", lambda k=warm: cluster.bare().put(
                "syncs", k, Writers.body(k, SIZE))[0] == 200)
        phases = {"alone": alone(cluster), "together": together(cluster)}
        names = cluster.names("store") + cluster.names("meta")
        port = cluster.processes[WATCHED].ports[1]
        for name in names:
            cluster.processes[name].stop()
    return phases, {name: syscall_trace.calls(traces, name) for name in names}, port


def test_many_writes_share_one_sync(seen):
    phases, calls, _ = seen
    rates = collections.defaultdict(dict)
    for phase_name, phase in phases.items():
        for name, of_process in calls.items():
            syncs = sum(map(syscall_trace.is_sync, phase.within(of_process)))
            rates[name][phase_name] = syncs / len(phase.puts)
    for name, rate in rates.items():
        print(f"{name}: syncs per PUT: {rate['alone']:.2f} at 1 client,"
              f" {rate['together']:.2f} at {TOGETHER}")
    for kind in ("store", "meta"):
        of_kind = [rate for name, rate in rates.items() if name.startswith(kind)]
        one = sum(rate["alone"] for rate in of_kind)
        many = sum(rate["together"] for rate in of_kind)
        assert one > 0.5 * len(of_kind), f"{kind}: fewer syncs than PUTs: who made them durable?"
        assert many < 0.6 * one, f"{kind}: {one:.2f} and {many:.2f} syncs per PUT"


def test_no_client_hears_of_a_put_before_enough_disks_have_it(seen):
    phases, calls, _ = seen
    shards = collections.defaultdict(list)
    entries = []
    for name, of_process in calls.items():
        durable = syscall_trace.durable_at(of_process)
        for digest, write in syscall_trace.shard_ends(of_process):
            shards[digest].append((name, durable(write)))
        for payload, write in syscall_trace.log_entries(of_process):
            entries.append((name, payload, write.begin, durable(write)))
    assert shards and entries

    checked = 0
    for phase in phases.values():
        for key, _, heard in phase.puts:
            named = [entry for entry in entries if key.encode() in entry[1]]
            members = {name for name, _, _, end in named if end is not None and end <= heard}
            assert len(members) >= MAJORITY, f"{key}: acknowledged with {members} durable"
            # The entry names the digests of its shards, by their first half.
            _, payload, proposed, _ = min(named, key=lambda entry: entry[2])
            held = {name for digest, places in shards.items() if digest[:16] in payload
                    for name, end in places if end is not None and end <= proposed}
            assert len(held) >= RECEIPTS, f"{key}: proposed with {held} durable"
            checked += 1
    assert checked == ALONE + TOGETHER * EACH


def test_no_receipt_of_a_node_precedes_its_sync(seen):
    phases, calls, port = seen
    found = calls[WATCHED]
    durable = syscall_trace.durable_at(found)
    done = sorted(end for _, write in syscall_trace.shard_ends(found)
                  if (end := durable(write)) is not None)
    for name, phase in phases.items():
        answers = [call for call in phase.within(found)
                   if call.call in ("writev", "sendto", "sendmsg", "write")
                   and call.place.startswith("TCP") and f":{port}->" in call.place]
        # Receipts differ in length by a few digits; the rest is the handshake.
        usual = collections.Counter(call.result for call in answers).most_common(1)[0][0]
        receipts = [call for call in answers if abs(call.result - usual) <= 3]
        count = len(receipts)
        before = sum(end < phase.begin for end in done)
        within = sum(phase.begin <= end <= phase.end for end in done)
        assert len(phase.puts) - 5 <= count <= within, f"{name}: {count} receipts, {within} shards"
        # If one were sent too early, there would be more receipts than synced shards then.
        for number, receipt in enumerate(receipts, start=1):
            synced = sum(end <= receipt.begin for end in done) - before
            assert synced >= number, (
                f"{name}: receipt {number} by thread {receipt.thread} at {receipt.begin:.6f},"
                f" {synced} shards synced")
        print(f"{name}: {count} receipts, each after its shard's sync")
