"""What tests expect of boto3's answers, and bytes to compare."""

import contextlib
import functools
import hashlib
import random

import pytest
from botocore.exceptions import ClientError

KIB = 1 << 10
MIB = 1 << 20
PART = 5 * MIB


@contextlib.contextmanager
def refused(status, *codes):
    """The block must fail with this error. HEAD answers have no body: their code is the status."""
    with pytest.raises(ClientError) as caught:
        yield caught
    answer = caught.value.response
    got = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
    assert got[0] == status, got
    assert got[1] in (codes or (str(status),)), got


@functools.lru_cache(maxsize=32)
def content(seed, size):
    """Bytes that differ for every seed and every position."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def md5(data):
    return hashlib.md5(data).hexdigest()


def read(s3, bucket, key, **wish):
    return s3.get_object(Bucket=bucket, Key=key, **wish)["Body"].read()


def same(got, expected):
    """Compares without printing megabytes."""
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), None)
        raise AssertionError(f"{len(got)} bytes for {len(expected)}, first difference at {at}")


def absent(s3, bucket, key):
    with refused(404, "404"):
        s3.head_object(Bucket=bucket, Key=key)
    return True
