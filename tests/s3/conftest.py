"""Fixtures of the S3 tests."""

import pytest


@pytest.fixture
def raw(up):
    """Requests by hand, with the first key."""
    return up.raw()


@pytest.fixture(scope="session")
def stranger_keys(up):
    """Keys of another account."""
    return up.new_account()


@pytest.fixture
def stranger(up, stranger_keys):
    """A client of another account."""
    return up.client(stranger_keys)


@pytest.fixture
def put(s3, bucket):
    """Stores an object in the test's bucket; returns the answer."""
    return lambda key, body=b"", **more: s3.put_object(Bucket=bucket, Key=key, Body=body, **more)
