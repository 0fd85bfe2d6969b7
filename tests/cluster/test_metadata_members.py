"""Metadata members whose disk or log is lost, that come, go and hand over, while writes go on."""

import json
import shutil
import subprocess
import time

import pytest

from harness.cluster import Cluster, Writers
from harness.process import BINARY, run, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("members"), storage=3, gateways=2) as running:
        running.client().create_bucket(Bucket="members")
        yield running


def meta(cluster, *args, check=True):
    return run("meta", *args, "--config", cluster.operator, check=check)


def members(cluster):
    listed = json.loads(meta(cluster, "list", "-o", "json").stdout)
    return {member["node"]: member for member in listed}


def leader(cluster):
    return wait_until(
        "a leader", lambda: next(n for n, m in members(cluster).items() if m["leader"]), 20
    )


def voters(cluster):
    return sorted(n for n, m in members(cluster).items() if m["voter"] and m["alive"])


def wipe(cluster, name):
    """Takes a member's metadata disk away and puts an empty one in its place."""
    directory = cluster.directory / name
    shutil.rmtree(directory / "metadata")
    return directory


def more_writes(writers, count=30):
    seen = len(writers.acknowledged)
    wait_until("writes go on", lambda: len(writers.acknowledged) > seen + count, 30)


def damage_oldest_segment(cluster, name):
    """Zeroes a part of the first record, with good ones behind it."""
    log = sorted((cluster.directory / name / "metadata" / "log").glob("*.log"))[0]
    with log.open("r+b") as file:
        file.seek(96)
        file.write(bytes(64))
    return log


def test_a_damaged_log_is_named_and_rebuilt(cluster):
    with Writers(cluster, "members", threads=4, sizes=(100, 5_000)) as writers:
        more_writes(writers)
        node = leader(cluster)
        name = f"meta-{node}"
        cluster.kill(name)
        log = damage_oldest_segment(cluster, name)
        more_writes(writers)
        cluster.start([name])
        wait_until("it votes again", lambda: voters(cluster) == [1, 2, 3], 60, every_s=0.3)
        text = cluster.processes[name].text()
        assert "has lost its log" in text and str(log) in text

        def note():
            _, status = cluster.status()
            return next((n for n in status["notes"] if f"member {node} was rebuilt" in n), None)

        # The old member may count as alive for a moment longer.
        said = wait_until("status says so", note, 30, every_s=0.3)
        assert voters(cluster) == [1, 2, 3]
        assert str(log) in said and "kept-1" in said, said
        kept = cluster.directory / name / "metadata" / "kept-1"
        assert (kept / log.name).exists(), "the damaged file is put aside, not removed"
        more_writes(writers)
    writers.verify()
    # Once removed by hand, it is not reported any more.
    shutil.rmtree(kept)
    wait_until("the note is gone",
               lambda: not any("rebuilt" in n for n in cluster.status()[1]["notes"]), 30)


def test_an_empty_metadata_directory_is_refused(cluster):
    """The empty directory may be a disk that isn't mounted."""
    name = "meta-2"
    cluster.processes[name].stop()
    directory = cluster.directory / name / "metadata"
    directory.rename(directory.with_name("unmounted"))
    directory.mkdir()
    ended = cluster.processes[name].start().process.wait(timeout=30)
    assert ended != 0
    assert "mount its disk" in cluster.processes[name].tail()
    assert list(directory.iterdir()) == []
    directory.rmdir()
    directory.with_name("unmounted").rename(directory)
    cluster.start([name])
    wait_until("it is back", lambda: voters(cluster) == [1, 2, 3], 30, every_s=0.3)


def test_a_member_whose_disk_is_gone_is_replaced_and_the_group_grows_and_shrinks(cluster):
    with Writers(cluster, "members", threads=4, sizes=(100, 5_000)) as writers:
        more_writes(writers)
        node = next(n for n in voters(cluster) if n != leader(cluster))
        name = f"meta-{node}"
        cluster.kill(name)
        wipe(cluster, name)
        # The disk is new: the directory is made as it was the first time, under the same number.
        cluster.init_metadata(name)
        cluster.start([name])
        done = meta(cluster, "replace", node, "--wait-s", 60)
        assert "is a member" in done.stdout, done
        assert voters(cluster) == [1, 2, 3]
        assert "the group was formed before" in cluster.processes[name].text()
        more_writes(writers)

        for new in (4, 5):
            cluster.new_member(new)
            cluster.start([f"meta-{new}"])
            meta(cluster, "add", new, "--wait-s", 60)
            more_writes(writers)
        assert voters(cluster) == [1, 2, 3, 4, 5]

        gone = leader(cluster)
        meta(cluster, "remove", gone, "--wait-s", 60)
        cluster.processes[f"meta-{gone}"].stop()
        assert gone not in members(cluster)
        more_writes(writers)

        gone = next(n for n in voters(cluster) if n != leader(cluster))
        cluster.kill(f"meta-{gone}")
        # Knowing one follower is enough: it says who leads, and where.
        known = next(m for n, m in members(cluster).items()
                     if n not in (gone, leader(cluster)))
        cluster.new_member(6, known)
        cluster.start(["meta-6"])
        meta(cluster, "replace", gone, 6, "--wait-s", 60)
        assert 6 in voters(cluster) and gone not in members(cluster)
        more_writes(writers)

        # In the end none of the members that the settings name is left.
        cluster.tell_operator(members(cluster).values())
        for gone in [n for n in voters(cluster) if n <= 3]:
            meta(cluster, "remove", gone, "--wait-s", 60)
            cluster.processes[f"meta-{gone}"].stop()
            more_writes(writers)
        assert voters(cluster) == [4, 5, 6]
    writers.verify()
    refused = meta(cluster, "replace", 77, 78, check=False)
    assert refused.returncode == 1 and "no member" in refused.stderr, refused


def test_a_leader_that_is_stopped_hands_over(cluster):
    """No call fails after one retry, and no call waits for an election."""
    client = cluster.bare("gateway-1")
    for _ in range(3):
        node = leader(cluster)
        process = cluster.processes[f"meta-{node}"]
        stopping = subprocess.Popen(["kill", "-TERM", str(process.process.pid)])
        slowest, failed_twice, puts = 0.0, 0, 0
        while process.running() or puts < 50:
            key = f"handed-over/{node}-{time.monotonic_ns()}"
            began = time.monotonic()
            status, _, _ = client.put("members", key, b"x" * 100)
            if status != 200:
                status, _, _ = client.put("members", key, b"x" * 100)
                failed_twice += status != 200
            slowest = max(slowest, time.monotonic() - began)
            puts += 1
        stopping.wait(timeout=10)
        assert process.process.wait(timeout=30) == 0, process.tail()
        assert failed_twice == 0, f"{failed_twice} of {puts} failed twice"
        assert leader(cluster) != node
        assert "no longer leads" in process.text() or "leads: false" in process.text()
        cluster.start([f"meta-{node}"])
        wait_until("it is back", lambda node=node: node in voters(cluster), 30, every_s=0.3)
        print(f"slowest PUT {slowest:.2f} s of {puts}")


def test_the_only_member_refuses_and_is_repaired(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=1, gateways=1) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="alone")
        for number in range(20):
            client.put_object(Bucket="alone", Key=f"key-{number}", Body=b"x" * 100)
        process = cluster.processes["meta-1"]
        process.stop()
        log = damage_oldest_segment(cluster, "meta-1")
        assert process.start().process.wait(timeout=30) != 0
        said = process.tail()
        assert str(log) in said and "meta repair" in said and "only member" in said, said
        config = cluster.directory / "meta-1" / "node.toml"
        looked = run("meta", "repair", "--config", config, check=False)
        assert looked.returncode == 1, looked
        assert "--accept-loss" in looked.stdout and "kept:" in looked.stdout, looked
        run("meta", "repair", "--config", config, "--accept-loss")
        process.start()
        wait_until("it serves again", lambda: cluster.status()[0] < 2, 30, every_s=0.3)
        # It was stopped cleanly: all its rows were there.
        listed = cluster.client(retries=3).list_objects_v2(Bucket="alone")
        assert listed["KeyCount"] == 20
        again = run("meta", "repair", "--config", config, check=False)
        assert again.returncode == 1 and "in use" in again.stderr, again


def test_only_an_operator_changes_members(cluster):
    """A gateway's certificate is refused."""
    file = cluster.directory / "as-gateway.toml"
    text = cluster.operator.read_text()
    mine = cluster.operator.parent / "tls"
    file.write_text(text.replace(str(mine), str(cluster.directory / "gateway-1" / "tls")))
    refused = subprocess.run(
        [str(BINARY), "meta", "remove", "1", "--config", str(file), "--wait-s", "5"],
        capture_output=True, text=True, timeout=60,
    )
    assert refused.returncode == 1 and "refused" in refused.stderr, refused
