"""`megalith key check`: is the root key in the safe the one that opens this cluster?"""

import json

from harness.cluster import Cluster
from harness.process import run


def test_the_copy_in_the_safe_is_proven_and_another_is_told_apart(tmp_path):
    with Cluster(tmp_path / "one", metadata=1, storage=1, gateways=1) as cluster:
        safe = tmp_path / "safe.key"
        safe.write_text(cluster.root_key.read_text())
        safe.chmod(0o600)
        at = ["--config", cluster.operator]

        done = run("key", "check", "--root-key-file", safe, "-o", "json", *at)
        assert json.loads(done.stdout) == {"opens": True, "kek_versions": [1], "access_keys": 1}
        assert f"{cluster.root_key} opens this cluster" in run("key", "check", *at).stdout

        safe.write_text("ab" * 16 + "cd" * 16)
        done = run("key", "check", "--root-key-file", safe, *at, check=False)
        assert done.returncode == 1
        assert f"root key {safe}: it is not this cluster's root key" in done.stderr, done.stderr
        assert done.stdout == ""
        # The cluster is as it was.
        assert cluster.client().list_buckets()["Buckets"] == []
