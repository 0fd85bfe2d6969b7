"""A small S3 server in this process, honest or lying, to show that lies are found."""

import hashlib
import http.server
import random
import threading
import urllib.parse

from .s3_clients import Bare

STALE_READ = "a read is stale"
LOST_CONDITIONAL = "a conditional write is acknowledged and lost"
DELETED_RETURNS = "a deleted object returns"
BLIND_CONDITION = "a condition is not looked at"
WRITTEN_TWICE = "a write is done again later"
STALE_LIST = "a list is stale"
LIES = (STALE_READ, LOST_CONDITIONAL, DELETED_RETURNS, BLIND_CONDITION, WRITTEN_TWICE, STALE_LIST)


class Store:
    """The objects. Tells one lie of its kind now and then."""

    def __init__(self, lie, seed, every=12):
        self.lie = lie
        self.rng = random.Random(f"{seed}/{lie}")
        self.every = every
        self.lock = threading.Lock()
        self.objects = {}
        self.past = []
        self.later = []
        self.lies = 0

    def lies_now(self, kind):
        lies = self.lie == kind and self.rng.randrange(self.every) == 0
        self.lies += lies
        return lies

    def _change(self, key, body):
        self.past = [*self.past[-60:], dict(self.objects)]
        if body is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = body
        for due in [due for due in self.later if due[0] <= 0]:
            self.later.remove(due)
            self.objects[due[1]] = due[2]
        self.later = [(count - 1, key, body) for count, key, body in self.later]

    def get(self, key):
        if self.past and self.lies_now(STALE_READ):
            return self.rng.choice(self.past).get(key)
        return self.objects.get(key)

    def list(self):
        stale = self.past and self.lies_now(STALE_LIST)
        return dict(self.rng.choice(self.past) if stale else self.objects)

    def put(self, key, body, if_match, if_none_match):
        there = self.objects.get(key)
        blind = self.lies_now(BLIND_CONDITION)
        if if_none_match and there is not None and not blind:
            return 412
        if if_match and there is None:
            return 404
        if if_match and hashlib.md5(there).hexdigest() != if_match.strip('"') and not blind:
            return 412
        if (if_match or if_none_match) and self.lies_now(LOST_CONDITIONAL):
            return 200
        self._change(key, body)
        if self.lies_now(WRITTEN_TWICE):
            self.later.append((30, key, body))
        return 200

    def delete(self, key):
        there = self.objects.get(key)
        if there is not None and self.lies_now(DELETED_RETURNS):
            self.later.append((20, key, there))
        self._change(key, None)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves what the clients of `linear` send. Now and then an answer is lost, done or not."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    store = None

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _do(self, action):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else b""
        path = urllib.parse.urlsplit(self.path)
        key = urllib.parse.unquote(path.path).lstrip("/").partition("/")[2]
        with self.store.lock:
            chance = self.store.rng.random()
            answer = action(key, body) if chance > 0.01 else None
        if answer is None or chance < 0.02:
            self.close_connection = True
            return
        self._answer(*answer)

    def do_GET(self):
        def action(key, _):
            if not key:
                return 200, self._listing()
            body = self.store.get(key)
            return (404, b"") if body is None else (200, body)

        self._do(action)

    def _listing(self):
        rows = "".join(
            f'<Contents><Key>{key}</Key><ETag>"{hashlib.md5(body).hexdigest()}"</ETag></Contents>'
            for key, body in sorted(self.store.list().items()))
        return ('<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"{rows}</ListBucketResult>").encode()

    def do_PUT(self):
        self._do(lambda key, body: (self.store.put(
            key, body, self.headers.get("If-Match"), self.headers.get("If-None-Match")),))

    def do_DELETE(self):
        def action(key, _):
            self.store.delete(key)
            return (204,)

        self._do(action)


class Liar:
    """The server, on its own port."""

    def __init__(self, lie=None, seed=0):
        self.store = Store(lie, seed)
        handler = type("BoundHandler", (Handler,), {"store": self.store})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def connect(self):
        return Bare("127.0.0.1", self.server.server_address[1], "key", "secret", timeout=20)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=20)
