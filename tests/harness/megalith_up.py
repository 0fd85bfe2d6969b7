"""`megalith up`: the whole cluster in one process."""

import configparser
import http.client
import json
import re
import uuid
from pathlib import Path

from . import s3_clients
from .process import Process, free_ports, run, wait_until
from .raw_http import Raw


class Up:
    """A running `megalith up` on a directory."""

    def __init__(self, directory, disks=6, https=False, log="info", args=(),
                 health_flag="--health-listen", wrap=()):
        self.directory = Path(directory)
        self.data = self.directory / "data"
        ports = free_ports(3)
        self.port, self.https_port, self.health_port = ports
        args = ["up", "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
                health_flag, f"127.0.0.1:{self.health_port}",
                "--disks", disks, "--log", log, *args]
        if https:
            args += ["--https-listen", f"127.0.0.1:{self.https_port}"]
        self.process = Process("up", args, self.directory / "up.log", wrap=wrap)

    def start(self):
        before = self.process.text().count("Megalith is up")
        self.process.start()
        wait_until(
            "megalith up is ready",
            lambda: self.process.text().count("Megalith is up") > before or self._gone(),
        )
        return self

    def _gone(self):
        self.process.must_run()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.process.kill()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def https_endpoint(self):
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def ca_file(self):
        return str(self.data / "ca" / "ca.crt")

    @property
    def credentials(self):
        """(access key, secret) of the first run."""
        file = configparser.ConfigParser()
        file.read(self.data / "credentials")
        return file["default"]["aws_access_key_id"], file["default"]["aws_secret_access_key"]

    def client(self, keys=None, https=False, **config):
        endpoint = self.https_endpoint if https else self.endpoint
        verify = self.ca_file if https else None
        return s3_clients.client(endpoint, *(keys or self.credentials), verify=verify, **config)

    def bare(self, keys=None):
        return s3_clients.Bare("127.0.0.1", self.port, *(keys or self.credentials))

    def command(self, *args):
        """An operator's command for this cluster."""
        return run(*args, "--data", self.data)

    def raw(self, keys=None):
        return Raw("127.0.0.1", self.port, *(keys or self.credentials))

    def new_account(self, name=None):
        """Keys of an account of its own."""
        name = name or f"account-{uuid.uuid4().hex[:8]}"
        self.command("account", "create", name)
        made = self.command("key", "create", "--account", name, "-o", "json")
        key = json.loads(made.stdout)
        return key["access_key"], key["secret_key"]

    def health(self, path):
        """The status with which the health listener answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().status

    def status(self):
        done = run("status", "--data", self.data, "-o", "json", check=False)
        return done.returncode, json.loads(done.stdout)

    @staticmethod
    def bucket_name(text):
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
        return f"{name}-{uuid.uuid4().hex[:8]}"

    def disk_dirs(self):
        return sorted((self.data / "disks").iterdir())
