"""A process ends at each of its durable steps in turn, in the middle of PUTs: before a write,
before a sync, before an answer. One node without redundancy and one member: every step counts.

That a power cut at any step loses nothing either is shown on simulated disks by
`node/store/src/tests/crash.rs` and `node/metadata/src/tests/steps.rs`.
"""

import collections
import itertools
import os

import pytest

from harness import syscall_trace
from harness.cluster import Cluster, Writers
from harness.process import wait_until

EACH = int(os.environ.get("MEGALITH_STEPS_EACH", "2"))
# The store's writer and the member's log, and what they answer.
CALLS = ("pwritev", "fdatasync", "writev")
SIZES = (100, 5_000, 300_000)
# A thread that makes fewer of these calls doesn't reach the step.
PUTS_MAX = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    reason = syscall_trace.impossible()
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("steps")
    with Cluster(directory, metadata=1, storage=1, gateways=1) as running:
        running.client().create_bucket(Bucket="steps")
        yield running


class Puts:
    """New keys, and one key that is overwritten, one after the other."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.numbers = itertools.count()
        self.acknowledged = {}
        self.unknown = {}
        self.step = 0
        # What the overwritten key may hold: (tag, size, step, acknowledged)
        self.versions = []

    def until_gone(self, process):
        """Returns how many were acknowledged before the process ended; None if it never did."""
        self.step += 1
        count = 0
        last = next(self.numbers) + PUTS_MAX
        # The caller doesn't wait for the process to return; the gateway may go on.
        bare = self.cluster.bare(timeout=2)
        while process.running():
            number = next(self.numbers)
            size = SIZES[number % len(SIZES)]
            key = "same" if number % 4 == 3 else f"key-{number}"
            tag = f"{key}-{number}"
            try:
                status = bare.put("steps", key, Writers.body(tag, size))[0]
            except OSError:
                status = None
                bare = self.cluster.bare(timeout=2)
            if key == "same":
                if status == 200:
                    # A write that is still in flight may take effect after this one.
                    self.versions = [version for version in self.versions
                                     if not version[3] and version[2] >= self.step - 1]
                self.versions.append((tag, size, self.step, status == 200))
            elif status == 200:
                self.acknowledged[key] = (tag, size)
            else:
                self.unknown[key] = (tag, size)
            count += status == 200
            if number >= last:
                return None
        return count

    def check(self, keys):
        client = self.cluster.client(retries=5)
        there = {item["Key"] for page in client.get_paginator("list_objects_v2").paginate(
            Bucket="steps") for item in page.get("Contents", [])}
        missing = self.acknowledged.keys() - there
        assert not missing, f"acknowledged and gone: {sorted(missing)}"
        for key in sorted(keys & there):
            tag, size = self.acknowledged.get(key) or self.unknown[key]
            body = client.get_object(Bucket="steps", Key=key)["Body"].read()
            assert body == Writers.body(tag, size), f"{key}: not what was put"
        if self.versions:
            body = client.get_object(Bucket="steps", Key="same")["Body"].read()
            written = [Writers.body(*version[:2]) for version in self.versions]
            assert body in written, "same: torn, or old"


def test_a_process_that_ends_at_any_step_loses_nothing(cluster):
    puts = Puts(cluster)
    known = set()
    ends, reached = [], collections.Counter()
    for name, call, number in itertools.product(("store-11", "meta-1"), CALLS, range(EACH)):
        process = cluster.processes[name]
        process.stop()
        plain = process.args
        # Each thread counts its own calls; there are many answers, and some belong to the start.
        when = 1 + number if call == "fdatasync" else 2 + 3 * number
        process.args = [*syscall_trace.ended_at(call, when), *plain]
        process.start()
        count = puts.until_gone(process)
        ends.append(f"{name} {call} {when}: {count} acknowledged")
        reached[name, call] += count is not None
        process.kill()
        process.args = plain
        process.start()
        wait_until("it is back", lambda: cluster.check_running() or cluster.all_heard(), 30)
        now = puts.acknowledged.keys() | puts.unknown.keys()
        puts.check(now - known)
        known = now
    print("\n".join(ends))
    puts.check(known)
    for name in ("store-11", "meta-1"):
        for call in ("pwritev", "fdatasync"):
            assert reached[name, call] == EACH, ends
        assert sum(reached[name, call] for call in CALLS[2:]) >= EACH, ends
    assert len(puts.acknowledged) >= 2 * EACH, ends
    assert puts.unknown, "nothing was ever under way"
