"""Every denied request leaves a line in the gateway's log at its default level, or is counted."""

import http.client
import re
import time

import pytest
from botocore.exceptions import ClientError

from harness import s3_clients
from harness.cluster import Cluster
from harness.process import wait_until


def test_a_denied_request_is_logged_with_who_where_what_and_why(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1) as cluster:
        cluster.client().create_bucket(Bucket="bucket")
        key, secret = cluster.keys
        endpoint = f"http://127.0.0.1:{cluster.gateway_ports['gateway-1']}"

        def lines():
            text = cluster.processes["gateway-1"].text()
            return [line for line in text.splitlines() if "denied" in line]

        before = len(lines())
        for number, (access, with_secret, reason) in enumerate([
            (key, "not" + secret, "SignatureDoesNotMatch"),
            ("AKIANOBODYATALL00000", secret, "InvalidAccessKeyId"),
        ], 1):
            stranger = s3_clients.client(endpoint, access, with_secret)
            with pytest.raises(ClientError):
                stranger.get_object(Bucket="bucket", Key="private-name")
            wait_until("it is logged", lambda n=number: len(lines()) == before + n, deadline_s=5)
            line = lines()[-1]
            for part in (access, "127.0.0.1", "bucket", "GetObject", reason):
                assert part in line, (part, line)
            assert "private-name" not in line and with_secret not in line


BURST = 1000
LINES_PER_SECOND_MAX = 100


def test_of_a_burst_of_denials_each_is_logged_or_counted_and_the_count_is_said(tmp_path):
    with Cluster(tmp_path, metadata=1, storage=3, gateways=1) as cluster:
        def text():
            return cluster.processes["gateway-1"].text()

        def noted():
            lines = len(re.findall(r"reason=.?AccessDenied", text()))
            counts = re.findall(r"denied than are logged.*left_out=(\d+)", text())
            return lines, sum(map(int, counts))

        assert noted() == (0, 0)
        began = time.monotonic()
        stranger = http.client.HTTPConnection("127.0.0.1", cluster.gateway_ports["gateway-1"])
        for _ in range(BURST):
            stranger.request("GET", "/bucket/private-name")
            answer = stranger.getresponse()
            assert answer.status == 403
            answer.read()
        # Nobody is denied after these, and yet none is left out of the count.
        wait_until("all are noted", lambda: sum(noted()) == BURST, deadline_s=10)
        assert "private-name" not in text()
        lines, _ = noted()
        assert lines <= LINES_PER_SECOND_MAX * (time.monotonic() - began + 1)
