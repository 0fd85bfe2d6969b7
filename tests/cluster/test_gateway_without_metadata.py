"""A gateway that the metadata doesn't answer isn't ready, and tells clients so at once."""

import time
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from harness.cluster import Cluster, Writers
from harness.process import wait_until

# A gateway gives up on the metadata after 5 s.
NOTICED_S = 10
AT_ONCE_S = 1
REASON = "no leader of the metadata group has answered"


def health(cluster):
    url = f"http://127.0.0.1:{cluster.health_ports['gateway-1']}/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_metadata_it_is_not_ready_and_refuses_at_once_until_it_is_back(tmp_path, how):
    with Cluster(tmp_path, metadata=3, storage=3, gateways=1) as cluster:
        client = cluster.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="k", Body=Writers.body("k", 100_000))
        assert health(cluster) == (200, "ready\n")
        members = [cluster.processes[name] for name in cluster.names("meta")]
        for member in members:
            member.kill() if how == "killed" else member.pause()
        wait_until("it is not ready", lambda: health(cluster)[0] == 503, deadline_s=NOTICED_S)
        assert REASON in health(cluster)[1]

        for call in (lambda: client.get_object(Bucket="bucket", Key="k"),
                     lambda: client.put_object(Bucket="bucket", Key="n", Body=b"n" * 100),
                     lambda: client.put_object(Bucket="bucket", Key="n", Body=b"n" * 100_000)):
            began = time.monotonic()
            with pytest.raises(ClientError) as refused:
                call()
            taken = time.monotonic() - began
            response = refused.value.response
            assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert "metadata does not answer" in response["Error"]["Message"], response
            assert taken < AT_ONCE_S, taken

        for member in members:
            member.start() if how == "killed" else member.resume()
        wait_until("it is ready again", lambda: health(cluster) == (200, "ready\n"), deadline_s=60)
        body = client.get_object(Bucket="bucket", Key="k")["Body"].read()
        assert body == Writers.body("k", 100_000)
        client.put_object(Bucket="bucket", Key="n", Body=b"n" * 100)
