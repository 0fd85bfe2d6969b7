"""Writes that fail, are refused or cut off leave no shard that a row does not name, and no space
that nothing takes."""

import os
import random
import re
import socket
import threading

import pytest

from harness.cluster import Cluster, Writers
from harness.process import wait_until
from harness.signature_v4 import UNSIGNED, Signer
from harness.streams import in_parallel
from harness.walker import (
    DELETES_SOON,
    ORPHANS_SOON,
    SPACE_SOON,
    at_rest,
    close_leases,
    kill_amid_a_put,
    nothing_is_left,
    on_stores,
    space_is_back,
    walk,
)

SEED = os.environ.get("MEGALITH_SEED", "1")
MIB = 1 << 20
# Kept as whole copies, as one segment of shards, and as two.
SIZES = (70_000, 3 * MIB, 66 * MIB)
WRONG_MD5 = "MDAwMDAwMDAwMDAwMDAwMA=="


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("left"), metadata=1, storage=3, gateways=1,
                 node_env=DELETES_SOON, process_env=on_stores(SPACE_SOON)) as cluster:
        cluster.client().create_bucket(Bucket="box")
        for size in SIZES[:2]:
            cluster.client().put_object(Bucket="box", Key=f"kept/{size}", Body=b"k" * size)
        yield cluster


@pytest.fixture
def space(cluster):
    """Afterwards no shard is left, and the disks take what they took before."""
    before = at_rest(cluster)
    yield
    # First without a restart: a store that starts looks for all space that can be given back.
    space_is_back(cluster, before)
    nothing_is_left(cluster)
    space_is_back(cluster, before)


def send(cluster, key, body, headers=None, cut=None, wait=None):
    """PUTs a body, of which only `cut` bytes are sent. Returns the status, None if cut off, after
    `wait()`."""
    port = cluster.gateway_ports["gateway-1"]
    signer = Signer(f"127.0.0.1:{port}", *cluster.keys)
    sent = signer.headers("PUT", f"/box/{key}", None, headers, UNSIGNED)
    sent["content-length"] = str(len(body))
    head = f"PUT /box/{key} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in sent.items())
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(head.encode() + b"\r\n" + body[:cut])
        if cut is not None and cut < len(body):
            if wait:
                wait()
            return None
        return int(sock.recv(1024).split()[1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("space")
def test_a_body_with_a_wrong_md5_leaves_nothing(cluster, size):
    body = Writers.body("wrong", size)
    for number in range(3):
        client = cluster.client()
        with pytest.raises(client.exceptions.ClientError, match="BadDigest"):
            client.put_object(Bucket="box", Key=f"bad/{number}", Body=body, ContentMD5=WRONG_MD5)


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize("size", SIZES[:2])
def test_losers_of_a_race_leave_nothing(cluster, size):
    statuses = []

    def race(number):
        for key in range(3):
            body = Writers.body(f"{key}/{number}", size)
            bare = cluster.bare()
            statuses.append(bare.request("PUT", f"/box/race/{size}/{key}", body=body,
                                         headers={"if-none-match": "*"})[0])

    in_parallel(6, race)
    assert statuses.count(200) == 3 and statuses.count(412) + statuses.count(409) == 15, statuses
    # What the winners wrote is in nobody's way when the space is measured.
    for key in range(3):
        status, _, body = cluster.bare().get("box", f"race/{size}/{key}")
        assert status == 200 and len(body) == size
        cluster.client().delete_object(Bucket="box", Key=f"race/{size}/{key}")


@pytest.mark.usefixtures("space")
def test_parts_that_race_with_an_abort_leave_nothing(cluster):
    client = cluster.client()
    seen = set()
    for turn in range(4):
        upload = {"Bucket": "box", "Key": "aborted"}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        begun = threading.Barrier(4)

        def part(number, upload=upload, begun=begun, turn=turn):
            begun.wait(timeout=30)
            if number == 3:
                threading.Event().wait(0.02 * turn)
                cluster.client().abort_multipart_upload(**upload)
                return
            query = {"partNumber": str(number + 1), "uploadId": upload["UploadId"]}
            body = Writers.body(str(number), 5 * MIB)
            answer = cluster.bare().request("PUT", "/box/aborted", body=body, query=query)
            code = re.search(rb"<Code>(.*?)</Code>", answer[2])
            seen.add((answer[0], code and code.group(1)))

        in_parallel(4, part)
    assert seen <= {(200, None), (404, b"NoSuchUpload")}, seen


@pytest.mark.usefixtures("space")
def test_connections_cut_at_any_byte_leave_nothing(cluster):
    rng = random.Random(SEED)
    print("seed", SEED)
    for number in range(24):
        size = rng.choice(SIZES)
        send(cluster, f"cut/{number}", Writers.body("cut", size), cut=rng.randrange(size))
    # After them, one that is whole.
    assert send(cluster, "cut/none", Writers.body("cut", 70_000)) == 200
    cluster.client().delete_object(Bucket="box", Key="cut/none")


@pytest.mark.usefixtures("space")
def test_shards_that_never_end_leave_nothing(cluster):
    # No shard of them is ever whole: no delete gives their space back.
    stores = cluster.names("store")
    empty = written(cluster, stores)

    def begun():
        wait_until("the body is being written",
                   lambda: written(cluster, stores) > empty + 8 * MIB, 30, 0.01)
    for number in range(4):
        send(cluster, f"cut/{number}", Writers.body("cut", 24 * MIB), cut=20 * MIB, wait=begun)


def test_segments_that_are_begun_again_leave_nothing(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=6, gateways=1, node_env=DELETES_SOON,
                 process_env=on_stores(SPACE_SOON)) as cluster:
        cluster.client().create_bucket(Bucket="box")
        # 5 % of it are more than the chunk files that keep the epochs of volumes with nothing else.
        cluster.client().put_object(Bucket="box", Key="kept", Body=b"k" * (24 * MIB))
        before = at_rest(cluster)
        body = Writers.body("long", 100 * MIB)
        for number in (1, 2):
            answers = []
            put = threading.Thread(target=lambda n=number, a=answers: a.append(
                cluster.bare().put("box", f"long/{n}", body)))
            # Two nodes at once: the segment can't be done where it was begun.
            victims = cluster.names("store")[:number]
            empty = written(cluster, victims)
            put.start()
            wait_until("the body is being written",
                       lambda v=victims, e=empty: written(cluster, v) > e + 4 * MIB, 30, 0.01)
            cluster.kill(*victims)
            put.join(timeout=120)
            assert answers and answers[0][0] in (200, 503), answers
            cluster.start(victims)
            cluster.ready()
        assert nothing_is_left(cluster)["shards"] > 0
        for number in (1, 2):
            cluster.client().delete_object(Bucket="box", Key=f"long/{number}")
        space_is_back(cluster, before)
        nothing_is_left(cluster)


def test_a_segment_that_is_written_elsewhere_leaves_nothing(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=6, gateways=1, node_env=DELETES_SOON,
                 process_env=on_stores(SPACE_SOON)) as cluster:
        cluster.client().create_bucket(Bucket="box")
        cluster.client().put_object(Bucket="box", Key="kept", Body=b"k" * (24 * MIB))
        before = at_rest(cluster)
        # Two nodes hang: the others get whole shards, too few of them to keep the segment there.
        hung = cluster.names("store")[:2]
        for name in hung:
            cluster.processes[name].pause()
        answer = cluster.bare().put("box", "moved", Writers.body("moved", 3 * MIB))
        assert answer[0] == 200, answer
        # What is on its way to them must not arrive after all.
        cluster.kill(*hung)
        cluster.start(hung)
        cluster.ready()
        cluster.client().delete_object(Bucket="box", Key="moved")
        space_is_back(cluster, before)
        nothing_is_left(cluster)


def written(cluster, names):
    """Bytes that these nodes' chunk files take on their disks."""
    files = (path for name in names for path in cluster.disks[name].rglob("*.chunk"))
    return sum(path.stat().st_blocks * 512 for path in files)


def test_what_a_killed_gateway_left_is_still_leased(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, node_env=DELETES_SOON) as cluster:
        cluster.client().create_bucket(Bucket="box")
        kill_amid_a_put(cluster, "box")
        cluster.start(["gateway-1"])
        cluster.ready()
        # Everything is killed and started once more: that alone explains nothing.
        cluster.kill()
        cluster.start()
        cluster.ready()
        found = walk(cluster)
        assert found["leased"], found
        assert not found["unnamed"] and not found["missing"], found


def test_what_killed_gateways_and_nodes_left_gives_its_space_back(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1, node_env=DELETES_SOON,
                 process_env=on_stores(ORPHANS_SOON)) as cluster:
        cluster.client().create_bucket(Bucket="box")
        cluster.client().put_object(Bucket="box", Key="kept", Body=b"k" * (3 * MIB))
        before = at_rest(cluster)
        # One segment is whole on every node, another one is on its way.
        kill_amid_a_put(cluster, "box")
        stores = cluster.names("store")
        assert written(cluster, stores) > before + 64 * MIB
        cluster.kill(*stores)
        cluster.start(stores)
        wait_until("the nodes are back", lambda: all(
            node["alive"] for node in cluster.status()[1]["nodes"]), 60)
        close_leases(cluster, 1)
        space_is_back(cluster, before)
        # And nothing of it comes back with a restart.
        cluster.kill()
        cluster.start()
        cluster.ready()
        assert cluster.client().get_object(Bucket="box", Key="kept")["ContentLength"] == 3 * MIB
        space_is_back(cluster, before)
