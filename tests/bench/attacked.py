"""What attackers cost the other clients of one gateway: latencies, memory, metadata reads.

Runs its own cluster (one metadata member, six storage nodes, one gateway) and finds its capacity.
Then an open loop of small and medium PUTs and GETs at 30 % of that, of one account, quiet and under
an attack of another account by turns. Latencies count from when a request should have begun, and a
failed one counts as 30 s. One table: the medians of the runs. Rates depend on the machine; the
ratio of quiet to attacked does less.

    tests/venv python tests/bench/attacked.py [--runs 5] [--seconds 8] [--only chunks,slow-puts]
"""

import argparse
import http.client
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.cluster import Cluster  # noqa: E402
from harness.load import Load  # noqa: E402
from harness.process import run, wait_until  # noqa: E402

# The bound of README.md in MiB: `gateway.memory_bytes` and 256 MiB for the rest.
BOUND = 1024 + 256
# name, kind, settings of the load generator
ATTACKS = [
    ("500 connections with signed chunks of 16 MiB", "chunks", {"clients": 500}),
    ("300 slow PUTs, a byte each", "slow-puts", {"clients": 300}),
    ("300 slow PUTs after 300 KB each", "slow-puts", {"clients": 300, "first_bytes": 300_000}),
    ("300 slow GETs", "slow-gets", {"clients": 300}),
    ("40 HTTP/2 connections, 32 heads of 48 KiB", "heads", {"clients": 40}),
    ("malformed access keys, 2,000/s", "keys",
     {"clients": 64, "rate": 2000, "malformed": "true", "ids": 100_000}),
    ("100 unknown access keys, 2,000/s", "keys", {"clients": 64, "rate": 2000, "ids": 100}),
    ("100,000 unknown access keys, 2,000/s", "keys",
     {"clients": 64, "rate": 2000, "ids": 100_000}),
]
# An attack begins so long before it is measured what it costs.
RAMP_S = 4


class Gateway:
    """The gateway under attack."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.process = cluster.processes["gateway-1"]

    def restart(self):
        """Starts it afresh, so that its peak is that of what comes."""
        self.process.stop(60)
        self.process.start()
        wait_until("the gateway answers", lambda: self.cluster.client().list_buckets())

    def counter(self, name):
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.cluster.health_ports["gateway-1"], timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))

    def load(self, kind, keys, bucket, seconds, **settings):
        """Starts a load."""
        port = self.cluster.gateway_ports["gateway-1"]
        return Load(kind, port, keys, bucket, seconds, **settings)


def account(cluster, name):
    run("account", "create", name, "--config", cluster.operator)
    made = json.loads(run("key", "create", "--account", name, "-o", "json",
                          "--config", cluster.operator).stdout)
    return made["access_key"], made["secret_key"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", help="also writes every run there")
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    with tempfile.TemporaryDirectory() as directory, Cluster(
        directory, metadata=1, storage=6, gateways=1, log="warn"
    ) as cluster:
        attacker = account(cluster, "attacker")
        gateway = Gateway(cluster)
        cluster.client().create_bucket(Bucket="load")
        make = cluster.bare()
        make.access_key, make.secret, make.day = *attacker, None
        make.request("PUT", "/attack")
        capacity = gateway.load("capacity", cluster.keys, "load", args.seconds).told()
        rate = 0.3 * capacity["rate"]
        print(f"capacity {capacity['rate']:.0f}/s with 16 clients; open loop at {rate:.0f}/s, "
              f"{args.runs} runs of {args.seconds} s each\n")
        print("| attack | p99 quiet ms | p99 attacked ms | ratio | failed | peak MiB (bound "
              f"{BOUND}) | keys asked | answers |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        record = []
        for name, kind, settings in ATTACKS:
            if only and kind not in only:
                continue
            gateway.restart()
            quiet, attacked, failed, answers = [], [], 0, {}
            asked = 0
            for _ in range(args.runs):
                calm = gateway.load("open", cluster.keys, "load", args.seconds, rate=rate).told()
                before = gateway.counter("megalith_s3_keys_asked_total")
                attack = gateway.load(kind, attacker, "attack", RAMP_S + args.seconds, **settings)
                begun = time.monotonic() + RAMP_S
                wait_until("the attack is under way", lambda at=begun: time.monotonic() > at)
                hard = gateway.load("open", cluster.keys, "load", args.seconds, rate=rate,
                                    prepared="true").told()
                made = attack.told()
                asked = max(asked, gateway.counter("megalith_s3_keys_asked_total") - before)
                quiet.append(calm["p99_ms"])
                attacked.append(hard["p99_ms"])
                failed += hard["failed"]
                for answer, count in made["outcomes"].items():
                    answers[answer] = answers.get(answer, 0) + count
                record.append({"attack": name, "quiet": calm, "attacked": hard, "made": made})
            peak = gateway.process.status_value("VmHWM") // 1024
            calm, hard = statistics.median(quiet), statistics.median(attacked)
            shown = ", ".join(f"{what}: {count}" for what, count in answers.items())
            print(f"| {name} | {calm:.1f} | {hard:.1f} | {hard / calm:.1f} | {failed} | {peak} | "
                  f"{asked:.0f} | {shown} |", flush=True)
        if args.json:
            Path(args.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
