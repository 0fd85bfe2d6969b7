"""The history checker: histories written by hand, and a simulated map that may lie."""

import itertools
import random

import pytest

from harness.linearizability import (
    ABSENT,
    CREATE,
    DELETE,
    EXISTS,
    GET,
    LIST,
    MISSING,
    NEVER,
    OK,
    OTHER,
    PUT,
    SWAP,
    UNKNOWN,
    NotLinearizable,
    Op,
    check,
)


def put(start, end, value, kind=PUT, **more):
    return Op(kind, "k", start, end, value=value, **more)


def get(start, end, value):
    return Op(GET, "k", start, end, value=value)


def delete(start, end, **more):
    return Op(DELETE, "k", start, end, **more)


def create(start, end, value, **more):
    return put(start, end, value, CREATE, **more)


def swap(start, end, expected, value, **more):
    return put(start, end, value, SWAP, expected=expected, **more)


def lost(op):
    """The same with no answer."""
    return Op(op.kind, op.key, op.start, NEVER, UNKNOWN, op.value, op.expected)


RIGHT = {
    "nothing": [],
    "one after the other": [get(0, 1, ABSENT), put(2, 3, "a"), get(4, 5, "a"), delete(6, 7),
                            get(8, 9, ABSENT)],
    "a read beside a write sees either": [put(0, 10, "a"), get(1, 2, ABSENT), get(3, 4, "a")],
    "writes beside each other in any order": [put(0, 5, "a"), put(0, 5, "b"), get(6, 7, "a")],
    "reads order the writes": [put(0, 9, "a"), put(0, 9, "b"), get(1, 2, "b"), get(3, 4, "a"),
                               get(10, 11, "a")],
    "a lost write may never happen": [lost(put(0, 1, "a")), get(5, 6, ABSENT)],
    "a lost write may happen late": [lost(put(0, 1, "a")), get(5, 6, ABSENT), get(7, 8, "a")],
    "a lost delete may happen late": [put(0, 1, "a"), lost(delete(2, 3)), get(4, 5, "a"),
                                      get(6, 7, ABSENT)],
    "one create of two": [create(0, 5, "a"), create(0, 5, "b", outcome=EXISTS), get(6, 7, "a")],
    "a create after a delete": [create(0, 1, "a"), delete(2, 3), create(4, 5, "b")],
    "a create refused for a lost one": [lost(create(0, 1, "a")), create(2, 3, "b", outcome=EXISTS),
                                        get(4, 5, "a")],
    "a create refused for one that nobody saw": [lost(put(0, 1, "a")),
                                                 create(2, 3, "b", outcome=EXISTS), delete(4, 5)],
    "a swap": [put(0, 1, "a"), swap(2, 3, "a", "b"), get(4, 5, "b")],
    "a swap refused": [put(0, 1, "a"), swap(2, 3, "z", "b", outcome=OTHER), get(4, 5, "a")],
    "a swap of nothing": [swap(2, 3, "z", "b", outcome=MISSING), get(4, 5, ABSENT)],
    "a swap that waits for a write": [put(0, 9, "a"), swap(1, 8, "a", "b"), get(10, 11, "b")],
    "a chain of swaps beside each other": [put(0, 1, "a"), swap(2, 9, "b", "c"),
                                           swap(2, 9, "a", "b"), get(10, 11, "c")],
    "a write between, seen before the other returns": [
        put(0, 20, "a"), put(0, 3, "b"), get(4, 30, "a"), put(5, 6, "c"), get(7, 8, "c")],
    "a list sees each key": [put(0, 1, "a"), Op(LIST, "", 2, 3, value={"k": "a"})],
    "a list beside a write": [put(0, 9, "a"), Op(LIST, "", 2, 3, value={}), get(10, 11, "a")],
}

WRONG = {
    "a value from nowhere": [get(0, 1, "a")],
    "a stale read": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")],
    "a lost acknowledged write": [put(0, 1, "a"), get(2, 3, ABSENT)],
    "deleted and back": [put(0, 1, "a"), delete(2, 3), get(4, 5, ABSENT), get(6, 7, "a")],
    "a delete that did nothing": [put(0, 1, "a"), delete(2, 3), get(4, 5, "a")],
    "new, then old": [put(0, 1, "a"), put(2, 20, "b"), get(3, 4, "b"), get(5, 6, "a")],
    "two creates": [create(0, 1, "a"), create(2, 3, "b")],
    "two creates at once": [create(0, 5, "a"), create(0, 5, "b")],
    "a create over a swap": [put(0, 1, "a"), swap(2, 3, "a", "b"), create(4, 5, "c")],
    "a swap that nothing fits": [put(0, 1, "a"), put(2, 3, "b"), swap(4, 5, "a", "c")],
    "two swaps of one value": [put(0, 1, "a"), swap(2, 5, "a", "b"), swap(2, 5, "a", "c")],
    "a create refused for nothing": [create(0, 1, "a", outcome=EXISTS)],
    "a create refused by itself": [create(0, 1, "a", outcome=EXISTS), get(2, 3, ABSENT)],
    "a swap refused though it fits": [put(0, 1, "a"), swap(2, 3, "a", "b", outcome=OTHER)],
    "a missing that is there": [put(0, 1, "a"), swap(2, 3, "b", "c", outcome=MISSING)],
    "a lost write twice": [lost(put(0, 1, "a")), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b"),
                           get(8, 9, "a"), put(10, 11, "c"), get(12, 13, "a")],
    "a lost write before its call": [get(0, 1, "a"), lost(put(2, 3, "a"))],
    "two refused for one lost that is gone": [
        lost(put(0, 1, "a")), create(2, 3, "b", outcome=EXISTS), delete(4, 5),
        create(6, 7, "c", outcome=EXISTS)],
    "a refused write that happened": [put(0, 1, "a"), create(2, 3, "b", outcome=EXISTS),
                                      get(4, 5, "b")],
    "a stale list": [put(0, 1, "a"), Op(LIST, "", 2, 3, value={})],
    "a list with what is gone": [put(0, 1, "a"), delete(2, 3),
                                 Op(LIST, "", 4, 5, value={"k": "a"})],
    "a list from nowhere": [Op(LIST, "", 4, 5, value={"ghost": "a"})],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_a_map_could_have_done_is_right(name):
    check(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_no_map_could_have_done_is_wrong(name):
    with pytest.raises(NotLinearizable) as caught:
        check(WRONG[name])
    assert "nothing explains" in str(caught.value)


def test_keys_are_judged_alone():
    first = [Op(PUT, "x", 0, 1, value="a"), Op(PUT, "y", 0, 1, value="b")]
    check([*first, Op(LIST, "", 2, 3, value={"x": "a", "y": "b"})])
    with pytest.raises(NotLinearizable) as caught:
        check([*first, Op(LIST, "", 2, 3, value={"x": "a"})])
    assert caught.value.key == "y"


class Simulated:
    """Clients of a map in virtual time. Every operation takes effect at a moment of its own."""

    KEYS = ("x", "y", "z")

    def __init__(self, seed, lie=None, lost=0.05, clients=8):
        self.rng = random.Random(f"{seed}/{lie}")
        self.lie = lie
        self.lost = lost
        self.clients = clients
        self.map = dict.fromkeys(self.KEYS)
        self.past = {key: [ABSENT] for key in self.KEYS}
        self.numbers = itertools.count()
        self.lies = 0

    def history(self, count):
        free = [0.0] * self.clients
        moments = []
        for number in range(count):
            client = min(range(self.clients), key=free.__getitem__)
            start = free[client] + self.rng.random() * 0.2
            moment = start + self.rng.expovariate(1)
            end = moment + self.rng.expovariate(1)
            answered = self.rng.random() >= self.lost
            if not answered:
                moment += self.rng.expovariate(0.1)
            free[client] = end + 1e-6
            moments.append((moment, number, start, end if answered else NEVER, client))
        return [self._at(start, end, client) for _, _, start, end, client in sorted(moments)]

    def _lies(self):
        lies = self.lie is not None and self.rng.random() < 0.05
        self.lies += lies
        return lies

    def _set(self, key, value):
        self.map[key] = value
        self.past[key].append(value)

    def _at(self, start, end, client):
        key = self.rng.choice(self.KEYS)
        kind = self.rng.choices([GET, PUT, CREATE, SWAP, DELETE, LIST], [8, 3, 3, 4, 2, 1])[0]
        now = self.map[key]
        outcome, value, expected = OK, ABSENT, ABSENT
        if kind == GET:
            value = self._seen(key)
        elif kind == LIST:
            seen = {each: self._seen(each) for each in self.KEYS}
            value = {each: was for each, was in seen.items() if was is not ABSENT}
        elif kind == DELETE:
            if not (self.lie == "a delete is forgotten" and self._lies()):
                self._set(key, ABSENT)
        else:
            value = f"v{next(self.numbers)}"
            if kind == SWAP:
                expected = self.rng.choice([now, now, *self.past[key][-4:]]) or "v-"
            outcome = self._refused(kind, now, expected)
            if outcome == OK and not (self.lie == "a write is lost" and self._lies()):
                self._set(key, value)
        outcome = outcome if end != NEVER else UNKNOWN
        return Op(kind, key, start, end, outcome, value, expected, client)

    def _seen(self, key):
        if self.lie == "a stale read" and self._lies():
            return self.rng.choice(self.past[key])
        return self.map[key]

    def _refused(self, kind, now, expected):
        if self.lie == "a condition is ignored" and self._lies():
            return OK
        if kind == CREATE and now is not ABSENT:
            return EXISTS
        if kind == SWAP and now is ABSENT:
            return MISSING
        if kind == SWAP and now != expected:
            return OTHER
        return OK


@pytest.mark.parametrize("seed", range(10))
def test_a_simulated_map_is_right(seed):
    check(Simulated(seed).history(2_000))


def test_many_lost_answers_do_not_confuse_it():
    check(Simulated(1, lost=0.4).history(2_000))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lie", ["a stale read", "a write is lost", "a condition is ignored",
                                 "a delete is forgotten"])
def test_a_lying_map_is_caught(lie, seed):
    world = Simulated(seed, lie)
    history = world.history(2_000)
    assert world.lies > 0
    with pytest.raises(NotLinearizable):
        check(history)


def orders(ops):
    """Whether any order of the known and any of the unknown operations explains it: the plain
    definition, for small histories only."""
    known = [op for op in ops if op.outcome != UNKNOWN]
    unknown = [op for op in ops if op.outcome == UNKNOWN]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if in_time(order) and explained(order):
                    return True
    return False


def in_time(order):
    return all(order[later].end >= order[earlier].start
               for earlier in range(len(order)) for later in range(earlier + 1, len(order)))


def explained(order):
    value = ABSENT
    for op in order:
        present = value is not ABSENT
        fits = {GET: op.value == value, PUT: True, DELETE: True, CREATE: not present,
                SWAP: present and value == op.expected}[op.kind]
        if op.outcome == UNKNOWN:
            outcome_fits = True
        else:
            outcome_fits = {OK: fits, EXISTS: present, MISSING: not present,
                            OTHER: present and value != op.expected}[op.outcome]
        if not outcome_fits:
            return False
        if op.kind != GET and op.outcome in (OK, UNKNOWN) and fits:
            value = ABSENT if op.kind == DELETE else op.value
    return True


def test_it_agrees_with_the_plain_definition_on_small_histories():
    rng = random.Random(11)
    found = {True: 0, False: 0}
    for _ in range(3_000):
        ops = [small(rng, number) for number in range(rng.randrange(1, 6))]
        try:
            check(ops)
            mine = True
        except NotLinearizable:
            mine = False
        assert mine == orders(ops), "\n".join(map(str, ops))
        found[mine] += 1
    assert min(found.values()) > 300, found


def small(rng, number):
    start = rng.randrange(8)
    end = start + rng.randrange(1, 6) + 0.5
    kind = rng.choice([GET, GET, GET, PUT, CREATE, SWAP, DELETE])
    names = [ABSENT, "v0", "v1", "v2", "v3"]
    value = rng.choice(names) if kind == GET else f"v{number}"
    expected = rng.choice(names[1:]) if kind == SWAP else ABSENT
    outcome = OK
    if kind == CREATE:
        outcome = rng.choice([OK, EXISTS])
    if kind == SWAP:
        outcome = rng.choice([OK, OTHER, MISSING])
    if kind != GET and rng.random() < 0.25:
        end, outcome = NEVER, UNKNOWN
    return Op(kind, "k", start, end, outcome, ABSENT if kind == DELETE else value, expected)
