"""All metadata members are lost; a backup that was made under writes brings the objects back.

Once from a directory, once from a bucket of another store, over https.
"""

import shutil

import pytest

from harness.cluster import Cluster, Writers
from harness.megalith_up import Up
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


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A bucket of another store, and the environment of a client of it."""
    with Up(tmp_path_factory.mktemp("elsewhere"), https=True) as store:
        store.client().create_bucket(Bucket="safe")
        access, secret = store.credentials
        yield store, {
            "AWS_ENDPOINT_URL": store.https_endpoint,
            "AWS_CA_BUNDLE": store.ca_file,
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(params=["directory", "bucket"])
def place(request, tmp_path):
    """Where a backup goes, and what is needed to reach it."""
    if request.param == "directory":
        return tmp_path / "backup", {}
    _, env = request.getfixturevalue("elsewhere")
    return "s3://safe/meta/one", env


def test_a_backup_restores_an_empty_metadata_group(cluster, place):
    place, env = place
    client = cluster.client(retries=3)
    client.create_bucket(Bucket="kept")
    keys = {f"before/{size}": size for size in SIZES}
    for key, size in keys.items():
        client.put_object(Bucket="kept", Key=key, Body=Writers.body(key, size))

    writers = Writers(cluster, "kept", threads=2)
    with writers:
        wait_until("writes are acknowledged", lambda: len(writers.acknowledged) > 5, 30)
        before = dict(writers.acknowledged)
        made = run("meta", "backup", "--config", cluster.operator, "--to", place, env=env)
    assert "records" in made.stdout, made.stdout
    again = run("meta", "backup", "--config", cluster.operator, "--to", place, env=env, check=False)
    assert again.returncode != 0 and "not empty" in again.stderr, again.stderr
    late = "after/the-backup"
    client.put_object(Bucket="kept", Key=late, Body=Writers.body(late, 300_000))

    cluster.kill()
    members = cluster.names("meta")
    for name in members:
        directory = cluster.directory / name
        shutil.rmtree(directory / "metadata")
        restored = run("meta", "restore", "--config", directory / "node.toml", "--from", place,
                       env=env)
        assert "is restored" in restored.stdout, restored.stdout
        again = run("meta", "restore", "--config", directory / "node.toml", "--from", place,
                    env=env, check=False)
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


def test_a_damaged_backup_in_a_bucket_restores_nothing(cluster, elsewhere):
    store, env = elsewhere
    cluster.client(retries=3).create_bucket(Bucket="kept")

    def backup(place, **changed):
        return run("meta", "backup", "--config", cluster.operator, "--to", place,
                   env={**env, **changed}, check=False)

    refused = backup("s3://safe/meta/one", AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode != 0 and "SignatureDoesNotMatch" in refused.stderr, refused.stderr
    missing = backup("s3://nowhere/meta/one")
    assert missing.returncode != 0 and "NoSuchBucket" in missing.stderr, missing.stderr
    assert backup("s3://safe/meta/one").returncode == 0

    client = store.client()
    rows = client.get_object(Bucket="safe", Key="meta/one/rows")["Body"].read()
    flipped = bytearray(rows)
    flipped[len(rows) // 2] ^= 1
    client.put_object(Bucket="safe", Key="meta/one/rows", Body=bytes(flipped))
    cluster.kill()
    directory = cluster.directory / "meta-1"
    shutil.rmtree(directory / "metadata")
    restore = ("meta", "restore", "--config", directory / "node.toml", "--from")
    damaged = run(*restore, "s3://safe/meta/one", env=env, check=False)
    assert damaged.returncode != 0 and "damaged" in damaged.stderr, damaged.stderr
    assert not (directory / "metadata").exists()
    cut_off = run(*restore, "s3://safe/meta", env=env, check=False)
    assert cut_off.returncode != 0 and "meta/rows" in cut_off.stderr, cut_off.stderr
    client.put_object(Bucket="safe", Key="meta/one/rows", Body=rows)
    assert "is restored" in run(*restore, "s3://safe/meta/one", env=env).stdout
