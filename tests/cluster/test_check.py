"""`megalith check` finds nothing in a cluster under load, and what is planted by name."""

import json
import random
import shutil

from harness.cluster import Cluster, Writers
from harness.damage import flip_chunks
from harness.edited_backup import edit
from harness.process import run, wait_until
from harness.walker import DELETES_SOON

# Inline, as copies, as one segment of shards.
SIZES = (100, 70_000, 300_000)
CLEAN, FOUND, INCOMPLETE = 0, 3, 1
BUCKET_COUNTERS, BLOBS_BY_VOLUME = 28, 6


def check(cluster, *args):
    done = run("check", "--config", cluster.operator, "-o", "json", *args, check=False)
    assert "secret-key" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def short_numbers(data, count):
    """The first `count` numbers of a key; each is its length in bytes, then those."""
    numbers = []
    for _ in range(count):
        end = 1 + data[0]
        numbers.append(int.from_bytes(data[1:end], "big"))
        data = data[end:]
    return numbers


def restore(cluster, backup):
    """Nodes go on: they would look for missing shards at a start, and mark them."""
    members = cluster.names("meta")
    cluster.kill(*members)
    for name in members:
        directory = cluster.directory / name
        shutil.rmtree(directory / "metadata")
        run("meta", "restore", "--config", directory / "node.toml", "--from", backup)
    cluster.start(members)
    cluster.ready()


def test_a_cluster_under_load_is_clean(tmp_path):
    with Cluster(tmp_path, metadata=3, storage=4, gateways=1) as cluster:
        client = cluster.client(retries=3)
        client.create_bucket(Bucket="kept")
        upload = client.create_multipart_upload(Bucket="kept", Key="secret-key")
        client.upload_part(Bucket="kept", Key="secret-key", UploadId=upload["UploadId"],
                           PartNumber=1, Body=b"x" * 200_000)
        writers = Writers(cluster, "kept", threads=3)
        with writers:
            wait_until("writes are acknowledged", lambda: len(writers.acknowledged) > 50, 60)
            for number in range(3):
                # Something is always on its way out as well.
                for key in list(writers.acknowledged)[number * 10 : number * 10 + 10]:
                    client.delete_object(Bucket="kept", Key=key)
                code, report = check(cluster)
                assert (code, report["verdict"]) == (CLEAN, "clean"), report
                assert report["rows"]["rows"] > 100, report
                assert sum(disk["shards"] for disk in report["disks"]) > 50, report
        # Of deleted objects whose lease is closed, only the disks' queues still name the shards.
        cluster.processes["gateway-1"].stop()
        cluster.processes["gateway-1"].start()
        cluster.ready()
        for key in list(writers.acknowledged)[-20:]:
            client.delete_object(Bucket="kept", Key=key)
        assert cluster.status()[1]["data"]["deletes_pending"] > 0
        code, report = check(cluster)
        assert (code, report["verdict"]) == (CLEAN, "clean"), report
        text = run("check", "--config", cluster.operator, "--rows-only").stdout
        assert text.endswith("clean\n") and "disk" not in text, text

        # Without a node, its disk can't be compared; the others can.
        disk = report["disks"][0]["disk"]
        assert check(cluster, "--disk", disk)[0] == CLEAN
        cluster.kill(f"store-{report['disks'][0]['node']}")
        code, report = check(cluster)
        assert (code, report["verdict"]) == (INCOMPLETE, "incomplete"), report
        assert [bool(disk["error"]) for disk in report["disks"]] == [True, False, False, False]
        gone = run("check", "--config", cluster.operator, "--disk", "0" * 32, check=False)
        assert gone.returncode == 1 and "no node has disk" in gone.stderr, gone.stderr


def test_what_is_planted_is_named(tmp_path):
    with Cluster(tmp_path / "cluster", metadata=1, storage=3, gateways=1,
                 node_env=DELETES_SOON) as cluster:
        client = cluster.client(retries=3)
        client.create_bucket(Bucket="kept")
        for size in SIZES:
            client.put_object(Bucket="kept", Key=f"secret-key-{size}", Body=b"x" * size)
        client.put_object(Bucket="kept", Key="secret-key-gone", Body=b"x" * 300_000)
        backup = tmp_path / "backup"
        run("meta", "backup", "--config", cluster.operator, "--to", backup)
        # Of an object that is newer than the backup, disks hold what no row will name.
        client.put_object(Bucket="kept", Key="secret-key-late", Body=b"x" * 300_000)
        client.delete_object(Bucket="kept", Key="secret-key-gone")
        wait_until("it has left the disks",
                   lambda: cluster.status()[1]["data"]["deletes_pending"] == 0)

        planted = {}

        def change(key, value):
            if key[0] == BUCKET_COUNTERS:
                planted["bucket"] = int.from_bytes(key[1:9], "big")
                # The number of objects, behind the version.
                return bytes([value[0], value[1] + 1]) + value[2:]
            if key[0] == BLOBS_BY_VOLUME and "blob" not in planted:
                planted["blob"] = short_numbers(key[1:], 2)[1]
                return None
            return value
        edit(backup, change)
        restore(cluster, backup)

        code, report = check(cluster)
        assert (code, report["verdict"]) == (FOUND, "found"), report
        found = {finding["rule"]: finding["what"] for finding in report["rows"]["findings"]}
        assert f"bucket-{planted['bucket']}: kept 5, counted 4" in found["objects"], found
        assert f"blob-{planted['blob']}/0: kept 0, counted 1" in found["filed"], found
        unnamed = [shard for disk in report["disks"] for shard in disk["unnamed"]]
        blobs = {shard["blob"] for shard in unnamed}
        assert planted["blob"] in blobs and len(blobs) == 2, unnamed

        # The disks have lost what was deleted after the backup, and its row came back.
        for disk in report["disks"]:
            lost = disk["missing"]
            assert [shard["blob"] for shard in lost] == [lost[0]["blob"]], report
            assert lost[0]["bucket"] == str(planted["bucket"]), report
            assert (lost[0]["disk"], disk["damaged"]) == (disk["disk"], []), report
        # Of one disk, and no rows.
        disk = report["disks"][0]
        code, only = check(cluster, "--disk", disk["disk"])
        assert code == FOUND and only["rows"] is None and only["disks"] == [disk], only


def test_what_a_disk_knows_to_be_damaged_is_named_while_rows_count_on_it(tmp_path):
    with Cluster(tmp_path / "cluster", metadata=1, storage=3, gateways=1) as cluster:
        client = cluster.client(retries=3)
        client.create_bucket(Bucket="kept")
        for size in SIZES:
            client.put_object(Bucket="kept", Key=f"key-{size}", Body=Writers.body("key", size))
        backup = tmp_path / "backup"
        run("meta", "backup", "--config", cluster.operator, "--to", backup)
        assert check(cluster)[0] == CLEAN
        rotten, *others = (int(name.split("-")[1]) for name in cluster.names("store"))
        assert flip_chunks(cluster.disks[f"store-{rotten}"], random.Random(3)) > 0
        run("scrub", "start", "--node", str(rotten), "--config", cluster.operator)

        def owed():
            return cluster.status()[1]["data"]["owed_segments"]
        # A shard of each that is not inline; the scrub may report them one by one.
        marked = 2
        wait_until("rows say that both are owed", lambda: owed() == marked, 60)
        # Rows that say so count on the disk no longer: that is for `status`, and no contradiction.
        assert check(cluster)[0] == CLEAN
        restore(cluster, backup)
        code, report = check(cluster)
        assert (code, report["verdict"]) == (FOUND, "found"), report
        assert report["rows"]["findings"] == [], report
        damaged = {disk["node"]: len(disk["damaged"]) for disk in report["disks"]}
        assert damaged == {rotten: marked, **dict.fromkeys(others, 0)}, report
        assert not any(disk["missing"] or disk["unnamed"] for disk in report["disks"]), report
        text = run("check", "--config", cluster.operator, check=False).stdout
        assert "damaged" in text, text
