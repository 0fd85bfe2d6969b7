"""Judges whether a history of reads and writes is linearizable: as if one map had done it in order.

Every key is judged alone, which is enough for operations on one key (Herlihy and Wing: a history is
linearizable if that of each object is). A LIST is taken as one read of each key at some moment
of its own between call and answer; that a LIST shows one moment of all keys is not claimed.

The search is Lowe's just-in-time variant of Wing and Gong's: it walks through the calls and answers
in their order and keeps every *configuration* that may have been reached, which is the key's value
and which of the pending operations have taken effect. An operation takes effect only when it or
another must have. Three things keep the set small:

- reads take effect as soon as the value suits them: that never hurts;
- an operation of unknown outcome stays pending for ever: it may happen at any later time. It
  takes effect only if that serves another operation. Those that can't be told apart
  (same kind, a value that no one ever saw) are only counted;
- a configuration that differs from another only in having used up more of them is dropped, and a
  SWAP of unknown outcome is forgotten once what it wants to find can't come back.
"""

import collections
import math
from dataclasses import dataclass

ABSENT = None
UNSEEN = "(a value that nobody saw)"

GET, PUT, CREATE, SWAP, DELETE, LIST = "get", "put", "create", "swap", "delete", "list"
NEVER = math.inf
# From this many configurations on it is worth looking for what can be forgotten.
MANY = 16
OK, UNKNOWN = "ok", "unknown"
# A condition that did not hold: there was an object, or another, or none.
EXISTS, OTHER, MISSING = "exists", "other", "missing"


@dataclass(frozen=True)
class Op:
    """One operation as its client saw it. `value`: what a read returned or a write would leave;
    of a LIST the dict of key to value. `expected`: what a SWAP wants to find."""

    kind: str
    key: str
    start: float
    end: float
    outcome: str = OK
    value: object = ABSENT
    expected: object = ABSENT
    client: int = 0

    def __str__(self):
        end = "never answered" if self.outcome == UNKNOWN else f"{self.end:.6f}"
        what = f"{self.kind} {self.key} = {self.value!r}"
        if self.kind == SWAP:
            what += f" where {self.expected!r}"
        return f"[{self.start:.6f} … {end}] client {self.client}: {what}: {self.outcome}"


class NotLinearizable(AssertionError):
    """No order explains what the clients saw of this key."""

    def __init__(self, key, op, near, values):
        self.key = key
        self.op = op
        lines = [f"key {key}: nothing explains {op}",
                 f"the value could have been {sorted(map(repr, values))}; before it:",
                 *(f"  {other}" for other in near)]
        super().__init__("\n".join(lines))


def suits(op, value):
    """True if a read, or a write refused for its condition, may see this value."""
    if op.outcome == OK:
        return op.value == value
    if op.outcome == EXISTS:
        return value is not ABSENT
    if op.outcome == MISSING:
        return value is ABSENT
    assert op.outcome == OTHER, op
    return value is not ABSENT and value != op.expected


def reads_only(op):
    return op.kind == GET or op.outcome in (EXISTS, OTHER, MISSING)


def takes(kind, expected, value):
    """True if a write of this kind takes effect on that value."""
    if kind == CREATE:
        return value is ABSENT
    if kind == SWAP:
        return value is not ABSENT and value == expected
    return True


def by_key(history):
    """The history of each key, LISTs taken apart."""
    keys = {op.key for op in history if op.kind != LIST}
    for op in history:
        if op.kind == LIST and op.outcome == OK:
            keys |= op.value.keys()
    parts = {key: [] for key in keys}
    for op in history:
        if op.outcome == UNKNOWN and op.kind in (GET, LIST):
            continue  # says nothing and changes nothing
        if op.kind == LIST:
            for key in keys:
                seen = op.value.get(key, ABSENT)
                parts[key].append(Op(GET, key, op.start, op.end, OK, seen, client=op.client))
        else:
            parts[op.key].append(op)
    return parts


def check(history, initial=ABSENT):
    """Raises NotLinearizable if the history isn't. Returns how many operations were judged."""
    parts = by_key(history)
    for key, ops in sorted(parts.items()):
        Search(key, ops, initial).run()
    return sum(map(len, parts.values()))


class Search:
    """The search for one key.

    A configuration is (value, done, used): `done` are the numbers of pending operations that have
    taken effect, `used` says how many of each class of unknown ones have.
    """

    def __init__(self, key, ops, initial):
        self.key = key
        self.ops = ops
        seen = {op.value for op in ops if op.kind == GET} | {op.expected for op in ops}
        self.classes = []
        self.class_of = {}
        for number, op in enumerate(ops):
            if op.outcome == UNKNOWN:
                value = op.value if op.kind == DELETE or op.value in seen else UNSEEN
                name = (op.kind, op.expected, value)
                if name not in self.classes:
                    self.classes.append(name)
                self.class_of[number] = self.classes.index(name)
        # Those that may take effect on any value, or on none; those that want a certain one.
        self.free = [i for i, (kind, _, _) in enumerate(self.classes) if kind != SWAP]
        self.wanting = collections.defaultdict(list)
        for index, (kind, expected, _) in enumerate(self.classes):
            if kind == SWAP:
                self.wanting[expected].append(index)
        self.sources = self._sources()
        # How many of each class have been called.
        self.called = [0] * len(self.classes)
        self.totals = [0] * len(self.classes)
        for index in self.class_of.values():
            self.totals[index] += 1
        # Known operations without an answer yet: those that read, those that write.
        self.readers = set()
        self.writers = set()
        self.configurations = {(initial, frozenset()): [(0,) * len(self.classes)]}

    def _sources(self):
        """Who may leave the values that lost SWAPs want: known operations not answered yet, and
        classes of unknown ones."""
        sources = {wanted: (set(), set()) for wanted in self.wanting}
        for number, op in enumerate(self.ops):
            if not reads_only(op) and op.kind != DELETE and op.value in sources:
                known, unknown = sources[op.value]
                if number in self.class_of:
                    unknown.add(self.class_of[number])
                else:
                    known.add(number)
        return sources

    def run(self):
        events = []
        for number, op in enumerate(self.ops):
            assert op.start <= op.end, op
            events.append((op.start, 0, number))
            if op.outcome != UNKNOWN:
                events.append((op.end, 1, number))
        events.sort()
        recent = collections.deque(maxlen=25)
        for _, answered, number in events:
            if answered:
                self._answer(number, recent)
            else:
                recent.append(self.ops[number])
                self._call(number)

    def _call(self, number):
        op = self.ops[number]
        if op.outcome == UNKNOWN:
            self.called[self.class_of[number]] += 1
        elif reads_only(op):
            self.readers.add(number)
            self.configurations = self._pruned(
                (value, self._with_reads(value, done), used)
                for (value, done), many in self.configurations.items() for used in many)
        else:
            self.writers.add(number)

    def _with_reads(self, value, done):
        """`done`, and the pending reads to which this value is right."""
        more = [n for n in self.readers if n not in done and suits(self.ops[n], value)]
        return done.union(more) if more else done

    def _answer(self, number, recent):
        before = {value for value, _ in self.configurations}
        op_value = self.ops[number].value
        if reads_only(self.ops[number]):
            self.readers.discard(number)
        reached = self._reached(number)
        self.writers.discard(number)
        if op_value in self.sources:
            self.sources[op_value][0].discard(number)
        if not reached:
            raise NotLinearizable(self.key, self.ops[number], list(recent), before)
        self.configurations = self._pruned(reached)
        if sum(map(len, self.configurations.values())) > MANY:
            self._forget_what_cannot_be()

    def _forget_what_cannot_be(self):
        """Removes the lost SWAPs whose wanted value is not there and can't come back."""
        values = {value for value, _ in self.configurations}
        all_used = [used for many in self.configurations.values() for used in many]
        over = set()
        for wanted, (known, unknown) in list(self.sources.items()):
            spent = all(self.totals[i] <= used[i] for i in unknown for used in all_used)
            if wanted not in values and not known and spent:
                over.update(self.wanting.pop(wanted))
                del self.sources[wanted]
        if over:
            keep = [index not in over for index in range(len(self.classes))]
            self.configurations = self._pruned(
                (value, done, tuple(n if kept else 0 for n, kept in zip(used, keep, strict=False)))
                for (value, done), many in self.configurations.items() for used in many)

    def _reached(self, number):
        """Every configuration in which the operation has taken effect, with it taken out."""
        reached = []
        visited = {}
        waiting = [(value, done, used, False) for (value, done), many in self.configurations.items()
                   for used in many]
        while waiting:
            value, done, used, idle = waiting.pop()
            if not _note(visited, (value, done, idle), used):
                continue
            if number in done:
                # What else has taken effect by now can be found out later.
                reached.append((value, done - {number}, used))
                continue
            waiting.extend(self._steps(value, done, used, idle, number))
        return reached

    def _steps(self, value, done, used, idle, number):
        """What one more write leads to. `idle`: the last one was of unknown outcome and no one read
        it, so there was no need for it unless a condition of the next one is on its value."""
        for writer in self.writers:
            op = self.ops[writer]
            if idle and op.kind not in (CREATE, SWAP):
                continue
            if writer not in done and takes(op.kind, op.expected, value):
                left = ABSENT if op.kind == DELETE else op.value
                yield left, self._left(left, done | {writer}, number), used, False
        for index in (*self.free, *self.wanting.get(value, ())):
            kind, expected, left = self.classes[index]
            if idle and kind not in (CREATE, SWAP):
                continue
            if used[index] < self.called[index] and left != value and takes(kind, expected, value):
                spent = used[:index] + (used[index] + 1,) + used[index + 1 :]
                more = self._left(left, done, number)
                yield left, more, spent, len(more) == len(done)

    def _left(self, value, done, number):
        """`done` after a write: the matching reads, and the write if it waits for its answer."""
        done = self._with_reads(value, done)
        op = self.ops[number]
        if number not in done and reads_only(op) and suits(op, value):
            done = done | {number}
        return done

    def _pruned(self, configurations):
        kept = {}
        for value, done, used in configurations:
            _note(kept, (value, done), used)
        return kept


def _note(kept, place, used):
    """Keeps `used` unless one that used less is kept; drops those that used more.

    Returns False if it was not kept.
    """
    many = kept.setdefault(place, [])
    for other in many:
        if all(a <= b for a, b in zip(other, used, strict=False)):
            return False
    many[:] = [o for o in many if not all(a <= b for a, b in zip(used, o, strict=False))]
    many.append(used)
    return True
