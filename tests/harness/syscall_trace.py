"""What processes wrote and synced and when, as strace saw it."""

import bisect
import collections
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(
    r"^(?P<begin>\d+\.\d+) (?P<call>\w+)\((?P<fd>\d+)<(?P<place>\w+:\[[^\]]*\]|[^>]*)>"
    r"(?P<rest>.*)\)"
    r" += (?P<result>-?\d+)[^<]* <(?P<took>[\d.]+)>$")
VECTOR = re.compile(r'iov_base="([^"]*)"(\.\.\.)?, iov_len=(\d+)')
HEADER, FOOTER = 64, 48
LOG_HEADER = 24


def impossible():
    """Why processes can't be traced here, or None."""
    if not shutil.which("strace"):
        return "strace is not installed"
    probe = ["strace", "-f", "--seccomp-bpf", "-yy", "-e", "trace=fsync", "-o", "/dev/null", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=30)
    return None if done.returncode == 0 else f"tracing is not permitted: {done.stderr.strip()}"


# The least time of a sync: if the processors were the bottleneck, few writes would share one.
SYNC_US = 5_000


def under(directory, name, calls, bytes_max):
    """The command to run a process under. A file for each thread, so that no line is cut in two;
    the traced process stays the one that was started."""
    return ["strace", "-D", "-f", "-ff", "--seccomp-bpf", "-ttt", "-T", "-yy", "-xx",
            "-s", bytes_max, "-e", "signal=none", "-e", f"trace={','.join(calls)}",
            "-e", f"inject=fdatasync,fsync:delay_exit={SYNC_US}", "-o", Path(directory) / name]


def ended_at(call, number):
    """The command to run a process under that is to end, by SIGKILL, when one of its threads enters
    its `number`th such call. With --seccomp-bpf strace 6.1 counts no further than one."""
    return ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-e", f"trace={call}",
            "-e", f"inject={call}:signal=KILL:when={number}", "-o", "/dev/null"]


def refusing(call, error, record):
    """The command to run a process under to which the kernel refuses a call; says so in `record`.
    It goes on there after a restart."""
    return ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none",
            "-e", f"trace={call}", "-e", f"inject={call}:error={error}", "-A", "-o", record]


def plain(escaped):
    return bytes.fromhex(escaped.replace("\\x", ""))


@dataclass(frozen=True)
class Call:
    """A finished call of one thread. It took place between `begin` and `end`."""

    thread: str
    begin: float
    end: float
    call: str
    fd: int
    place: str
    result: int
    rest: str

    def pieces(self):
        """The buffers of a vectored write: (bytes, whole length)."""
        return [(plain(text), int(length)) for text, _, length in VECTOR.findall(self.rest)]


def calls(directory, name):
    """Every call of a process, in order of its beginning."""
    found = []
    for path in Path(directory).glob(f"{name}.*"):
        for line in path.read_text(errors="replace").splitlines():
            match = LINE.match(line)
            if not match:
                continue
            place = match["place"]
            if place.startswith("\\x"):
                place = plain(place).decode()
            begin = float(match["begin"])
            found.append(Call(path.suffix[1:], begin, begin + float(match["took"]), match["call"],
                              int(match["fd"]), place, int(match["result"]), match["rest"]))
    return sorted(found, key=lambda call: call.begin)


def is_sync(call):
    return call.call in ("fsync", "fdatasync")


def durable_at(found):
    """A function from a write to the moment when the first sync of its file that began after it
    had ended well, or None."""
    syncs = collections.defaultdict(list)
    for call in found:
        if is_sync(call) and call.result == 0:
            syncs[call.place].append(call)

    def at(write):
        of_file = syncs[write.place]
        first = bisect.bisect_left(of_file, write.end, key=lambda sync: sync.begin)
        return of_file[first].end if first < len(of_file) else None

    return at


def shard_ends(found):
    """(digest, write) of each record that ends a shard, as in docs/formats/disk.md. A record may be
    written by several calls, one behind the other; then the last of them is named."""
    records = []
    latest = {}
    for write in found:
        if write.call != "pwritev" or not write.place.endswith(".chunk"):
            continue
        for data, length in write.pieces():
            if length == HEADER and data[:4] == b"MGRh":
                latest[write.place] = [data, None, write]
                records.append(latest[write.place])
            elif write.place in latest:
                latest[write.place][1:] = (data, length), write
    ends = []
    for header, last, write in records:
        assert last and len(last[0]) == last[1], "a footer that strace has cut off"
        footer = last[0][-FOOTER:]
        assert footer[40:44] == b"MGRf", "records are not laid out as the test thinks"
        cells, ends_shard = header[5] == 2, header[6] & 1
        if cells and ends_shard:
            ends.append((footer[:32], write))
    return ends


def log_entries(found):
    """(payload, write) of each record of the Raft log, as in docs/formats/raft-log.md."""
    entries = []
    for write in found:
        if write.call != "pwritev" or not write.place.endswith(".log"):
            continue
        pieces = write.pieces()
        assert all(len(data) == length for data, length in pieces), "strace has cut an entry off"
        data = b"".join(data for data, _ in pieces)
        at = data.find(b"MREC")
        while 0 <= at < len(data) and data[at : at + 4] == b"MREC":
            (length,) = struct.unpack_from("<I", data, at + 4)
            body = at + LOG_HEADER
            entries.append((data[body : body + length], write))
            at = body + (length + 7) // 8 * 8
    return entries
