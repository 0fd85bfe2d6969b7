"""Deleted objects leave the disks: each node fetches its deletes from the group and does them."""

from harness.cluster import Cluster, Writers
from harness.process import wait_until
from harness.walker import DELETES_SOON, shards, written_blocks

MIB = 1 << 20
# Kept as whole copies, as one segment of shards, and as two.
SIZES = (70_000, 3 * MIB, 66 * MIB)
LATE = "store-13"


def test_the_shards_of_deleted_objects_leave_every_disk(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, node_env=DELETES_SOON) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="bucket")
        nodes = cluster.names("store")

        def put(first):
            for size in SIZES:
                key = f"{first}/{size}"
                client.put_object(Bucket="bucket", Key=key, Body=Writers.body(key, size))

        def pending():
            return cluster.status()[1]["data"]["deletes_pending"]

        def blocks():
            return {name: written_blocks(disk) for name, disk in cluster.disks.items()}

        put("kept")
        kept, kept_blocks = shards(cluster, nodes), blocks()
        put("gone")
        # The parts of an upload that is aborted are deleted as well.
        upload = {"Bucket": "bucket", "Key": "never"}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        client.upload_part(**upload, PartNumber=1, Body=Writers.body("never", 5 * MIB))
        full, full_blocks = shards(cluster, nodes), blocks()
        assert all(full[name] > kept[name] for name in nodes), (kept, full)
        assert pending() == 0

        # The deletes of a node that is down wait for it; nobody waits for that node.
        cluster.kill(LATE)
        for size in SIZES:
            client.delete_object(Bucket="bucket", Key=f"gone/{size}")
        client.abort_multipart_upload(**upload)
        owed = full[LATE] - kept[LATE]
        wait_until(f"only the {owed} deletes of {LATE} are left", lambda: pending() == owed)
        others = [name for name in nodes if name != LATE]
        assert shards(cluster, others) == {name: kept[name] for name in others}

        cluster.start([LATE])
        wait_until("no delete is left", lambda: pending() == 0)
        assert shards(cluster, nodes) == kept

        # A record's first and last block stay until its file goes; the others are given back.
        def given_back():
            now = blocks()
            left = {name: (now[name] - kept_blocks[name], full_blocks[name] - kept_blocks[name])
                    for name in nodes}
            assert all(still <= was // 10 for still, was in left.values()), left
            return True
        wait_until("the space is given back", given_back)

        # Deletes outlive the processes that did them, and took nothing else.
        cluster.kill(*nodes)
        cluster.start(nodes)
        cluster.ready()
        assert shards(cluster, nodes) == kept
        for size in SIZES:
            key = f"kept/{size}"
            body = client.get_object(Bucket="bucket", Key=key)["Body"].read()
            assert body == Writers.body(key, size), key
