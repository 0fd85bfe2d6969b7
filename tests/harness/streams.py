"""Large bodies that cost no memory, and many of them at a time."""

import hashlib
import threading

MIB = 1 << 20


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


def in_parallel(streams, work):
    """Runs `work(i)` for each number below `streams`, all at once; the first failure fails."""
    failed = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
