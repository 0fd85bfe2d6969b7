"""kill -9 of every process at once under write load, again and again."""

import os
import time

from harness.cluster import Cluster, Writers
from harness.process import wait_until

ROUNDS = int(os.environ.get("MEGALITH_KILL_ROUNDS", "3"))


def test_no_acknowledged_object_is_lost_or_torn(tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.client().create_bucket(Bucket="load")
        everything = {}
        for round_number in range(ROUNDS):
            with Writers(cluster, "load") as writers:
                wait_until(
                    "some objects are acknowledged",
                    lambda w=writers, n=round_number: len(w.acknowledged) >= 100 + 37 * n,
                    60,
                )
                cluster.kill()
            assert writers.acknowledged
            cluster.start()
            cluster.ready()
            writers.verify()
            everything.update(writers.acknowledged)
            print(f"round {round_number}: {len(writers.acknowledged)} acknowledged,"
                  f" {len(writers.maybe)} unknown, at {time.monotonic():.0f}")
        # Nothing of earlier rounds went missing in later ones.
        writers.maybe.clear()
        writers.verify("gateway-2", keys=list(everything.items()))
