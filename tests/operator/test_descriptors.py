"""Open files: the limit is raised at the start, said when it is low, and survived when reached."""

import contextlib
import http.client
import socket
import time

from harness.megalith_up import Up
from harness.process import Process, wait_until

# More than the process needs by itself, and less than it warns of.
HARD = 1500


def limited(soft, hard):
    return ("prlimit", f"--nofile={soft}:{hard}")


def test_a_limit_that_is_too_low_refuses_the_start_and_says_the_number(tmp_path):
    args = ["up", "--data", tmp_path / "data", "--listen", "127.0.0.1:0"]
    process = Process("up", args, tmp_path / "up.log", wrap=limited(200, 200)).start()
    assert process.process.wait(timeout=30) == 1
    assert "may open 200 files" in process.text()
    assert not (tmp_path / "data").exists()


def ready(up):
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", up.health_port, timeout=5)
    ) as connection:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200


def test_a_process_without_descriptors_waits_for_some_and_does_not_spin(tmp_path):
    with Up(tmp_path, wrap=limited(400, HARD)) as up:
        limits = open(f"/proc/{up.process.process.pid}/limits").read()
        row = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert row.split()[3:5] == [str(HARD)] * 2, "the soft limit is not raised"
        assert f"limit={HARD}" in up.process.text(), up.process.tail()
        wait_until("ready", lambda: ready(up))

        with contextlib.ExitStack() as clients:
            def connect(port, count):
                for _ in range(count):
                    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
                    clients.enter_context(contextlib.closing(connection))

            # The system takes them all; the process has no descriptors for some.
            connect(up.port, HARD)
            wait_until("no descriptors", lambda: "connection was not" in up.process.text())
            connect(up.health_port, 10)
            wait_until(
                "health has none either",
                lambda: "for health or metrics was not accepted" in up.process.text(),
            )
            before, begun = up.process.cpu_seconds(), time.monotonic()
            lines = up.process.text().count("was not accepted")
            wait_until("a while", lambda: time.monotonic() - begun > 2)
            used = (up.process.cpu_seconds() - before) / (time.monotonic() - begun)
            told = up.process.text().count("was not accepted") - lines
        assert used < 0.5, f"{used:.2f} processors while it waits"
        assert told < 100, f"{told} lines in the log within two seconds"
        wait_until("ready again", lambda: ready(up))
        up.process.stop()
