"""Real processes of the real binary, each with its log, ended by their own id only."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MEGALITH_BIN", ROOT / "target" / "release" / "megalith"))


class Ended(Exception):
    """A process that should run has ended: nothing more to wait for."""


def wait_until(what, check, deadline_s=30.0, every_s=0.05):
    """Returns the first true value of `check()`; fails with its last value at the deadline."""
    end = time.monotonic() + deadline_s
    last = None
    while True:
        try:
            last = check()
            if last:
                return last
        except Ended:
            raise
        except Exception as error:  # the state isn't there yet
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}; last: {last!r}")
        time.sleep(every_s)


def free_ports(count):
    """Returns ports without a listener."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def run(*args, check=True, env=None, program=BINARY):
    """Runs the binary, or another program, to its end and returns what it printed."""
    command = [str(program), *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})}
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Process:
    """One running role."""

    def __init__(self, name, args, log, env=None, wrap=()):
        self.name = name
        self.program_at = len(wrap)
        self.args = [*map(str, wrap), str(BINARY), *map(str, args)]
        self.log = Path(log)
        self.env = {**os.environ, **(env or {})}
        self.process = None

    def use(self, program):
        """Runs another program from its next start on."""
        self.args[self.program_at] = str(program)

    def start(self):
        assert not self.running(), f"{self.name} is running"
        self.begin = len(self.text())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.args, stdout=log, stderr=subprocess.STDOUT, env=self.env
            )
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        if self.running():
            self.process.kill()
            self.process.wait(timeout=30)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self, until, deadline_s=10):
        """Freezes it while the block runs and then until `until()` or the deadline."""
        self.pause()
        try:
            yield
            end = time.monotonic() + deadline_s
            while time.monotonic() < end and not until():
                time.sleep(0.01)
        finally:
            self.resume()

    def stop(self, deadline_s=30):
        """Asks it to stop and expects that it does, cleanly."""
        if not self.running():
            return
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=deadline_s)
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def must_run(self):
        if not self.running():
            raise Ended(f"{self.name} has ended:\n{self.tail()}")

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def text_since_start(self):
        return self.text()[self.begin:]

    def tail(self, lines=40):
        return "\n".join(self.text().splitlines()[-lines:])

    def status_value(self, key):
        """A number of /proc/<pid>/status in KiB, such as VmHWM."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+)", text, re.M).group(1))

    def cpu_seconds(self):
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
