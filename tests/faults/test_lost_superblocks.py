"""A disk outlives the loss of one copy of its superblock, and of both with an operator's help."""

import shutil

import pytest

from harness.cluster import Cluster, Writers
from harness.process import run, wait_until

MIB = 1 << 20
COPIES = ("superblock", "superblock-2")


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1) as running:
        yield running


@pytest.fixture
def bodies(cluster):
    cluster.client().create_bucket(Bucket="bucket")
    bodies = {f"key-{n}": Writers.body(f"key-{n}", MIB) for n in range(6)}
    for key, body in bodies.items():
        cluster.client().put_object(Bucket="bucket", Key=key, Body=body)
    return bodies


def start_and_read(cluster, bodies, name):
    cluster.processes[name].start()
    wait_until(f"{name} is heard from", cluster.all_heard, deadline_s=60)
    read_without_another(cluster, bodies)


def read_without_another(cluster, bodies):
    """Takes another node away, so that the shards of the node in question are needed."""
    other = cluster.processes["store-13"]
    other.kill()
    for key, body in bodies.items():
        assert cluster.client().get_object(Bucket="bucket", Key=key)["Body"].read() == body, key
    other.start()
    wait_until("all are heard from", cluster.all_heard, deadline_s=60)


def chunk_files(disk):
    return sorted(disk.rglob("*.chunk"))


def damage(path, how):
    if how == "gone":
        path.unlink()
    elif how == "torn":
        path.write_bytes(path.read_bytes()[:60])
    else:
        bytes_ = bytearray(path.read_bytes())
        bytes_[70] ^= 1
        path.write_bytes(bytes_)


def test_one_lost_copy_is_mended_at_the_start(cluster, bodies):
    node, disk = cluster.processes["store-11"], cluster.disks["store-11"]
    good = (disk / COPIES[0]).read_bytes()
    assert good == (disk / COPIES[1]).read_bytes()
    for which, how in [(0, "gone"), (1, "flipped"), (0, "torn")]:
        node.stop()
        damage(disk / COPIES[which], how)
        start_and_read(cluster, bodies, "store-11")
        assert "superblock is written again" in node.text()
        assert [(disk / name).read_bytes() for name in COPIES] == [good, good], how
        _, status = cluster.status()
        told = next(n for n in status["nodes"] if n["node"] == 11)["disks"]
        assert [d["restored_files"] for d in told] == [1], how


def test_a_lost_superblock_is_made_again_and_the_cluster_knows_the_disk(cluster, bodies):
    node, disk = cluster.processes["store-11"], cluster.disks["store-11"]
    good = (disk / COPIES[0]).read_bytes()
    disk_id = good[32:48].hex()

    def rebuild(*flags):
        return run("disk", "rebuild-superblock", disk, *flags, check=False)

    whole = rebuild()
    assert whole.returncode != 0
    assert "nothing has to be made again" in whole.stderr
    node.stop()
    damage(disk / COPIES[0], "flipped")
    damage(disk / COPIES[1], "gone")
    node.start()
    refused = wait_until(
        "the node says that it has no disk",
        lambda: [line for line in node.text().splitlines() if "disk not opened" in line],
        deadline_s=60)[-1]
    assert "is damaged" in refused and "tries again" in refused, refused
    opened = node.text().count("disk opened")

    told = rebuild("--dry-run")
    assert told.returncode == 0, told.stderr
    assert f"disk {disk_id} of cluster" in told.stdout
    assert "Nothing was written" in told.stdout
    assert not (disk / COPIES[1]).exists()

    # A chunk file of another disk among its own: nobody can say which disk it is.
    stray = disk / "chunks" / "stray"
    stray.mkdir()
    shutil.copy(chunk_files(cluster.disks["store-12"])[0], stray)
    refused = rebuild()
    assert refused.returncode != 0
    assert "are of different disks" in refused.stderr
    assert not (disk / COPIES[1]).exists()
    shutil.rmtree(stray)

    # A head that is damaged says nothing, and the others are enough.
    files = chunk_files(disk)
    assert len(files) > 1
    whole = files[0].read_bytes()
    damage(files[0], "flipped")
    made = rebuild()
    files[0].write_bytes(whole)
    assert made.returncode == 0, made.stderr
    assert f"according to {len(files) - 1} chunk files, 1 others are damaged" in made.stdout
    # With its secret: so the cluster takes it for the disk that it knows.
    assert [(disk / name).read_bytes() for name in COPIES] == [good, good]
    assert good[64:96].hex() not in told.stdout + made.stdout
    wait_until("the node opens its disk by itself",
               lambda: node.text().count("disk opened") > opened, deadline_s=60)
    read_without_another(cluster, bodies)
    assert "refuses a disk" not in node.text()
