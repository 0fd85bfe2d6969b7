"""Disks that sync slowly or not at all, and become well again: `slow_disk.c`, preloaded."""

import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
# No sync comes back.
HANGS = -1


class SlowDisk:
    """The disk in one directory, for the process that is started with `env()`."""

    def __init__(self, directory, disk):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.disk = disk
        self.library = self.directory / "slow_disk.so"
        self.file = self.directory / "late"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", self.library, SOURCE], check=True, timeout=60
        )
        self.set(0)

    def env(self):
        """The environment of the process. The disk is well at first."""
        return {
            "LD_PRELOAD": str(self.library),
            "SLOW_DISK_FILE": str(self.file),
            "SLOW_DISK_DIR": f"{self.disk}/",
        }

    def set(self, late_ms):
        """From now on each sync is late by so many milliseconds, or `HANGS`."""
        file = os.open(self.file, os.O_CREAT | os.O_WRONLY)
        try:
            # In place: the process has the file mapped.
            os.pwrite(file, struct.pack("=q", late_ms), 0)
        finally:
            os.close(file)
