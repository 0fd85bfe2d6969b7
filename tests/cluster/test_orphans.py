"""What a killed gateway has left is proven to be nobody's, lies in the trash, and is deleted."""

import shutil

import pytest

from harness.cluster import Cluster, Writers
from harness.process import run, wait_until
from harness.walker import (
    close_leases,
    kill_amid_a_put,
    nothing_is_left,
    shards,
    walk,
    written_blocks,
)

MIB = 1 << 20
# A copy of a whole segment: 1,024 cells of 65,568 bytes.
SEGMENT_BLOCKS = 1024 * 65_568 // 4096
KEPT = {"small": 70_000, "middle": 3 * MIB, "large": 66 * MIB}


def with_orphans(directory, trash_days):
    """A cluster whose nodes look for orphans all the time."""
    # The disk of these tests is shared: others may have filled it.
    settings = {"MEGALITH_STORAGE__ORPHAN_CHECK_S": "1",
                "MEGALITH_STORAGE__TRASH_DAYS": str(trash_days),
                "MEGALITH_STORAGE__TRASH_FULL_PERCENT": "100"}
    return Cluster(directory, metadata=1, storage=3, gateways=1,
                   process_env=lambda name: settings if name.startswith("store") else {})


@pytest.fixture
def week(tmp_path):
    with with_orphans(tmp_path, 7) as cluster:
        fill(cluster)
        yield cluster


def fill(cluster):
    client = cluster.client()
    client.create_bucket(Bucket="box")
    for key, size in KEPT.items():
        client.put_object(Bucket="box", Key=key, Body=Writers.body(key, size))


def read_all(cluster):
    for key, size in KEPT.items():
        status, _, body = cluster.bare().get("box", key)
        assert status == 200 and body == Writers.body(key, size), key


def in_trash(cluster):
    """How many shards each disk says that its trash holds."""
    nodes = cluster.status()[1]["nodes"]
    return [disk["trash_shards"] for node in nodes for disk in node["disks"]]


def test_what_a_killed_gateway_left_is_deleted(tmp_path):
    with with_orphans(tmp_path, 0) as cluster:
        fill(cluster)
        nodes = cluster.names("store")
        kept, whole = shards(cluster, nodes), nothing_is_left(cluster)
        kill_amid_a_put(cluster, "box")
        # Looked at again and again, they stay as long as the lease is open.
        found = walk(cluster)
        assert len(found["leased"]) >= 3 and not found["trashed"] and not found["unnamed"], found
        full = {name: written_blocks(disk) for name, disk in cluster.disks.items()}
        cluster.start([*nodes, "gateway-1"])
        cluster.ready()
        close_leases(cluster, gateway=1)

        # A node that starts again has forgotten what it had found once: no restarts meanwhile.
        wait_until("the shards are deleted", lambda: shards(cluster, nodes) == kept, 60)
        found = nothing_is_left(cluster)
        assert (found["shards"], found["bytes"]) == (whole["shards"], whole["bytes"])
        read_all(cluster)

        # The bytes of the whole segment. Those of the other one were given back when its stream
        # broke off.
        def given_back():
            now = {name: written_blocks(disk) for name, disk in cluster.disks.items()}
            assert all(full[name] - now[name] >= SEGMENT_BLOCKS * 0.95 for name in now), (full, now)
            return True
        wait_until("the space is given back", given_back, 60)


def test_the_trash_survives_restarts_and_is_not_deleted_early(week):
    kill_amid_a_put(week, "box")
    week.start(["gateway-1"])
    week.ready()
    close_leases(week, gateway=1)
    wait_until("every disk has them in its trash", lambda: all(in_trash(week)), 60)
    full = in_trash(week)
    _, status = week.status()
    assert any("in its trash" in note for note in status["notes"]), status["notes"]

    week.kill()
    week.start()
    week.ready()
    wait_until("the trash is what it was", lambda: in_trash(week) == full)
    found = walk(week)
    assert len(found["trashed"]) == sum(full), (found, full)
    assert not found["unnamed"] and not found["missing"], found


def test_after_a_restore_nothing_goes_to_the_trash_until_it_is_released(week):
    backup = week.directory / "backup"
    run("meta", "backup", "--config", week.operator, "--to", backup)
    late = Writers.body("late", 3 * MIB)
    week.client().put_object(Bucket="box", Key="late", Body=late)
    week.kill()
    directory = week.directory / "meta-1"
    shutil.rmtree(directory / "metadata")
    run("meta", "restore", "--config", directory / "node.toml", "--from", backup)
    week.start()
    week.ready()
    read_all(week)
    assert week.status()[1]["data"]["restored"] is True
    # The shards of what was written after the backup: no row names them, and no lease is open.
    rounds_pass(week)
    found = walk(week)
    assert len(found["unnamed"]) == 3 and not found["trashed"], found
    week.start(week.names("store"))
    week.ready()

    run("meta", "release-restore", "--config", week.operator)
    assert week.status()[1]["data"]["restored"] is False
    wait_until("every disk has them in its trash", lambda: in_trash(week) == [1, 1, 1], 60)


def rounds_pass(cluster):
    """Waits until every node has looked at all its shards three times more."""
    looked = {name: cluster.processes[name].text().count("looked for orphans")
              for name in cluster.names("store")}

    def again():
        return all(cluster.processes[name].text().count("looked for orphans") >= count + 3
                   for name, count in looked.items())
    wait_until("every node has looked three times more", again, 60)
