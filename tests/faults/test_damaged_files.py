"""One damaged file anywhere: reads stay right, the cluster goes on and says what is wrong."""

import collections
import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from harness.cluster import Cluster, Writers
from harness.damage import DAMAGES, DELETED, FLIPPED, GROWN, damage, kind_of, used_end
from harness.process import run, wait_until

CASES = int(os.environ.get("MEGALITH_DAMAGE_CASES", "24"))
SEED = int(os.environ.get("MEGALITH_SEED", "1"))
SIZES = (100, 3_000, *[70_000] * 3, *[300_000] * 5, 1_200_000)
# Files without data that can be lost: they are rebuilt, or their damage does not matter.
REMADE = ("lock", "index", "ledger", "scrub")
# What a member says of itself; a leader words it differently for the others.
LOST = "this metadata member has lost its log"


def clear_words(text):
    """Lines of a log that tell of damage."""
    return [line for line in text.splitlines()
            if re.search(r"ERROR|WARN|^megalith: ", line)
            and re.search(r"damag|missing|foreign|rebuil|lost|superblock|corrupt|magic|checksum|"
                          r"truncated|unreadable|forgotten|not read", line)]


class Objects:
    """The same keys, written again for each case, so that what was damaged before is garbage."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.client = cluster.client(retries=4)
        self.client.create_bucket(Bucket="damage")
        self.tags = {}

    def write(self, generation):
        for number, size in enumerate(SIZES):
            key = f"o{number:02}"
            tag = f"{key}/{generation}"
            body = Writers.body(tag, size)
            wait_until(f"{key} is written", lambda k=key, b=body: self.client.put_object(
                Bucket="damage", Key=k, Body=b), 30)
            self.tags[key] = (tag, size)

    def unread(self):
        """Reads everything. Wrong bytes fail at once; returns what can't be read, or None."""
        for key, (tag, size) in self.tags.items():
            def body(key=key):
                return self.client.get_object(Bucket="damage", Key=key)["Body"].read() or b"-"

            try:
                got = wait_until(f"{key} can be read", body, 15)
            except AssertionError as error:
                return f"{key}: {error}"
            assert got == Writers.body(tag, size), f"{key}: wrong bytes were served"
        return None


class Surgeon:
    """Damages one file of one stopped process at a time, and watches the result."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.rng = random.Random(f"{seed}/damage")
        self.objects = Objects(cluster)
        self.copies = cluster.directory / "copies"
        self.count = collections.Counter()
        self.number = 0

    def data_dir(self, name):
        if name.startswith("store"):
            return self.cluster.disks[name]
        return self.cluster.directory / name / "metadata"

    def files(self, name):
        # A running process may remove a directory meanwhile: a walk leaves it out.
        found = (Path(parent, file) for parent, _, files in os.walk(self.data_dir(name))
                 for file in files)
        return sorted(path for path in found
                      if path.is_file() and not path.name.endswith(".tmp")
                      and not any(part.startswith("kept-") for part in path.parts))

    def choose(self):
        """The process, the file's kind and the damage that have occurred least so far."""
        choices = []
        for role in ("store", "meta"):
            kinds = {kind_of(path) for name in self.cluster.names(role)
                     for path in self.files(name)}
            choices += [(role, kind, how) for kind in kinds for how in DAMAGES]
        self.rng.shuffle(choices)
        weight = {"chunk": 3, "log": 3}
        return min(sorted(choices), key=lambda c: (
            self.count[c[0], c[1]] / weight.get(c[1], 1), self.count[c], self.rng.random()))

    def case(self):
        """One case; returns (what, how it came out, what is wrong with that or None)."""
        self.number += 1
        role, kind, how = self.choose()
        self.count[role, kind] += 1
        self.count[role, kind, how] += 1
        ends = {path: used_end(path) for name in self.cluster.names("store")
                for path in self.files(name) if kind == "chunk" == kind_of(path)}
        if kind == "chunk" or self.number == 1:
            self.objects.write(self.number)
        options = [(name, path) for name in self.cluster.names(role)
                   for path in self.files(name) if kind_of(path) == kind]
        live = {}
        if kind == "chunk":
            live = {path: (ends.get(path, 0), used_end(path)) for _, path in options}
            live = {path: part for path, part in live.items() if part[1] - part[0] > 60_000}
            options = [option for option in options if option[1] in live]
        name, path = self.rng.choice(options)
        process = self.cluster.processes[name]
        before = self.cluster.status()[1]
        clean = self.rng.random() < (0.5 if role == "store" else 0.2)
        if clean:
            process.stop()
        else:
            process.kill()
        logged = len(process.text())
        if not path.exists():  # the process has put others in its place meanwhile
            sort = kind.split("/")[0]
            path = self.rng.choice([other for other in self.files(name)
                                    if kind_of(other).split("/")[0] == sort])
        empty = path.stat().st_size == 0
        if empty and how not in (GROWN, DELETED):
            how = GROWN
        wound = damage(path, how, self.rng, self.copies, live.get(path))
        process.start()
        what = f"{self.number}: {name} ({'stopped' if clean else 'killed'}) {wound}"
        outcome, wrong = self.watch(process, wound, before, logged, bool(live))
        if not process.running():
            wrong = self.healed(process, wound) or wrong
        def whole():
            said = process.text()[logged:]
            return all_vote(self.cluster) and (LOST not in said or votes_again(said))

        wait_until("the group is whole, so that another member may fail", whole, 60, every_s=0.2)
        return what, outcome, wrong

    def watch(self, process, wound, before, logged, live):
        """Waits until the process is heard or gone, reads all, looks for the damage's name."""
        def heard():  # this process, not the one before it
            return "node serves" in process.text()[logged:] and self.cluster.all_heard()

        try:
            wait_until("it is heard or gone", lambda: not process.running() or heard(), 30,
                       every_s=0.1)
        except AssertionError as error:
            return "silent process", f"neither heard nor gone: {error}; {process.tail(5)}"
        unread = self.objects.unread()
        if unread:
            return "unreadable", unread
        # Without a scrub, shards that no read needs may rot unseen.
        live = scrubbed(self.cluster, process.name) and live
        text = process.text()[logged:]
        if "panicked" in text:
            return "panic", next(line for line in text.splitlines() if "panicked" in line)

        def named():
            _, status = self.cluster.status()
            old = before["reasons"] + before["notes"]
            new = [line for line in status["reasons"] + status["notes"] if line not in old]
            return new

        if "the engine is damaged" in text:
            tables = f"the tables of metadata member {process.name.split('-')[1]} were damaged"
            return self.told(tables)
        harmless = wound.damage == GROWN or kind_of(wound.path) in REMADE
        try:
            # A cache may only be named in the log; if anything else is missing, others notice it.
            patience = 10 if not process.running() or (live and not harmless) else 0
            patience = patience or (3 if kind_of(wound.path) == "log" and not harmless else 0)
            reasons = wait_until("it is named", named, patience, every_s=0.2)
        except AssertionError:
            reasons = None
        text = process.text()[logged:]
        said = clear_words(text)
        if not process.running():
            if process.process.returncode < 0:
                return "crash", f"ended by signal {-process.process.returncode}"
            wrong = None if said and reasons else (
                f"nothing clear in status ({reasons}) or log: {text[-500:]}")
            if kind_of(wound.path).startswith("tables/"):
                wrong = f"tables can be made again, and it refuses: {text[-500:]}"
            return "refused", wrong
        if reasons:
            return f"named: {reasons[0][:60]}", None
        if said:
            return f"logged: {said[0][28:100]}", (
                "live data is damaged and status is silent" if live and not harmless else None)
        return "masked in silence", (
            "live data is damaged and nothing says so" if live and not harmless else None)

    def told(self, words):
        """`status` notes what begins with `words`, once the leader has heard of it."""
        def found():
            notes = self.cluster.status()[1]["notes"]
            return next((note for note in notes if note.startswith(words)), None)

        try:
            return f"named: {wait_until('it is told', found, 15, every_s=0.2)[:60]}", None
        except AssertionError:
            return "logged", f"status does not say: {words}"

    def healed(self, process, wound):
        """A refusal must have changed nothing: with the file put back the process runs."""
        wound.heal()
        process.start()
        try:
            wait_until("it runs again with its file back", self.cluster.all_heard, 30, every_s=0.2)
        except AssertionError as error:
            return f"refused, and does not run with its file back either: {error}"
        except Exception:
            return f"refused, and ends with its file back too: {process.tail(3)}"
        return None


def votes_again(text):
    """True if a member that says in `text` that it has lost its log votes in its next life."""
    _, lost, after = text.rpartition(LOST)
    return lost and "phase: Voter" in after


def knows_the_members(text):
    """True if the last membership change in a log is not half of a joint one."""
    changes = [line for line in text.splitlines() if "metadata members changed" in line]
    return not changes or "voters_outgoing: []" in changes[-1]


def all_vote(cluster):
    """Every metadata member is heard, votes, and knows that it does: none is being rebuilt.

    A killed member counts as heard for two more seconds, even if its log is lost by then:
    `votes_again` tells the two apart."""
    members = cluster.status()[1]["metadata"]["members"]
    return len(members) == len(cluster.members) and all(
        member["alive"] and member.get("voter", True) for member in members) and all(
        knows_the_members(cluster.processes[name].text()) for name in cluster.names("meta"))


def scrub(cluster, verb, node):
    """What a node's disks say of their scrub; None if this build has no such command."""
    done = run("scrub", verb, "--node", node, "--config", cluster.operator, "-o", "json",
               check=False)
    return json.loads(done.stdout)[0]["disks"] if done.stdout.startswith("[") else None


def scrubbed(cluster, name):
    """Has every byte of a running node's disks read now. False if that can't be requested."""
    if not name.startswith("store") or not cluster.processes[name].running():
        return False
    wait_until("disks are opened, or told that they can't be", cluster.opened, 60)
    node = name.split("-")[1]
    before = scrub(cluster, "status", node)
    if before is None or scrub(cluster, "start", node) is None:
        return False
    passes = {disk["disk"]: disk["passes"] for disk in before}
    wait_until("the scrub has read everything", lambda: all(
        disk["passes"] > passes[disk["disk"]] and not disk["demanded"]
        for disk in scrub(cluster, "status", node)), 60, every_s=0.2)
    return True


@pytest.fixture
def surgeon(tmp_path):
    with Cluster(tmp_path, gateways=1) as cluster:
        yield Surgeon(cluster, SEED)


def test_one_damaged_file_is_masked_and_named(surgeon):
    came_out = []
    for _ in range(CASES):
        began = time.monotonic()
        what, outcome, wrong = surgeon.case()
        print(f"{what} → {outcome}" + (f" WRONG: {wrong}" if wrong else ""),
              f"({time.monotonic() - began:.1f} s)", flush=True)
        came_out.append((what, outcome, wrong))
        if wrong and not surgeon.cluster.all_heard():
            break  # what follows would only be its consequence
    print(collections.Counter((role, kind) for role, kind in
                              (key for key in surgeon.count if len(key) == 2)))
    bad = [f"{what} → {outcome}: {wrong}" for what, outcome, wrong in came_out if wrong]
    assert not bad, "\n".join(bad)
    assert len(came_out) == CASES
    roles = collections.Counter(key[0] for key in surgeon.count.elements() if len(key) == 3)
    assert min(roles.values()) >= CASES // 4, roles


def flip_a_bit(surgeon, name):
    log = max((path for path in surgeon.files(name) if kind_of(path) == "log"), key=used_end)
    end = used_end(log)
    damage(log, FLIPPED, surgeon.rng, surgeon.copies, (end // 4, end // 2))


def lose_the_log(surgeon, name):
    for path in surgeon.files(name):
        if kind_of(path) == "log":
            path.unlink()


def bring_a_foreign_log(surgeon, name):
    lose_the_log(surgeon, name)
    for path in surgeon.files("meta-1"):
        if kind_of(path) == "log":
            shutil.copy2(path, surgeon.data_dir(name) / "log" / path.name)


@pytest.mark.parametrize("harm", [flip_a_bit, lose_the_log, bring_a_foreign_log])
def test_a_member_with_a_bad_log_rebuilds_itself_and_votes_again(surgeon, harm):
    cluster, rng = surgeon.cluster, surgeon.rng
    for generation in range(5):
        surgeon.objects.write(generation)
    rotten, node = "meta-2", "store-12"
    cluster.processes[rotten].kill()
    cluster.processes[node].stop()
    logged = len(cluster.processes[rotten].text())
    harm(surgeon, rotten)
    chunk = max((path for path in surgeon.files(node) if kind_of(path) == "chunk"), key=used_end)
    damage(chunk, FLIPPED, rng, surgeon.copies)
    surgeon.objects.write(6)  # it will also be behind
    cluster.start([rotten, node])

    # Without the other member, only the rebuilt one can acknowledge anything.
    wait_until("everybody is heard", cluster.all_heard, 60, every_s=0.3)
    wait_until("it votes in its next life", lambda: cluster.processes[rotten].must_run()
               or votes_again(cluster.processes[rotten].text()[logged:]), 60, every_s=0.3)
    wait_until("everybody votes", lambda: all_vote(cluster), 60, every_s=0.3)
    cluster.kill("meta-3")

    def votes():
        for name in (rotten, node):
            cluster.processes[name].must_run()
        surgeon.objects.client.put_object(Bucket="damage", Key="vote", Body=b"heard")
        return True

    wait_until("the rebuilt member acknowledges writes", votes, 60, every_s=0.3)
    surgeon.objects.write(7)
    said = cluster.processes[rotten].text()[logged:]
    assert clear_words(said), f"it says nothing of its log: {said}"
    assert surgeon.objects.unread() is None

    # And all of that survives a restart of everything.
    cluster.start(["meta-3"])
    cluster.kill()
    cluster.start()
    cluster.ready()
    assert surgeon.objects.unread() is None
