"""A disk that is not mounted for a while is no missing shard, and nothing is marked."""

from harness.cluster import Cluster, Writers
from harness.process import wait_until

MIB = 1 << 20
KEYS = 24


def test_disks_that_are_away_one_after_the_other_leave_no_mark(tmp_path):
    """Each of three nodes in turn starts without one of its disks, and everything is read.

    At most one disk is away at a time. If each left marks behind, objects would lack three of six
    shards in the end, and could not be read although every byte is there.
    """
    with Cluster(tmp_path, metadata=1, storage=6, gateways=1, disks=2) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="bucket")
        bodies = {f"key-{n}": Writers.body(f"key-{n}", MIB) for n in range(KEYS)}
        for key, body in bodies.items():
            client.put_object(Bucket="bucket", Key=key, Body=body)

        def read_all():
            for key, body in bodies.items():
                assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == body, key

        def restart(name):
            cluster.processes[name].stop()
            yield
            cluster.processes[name].start()
            wait_until(f"{name} is heard from again", cluster.all_heard, deadline_s=60)

        for name in cluster.names("store")[:3]:
            # The disk on which the open volumes have their slots of this node.
            disk = max(cluster.all_disks[name],
                       key=lambda path: sum(file.stat().st_blocks
                                            for file in path.rglob("*.chunk")))
            away = disk.with_name(disk.name + "-away")
            for _ in restart(name):
                disk.rename(away)
            for _ in range(2):
                read_all()
            for _ in restart(name):
                away.rename(disk)
            read_all()
        _, status = cluster.status()
        assert status["data"]["owed_segments"] == 0, status["data"]
        assert not any("could not be read" in line and "ERROR" in line
                       for process in cluster.processes.values()
                       for line in process.text().splitlines())
