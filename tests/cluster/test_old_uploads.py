"""An upload that nobody ends is ended by the cluster, by the group's time, and no sooner."""

from datetime import timedelta

import botocore.auth

from harness.cluster import Cluster
from harness.process import run, wait_until
from harness.wrong_clock import Clocks

DAY_S = 24 * 3600


def test_an_old_upload_is_ended_and_its_parts_go(tmp_path, monkeypatch):
    now, passed = botocore.auth.get_current_datetime, timedelta()
    monkeypatch.setattr(botocore.auth, "get_current_datetime",
                        lambda *args, **kwargs: now(*args, **kwargs) + passed)
    clocks = Clocks(tmp_path / "clocks")
    with Cluster(tmp_path / "cluster", metadata=1, storage=3, gateways=1,
                 process_env=clocks.env) as cluster:
        client = cluster.client(retries=3)
        client.create_bucket(Bucket="kept")

        def begin(key):
            upload = client.create_multipart_upload(Bucket="kept", Key=key)["UploadId"]
            for part in range(1, 13):
                client.upload_part(Bucket="kept", Key=key, UploadId=upload, PartNumber=part,
                                   Body=b"x" * 200_000)

        def uploads():
            listed = client.list_multipart_uploads(Bucket="kept").get("Uploads", [])
            return [upload["Key"] for upload in listed]

        def held():
            status = cluster.status()[1]
            return sum(volume["bytes"] for volume in status["volumes"])

        def later(days):
            # Everybody's clock at once, also that of signatures: it is the time that passes.
            nonlocal passed
            passed = timedelta(days=days)
            for name in cluster.processes:
                clocks.set(name, days * DAY_S)

        begin("old")
        assert held() > 12 * 200_000
        later(5)
        wait_until("the group's time has moved", lambda: begin("new") is None)
        shown = run("settings", "get", "--config", cluster.operator).stdout
        assert "upload_days=7 " in shown, shown
        later(8)
        wait_until("the old one has ended", lambda: uploads() == ["new"], 60)
        run("settings", "set", "upload_days=0", "--config", cluster.operator)
        later(30)
        wait_until("its parts are gone", lambda: held() < 13 * 200_000, 60)
        wait_until("the new one is still there", lambda: uploads() == ["new"])
        run("settings", "set", "upload_days=20", "--config", cluster.operator)
        wait_until("the other has ended", lambda: not uploads(), 60)
        wait_until("nothing is left", lambda: held() == 0, 60)
        refused = run("settings", "set", "upload_days=x", "--config", cluster.operator, check=False)
        assert refused.returncode == 1 and "whole number" in refused.stderr, refused.stderr
