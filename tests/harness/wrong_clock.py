"""Wall clocks of single processes, moved while they run: `wrong_clock.c`, preloaded."""

import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class Clocks:
    """One clock for each process that was started with `env(name)`."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.library = self.directory / "wrong_clock.so"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", self.library, SOURCE], check=True, timeout=60
        )

    def env(self, name):
        """The environment of a process with this clock, which is right at first."""
        self.set(name, 0)
        return {"LD_PRELOAD": str(self.library), "WRONG_CLOCK_FILE": str(self._file(name))}

    def set(self, name, ahead_s):
        """From now on the process's clock is ahead by so many seconds."""
        file = os.open(self._file(name), os.O_CREAT | os.O_WRONLY)
        try:
            # In place: the process has the file mapped.
            os.pwrite(file, struct.pack("=q", ahead_s), 0)
        finally:
            os.close(file)

    def _file(self, name):
        return self.directory / f"{name}.clock"
