"""PUT and GET through the S3 API: rates, latencies, server CPU, bytes on disk.

Runs its own cluster (`megalith up`: 6 disks 4+2; or --processes: 3 metadata members, 6
storage nodes, 1 gateway), http, UNSIGNED-PAYLOAD, incompressible data. Server CPU is user and
system time of every server process, deferred work included. Bytes on disk are all that the
servers keep, except space reserved ahead of the writers. Rates depend on the machine and on
its other load; compare the CPU per operation.

    tests/venv python tests/bench/s3_bench.py [--processes] [--seconds 8] [--only 4KiB,1MiB]
"""

import argparse
import errno
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.cluster import Cluster  # noqa: E402
from harness.megalith_up import Up  # noqa: E402
from harness.process import wait_until  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# name, bytes, clients: the loads of the published figures of other stores
LOADS = [
    ("4KiB", 4 * KIB, 32),
    ("64KiB", 64 * KIB, 16),
    ("1MiB", MIB, 8),
    ("64MiB", 64 * MIB, 2),
]


class Target:
    """The servers under test."""

    def __init__(self, directory, processes):
        self.directory = Path(directory)
        if processes:
            self.cluster = Cluster(directory, gateways=1, log="warn").__enter__()
            self.processes = list(self.cluster.processes.values())
            self.bare = self.cluster.bare
            self.client = self.cluster.client
            self.disks = list(self.cluster.disks.values())
        else:
            self.cluster = Up(directory, log="warn").start()
            self.processes = [self.cluster.process]
            self.bare = self.cluster.bare
            self.client = self.cluster.client
            self.disks = [self.cluster.data / "disks"]

    def cpu(self):
        return sum(process.cpu_seconds() for process in self.processes)

    def memory_mib(self):
        return sum(process.status_value("VmHWM") for process in self.processes) // 1024

    def on_disk(self):
        """Bytes that hold data, and bytes reserved ahead of the writers: shards, log, metadata."""
        told = {process.log for process in self.processes}
        written = allocated = 0
        for path in self.directory.rglob("*"):
            if path in told or not path.is_file():
                continue
            try:
                data, blocks = extent(path)
            except FileNotFoundError:
                continue  # the servers removed the file meanwhile
            written, allocated = written + data, allocated + blocks
        return written, max(0, allocated - written)

    def settle(self):
        """Waits until the servers have finished their deferred work."""
        last = [self.cpu()]

        def quiet():
            now, before = self.cpu(), last[0]
            last[0] = now
            return now - before < 0.05

        wait_until("the servers are idle", quiet, 30, every_s=1)

    def close(self):
        self.cluster.__exit__(None, None, None)


def extent(path):
    """Bytes of a file that hold data, and those allocated to it.

    A store reserves chunk files in steps far larger than an object. What it reserved and has not
    written is a hole to SEEK_DATA if the file system supports that (ext4, xfs).
    """
    with open(path, "rb") as file:
        stat, at, data = os.fstat(file.fileno()), 0, 0
        while at < stat.st_size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # only a hole up to the end
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            data += at - start
    return min(data, stat.st_blocks * 512), stat.st_blocks * 512


def load(target, clients, seconds, work):
    """Runs `work(bare, client number, count)` in threads; returns latencies and elapsed time."""
    latencies = [[] for _ in range(clients)]
    failed = []
    start = time.monotonic()

    def run(number):
        bare = target.bare()
        count = 0
        while time.monotonic() - start < seconds:
            begun = time.monotonic()
            try:
                work(bare, number, count)
            except Exception as error:
                failed.append(error)
                return
            latencies[number].append(time.monotonic() - begun)
            count += 1

    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return latencies, time.monotonic() - start


def row(target, what, size, clients, seconds, work, on_disk=False):
    disk = target.on_disk()[0] if on_disk else 0
    before = target.cpu()
    latencies, elapsed = load(target, clients, seconds, work)
    target.settle()
    cpu = target.cpu() - before
    flat = sorted(value for of in latencies for value in of)
    count = len(flat)
    p50, p99 = flat[count // 2] * 1e3, flat[min(count - 1, count * 99 // 100)] * 1e3
    stored = (target.on_disk()[0] - disk) / (count * size) if on_disk else None
    print(
        f"| {what} ×{clients} | {count / elapsed:.0f} | {count * size / elapsed / MIB:.1f} "
        f"| {p50:.1f} / {p99:.1f} | {cpu / count * 1e3:.2f} | {cpu / (count * size / GIB):.1f} "
        f"| {'' if stored is None else f'{stored:.2f}'} |",
        flush=True,
    )
    return [len(of) for of in latencies]


def bench(target, seconds, only):
    target.client().create_bucket(Bucket="bench")
    print("| work × clients | ops/s | MiB/s | p50 / p99 ms | CPU ms/op | CPU s/GiB | disk B/B |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, size, clients in LOADS:
        if only and name not in only:
            continue
        body = os.urandom(size)

        def put(bare, number, count, name=name, body=body):
            status, _, answer = bare.put("bench", f"{name}/{number}/{count}", body)
            assert status == 200, answer

        counts = row(target, f"PUT {name}", size, clients, seconds, put, on_disk=True)

        def get(bare, number, count, name=name, body=body, counts=counts):
            key = f"{name}/{number}/{count % max(1, counts[number])}"
            status, _, answer = bare.get("bench", key)
            assert status == 200 and len(answer) == len(body), (status, answer[:200])

        row(target, f"GET {name}", size, clients, seconds, get)
    print(f"\npeak memory of all processes: {target.memory_mib()} MiB")
    print(f"disk space reserved ahead of the writers: {target.on_disk()[1] // MIB} MiB")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--processes", action="store_true", help="separate processes")
    arguments.add_argument("--seconds", type=float, default=8, help="for each row")
    arguments.add_argument("--only", help="sizes, separated by commas")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MEGALITH_BENCH_DIR")) as directory:
        target = Target(directory, given.processes)
        try:
            bench(target, given.seconds, given.only.split(",") if given.only else None)
        finally:
            target.close()


if __name__ == "__main__":
    main()
