"""Fixtures that every test of the running product shares."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.megalith_up import Up  # noqa: E402


def pytest_configure():
    """A run that is told to end cleans up first, as for Ctrl-C: no process stays behind.

    SIGINT itself is no use for a run in the background: shells start those with it ignored."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def up(tmp_path_factory):
    """One `megalith up` for all tests that only need an S3 endpoint."""
    with Up(tmp_path_factory.mktemp("up"), https=True) as running:
        yield running


@pytest.fixture
def s3(up):
    """A boto3 client of that cluster."""
    return up.client()


@pytest.fixture
def bucket(up, s3, request):
    """A bucket of this test's own, emptied and removed afterwards."""
    name = up.bucket_name(request.node.name)
    s3.create_bucket(Bucket=name)
    yield name
    for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
    s3.delete_bucket(Bucket=name)
