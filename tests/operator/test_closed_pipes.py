"""A reader that goes away, as in `megalith status | head -1`, ends a command quietly.

Runs every command that ends by itself with a pipe whose other end is closed before the command
writes. What serves (`up`, `node`, `gateway`) must go on instead.
"""

import json
import os
import shlex
import signal
import subprocess

import pytest

from harness.process import BINARY, free_ports, run, wait_until

# As for any program that SIGPIPE ends: 128 + 13.
READER_GONE = 141

HELP = [
    "--help", "--version", "help", "up --help", "node --help", "node init --help",
    "gateway --help", "gateway init --help", "operator init --help", "status --help",
    "scrub --help", "disk rebuild-superblock --help", "account --help", "key --help",
    "meta --help", "meta replace --help", "config check --help",
]
# Of the cluster whose directory is DATA.
ASKS = [
    "status", "status -o json", "scrub status", "scrub status -o json", "scrub start", "check",
    "settings get", "key check", "key check -o json", "key reseal --to root-key",
    "account list", "account list -o json", "key list", "key list -o json",
    "meta list", "meta list -o json", "meta raise-level",
]
CHANGES = [
    "account create ACCOUNT", "account disable ACCOUNT", "account enable ACCOUNT",
    "key create --account ACCOUNT", "key create --account ACCOUNT -o json",
    "key disable KEY", "key enable KEY", "meta backup --to BACKUP",
]


def closed_pipe():
    """The writing end of a pipe without a reader."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


def unread(*args, stdout=None, stderr=subprocess.PIPE, cwd=None):
    """Runs the command with a closed pipe as its standard output; returns exit code and stderr."""
    pipe = closed_pipe()
    try:
        done = subprocess.run(
            [str(BINARY), *map(str, args)], stdin=subprocess.DEVNULL,
            stdout=pipe if stdout is None else stdout, stderr=stderr, timeout=60, cwd=cwd,
        )
    finally:
        os.close(pipe)
    return done.returncode, (done.stderr or b"").decode()


@pytest.fixture(scope="module")
def key(up):
    """An access key of an account that tests may switch off and on."""
    return up.new_account()[0]


@pytest.mark.parametrize("command", HELP)
def test_help(command):
    assert unread(*command.split()) == (READER_GONE, "")


@pytest.mark.parametrize("command", ASKS)
def test_what_asks_a_cluster(up, command):
    assert unread(*command.split(), "--data", up.data) == (READER_GONE, "")


@pytest.mark.parametrize("command", CHANGES)
def test_what_changes_a_cluster(up, key, tmp_path, command):
    account = "unread-" + up.bucket_name("a")
    if not command.startswith("account create"):
        up.command("account", "create", account)
    words = {"ACCOUNT": account, "KEY": key, "BACKUP": tmp_path / "backup"}
    command = [words.get(word, word) for word in command.split()]
    assert unread(*command, "--data", up.data) == (READER_GONE, "")


def test_a_change_is_made_though_nobody_hears_of_it(up):
    name = up.bucket_name("unread-made")
    assert unread("account", "create", name, "--data", up.data) == (READER_GONE, "")
    listed = up.command("account", "list", "-o", "json").stdout.splitlines()
    assert name in [json.loads(line)["account"] for line in listed]


@pytest.fixture
def node(tmp_path):
    """A metadata member that was set up and never ran."""
    run("node", "init", "--id", 1, "--dir", tmp_path / "node", "--ca-dir", tmp_path / "ca",
        "--host", "localhost", "--metadata", "--metadata-member", "1=localhost:1")
    return tmp_path / "node" / "node.toml"


def test_what_sets_up(tmp_path):
    common = ["--ca-dir", tmp_path / "ca", "--metadata-member", "1=localhost:1"]
    for role in (
        ["node", "init", "--id", 2, "--host", "h", "--disk", tmp_path / "disk"],
        ["gateway", "init", "--id", 1, "--host", "h", "--root-key-file", tmp_path / "root.key"],
        ["operator", "init"],
    ):
        directory = tmp_path / role[0]
        assert unread(*role, "--dir", directory, *common) == (READER_GONE, ""), role
        run("config", "check", directory / f"{role[0]}.toml")


def test_what_works_on_a_stopped_node(node, up, tmp_path):
    assert unread("config", "check", node) == (READER_GONE, "")
    assert unread("meta", "repair", "--config", node) == (READER_GONE, "")
    os.rename(node.parent / "metadata", tmp_path / "lost")
    assert unread("meta", "init", "--config", node) == (READER_GONE, "")
    os.rename(node.parent / "metadata", tmp_path / "lost-again")
    up.command("meta", "backup", "--to", tmp_path / "backup")
    # Another cluster's backup is refused: the message goes to standard error, which is read.
    code, said = unread("meta", "restore", "--from", tmp_path / "backup", "--config", node)
    assert code == 1 and said.startswith("megalith: ") and said.count("\n") == 1, said


def test_a_backup_is_restored_though_nobody_hears_of_it(up, tmp_path):
    data = tmp_path / "data"
    up.command("meta", "backup", "--to", tmp_path / "backup")
    for name in ("tls", "ca", "disks"):
        os.makedirs(data, exist_ok=True)
        os.symlink(up.data / name, data / name)
    command = ["meta", "restore", "--from", tmp_path / "backup", "--data", data]
    assert unread(*command) == (READER_GONE, "")
    assert (data / "metadata" / "log").exists()


@pytest.mark.parametrize(
    ("command", "code"),
    [("status --data /nowhere", 1), ("config check /nowhere", 1), ("no-such-verb", 2), ("", 2),
     ("key disable NOBODYS --data DATA", 1)],
)
def test_a_closed_standard_error_changes_no_exit_code(up, command, code):
    command = [up.data if word == "DATA" else word for word in command.split()]
    pipe = closed_pipe()
    try:
        assert unread(*command, stdout=subprocess.DEVNULL, stderr=pipe)[0] == code
    finally:
        os.close(pipe)


def test_the_first_line_is_all_that_head_takes(up):
    for command in ("status", "meta list", "key list", "--help"):
        reach = "" if command == "--help" else f" --data {shlex.quote(str(up.data))}"
        line = f"{shlex.quote(str(BINARY))} {command}{reach} | head -1"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert done.stderr == "" and done.stdout.count("\n") == 1, (command, done)


def test_a_full_disk_is_no_closed_pipe(up):
    with open("/dev/full", "wb") as full:
        code, said = unread("status", "--data", up.data, stdout=full)
    assert code == 1
    assert said == "megalith: write the answer: No space left on device (os error 28)\n"


def test_a_cluster_whose_words_nobody_reads_serves(tmp_path):
    """Neither its announcement nor a log line may end it, nor does SIGPIPE."""
    data = tmp_path / "data"
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    pipe = closed_pipe()
    process = subprocess.Popen(
        [str(BINARY), "up", "--data", str(data), "--listen", listen, "--log", "debug"],
        stdout=pipe, stderr=pipe,
    )
    os.close(pipe)
    try:
        def healthy():
            assert process.poll() is None, f"ended with {process.returncode}"
            return run("status", "--data", data, check=False).returncode == 0

        wait_until("the cluster is healthy", healthy)
        run("account", "create", "somebody", "--data", data)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait(timeout=30)
