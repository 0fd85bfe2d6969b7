"""Power cuts: every node's file system is shut down at once in the middle of writes, and then again."""

import os
import random
import time

import pytest

from harness.churn import Churn
from harness.cluster import Cluster
from harness.power import Impossible, PowerStrip, Witness, impossible
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


def cut_and_restart(cluster, strip, rng):
    """Cuts the power of all disks in the middle of everything, and starts all processes again.

    Returns how long they needed, and the lengths of their logs before.
    """
    unsynced = [Witness(disk) for disk in strip.disks.values()]
    for witness in unsynced:
        witness.leave_unsynced()
    order = list(strip.disks.values())
    rng.shuffle(order)
    strip.cut(order)
    cluster.kill()
    strip.power_on()
    assert not any(witness.told()[1] for witness in unsynced), "a cut that drops nothing"
    started = time.monotonic()
    lengths = {name: len(text) for name, text in logged(cluster, {}).items()}
    cluster.start()
    cluster.ready()
    return time.monotonic() - started, lengths


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
                down_s, lengths = cut_and_restart(cluster, strip, rng)
            finished = churn.settle()
            cluster.check_running()
            code, status = cluster.status()
            assert code < 2, status["reasons"]
            # What a cut tears was never acknowledged: it is no damage.
            damage = [f"{name}: {line}" for name, text in logged(cluster, lengths).items()
                      for line in text.splitlines() if "damaged" in line]
            assert not damage, damage
            unknown = sum(client.unknown for client in churn.clients)
            print(f"cut {number}: {churn.acknowledged()} acknowledged, {unknown} unknown,"
                  f" {finished} uploads went on, back after {down_s:.1f} s,"
                  f" status {code} {status['reasons']}")
    strip.passed = True
