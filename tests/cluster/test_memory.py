"""Memory is bounded by settings, whatever the objects' sizes."""

import os

from harness.cluster import Cluster
from harness.streams import MIB, Pattern, in_parallel

SIZE = int(os.environ.get("MEGALITH_BIG_MIB", "256")) * MIB
STREAMS = 8
# The bound of each process in MiB. A gateway's is that of README.md: `gateway.memory_bytes` (1 GiB)
# for bodies in flight and 256 MiB for the rest.
GATEWAY_MAX = 1024 + 256
NODE_MAX = 350


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
