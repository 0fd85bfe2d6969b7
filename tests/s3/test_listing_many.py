"""Very many keys: pages through all of them, in order, at a steady cost per page."""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from harness.s3_clients import Bare

FULL = os.environ.get("MEGALITH_FULL") == "1"
COUNT = 100_000 if FULL else 5_000
FOLDERS = 50
LOADERS = 4


def key_of(number):
    """Spread over folders, so that each process writes into all of them."""
    return f"folder-{number % FOLDERS:03}/sub-{number // FOLDERS % 7}/key-{number:06}"


def load(port, keys, bucket, first):
    """Writes every LOADERS-th key from `first`."""
    bare = Bare("127.0.0.1", port, *keys)
    for number in range(first, COUNT, LOADERS):
        status, _, answer = bare.put(bucket, key_of(number), b"x")
        assert status == 200, answer


@pytest.fixture(scope="module")
def many(up):
    s3, bucket = up.client(), up.bucket_name("many")
    s3.create_bucket(Bucket=bucket)
    began = time.monotonic()
    with ProcessPoolExecutor(LOADERS) as pool:
        jobs = [pool.submit(load, up.port, up.credentials, bucket, first)
                for first in range(LOADERS)]
        for job in jobs:
            job.result()
    print(f"{COUNT} keys in {time.monotonic() - began:.1f} s")
    yield bucket
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def pages(s3, bucket, what, **query):
    """All pages; prints what the first and the last tenth of them took."""
    took, found, more = [], [], {}
    while True:
        began = time.perf_counter()
        page = s3.list_objects_v2(Bucket=bucket, **query, **more)
        took.append(1_000 * (time.perf_counter() - began))
        found.append(page)
        if not page["IsTruncated"]:
            break
        more = {"ContinuationToken": page["NextContinuationToken"]}
    tenth = max(1, len(took) // 10)
    first, last = statistics.median(took[:tenth]), statistics.median(took[-tenth:])
    print(f"{what}: {len(took)} pages, median ms: first tenth {first:.1f}, last tenth {last:.1f}")
    return found


def keys_in(found):
    return [entry["Key"] for page in found for entry in page.get("Contents", [])]


def prefixes_in(found):
    return [entry["Prefix"] for page in found for entry in page.get("CommonPrefixes", [])]


def test_all_keys_in_order(s3, many):
    found = pages(s3, many, "all")
    assert keys_in(found) == sorted(map(key_of, range(COUNT)))
    assert all(page["KeyCount"] == 1_000 for page in found[:-1])


def test_small_pages_of_one_folder(s3, many):
    expected = sorted(key_of(n) for n in range(COUNT) if n % FOLDERS == 17)
    found = pages(s3, many, "one folder, 10 a page", Prefix="folder-017/", MaxKeys=10)
    assert keys_in(found) == expected


def test_folders_only(s3, many):
    found = pages(s3, many, "folders", Delimiter="/")
    assert keys_in(found) == []
    assert prefixes_in(found) == [f"folder-{i:03}/" for i in range(FOLDERS)]
    found = pages(s3, many, "folders, 1 a page", Delimiter="/", MaxKeys=1)
    assert prefixes_in(found) == [f"folder-{i:03}/" for i in range(FOLDERS)]


def test_folders_of_a_folder(s3, many):
    found = pages(s3, many, "sub folders", Prefix="folder-003/", Delimiter="/", MaxKeys=2)
    assert prefixes_in(found) == [f"folder-003/sub-{i}/" for i in range(7)]


def test_the_end_is_found_as_fast_as_the_beginning(s3, many):
    ordered = sorted(map(key_of, range(COUNT)))
    found = pages(s3, many, "after the last but ten", StartAfter=ordered[-11])
    assert keys_in(found) == ordered[-10:]
