"""Clients that read and write a few keys at the same time and write down what they saw."""

import collections
import hashlib
import http.client
import random
import threading
import time
import xml.etree.ElementTree as ElementTree

from .linearizability import (
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
    Op,
)

LOST_ANSWER = (OSError, http.client.HTTPException)
MIX = {GET: 40, PUT: 14, CREATE: 16, SWAP: 16, DELETE: 12, LIST: 7}
# Inline in the metadata, as whole copies, as coded shards.
SIZES = (40,) * 12 + (6_000,) * 3 + (150_000,)
XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def content(value, size):
    """The bytes of a value: its name, then padding that belongs to it."""
    head = f"{value}/{size}\n".encode()
    return head + random.Random(value).randbytes(max(0, size - len(head)))


class Notes:
    """What all clients together have seen. The clock is one for all of them."""

    def __init__(self, keys):
        self.keys = keys
        self.history = []
        self.values = {}
        self.sizes = {}
        self.latest = dict.fromkeys(keys)
        self.wrong = []
        self.answers = collections.Counter()

    def new_value(self, value, body):
        self.values[hashlib.md5(body).hexdigest()] = value
        self.sizes[value] = len(body)

    def add(self, op):
        self.history.append(op)
        self.answers[op.kind, op.outcome] += 1
        if op.outcome == OK and op.kind not in (LIST, DELETE) and op.value is not ABSENT:
            self.latest[op.key] = op.value


class Reader:
    """One connection at a time to one of several gateways; a new one after each lost answer."""

    def __init__(self, connects, number):
        self.connects = connects
        self.turn = number
        self.bare = None

    def send(self, *args, **kwargs):
        """(status, headers, body), or None if no answer came."""
        if self.bare is None:
            self.bare = self.connects[self.turn % len(self.connects)]()
        try:
            return self.bare.request(*args, **kwargs)
        except LOST_ANSWER:
            self.turn += 1
            self.bare = None
            return None


class LinearClient:
    """One client, one operation at a time."""

    def __init__(self, notes, bucket, connects, number, seed):
        self.notes = notes
        self.bucket = bucket
        self.number = number
        self.rng = random.Random(f"{seed}/{number}")
        self.reader = Reader(connects, number)
        self.count = 0

    def step(self):
        """Does one operation and records it. Returns False if it had no answer, or a bad one."""
        kind = self.rng.choices(list(MIX), list(MIX.values()))[0]
        key = self.rng.choice(self.notes.keys)
        if kind == GET:
            return self.get(key)
        if kind == LIST:
            return self.list()
        if kind == DELETE:
            return self._change(DELETE, key, ABSENT, ABSENT, "DELETE", {}, None)
        return self._write(kind, key)

    def _write(self, kind, key):
        self.count += 1
        value = f"{key}.{self.number}.{self.count}"
        body = content(value, self.rng.choice(SIZES))
        self.notes.new_value(value, body)
        headers, expected = {}, ABSENT
        if kind == CREATE:
            headers = {"If-None-Match": "*"}
        if kind == SWAP:
            expected = self.notes.latest[key]
            if expected is ABSENT:
                return True  # no value was ever seen there
            etag = hashlib.md5(content(expected, self.notes.sizes[expected])).hexdigest()
            headers = {"If-Match": f'"{etag}"'}
        return self._change(kind, key, value, expected, "PUT", headers, body)

    def _change(self, kind, key, value, expected, method, headers, body):
        start = time.monotonic()
        answer = self.reader.send(method, f"/{self.bucket}/{key}", body=body, headers=headers)
        end = time.monotonic()
        outcome = self._outcome(kind, answer)
        if outcome is None:
            return True  # 409: certainly not done
        if outcome == UNKNOWN:
            end = NEVER
        self.notes.add(Op(kind, key, start, end, outcome, value, expected, self.number))
        return outcome != UNKNOWN

    @staticmethod
    def _outcome(kind, answer):
        status = answer[0] if answer else 0
        if status in (200, 204):
            return OK
        if status == 412 and kind in (CREATE, SWAP):
            return EXISTS if kind == CREATE else OTHER
        if status == 404 and kind == SWAP:
            return MISSING
        if status == 409 and kind in (CREATE, SWAP):
            return None
        assert status == 0 or status >= 500, f"{kind} was answered {answer}"
        return UNKNOWN

    def get(self, key):
        start = time.monotonic()
        answer = self.reader.send("GET", f"/{self.bucket}/{key}")
        end = time.monotonic()
        status = answer[0] if answer else 0
        assert status in (0, 200, 404) or status >= 500, f"GET {key} was answered {answer}"
        if status not in (200, 404):
            self.notes.answers[GET, UNKNOWN] += 1
            return False
        value = ABSENT
        if status == 200:
            value = self.notes.values.get(hashlib.md5(answer[2]).hexdigest(), "(foreign bytes)")
        self.notes.add(Op(GET, key, start, end, OK, value, client=self.number))
        return True

    def list(self):
        start = time.monotonic()
        answer = self.reader.send("GET", f"/{self.bucket}", query={"list-type": "2"})
        end = time.monotonic()
        status = answer[0] if answer else 0
        assert status in (0, 200) or status >= 500, f"LIST was answered {answer}"
        if status != 200:
            self.notes.answers[LIST, UNKNOWN] += 1
            return False
        seen = {}
        for entry in ElementTree.fromstring(answer[2]).iter(f"{XML}Contents"):
            etag = entry.findtext(f"{XML}ETag").strip('"')
            key = entry.findtext(f"{XML}Key")
            assert key not in seen, f"{key} is listed twice"
            seen[key] = self.notes.values.get(etag, f"(foreign etag {etag})")
        self.notes.add(Op(LIST, "", start, end, OK, seen, client=self.number))
        return True


class Race:
    """Clients at work until enough operations are recorded."""

    def __init__(self, bucket, connects, count, seed, clients=12, keys=8):
        self.notes = Notes([f"k{i}" for i in range(keys)])
        self.count = count
        self.stopping = threading.Event()
        self.clients = [LinearClient(self.notes, bucket, connects, i, seed)
                        for i in range(clients)]
        self.threads = [threading.Thread(target=self._work, args=(client,), daemon=True)
                        for client in self.clients]

    def _work(self, client):
        try:
            while not self.stopping.is_set() and not self.over():
                if not client.step():
                    self.stopping.wait(0.02)
        except BaseException as error:
            self.notes.wrong.append(error)

    def done(self):
        return len(self.notes.history)

    def over(self):
        return self.done() >= self.count or bool(self.notes.wrong)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def last_look(self):
        """Every client reads everything once more, when nothing else is going on."""
        for client in self.clients[:2]:
            client.list()
            for key in self.notes.keys:
                client.get(key)
        if self.notes.wrong:
            raise self.notes.wrong[0]
