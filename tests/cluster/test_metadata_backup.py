"""All metadata members are lost; a backup that was made under writes brings the objects back."""

import shutil

import pytest

from harness.cluster import Cluster, Writers
from harness.process import run, wait_until

SIZES = (0, 100, 4_096, 5_000, 70_000, 300_000, 3_000_000)


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster", storage=4, gateways=1) as running:
        yield running


def read(cluster, keys):
    client = cluster.client(retries=5)
    for key, size in keys.items():
        body = client.get_object(Bucket="kept", Key=key)["Body"].read()
        assert body == Writers.body(key, size), key


def test_a_backup_restores_an_empty_metadata_group(cluster, tmp_path):
    client = cluster.client(retries=3)
    client.create_bucket(Bucket="kept")
    keys = {f"before/{size}": size for size in SIZES}
    for key, size in keys.items():
        client.put_object(Bucket="kept", Key=key, Body=Writers.body(key, size))

    backup = tmp_path / "backup"
    writers = Writers(cluster, "kept", threads=2)
    with writers:
        wait_until("writes are acknowledged", lambda: len(writers.acknowledged) > 5, 30)
        before = dict(writers.acknowledged)
        made = run("meta", "backup", "--config", cluster.operator, "--to", backup)
    assert "records" in made.stdout, made.stdout
    late = "after/the-backup"
    client.put_object(Bucket="kept", Key=late, Body=Writers.body(late, 300_000))

    cluster.kill()
    members = cluster.names("meta")
    for name in members:
        directory = cluster.directory / name
        shutil.rmtree(directory / "metadata")
        restored = run("meta", "restore", "--config", directory / "node.toml", "--from", backup)
        assert "is restored" in restored.stdout, restored.stdout
        again = run("meta", "restore", "--config", directory / "node.toml", "--from", backup,
                    check=False)
        assert again.returncode != 0 and "not empty" in again.stderr, again.stderr
    cluster.start()
    cluster.ready()

    read(cluster, keys)
    read(cluster, before)
    client = cluster.client(retries=5)
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="kept", Key=late)
    fresh = {f"fresh/{size}": size for size in SIZES}
    for key, size in fresh.items():
        client.put_object(Bucket="kept", Key=key, Body=Writers.body(key, size))
    read(cluster, fresh)
    read(cluster, keys)

    leader = next(m["node"] for m in cluster.status()[1]["metadata"]["members"] if m["leader"])
    cluster.kill(f"meta-{leader}")
    read(cluster, keys)
