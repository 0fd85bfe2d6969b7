"""The load generator (`tests/load`): well-behaved clients and attackers of an S3 endpoint."""

import json
import subprocess

from .process import BINARY

PROGRAM = BINARY.with_name("megalith-load")


class Load:
    """A running load; `told()` waits for its end and returns what it prints."""

    def __init__(self, kind, port, keys, bucket, seconds, **settings):
        args = {"endpoint": f"127.0.0.1:{port}", "access_key": keys[0], "secret": keys[1],
                "bucket": bucket, "seconds": seconds, **settings}
        self.seconds = seconds
        command = [str(PROGRAM), kind, *(f"{name}={value}" for name, value in args.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def told(self):
        out, _ = self.process.communicate(timeout=self.seconds + 120)
        assert self.process.returncode == 0, f"the load failed: {self.process.args}"
        return json.loads(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
