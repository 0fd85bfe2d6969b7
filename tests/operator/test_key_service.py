"""A cluster whose keys a key service seals: a real OpenBao, which is sealed, killed, robbed of the
key and of the right to use it. Nothing is lost, everybody says what is wrong, and all goes on."""

import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from harness.cluster import Cluster
from harness.openbao import OpenBao
from harness.process import BINARY, run, wait_until

BUCKET = "kept"
BODIES = {"small": b"s" * 100, "copies": b"c" * 70_000, "coded": b"d" * 300_000}


class Served:
    """A cluster of one gateway beside its key service."""

    def __init__(self, directory, hold_s=300, timeout_ms=2_000):
        self.cluster = Cluster(directory / "cluster", metadata=1, storage=1, gateways=1)
        https = self.cluster.directory / "gateway-1" / "https"
        authority = self.cluster.ca / "ca.crt"
        self.bao = OpenBao(directory / "openbao", https / "node.crt", https / "node.key",
                           authority)
        self.token_file = directory / "token"
        self.settings = {
            "address": self.bao.address, "key": "megalith", "token_file": str(self.token_file),
            "ca_file": str(authority), "timeout_ms": timeout_ms, "hold_s": hold_s,
        }

    def __enter__(self):
        self.bao.__enter__()
        self.give(self.bao.new_token())
        return self

    def __exit__(self, *_):
        # Nothing of the token, nor of a key that was opened, is written anywhere.
        try:
            told = "".join(process.text() for process in self.cluster.processes.values())
            assert self.token not in told
        finally:
            self.cluster.__exit__()
            self.bao.__exit__()

    def give(self, token):
        self.token = token
        self.token_file.write_text(token)
        self.token_file.chmod(0o600)

    def begin(self):
        """Starts a cluster that has never had a root key."""
        self.cluster.root_key.unlink()
        self.cluster.name_roots(root_key=False, vault=self.settings)
        self.cluster.__enter__()
        return self.fill()

    def begin_with_root_key(self):
        self.cluster.__enter__()
        run("meta", "raise-level", "--config", self.cluster.operator)
        return self.fill()

    def fill(self):
        client = self.cluster.client()
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        return self

    def gateway(self):
        return self.cluster.processes["gateway-1"]

    def restart(self):
        self.gateway().stop()
        self.gateway().start()
        wait_until("the gateway serves", self.ready)

    def get(self, key="small"):
        status, _, body = self.cluster.bare().get(BUCKET, key)
        return status, body

    def read_all(self):
        for key, body in BODIES.items():
            assert self.get(key) == (200, body), key
        return True

    def ready(self):
        return self.readiness() == (200, "")

    def readiness(self):
        url = f"http://127.0.0.1:{self.cluster.health_ports['gateway-1']}/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, **labels):
        """The count of calls that the gateway itself tells."""
        url = f"http://127.0.0.1:{self.cluster.health_ports['gateway-1']}/metrics"
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        total = 0
        for line in re.findall(r"^megalith_root_key_calls_total{.*", text, re.M):
            if all(f'{name}="{value}"' in line for name, value in labels.items()):
                total += int(line.rsplit(" ", 1)[1])
        return total

    def check(self):
        return self.operate("key", "check", check=False)

    def operate(self, *words, check=True):
        return run(*words, "--config", self.cluster.operator, check=check)


@pytest.fixture
def served(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Served(tmp_path, **settings))


def test_a_cluster_that_never_had_a_root_key_keeps_what_it_is_given(served):
    at = served().begin()
    at.read_all()
    checked = at.operate("key", "check", "-o", "json")
    assert json.loads(checked.stdout) == {"opens": True, "kek_versions": [1], "access_keys": 1}
    named = f'key "megalith" of the key service at {at.bao.address} opens this cluster'
    assert named in at.operate("key", "check").stdout
    at.restart()
    at.read_all()
    # Keys that are made later are known by their ids, too.
    made = json.loads(at.operate("key", "create", "--account", "tests", "-o", "json").stdout)
    at.cluster.keys = made["access_key"], made["secret_key"]
    at.read_all()
    # A root key opens none of it.
    at.cluster.root_key.write_text("ab" * 16 + "cd" * 16)
    at.cluster.root_key.chmod(0o600)
    done = at.operate("key", "check", "--root-key-file", at.cluster.root_key, check=False)
    assert done.returncode == 1
    assert "versions [1] are sealed under a root that is not named" in done.stderr, done.stderr


def sealed(at):
    at.bao.seal()
    return at.bao.unseal


def killed(at):
    at.bao.kill()

    def back():
        at.bao.start()
        at.bao.unseal()
    return back


def key_deleted(at):
    at.bao.back_up()
    at.bao.delete_key()
    return at.bao.restore


def token_revoked(at):
    at.bao.revoke(at.token)
    return lambda: at.give(at.bao.new_token())


def version_too_old(at):
    at.bao.rotate()
    at.bao.configure(min_decryption_version=2)
    return lambda: at.bao.configure(min_decryption_version=1)


OUTAGES = [
    (sealed, "The key service is sealed.", "is sealed: unseal it"),
    (killed, "The key service does not answer.", "does not answer ("),
    (key_deleted, "The key service lacks the key that is needed.",
     'has no key "megalith": it was deleted'),
    (token_revoked, "The key service refuses this gateway.", "denies transit/decrypt/megalith"),
    (version_too_old, "The key service lacks the key that is needed.",
     "below the key's `min_decryption_version`"),
]


@pytest.mark.parametrize("hold_s", [0, 1])
@pytest.mark.parametrize(
    "outage, sentence, words", OUTAGES, ids=[outage.__name__ for outage, _, _ in OUTAGES]
)
def test_an_outage_is_told_and_ends_by_itself(served, outage, sentence, words, hold_s):
    at = served(hold_s=hold_s).begin()
    back = outage(at)

    def told():
        status, body = at.get()
        return status == 503 and sentence in body.decode()
    wait_until("requests are refused with the reason", told)
    status, _, body = at.cluster.bare().put(BUCKET, "new", b"n" * 100)
    assert (status, sentence in body.decode()) == (503, True), body
    wait_until("the health port says why", lambda: at.readiness()[0] == 503)
    assert words in at.readiness()[1], at.readiness()
    assert words in at.gateway().text(), at.gateway().tail()
    checked = at.check()
    assert (checked.returncode, words in checked.stderr) == (1, True), checked.stderr
    assert "it is not known whether it opens this cluster" in checked.stderr

    back()
    wait_until("the gateway goes on by itself", at.ready)
    wait_until("all is read", at.read_all)
    assert at.check().returncode == 0
    assert "key-encryption keys can be opened again" in at.gateway().text()
    status, _, _ = at.cluster.bare().put(BUCKET, "new", b"n" * 100)
    assert status == 200


def test_a_gateway_waits_at_its_start_for_a_service_that_is_sealed(served):
    at = served().begin()
    at.gateway().stop()
    at.bao.seal()
    at.gateway().start()
    wait_until("it says what it waits for", lambda: "is sealed: unseal it" in at.readiness()[1])
    at.bao.unseal()
    wait_until("it serves", at.ready)
    at.read_all()


def test_calls_are_one_for_all_requests_or_one_for_each(served):
    at = served(hold_s=300).begin()
    at.restart()
    before = at.bao.calls("decrypt")
    at.restart()
    bare = at.cluster.bare()
    for _ in range(50):
        assert bare.get(BUCKET, "coded")[0] == 200
    assert at.bao.calls("decrypt") - before == 1
    assert at.metric(operation="decrypt", outcome="ok") == 1

    at.cluster.name_roots(root_key=False, vault={**at.settings, "hold_s": 0})
    at.restart()
    bare = at.cluster.bare()
    # The first one also opens the access key and the bucket: within the same call.
    for request in (lambda n: bare.get(BUCKET, "coded"), lambda n: bare.put(BUCKET, f"p{n}", b"x")):
        before, told = at.bao.calls("decrypt"), at.metric(operation="decrypt", outcome="ok")
        for number in range(50):
            assert request(number)[0] == 200
        assert at.bao.calls("decrypt") - before == 50
        assert at.metric(operation="decrypt", outcome="ok") - told == 50


def reseal(at, target, check=True):
    return at.operate("key", "reseal", "--to", target, "-o", "json", check=check)


def test_a_cluster_moves_to_a_service_and_back_while_it_serves(served):
    at = served(hold_s=1).begin_with_root_key()
    at.cluster.name_roots(vault=at.settings)
    at.restart()

    # Killed while the service is asked: the row is as it was.
    os.kill(at.bao.process.pid, signal.SIGSTOP)
    words = [str(BINARY), "key", "reseal", "--to", "vault", "--config", str(at.cluster.operator)]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    socket = f"/proc/{command.pid}/net/tcp"
    wait_until("it asks", lambda: f":{at.bao.port:04X} 01" in open(socket).read())
    command.kill()
    command.wait(timeout=30)
    os.kill(at.bao.process.pid, signal.SIGCONT)
    assert run("key", "check", "--root-key-file", at.cluster.root_key,
               "--config", at.cluster.operator).returncode == 0
    at.read_all()

    assert json.loads(reseal(at, "vault").stdout) == {"sealed_anew": [1], "left_as_they_were": []}
    assert json.loads(reseal(at, "vault").stdout) == {"sealed_anew": [], "left_as_they_were": [1]}
    at.read_all()
    # The root key is not needed any more, and may go.
    at.cluster.root_key.rename(at.cluster.root_key.with_suffix(".old"))
    at.cluster.name_roots(root_key=False, vault=at.settings)
    at.restart()
    at.read_all()
    assert at.check().returncode == 0

    # And back, under another root key, with the access keys that were given out.
    at.cluster.root_key.write_text("ab" * 16 + "cd" * 16)
    at.cluster.root_key.chmod(0o600)
    at.cluster.name_roots(vault=at.settings)
    at.restart()
    reseal(at, "root-key")
    at.cluster.name_roots()
    at.bao.kill()
    at.restart()
    at.read_all()
    assert at.check().returncode == 0


def test_keys_are_sealed_under_the_newest_version_before_an_old_one_goes(served):
    at = served(hold_s=0).begin()
    run("meta", "raise-level", "--config", at.cluster.operator)
    at.bao.rotate()
    assert json.loads(reseal(at, "vault").stdout)["sealed_anew"] == [1]
    at.bao.configure(min_decryption_version=2)
    at.read_all()
    assert at.check().returncode == 0
    # Without that, reseal itself says what is in the way.
    at.bao.rotate()
    at.bao.configure(min_decryption_version=3)
    done = reseal(at, "vault", check=False)
    assert (done.returncode, "`min_decryption_version`" in done.stderr) == (1, True), done.stderr
    at.bao.configure(min_decryption_version=2)
    reseal(at, "vault")
    at.bao.configure(min_decryption_version=3)
    wait_until("all is read", at.read_all)


def test_a_token_that_others_may_read_and_an_address_without_tls_are_refused(served):
    at = served()
    at.cluster.name_roots(root_key=False, vault=at.settings)
    at.token_file.chmod(0o640)
    config = at.cluster.directory / "gateway-1" / "gateway.toml"
    done = run("config", "check", config, check=False)
    assert f"{at.token_file} holds a secret, and its mode 0640" in done.stderr, done.stderr
    at.token_file.chmod(0o600)
    plain = {**at.settings, "address": "http://vault.example.org:8200"}
    at.cluster.name_roots(root_key=False, vault=plain)
    done = run("config", "check", config, check=False)
    assert "has no TLS, so it may only be of this machine" in done.stderr, done.stderr


def test_a_root_key_comes_from_the_environment(tmp_path):
    cluster = Cluster(tmp_path, metadata=1, storage=1, gateways=1)
    key = {"MEGALITH_ROOT_KEY": cluster.root_key.read_text()}
    gateway = cluster.processes["gateway-1"]
    gateway.env.update(key)
    gateway.start()
    assert gateway.process.wait(timeout=60) == 1
    assert "name `root_key_file`, and the variable MEGALITH_ROOT_KEY is set" in gateway.text()
    cluster.name_roots(root_key=False)
    at = ["--config", cluster.operator]
    try:
        cluster.start()
        wait_until("the cluster serves", lambda: cluster.status()[0] < 2)
        run("account", "create", "tests", *at, env=key)
        checked = run("key", "check", *at, env=key)
        assert "root key $MEGALITH_ROOT_KEY opens this cluster" in checked.stdout
        done = run("key", "check", *at, check=False)
        assert "nor is the variable MEGALITH_ROOT_KEY set" in done.stderr
        assert key["MEGALITH_ROOT_KEY"].strip() not in gateway.text()
    finally:
        cluster.__exit__()


@pytest.mark.parametrize("hold_s", [300, 0])
def test_a_rotation_under_a_key_service(tmp_path, hold_s):
    """The new key is sealed by the service, too, and carries what makes ids of access keys."""
    with Served(tmp_path, hold_s=hold_s) as served:
        served.begin()
        for version in (2, 3):
            done = served.operate("key", "rotate", "--wait", "--grace-seconds", "1")
            assert f"under key-encryption key {version}, and the older keys" in done.stdout
            assert served.read_all()
        assert json.loads(served.operate("key", "check", "-o", "json").stdout) == {
            "opens": True, "kek_versions": [3], "access_keys": 1}
        # Without the service nothing is begun, and nothing is lost.
        served.bao.seal()
        done = served.operate("key", "rotate", check=False)
        assert done.returncode == 1 and "is sealed: unseal it" in done.stderr, done.stderr
        served.bao.unseal()
        wait_until("the gateway serves", served.ready)
        assert served.read_all()
        served.restart()
        assert served.read_all()


def test_a_cluster_moves_to_the_service_in_the_middle_of_a_rotation(tmp_path):
    """Two rows, under way to another root and to another version at once."""
    with Served(tmp_path) as served:
        served.begin_with_root_key()
        served.operate("key", "rotate", "--grace-seconds", "86400")
        served.cluster.name_roots(root_key=True, vault=served.settings)
        served.restart()
        moved = json.loads(served.operate("key", "reseal", "--to", "vault", "-o", "json").stdout)
        assert moved["sealed_anew"] == [1, 2], moved
        served.cluster.name_roots(root_key=False, vault=served.settings)
        served.restart()
        wait_until("all is sealed again", lambda: served.cluster.status()[1]["keys"]["passed_all"])
        assert served.cluster.status()[1]["keys"]["left"] == 0
        assert served.read_all()
        assert json.loads(served.operate("key", "check", "-o", "json").stdout) == {
            "opens": True, "kek_versions": [1, 2], "access_keys": 1}
