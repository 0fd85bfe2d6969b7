"""A real key service: OpenBao, the open continuation of HashiCorp Vault, with the same interface.

Runs with TLS, on storage of its own, so that it can be sealed, killed, restored and started again.
Its audit log says how often it was called, whatever the callers count themselves.
"""

import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .process import free_ports, wait_until

KEY = "megalith"
# What a gateway or an operator needs, and no more.
POLICY = "".join(
    f'path "transit/{call}/{KEY}" {{ capabilities = ["update"] }}\n'
    for call in ("encrypt", "decrypt", "rewrap")
)


class OpenBao:
    """One server. Started, unsealed, with a key and a policy after `with`."""

    def __init__(self, directory, certificate, private_key, authority):
        """The certificate is for 127.0.0.1; `authority` is the file with what signed it."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.data = self.directory / "data"
        self.data.mkdir()
        self.audit = self.directory / "audit.log"
        self.authority = Path(authority)
        self.tls = ssl.create_default_context(cafile=str(authority))
        self.port, cluster_port = free_ports(2)
        self.address = f"https://127.0.0.1:{self.port}"
        self.config = self.directory / "config.hcl"
        self.config.write_text(f"""
storage "raft" {{
  path = "{self.data}"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{self.port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{private_key}"
}}
audit "file" "calls" {{
  options {{
    file_path = "{self.audit}"
  }}
}}
api_addr = "{self.address}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
""")
        self.program = shutil.which("bao")
        assert self.program, "OpenBao is missing: it comes with tests/requirements.txt"
        self.process = None
        self.token = self.unseal_key = None

    def __enter__(self):
        self.start()
        made = self.call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
        self.unseal_key, self.token = made["keys"][0], made["root_token"]
        self.unseal()
        self.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.call("POST", f"transit/keys/{KEY}", {})
        self.call("PUT", "sys/policies/acl/megalith", {"policy": POLICY})
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "server", f"-config={self.config}"],
                stdout=log, stderr=subprocess.STDOUT,
            )
        wait_until("OpenBao answers", self.health)
        return self

    def kill(self):
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)

    def call(self, method, path, body=None, token=None):
        """Returns the answer's JSON; an answer that is an error is raised."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.token if token is None else token},
        )
        with urllib.request.urlopen(request, context=self.tls, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def health(self):
        """Returns the status code of its health: 200 active, 429 standby, 503 sealed."""
        try:
            self.call("GET", "sys/health", token="")
            return 200
        except urllib.error.HTTPError as error:
            return error.code

    def unseal(self):
        self.call("POST", "sys/unseal", {"key": self.unseal_key}, token="")
        wait_until("OpenBao is active", lambda: self.health() == 200)

    def seal(self):
        self.call("PUT", "sys/seal", {})
        wait_until("OpenBao is sealed", lambda: self.health() == 503)

    def new_token(self, policy="megalith"):
        made = self.call("POST", "auth/token/create",
                         {"policies": [policy], "no_default_policy": True})
        return made["auth"]["client_token"]

    def revoke(self, token):
        self.call("POST", "auth/token/revoke", {"token": token})

    def rotate(self):
        self.call("POST", f"transit/keys/{KEY}/rotate", {})

    def configure(self, **settings):
        self.call("POST", f"transit/keys/{KEY}/config", settings)

    def delete_key(self):
        self.configure(deletion_allowed=True)
        self.call("DELETE", f"transit/keys/{KEY}")

    def back_up(self):
        """Copies all that it stores, as it is while it is down."""
        self.kill()
        shutil.copytree(self.data, self.directory / "backup")
        self.start()
        self.unseal()

    def restore(self):
        """Puts back what was copied."""
        self.kill()
        shutil.rmtree(self.data)
        shutil.copytree(self.directory / "backup", self.data)
        self.start()
        self.unseal()

    def calls(self, operation):
        """How often the key was used in this way, as its own audit log says."""
        path = f"transit/{operation}/{KEY}"
        lines = map(json.loads, self.audit.read_text().splitlines())
        return sum(
            line["type"] == "response" and line["request"]["path"] == path for line in lines
        )
