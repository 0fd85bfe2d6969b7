"""Memory is bounded by settings, whatever the objects' sizes."""

import hashlib
import os
import threading

from harness.cluster import Cluster

MIB = 1 << 20
SIZE = int(os.environ.get("MEGALITH_BIG_MIB", "256")) * MIB
STREAMS = 8
# Of each process, in MiB, as README.md states them: a gateway has `gateway.memory_bytes` (1 GiB)
# for bodies in flight and 256 MiB for the rest.
GATEWAY_MAX = 1024 + 256
NODE_MAX = 350


class Pattern:
    """A file-like object of any size that costs no memory."""

    def __init__(self, seed, size):
        self.block = hashlib.shake_256(str(seed).encode()).digest(MIB)
        self.size = size
        self.at = 0

    def read(self, want=-1):
        left = self.size - self.at
        want = left if want is None or want < 0 else min(want, left)
        start = self.at % MIB
        out = (self.block + self.block)[start : start + min(want, MIB)]
        self.at += len(out)
        return out

    def seek(self, at, whence=0):
        self.at = {0: 0, 1: self.at, 2: self.size}[whence] + at
        return self.at

    def tell(self):
        return self.at


def in_parallel(work):
    failed = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


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

        in_parallel(upload)
        in_parallel(download)
        peaks = {name: p.status_value("VmHWM") // 1024 for name, p in cluster.processes.items()}
        print("peak MiB:", peaks)
        for name, peak in peaks.items():
            bound = GATEWAY_MAX if name.startswith("gateway") else NODE_MAX
            assert peak < bound, f"{name}: {peak} MiB, bound {bound} MiB"
