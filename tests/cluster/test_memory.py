"""Memory is bounded by settings, whatever the objects' sizes."""

import os

from harness.cluster import Cluster, Writers
from harness.process import wait_until
from harness.streams import MIB, Pattern, in_parallel

SIZE = int(os.environ.get("MEGALITH_BIG_MIB", "256")) * MIB
STREAMS = 8
# The bound of each process in MiB. A gateway's is that of README.md: `gateway.memory_bytes` (1 GiB)
# for bodies in flight and 256 MiB for the rest.
GATEWAY_MAX = 1024 + 256
NODE_MAX = 350
# What a metadata member is given in the test of it, and what its program and threads take besides.
MEMBER_MEMORY, MEMBER_REST = 64, 48


def test_eight_big_uploads_and_downloads_stay_within_the_bound(tmp_path):
    with Cluster(tmp_path, gateways=1) as cluster:
        cluster.client().create_bucket(Bucket="big")

        def upload(i):
            cluster.client(
                request_checksum_calculation="when_required", retries=1
            ).put_object(Bucket="big", Key=f"o{i}", Body=Pattern(i, SIZE), ContentLength=SIZE)

        def download(i):
            body = cluster.client().get_object(Bucket="big", Key=f"o{i}")["Body"]
            expected = Pattern(i, SIZE)
            got = 0
            while piece := body.read(MIB):
                assert piece == expected.read(len(piece)), f"object {i} differs near {got}"
                got += len(piece)
            assert got == SIZE

        in_parallel(STREAMS, upload)
        in_parallel(STREAMS, download)
        peaks = {name: p.status_value("VmHWM") // 1024 for name, p in cluster.processes.items()}
        print("peak MiB:", peaks)
        for name, peak in peaks.items():
            bound = GATEWAY_MAX if name.startswith("gateway") else NODE_MAX
            assert peak < bound, f"{name}: {peak} MiB, bound {bound} MiB"


def test_a_member_with_little_memory_stays_within_it(tmp_path):
    """Its tables hold more than its memory: 4 KiB of each object are in its row."""
    def settings(name):
        memory = {"MEGALITH_METADATA__MEMORY_BYTES": str(MEMBER_MEMORY * MIB)}
        return memory if name == "meta-1" else {}

    objects = 25_000
    with Cluster(tmp_path, metadata=1, storage=1, gateways=1, process_env=settings) as cluster:
        cluster.client().create_bucket(Bucket="box")
        with Writers(cluster, "box", threads=16, sizes=(4_096,)) as writers:
            wait_until("they are acknowledged", lambda: len(writers.acknowledged) >= objects, 240)
        peak = cluster.processes["meta-1"].status_value("VmHWM") // 1024
        print("peak MiB:", peak)
        assert peak < MEMBER_MEMORY + MEMBER_REST, f"{peak} MiB"
        writers.verify(keys=list(writers.acknowledged.items())[::100])
