"""Power cuts: the nodes' file systems are shut down in the middle of writes, again and again."""

import os
import random
import time

import pytest

from harness.changing_load import Churn
from harness.cluster import Cluster
from harness.power_cut import Impossible, PowerStrip, Witness, impossible
from harness.process import wait_until

ROUNDS = int(os.environ.get("MEGALITH_POWER_ROUNDS", "3"))
SEED = int(os.environ.get("MEGALITH_SEED", "1"))


@pytest.fixture
def strip(tmp_path):
    """Small file systems, one for each node."""
    reason = impossible(tmp_path / "probe")
    if reason:
        pytest.skip(reason)
    strip = PowerStrip(tmp_path / "images")
    strip.passed = False
    yield strip
    strip.close(keep=not strip.passed)


def logged(cluster, after):
    """What each node has logged beyond these lengths."""
    return {name: cluster.processes[name].text()[after.get(name, 0):]
            for name in cluster.names("store") + cluster.names("meta")}


def lengths(cluster):
    return {name: len(text) for name, text in logged(cluster, {}).items()}


def cut(cluster, strip, rng, names):
    """Cuts the power of these nodes' disks, one shortly after the other. All that ran on
    them ends, then the disks come back. What was not synced must be gone."""
    names = list(names)
    rng.shuffle(names)
    unsynced = [Witness(strip.disks[name]) for name in names]
    for witness in unsynced:
        witness.leave_unsynced()
    strip.cut(names)
    everything = set(names) == set(strip.disks)
    running = cluster.processes if everything else names
    cluster.kill(*(name for name in running if cluster.processes[name].running()))
    strip.power_on(names)
    assert not any(witness.told()[1] for witness in unsynced), "a cut that drops nothing"


def cut_some(cluster, strip, rng):
    """As many as may fail at once lose their power and come back, while the others go on."""
    names = rng.sample(cluster.names("store"), 2) + rng.sample(cluster.names("meta"), 1)
    cut(cluster, strip, rng, names)
    cluster.start(names)
    wait_until("those that lost their power are heard again",
               lambda: cluster.check_running() or cluster.all_heard(), 60, every_s=0.2)


def cut_all(cluster, strip, rng):
    """Everything loses power, sometimes again while it comes back. Returns the lengths of the
    logs when it came back for good."""
    cut(cluster, strip, rng, strip.disks)
    if rng.random() < 0.4:
        before = lengths(cluster)
        cluster.start()
        few = rng.randrange(1, 9)
        wait_until(f"{few} processes have read their disks", lambda: few <= sum(
            "node serves" in text for text in logged(cluster, before).values()), 60)
        cut(cluster, strip, rng, strip.disks)
    before = lengths(cluster)
    cluster.start()
    cluster.ready()
    return before


def test_power_cuts_lose_nothing_and_stop_nobody(tmp_path, strip):
    rng = random.Random(SEED)
    try:
        cluster = Cluster(tmp_path / "cluster", gateways=2, prepare_node=strip.add)
    except Impossible as reason:
        pytest.skip(f"can't have nine small file systems: {reason}")
    with cluster:
        assert len(strip.disks) == 9
        cluster.client().create_bucket(Bucket="power")
        churn = Churn(cluster, "power", SEED)
        for number in range(ROUNDS):
            target = churn.acknowledged() + rng.randrange(40, 300)
            with churn:
                wait_until("enough is acknowledged",
                           lambda t=target: churn.check() or churn.acknowledged() >= t, 90)
                if rng.random() < 0.5:
                    cut_some(cluster, strip, rng)
                    churn.check()
                began = time.monotonic()
                before = cut_all(cluster, strip, rng)
                down_s = time.monotonic() - began
            finished = churn.settle()
            cluster.check_running()
            code, status = cluster.status()
            assert code < 2, status["reasons"]
            # What a cut tears was never acknowledged: it is no damage.
            damage = [f"{name}: {line}" for name, text in logged(cluster, before).items()
                      for line in text.splitlines() if "damaged" in line]
            assert not damage, damage
            unknown = sum(client.unknown for client in churn.clients)
            print(f"cut {number}: {churn.acknowledged()} acknowledged, {unknown} unknown,"
                  f" {finished} uploads went on, back after {down_s:.1f} s,"
                  f" status {code} {status['reasons']}")
    strip.passed = True
