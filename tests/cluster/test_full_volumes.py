"""Volumes fill up and are closed while bodies are being written to them."""

from harness.cluster import Cluster
from harness.process import run
from harness.streams import MIB, Pattern, in_parallel

VOLUME = 8 * MIB
WRITERS = 4
ROUNDS = 4
# Longer than a volume, and of more than one segment.
SIZE = 40 * MIB


def test_bodies_outlive_the_volumes_that_they_began_on(tmp_path):
    with Cluster(tmp_path, gateways=1) as cluster:
        run("settings", "set", f"volume_bytes={VOLUME}", "--config", cluster.operator)
        cluster.client().create_bucket(Bucket="full")

        def upload(writer):
            client = cluster.client(request_checksum_calculation="when_required", retries=1)
            for number in range(ROUNDS):
                body = Pattern(f"{writer}/{number}", SIZE)
                client.put_object(Bucket="full", Key=f"{writer}/{number}", Body=body,
                                  ContentLength=SIZE)

        def download(writer):
            for number in range(ROUNDS):
                expected = Pattern(f"{writer}/{number}", SIZE)
                got = cluster.client().get_object(Bucket="full", Key=f"{writer}/{number}")["Body"]
                while piece := got.read(MIB):
                    assert piece == expected.read(len(piece)), (writer, number)
                assert expected.tell() == SIZE

        in_parallel(WRITERS, upload)
        _, status = cluster.status()
        closed = [volume for volume in status["volumes"] if volume["state"] == "closed"]
        assert len(closed) >= 2, status["volumes"]
        in_parallel(WRITERS, download)
