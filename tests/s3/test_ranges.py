"""Byte ranges: S3 serves one range per request, and ignores what it can't read."""

import random

import pytest

from harness.expect import MIB, content, read, refused, same

SIZE = 300_000
LONG = 70 * MIB

SERVED = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-9", 0, 10),
    ("bytes=65535-65536", 65_535, 65_537),
    ("bytes=65530-131080", 65_530, 131_081),
    ("bytes=262100-262200", 262_100, 262_201),
    ("bytes=299999-299999", 299_999, SIZE),
    ("bytes=299990-", 299_990, SIZE),
    ("bytes=0-", 0, SIZE),
    ("bytes=0-299999", 0, SIZE),
    ("bytes=10-99999999999", 10, SIZE),
    ("bytes=-1", SIZE - 1, SIZE),
    ("bytes=-70000", SIZE - 70_000, SIZE),
    ("bytes=-300000", 0, SIZE),
    ("bytes=-9999999", 0, SIZE),
]
BEYOND = ["bytes=300000-", "bytes=300000-300001", "bytes=9999999999-", "bytes=-0"]
IGNORED = ["bytes=0-1,5-6", "bytes=5-2", "bytes=abc", "items=0-5", "bytes=", "bytes=-", "0-5"]


@pytest.fixture(scope="module")
def stored(up):
    """A bucket with objects to read only: one of several cells, one of two segments, an empty."""
    s3, bucket = up.client(), up.bucket_name("ranges")
    s3.create_bucket(Bucket=bucket)
    sizes = {"cells": SIZE, "inline": 4_000, "copied": 100_000, "segments": LONG, "empty": 0}
    for key, size in sizes.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content(key, size))
    yield bucket
    for key in sizes:
        s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize(("wish", "first", "end"), SERVED)
def test_served(s3, stored, wish, first, end):
    answer = s3.get_object(Bucket=stored, Key="cells", Range=wish)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert answer["ContentLength"] == end - first
    same(answer["Body"].read(), content("cells", SIZE)[first:end])
    head = s3.head_object(Bucket=stored, Key="cells", Range=wish)
    assert head["ContentLength"] == end - first
    assert head["ContentRange"] == answer["ContentRange"]


@pytest.mark.parametrize("wish", BEYOND)
def test_beyond_the_end(s3, stored, wish):
    with refused(416, "InvalidRange"):
        s3.get_object(Bucket=stored, Key="cells", Range=wish)


@pytest.mark.parametrize("wish", ["bytes=0-0", "bytes=0-", "bytes=-5"])
def test_an_empty_object_has_no_range(s3, stored, wish):
    with refused(416, "InvalidRange"):
        s3.get_object(Bucket=stored, Key="empty", Range=wish)


@pytest.mark.parametrize("wish", IGNORED)
def test_what_is_no_single_range_gets_everything(raw, stored, wish):
    answer = raw.send("GET", f"/{stored}/cells", headers={"range": wish})
    assert answer.status == 200, answer.body[:500]
    assert "content-range" not in answer.headers
    same(answer.body, content("cells", SIZE))


@pytest.mark.parametrize(("key", "size"), [("inline", 4_000), ("copied", 100_000),
                                           ("cells", SIZE), ("segments", LONG)])
def test_random_ranges(s3, stored, key, size):
    rng = random.Random(f"ranges of {key}")
    body = content(key, size)
    edges = [64 * MIB - 1, 64 * MIB, 65_536, 4 * 65_536] if size == LONG else [65_536]
    for turn in range(40):
        first = rng.choice([rng.randrange(size), max(0, min(size - 1, rng.choice(edges) - 7))])
        last = min(size - 1, first + rng.choice([0, 13, 4_096, 65_536, 400_000]))
        wish = f"bytes={first}-{last}"
        got = read(s3, stored, key, Range=wish)
        assert got == body[first : last + 1], f"turn {turn}: {wish}: {len(got)} bytes"
