"""A metadata member whose disk is really full: the others go on, and with space it is back."""

import os
import subprocess

import pytest

from harness.changing_load import Churn
from harness.cluster import Cluster, Writers
from harness.power_cut import Impossible, PowerStrip, impossible
from harness.process import wait_until

FULL = "meta-2"
LEFT = 2 << 20


@pytest.fixture
def strip(tmp_path):
    reason = impossible(tmp_path / "probe")
    if reason:
        pytest.skip(reason)
    strip = PowerStrip(tmp_path / "images")
    yield strip
    strip.close()


def fill(directory):
    """Takes almost all space at once."""
    stat = os.statvfs(directory)
    ballast = directory / "ballast"
    size = stat.f_bavail * stat.f_frsize - LEFT
    subprocess.run(["fallocate", "-l", str(size), str(ballast)], check=True, timeout=60)
    return ballast


def test_a_member_with_a_full_disk_stands_aside_and_comes_back(tmp_path, strip):
    def prepare(directory):
        if directory.name == FULL:
            strip.add(directory)

    try:
        cluster = Cluster(tmp_path / "cluster", gateways=1, prepare_node=prepare)
    except Impossible as reason:
        pytest.skip(f"can't have a small file system: {reason}")
    with cluster:
        cluster.client().create_bucket(Bucket="narrow")
        cluster.client().create_bucket(Bucket="narrow-fill")
        churn = Churn(cluster, "narrow", seed=1)
        member = cluster.processes[FULL]
        with churn:
            wait_until("some is acknowledged", lambda: churn.acknowledged() > 50, 60)
            ballast = fill(cluster.directory / FULL)

            def aside():
                return any("2" in reason for reason in cluster.status()[1]["reasons"]
                           if "member" in reason)

            # Bodies that live with the metadata fill the space reserved for the log.
            with Writers(cluster, "narrow-fill", threads=6, sizes=(3_900,)) as filling:
                wait_until("status says that the member stands aside", aside, 90, every_s=0.3)
            target = churn.acknowledged() + 100
            wait_until("the others go on", lambda: churn.acknowledged() > target, 60)
            assert "space" in member.text(), member.tail()
            ballast.unlink()
            if not member.running():
                member.start()
            wait_until("it is back", lambda: member.must_run() or cluster.all_heard(), 60,
                       every_s=0.2)
        churn.settle()
        filling.verify()
        # Now all members are needed: it has caught up on everything.
        cluster.kill("meta-1")
        wait_until("it votes", lambda: cluster.client(retries=3).put_object(
            Bucket="narrow", Key="c0/00", Body=b""), 60)
        assert member.running(), member.tail()
