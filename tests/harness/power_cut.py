"""Small separate file systems that can lose power: what was not synced is gone."""

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

MIB = 1 << 20
# _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH: from now on nothing is written, and the
# journal is left as it lies on the disk.
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
NO_LOG_FLUSH = struct.pack("I", 2)
# The strictest ext4 that a user may mount: the journal's timer writes nothing early,
# and a rename over a file does not write the new one out.
OPTIONS = "noatime,commit=300,noauto_da_alloc"


class Impossible(Exception):
    """This machine gives no file systems of our own; says why."""


def _run(*command):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                              timeout=60)
    except FileNotFoundError as error:
        raise Impossible(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise Impossible(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class SmallDisk:
    """A directory with an ext4 of its own on a loop device."""

    def __init__(self, directory, image, size=2048 * MIB):
        self.directory = Path(directory)
        self.image = Path(image)
        self.device = None
        with self.image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-N", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0",
             "-J", "size=16", self.image)
        self.device = _run("losetup", "--find", "--show", self.image)
        try:
            self.mount()
        except (Impossible, subprocess.SubprocessError):
            self.close()
            raise

    def mount(self):
        """Mounts it; after a cut this replays the journal."""
        _run("mount", "-t", "ext4", "-o", OPTIONS, self.device, self.directory)

    def plug(self):
        """A handle that cuts the power, opened beforehand so that the cut itself is one call."""
        return os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)

    def unmount(self):
        subprocess.run(["umount", str(self.directory)], check=True, capture_output=True,
                       timeout=60)

    def close(self):
        if os.path.ismount(self.directory):
            subprocess.run(["umount", "--lazy", str(self.directory)], timeout=60)
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], timeout=60)
            self.device = None


class Witness:
    """Two files of each disk that show what a cut does: one synced, one not."""

    def __init__(self, disk):
        self.kept = disk.directory / "witness-synced"
        self.lost = disk.directory / "witness-not-synced"

    def write(self):
        self.kept.write_bytes(b"k" * 8192)
        handle = os.open(self.kept, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        self.leave_unsynced()

    def leave_unsynced(self):
        self.lost.write_bytes(b"l" * 8192)

    def told(self):
        """(the synced file is whole, the other is whole)"""
        whole = []
        for path, byte in ((self.kept, b"k"), (self.lost, b"l")):
            whole.append(path.exists() and path.read_bytes() == byte * 8192)
            path.unlink(missing_ok=True)
        return tuple(whole)


class PowerStrip:
    """All the small disks of a test, cut at once."""

    def __init__(self, images):
        self.images = Path(images)
        self.images.mkdir(parents=True, exist_ok=True)
        self.disks = {}

    def add(self, directory):
        """Puts a file system of its own below `directory`, which exists and is empty."""
        name = Path(directory).name
        self.disks[name] = SmallDisk(directory, self.images / f"{name}.ext4")

    def cut(self, names):
        """Stops all writes to these from now on, in this order."""
        plugs = [self.disks[name].plug() for name in names]
        try:
            for plug in plugs:
                fcntl.ioctl(plug, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            for plug in plugs:
                os.close(plug)

    def power_on(self, names):
        """After everything that used these disks has ended: mounts them again."""
        for name in names:
            self.disks[name].unmount()
        for name in names:
            self.disks[name].mount()

    def close(self, keep=False):
        """Takes all of it away; the images may stay, to be looked at."""
        for disk in self.disks.values():
            disk.close()
        if not keep:
            shutil.rmtree(self.images, ignore_errors=True)


def impossible(directory):
    """Why this machine can't cut the power of a file system, or None."""
    if os.geteuid() != 0:
        return "needs root, to make and mount small file systems"
    place = Path(directory)
    strip = PowerStrip(place / "try-images")
    (place / "try").mkdir(parents=True)
    try:
        strip.add(place / "try")
        witness = Witness(strip.disks["try"])
        witness.write()
        strip.cut(["try"])
        strip.power_on(["try"])
        told = witness.told()
        return None if told == (True, False) else f"a cut leaves {told} of (synced, not synced)"
    except (Impossible, OSError, subprocess.SubprocessError) as error:
        return f"can't cut a file system's power here: {error}"
    finally:
        strip.close()
