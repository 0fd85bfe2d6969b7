"""PUT and GET through the S3 API: rates, latencies, server CPU, bytes on disk.

Runs its own cluster (`megalith up`: 6 disks 4+2; or --processes: 3 metadata members, 6
storage nodes, 1 gateway), http, UNSIGNED-PAYLOAD, incompressible data. Server CPU is user and
system time of every server process, deferred work included. Bytes on disk are all that the
servers keep, except space reserved ahead of the writers. Rates depend on the machine and on
its other load; compare the CPU per operation.

A second table counts per operation, deferred work and the idle seconds until it is done included:
context switches, page faults, pieces and KiB of memory allocated, rows read by key, stretches of
rows read, rows written (of `megalith up` only, and memory only if the program was built with the
feature `count-allocations`), and system calls, which a few more operations under strace show.

    tests/venv python tests/bench/s3_bench.py [--processes] [--seconds 8] [--only 4KiB,1MiB]
"""

import argparse
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.cluster import Cluster  # noqa: E402
from harness.megalith_up import Up  # noqa: E402
from harness.process import wait_until  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# name, bytes, clients: the loads of the published figures of other stores; operations under strace
LOADS = [
    ("4KiB", 4 * KIB, 32, 320),
    ("64KiB", 64 * KIB, 16, 160),
    ("1MiB", MIB, 8, 40),
    ("64MiB", 64 * MIB, 2, 4),
]
# What the servers count: key, metric.
METRICS = {
    "pieces": "megalith_allocations_total",
    "allocated": "megalith_allocated_bytes_total",
    "gets": "megalith_meta_row_gets_total",
    "scans": "megalith_meta_row_scans_total",
    "writes": "megalith_meta_rows_written_total",
}


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
            self.health_port = None
        else:
            self.cluster = Up(directory, log="warn").start()
            self.processes = [self.cluster.process]
            self.bare = self.cluster.bare
            self.client = self.cluster.client
            self.disks = [self.cluster.data / "disks"]
            self.health_port = self.cluster.health_port

    def cpu(self):
        return sum(process.cpu_seconds() for process in self.processes)

    def memory_mib(self):
        return sum(process.status_value("VmHWM") for process in self.processes) // 1024

    def counts(self):
        """What was counted so far; of threads that have ended since, nothing."""
        counts = {"switches": 0, "faults": 0}
        for process in self.processes:
            pid = process.process.pid
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            counts["faults"] += int(fields[7])
            for task in Path(f"/proc/{pid}/task").iterdir():
                try:
                    text = (task / "status").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                switches = re.findall(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)", text, re.M)
                counts["switches"] += sum(map(int, switches))
        if self.health_port is not None:
            url = f"http://127.0.0.1:{self.health_port}/metrics"
            text = urllib.request.urlopen(url, timeout=10).read().decode()
            for key, metric in METRICS.items():
                told = re.search(rf"^{metric} (\d+)", text, re.M)
                if told:
                    counts[key] = int(told.group(1))
        return counts

    def calls(self, work):
        """System calls of all servers while `work` runs, by name; nothing without strace."""
        if shutil.which("strace") is None:
            return {}
        pids = [part for process in self.processes for part in ("-p", str(process.process.pid))]
        with tempfile.NamedTemporaryFile("r") as told:
            strace = subprocess.Popen(["strace", "-c", "-f", "-o", told.name, *pids],
                                      stderr=subprocess.PIPE, text=True)
            for _ in self.processes:
                line = strace.stderr.readline()
                if "attached" not in line:
                    strace.wait(timeout=30)
                    return {}
            threading.Thread(target=strace.stderr.read, daemon=True).start()
            work()
            strace.send_signal(signal.SIGINT)
            strace.wait(timeout=60)
            # % time, seconds, usecs/call, calls, errors (may be empty), name
            rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", told.read(), re.M)
        return {name: int(count) for count, name in rows if name != "total"}

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


def load(target, clients, work, seconds=None, operations=None):
    """Runs `work(bare, client number, count)` in threads for some seconds, or so many times in all;
    returns latencies and elapsed time."""
    latencies = [[] for _ in range(clients)]
    failed = []
    start = time.monotonic()

    def goes_on(count):
        if operations is not None:
            return count < operations // clients
        return time.monotonic() - start < seconds

    def run(number):
        bare = target.bare()
        count = 0
        while goes_on(count):
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
    """Measures one kind of work; returns its figures and how often each client did it."""
    disk = target.on_disk()[0] if on_disk else 0
    before, counted = target.cpu(), target.counts()
    latencies, elapsed = load(target, clients, work, seconds=seconds)
    target.settle()
    cpu, after = target.cpu() - before, target.counts()
    flat = sorted(value for of in latencies for value in of)
    count = len(flat)
    return {
        "work": f"{what} ×{clients}",
        "ops_s": count / elapsed,
        "mib_s": count * size / elapsed / MIB,
        "p50_ms": flat[count // 2] * 1e3,
        "p99_ms": flat[min(count - 1, count * 99 // 100)] * 1e3,
        "cpu_ms": cpu / count * 1e3,
        "cpu_s_gib": cpu / (count * size / GIB),
        "disk": (target.on_disk()[0] - disk) / (count * size) if on_disk else None,
        "counts": {key: (after[key] - counted[key]) / count for key in after},
    }, [len(of) for of in latencies]


def calls(target, clients, operations, work):
    """System calls per operation, by name, the most frequent first."""
    made = target.calls(lambda: load(target, clients, work, operations=operations))
    count = operations // clients * clients
    by_count = sorted(made.items(), key=lambda item: -item[1])
    return {name: calls / count for name, calls in by_count}


def show(figures):
    stored = figures["disk"]
    print(
        f"| {figures['work']} | {figures['ops_s']:.0f} | {figures['mib_s']:.1f} "
        f"| {figures['p50_ms']:.1f} / {figures['p99_ms']:.1f} | {figures['cpu_ms']:.2f} "
        f"| {figures['cpu_s_gib']:.1f} | {'' if stored is None else f'{stored:.2f}'} |",
        flush=True,
    )


def show_counts(all_figures):
    print("\n| per operation | switches | page faults | allocated: pieces / KiB "
          "| rows: gets + scans / writes | system calls, the most frequent |")
    print("| --- | --- | --- | --- | --- | --- |")
    for figures in all_figures:
        counts, calls = figures["counts"], figures["calls"]
        memory = rows = ""
        if counts.get("pieces"):
            memory = f"{counts['pieces']:.0f} / {counts['allocated'] / KIB:.0f}"
        if "gets" in counts:
            scans, writes = counts.get("scans", 0), counts.get("writes", 0)
            rows = f"{counts['gets']:.1f} + {scans:.1f} / {writes:.1f}"
        kinds = ", ".join(f"{name} {count:.1f}" for name, count in list(calls.items())[:7])
        print(f"| {figures['work']} | {counts['switches']:.1f} | {counts['faults']:.1f} "
              f"| {memory} | {rows} | {sum(calls.values()):.0f}: {kinds} |")


def bench(target, seconds, only):
    target.client().create_bucket(Bucket="bench")
    print("| work × clients | ops/s | MiB/s | p50 / p99 ms | CPU ms/op | CPU s/GiB | disk B/B |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    all_figures = []
    for name, size, clients, operations in LOADS:
        if only and name not in only:
            continue
        body = os.urandom(size)

        def put(bare, number, count, name=name, body=body):
            status, _, answer = bare.put("bench", f"{name}/{number}/{count}", body)
            assert status == 200, answer

        of_put, counts = row(target, f"PUT {name}", size, clients, seconds, put, on_disk=True)
        show(of_put)

        def get(bare, number, count, name=name, body=body, counts=counts):
            key = f"{name}/{number}/{count % max(1, counts[number])}"
            status, _, answer = bare.get("bench", key)
            assert status == 200 and len(answer) == len(body), (status, answer[:200])

        of_get, _ = row(target, f"GET {name}", size, clients, seconds, get)
        show(of_get)
        of_put["calls"] = calls(target, clients, operations, put)
        of_get["calls"] = calls(target, clients, operations, get)
        all_figures += [of_put, of_get]
    show_counts(all_figures)
    peak, reserved = target.memory_mib(), target.on_disk()[1] // MIB
    print(f"\npeak memory of all processes: {peak} MiB")
    print(f"disk space reserved ahead of the writers: {reserved} MiB")
    return {"rows": all_figures, "peak_mib": peak, "reserved_mib": reserved}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--processes", action="store_true", help="separate processes")
    arguments.add_argument("--seconds", type=float, default=8, help="for each row")
    arguments.add_argument("--only", help="sizes, separated by commas")
    arguments.add_argument("--json", help="also writes all figures there")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MEGALITH_BENCH_DIR")) as directory:
        target = Target(directory, given.processes)
        try:
            figures = bench(target, given.seconds, given.only.split(",") if given.only else None)
            if given.json:
                Path(given.json).write_text(json.dumps(figures, indent=1))
        finally:
            target.close()


if __name__ == "__main__":
    main()
