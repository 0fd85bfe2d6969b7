"""The keys of a process reach no disk: no core dump, no swap, no key file that others read."""

import os
import signal

import pytest

from harness.cluster import Cluster
from harness.process import run

# Dumps of any size, in a directory of its own.
DUMPING = 'ulimit -c unlimited; cd "$0"; exec "$@"'


def dumping(process, directory):
    """Lets a process leave core dumps in `directory`, as far as it wants to."""
    directory.mkdir()
    process.args = ["sh", "-c", DUMPING, str(directory), *process.args]


def crashed(process, directory):
    """Ends a process as a crash does; returns what it left in its directory."""
    process.process.send_signal(signal.SIGABRT)
    assert process.process.wait(timeout=60) == -signal.SIGABRT
    return list(directory.iterdir())


@pytest.fixture
def small(tmp_path):
    cluster = Cluster(tmp_path, metadata=1, storage=1, gateways=1)
    for name, process in cluster.processes.items():
        dumping(process, tmp_path / f"dumps of {name}")
    with cluster:
        yield cluster


def test_a_gateway_that_crashes_leaves_no_dump(small, tmp_path):
    assert small.client().list_buckets()["Buckets"] == []
    gateway, node = small.processes["gateway-1"], small.processes["store-11"]
    assert crashed(gateway, tmp_path / "dumps of gateway-1") == []
    # A node holds no keys and leaves one, so dumps are written here and would be seen.
    pattern = open("/proc/sys/kernel/core_pattern").read().strip()
    if pattern.startswith("core"):
        dumps = crashed(node, tmp_path / "dumps of store-11")
        assert [path.stat().st_size > 0 for path in dumps] == [True]


def test_a_gateway_says_what_keeps_its_memory_from_swap(small):
    gateway = small.processes["gateway-1"]
    locked = gateway.status_value("VmLck")
    if "memory is locked: keys are not swapped out" in gateway.text():
        assert locked > 10_000, "what is in use is locked"
        assert locked <= gateway.status_value("VmSize")
    else:
        assert locked == 0
        told = ("memory is not locked, and the machine has no swap", "keys may be swapped out")
        assert any(text in gateway.text() for text in told), gateway.tail()
    # Nodes lock nothing: they hold no keys.
    assert small.processes["store-11"].status_value("VmLck") == 0


def test_a_root_key_that_others_may_read_is_refused_by_everybody(tmp_path):
    cluster = Cluster(tmp_path, metadata=1, storage=1, gateways=1)
    os.chmod(cluster.root_key, 0o640)
    gateway = cluster.processes["gateway-1"].start()
    assert gateway.process.wait(timeout=60) == 1
    account = run("account", "list", "--config", cluster.operator, check=False)
    for told in (gateway.text(), account.stderr):
        assert f"its mode 0640 lets others than its owner read or change it: `chmod 600 " \
               f"{cluster.root_key}`" in told, told
    assert account.returncode == 1
