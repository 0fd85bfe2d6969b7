"""All answers are those of one map, whichever process is killed or frozen meanwhile."""

import os
import random
import time

import pytest

from harness.cluster import Cluster
from harness.linearizability import NotLinearizable, check
from harness.lying_server import LIES, Liar
from harness.process import wait_until
from harness.racing_clients import Race

OPS = int(os.environ.get("MEGALITH_LINEAR_OPS", "5000"))
SEED = int(os.environ.get("MEGALITH_SEED", "1"))
# Even on a slow machine.
OPS_PER_SECOND_MIN = 20


def run_against(liar, count, seed):
    with Race("bucket", [liar.connect], count, seed, clients=8, keys=4) as race:
        wait_until("the clients are done", race.over, 60)
    race.last_look()
    return race.notes.history


def test_an_honest_server_that_loses_answers_is_right():
    with Liar() as liar:
        assert check(run_against(liar, 3_000, 1)) > 3_000


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_server_is_caught(lie):
    with Liar(lie) as liar:
        history = run_against(liar, 1_500, 2)
        assert liar.store.lies > 0
        with pytest.raises(NotLinearizable):
            check(history)


class Faults:
    """Kills and freezes members, nodes and gateways in turn while a race runs."""

    def __init__(self, cluster, race, seed):
        self.cluster = cluster
        self.race = race
        self.rng = random.Random(f"{seed}/faults")
        self.done = []

    def _later(self, seconds):
        """True after a given time, or once the race is over."""
        end = time.monotonic() + seconds
        return lambda: time.monotonic() >= end or self.race.over()

    def _leader(self):
        for member in self.cluster.status()[1]["metadata"]["members"]:
            if member["leader"]:
                return f"meta-{member['node']}"
        return self.rng.choice(self.cluster.names("meta"))

    def _victim(self):
        kind = self.rng.choice(["leader", "leader", "meta", "store", "gateway"])
        return self._leader() if kind == "leader" else self.rng.choice(self.cluster.names(kind))

    def step(self):
        name = self._victim()
        process = self.cluster.processes[name]
        seconds = self.rng.choice([0.2, 0.7, 1.5, 3.0])
        if self.rng.random() < 0.5:
            self.done.append(f"{name} frozen for {seconds} s")
            with process.paused(self._later(seconds)):
                pass
        else:
            self.done.append(f"{name} killed for {seconds} s")
            process.kill()
            wait_until("its time is over", self._later(seconds), 10)
            process.start()
        wait_until("everybody is heard again", self.cluster.all_heard, 60, every_s=0.2)


def test_answers_are_those_of_one_map_under_kills_and_pauses(tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.client().create_bucket(Bucket="linear")
        # Impatient clients give up on what the cluster may still do later.
        connects = [lambda n=name, s=patience_s: cluster.bare(n, timeout=s)
                    for patience_s in (10, 1) for name in cluster.names("gateway")]
        started = time.monotonic()
        with Race("linear", connects, OPS, SEED) as race:
            faults = Faults(cluster, race, SEED)
            while not race.over():
                slow = time.monotonic() > started + 60 + OPS / OPS_PER_SECOND_MIN
                assert not slow, f"{race.done()} operations of {OPS}"
                faults.step()
        took = time.monotonic() - started
        cluster.ready()
        race.last_look()
        print(f"{race.done()} operations in {took:.0f} s, {len(faults.done)} faults;"
              f" {dict(race.notes.answers)}")
        begin = time.monotonic()
        judged = check(race.notes.history)
        print(f"{judged} judged in {time.monotonic() - begin:.1f} s")
        assert len(faults.done) >= 3, faults.done
