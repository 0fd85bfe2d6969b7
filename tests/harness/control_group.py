"""A control group with a limit on memory, version 1 or 2, and the processes in it."""

import contextlib
import re
import uuid
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Unavailable(Exception):
    """Control groups can't be made here."""


class ControlGroup:
    """A group below those of this machine; gone when the block ends, as its processes are."""

    def __init__(self, limit_bytes):
        unified = (ROOT / "cgroup.controllers").exists()
        above = ROOT if unified else ROOT / "memory"
        self.path = above / f"megalith-test-{uuid.uuid4().hex[:8]}"
        limit, self.kills = (
            ("memory.max", "memory.events") if unified
            else ("memory.limit_in_bytes", "memory.oom_control")
        )
        try:
            if unified:
                (above / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            (self.path / limit).write_text(str(limit_bytes))
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            raise Unavailable(f"no control group with a limit on memory: {error}") from error

    @property
    def wrap(self):
        """The command under which a process joins the group."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def killed(self):
        """How many processes the system has killed for want of memory."""
        return int(re.search(r"^oom_kill (\d+)", (self.path / self.kills).read_text(), re.M)[1])

    def members(self):
        return (self.path / "cgroup.procs").read_text().split()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.path.rmdir()
