"""Clients that put, overwrite, delete and upload in parts, and know what each key may hold."""

import collections
import http.client
import random
import re
import threading

from .cluster import Writers
from .process import wait_until

KIB = 1 << 10
MIB = 1 << 20
SIZES = (0, 100, 3_000, 5_000, 70_000, 131_072, 200_000, 300_000, 1_200_000)
PART = 5 * MIB
LOST_ANSWER = (OSError, http.client.HTTPException)


class Value(collections.namedtuple("Value", "tag sizes")):
    """What was written to an object; its bytes differ from all others."""

    def content(self):
        return b"".join(Writers.body(f"{self.tag}/{i}", size)
                        for i, size in enumerate(self.sizes))


class Upload:
    """An upload in parts that the server has acknowledged."""

    def __init__(self, key, upload_id, value):
        self.key = key
        self.id = upload_id
        self.value = value
        self.etags = {}


class Client:
    """One thread with keys of its own, so that it knows the order of its writes."""

    def __init__(self, cluster, bucket, number, seed, keys=12):
        self.cluster = cluster
        self.bucket = bucket
        self.number = number
        self.rng = random.Random(f"{seed}/{number}")
        self.keys = [f"c{number}/{i:02}" for i in range(keys)]
        # key → the values it may have; None stands for no object.
        self.may = {key: {None} for key in self.keys}
        self.count = 0
        self.acknowledged = 0
        self.unknown = 0
        self.upload = None
        self.wrong = None
        self.bare = None
        self.gateway = number

    def _value(self, sizes):
        self.count += 1
        return Value(f"{self.number}-{self.count}", tuple(sizes))

    def _send(self, method, key, body=None, query=None):
        """Returns (status, headers, body), or None if no answer came."""
        if self.bare is None:
            gateways = self.cluster.names("gateway")
            self.bare = self.cluster.bare(gateways[self.gateway % len(gateways)], timeout=90)
        try:
            return self.bare.request(method, f"/{self.bucket}/{key}", body=body, query=query)
        except LOST_ANSWER:
            self.bare = None
            self.gateway += 1
            return None

    def _write(self, key, value, answer, good=(200, 204)):
        """Records a write's answer. Unless it is success, both values stay possible."""
        if answer is not None and answer[0] in good:
            self.may[key] = {value}
            self.acknowledged += 1
            return True
        self.may[key].add(value)
        self.unknown += 1
        return False

    def step(self):
        """Does one operation. Returns False if it failed."""
        key = self.rng.choice(self.keys)
        what = self.rng.random()
        if what < 0.60:
            value = self._value([self.rng.choice(SIZES)])
            return self._write(key, value, self._send("PUT", key, body=value.content()))
        if what < 0.80:
            return self._write(key, None, self._send("DELETE", key))
        if what < 0.96:
            return self._read(key)
        return self._upload_step(key)

    def _upload_step(self, key):
        """Begins an upload, sends a part of it or completes it: a cut may fall between any two."""
        if self.upload is None:
            answer = self._send("POST", key, query={"uploads": ""})
            if answer is None or answer[0] != 200:
                return False
            upload_id = re.search(rb"<UploadId>(.*?)</UploadId>", answer[2]).group(1).decode()
            value = self._value([PART, self.rng.choice(SIZES[1:])])
            self.upload = Upload(key, upload_id, value)
        upload = self.upload
        if len(upload.etags) < len(upload.value.sizes):
            return self._part(upload)
        return self._complete(upload)

    def _part(self, upload):
        number = len(upload.etags)
        body = Writers.body(f"{upload.value.tag}/{number}", upload.value.sizes[number])
        answer = self._send("PUT", upload.key, body=body,
                            query={"partNumber": str(number + 1), "uploadId": upload.id})
        if answer is None or answer[0] != 200:
            return False
        upload.etags[number + 1] = answer[1]["ETag"]
        return True

    def _complete(self, upload):
        sizes = upload.value.sizes[: len(upload.etags)]
        value = Value(upload.value.tag, sizes)
        parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
                        for number, etag in upload.etags.items())
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self.upload = None
        answer = self._send("POST", upload.key, body=body, query={"uploadId": upload.id})
        if answer is not None and answer[0] == 200 and b"<Error>" in answer[2]:
            answer = None  # S3 may say 200 first and then report an error
        return self._write(upload.key, value, answer)

    def _read(self, key):
        answer = self._send("GET", key)
        if answer is None or answer[0] not in (200, 404):
            return False
        self.judge(key, answer)
        return True

    def judge(self, key, answer):
        """Fails if the key may not have this value; returns which value it is."""
        status, _, body = answer
        may = self.may[key]
        if status == 404:
            assert None in may, f"{key} is gone; it should be one of {may}"
            return None
        for value in may:
            if value is not None and value.content() == body:
                return value
        raise AssertionError(f"{key} has {len(body)} bytes that are none of {may}")

    def settle(self):
        """After a restart: reads every key, which must have a value it may have, and now has."""
        for key in self.keys:
            def answered(key=key):
                answer = self._send("GET", key)
                assert answer and answer[0] in (200, 404), answer
                return answer

            value = self.judge(key, wait_until(f"{key} can be read", answered, 30))
            self.may[key] = {value}

    def finish_upload(self):
        """An upload whose parts were acknowledged can be completed after any restart."""
        upload = self.upload
        if upload is None or not upload.etags:
            return False
        assert self._complete(upload), f"acknowledged parts of {upload.key} can't be completed"
        return True

    def present(self):
        """Keys that hold an object; only after `settle`."""
        return {key for key, may in self.may.items() if may != {None}}


class Churn:
    """Some clients at work at the same time, until told to stop."""

    def __init__(self, cluster, bucket, seed, clients=6):
        self.cluster = cluster
        self.bucket = bucket
        self.clients = [Client(cluster, bucket, i, seed) for i in range(clients)]
        self.stopping = threading.Event()
        self.threads = []

    def acknowledged(self):
        return sum(client.acknowledged for client in self.clients)

    def _work(self, client):
        try:
            while not self.stopping.is_set():
                if not client.step():
                    self.stopping.wait(0.05)
        except BaseException as error:  # a wrong answer, reported by the main thread
            client.wrong = error

    def check(self):
        for client in self.clients:
            if client.wrong is not None:
                raise client.wrong

    def __enter__(self):
        self.stopping.clear()
        self.threads = [threading.Thread(target=self._work, args=(client,), daemon=True)
                        for client in self.clients]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def settle(self):
        """Reads everything after a restart; returns how many uploads could continue."""
        self.check()
        for client in self.clients:
            client.bare = None
            client.settle()
        self._listed_is_what_is_there()
        finished = sum(client.finish_upload() for client in self.clients)
        for client in self.clients:
            client.upload = None
            client.settle()
        return finished

    def _listed_is_what_is_there(self):
        client = self.cluster.client(retries=3)
        listed = {entry["Key"] for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket) for entry in page.get("Contents", [])}
        there = set().union(*(each.present() for each in self.clients))
        assert listed == there, f"listed and not there: {listed - there}, or not: {there - listed}"
