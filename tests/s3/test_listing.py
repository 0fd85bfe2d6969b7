"""ListObjects v1 and v2 against a plain model."""

import os
import random

import pytest

from harness.expect import md5

KEYS = [
    "a", "a/", "a/1", "a/2/x", "a/2/y", "a/3", "a0", "b//c", "b/c", "c", "d--e", "d--f--g", "d-h",
    "e x/1", "e+x/1", "ü/1", "ü/2", "\uff5e", "\U0001f5ff/1", "\U0001f5ff/2", "z" * 1_000,
]


def order(key):
    """S3 orders by the bytes of UTF-8."""
    return key.encode()


def model(keys, prefix="", delimiter="", after=""):
    """What is listed in all, in order: (key, False) or (common prefix, True)."""
    rows = []
    for key in sorted(keys, key=order):
        if not key.startswith(prefix) or order(key) <= order(after):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        row = (key, False) if at < 0 else (key[: at + len(delimiter)], True)
        if not rows or rows[-1] != row:
            rows.append(row)
    return rows


def rows_of(page):
    """Keys and common prefixes of one page, merged; each list must be in order by itself."""
    keys = [entry["Key"] for entry in page.get("Contents", [])]
    prefixes = [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    assert keys == sorted(keys, key=order)
    assert prefixes == sorted(prefixes, key=order)
    rows = [(key, False) for key in keys] + [(prefix, True) for prefix in prefixes]
    return sorted(rows, key=lambda row: order(row[0]))


def pages_v2(s3, bucket, size, **query):
    """All rows, page by page, checking what every page promises."""
    rows, more = [], {}
    while True:
        page = s3.list_objects_v2(Bucket=bucket, MaxKeys=size, **query, **more)
        got = rows_of(page)
        assert page["KeyCount"] == len(got)
        assert page["MaxKeys"] == size
        rows += got
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            return rows
        assert len(got) == size
        more = {"ContinuationToken": page["NextContinuationToken"]}


def pages_v1(s3, bucket, size, **query):
    rows = []
    query = dict(query)
    while True:
        page = s3.list_objects(Bucket=bucket, MaxKeys=size, **query)
        got = rows_of(page)
        rows += got
        if not page["IsTruncated"]:
            return rows
        assert len(got) == size
        if query.get("Delimiter"):
            assert page["NextMarker"] == got[-1][0]
        query["Marker"] = got[-1][0]


@pytest.fixture(scope="module")
def filled(up):
    """A bucket with KEYS, to read only."""
    yield from bucket_with(up, "listing", KEYS)


def bucket_with(up, name, keys):
    s3, bucket, bare = up.client(), up.bucket_name(name), up.bare()
    s3.create_bucket(Bucket=bucket)
    for key in keys:
        status, _, answer = bare.put(bucket, key, key.encode())
        assert status == 200, answer
    yield bucket
    bare = up.bare()  # the other connection has been idle for long
    for key in keys:
        bare.request("DELETE", f"/{bucket}/{key}")
    s3.delete_bucket(Bucket=bucket)


QUERIES = [
    {}, {"Prefix": "a"}, {"Prefix": "a/"}, {"Prefix": "a/2/"}, {"Prefix": "a/2/x"},
    {"Prefix": "nothing"}, {"Delimiter": "/"}, {"Delimiter": "--"}, {"Delimiter": "//"},
    {"Delimiter": "ü"}, {"Delimiter": "never"}, {"Prefix": "a/", "Delimiter": "/"},
    {"Prefix": "a", "Delimiter": "/"}, {"Prefix": "d--", "Delimiter": "--"},
    {"Prefix": "a/2/", "Delimiter": "2"}, {"Prefix": "e x/", "Delimiter": "/"},
    {"Prefix": "\U0001f5ff", "Delimiter": "/"}, {"Prefix": "b/", "Delimiter": "/"},
]


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
@pytest.mark.parametrize("query", QUERIES, ids=ascii)
@pytest.mark.parametrize("pages", [pages_v1, pages_v2])
def test_pages_follow_the_model(s3, filled, pages, query, size):
    expected = model(KEYS, query.get("Prefix", ""), query.get("Delimiter", ""))
    assert pages(s3, filled, size, **query) == expected


@pytest.mark.parametrize("after", ["", "a", "a/", "a/2/x", "a/2/xx", "c", "\uff5e", "zz", "0"])
def test_starting_after(s3, filled, after):
    expected = model(KEYS, after=after)
    assert pages_v2(s3, filled, 2, StartAfter=after) == expected
    assert pages_v1(s3, filled, 2, Marker=after) == expected


def test_starting_after_with_prefix(s3, filled):
    expected = model(KEYS, prefix="a/", after="a/2/x")
    assert pages_v2(s3, filled, 2, Prefix="a/", StartAfter="a/2/x") == expected
    # A marker before the prefix: all of it. After it: nothing.
    assert pages_v2(s3, filled, 2, Prefix="b", StartAfter="a") == model(KEYS, prefix="b")
    assert pages_v2(s3, filled, 2, Prefix="a", StartAfter="b") == []


def test_a_token_wins_over_start_after(s3, filled):
    first = s3.list_objects_v2(Bucket=filled, MaxKeys=3, StartAfter="a")
    second = s3.list_objects_v2(Bucket=filled, MaxKeys=3, StartAfter="a",
                                ContinuationToken=first["NextContinuationToken"])
    assert rows_of(second) == model(KEYS, after="a")[3:6]
    assert second["ContinuationToken"] == first["NextContinuationToken"]


def test_common_prefixes_count_against_max_keys(s3, filled):
    page = s3.list_objects_v2(Bucket=filled, Delimiter="/", MaxKeys=2)
    assert rows_of(page) == [("a", False), ("a/", True)]
    assert page["KeyCount"] == 2 and page["IsTruncated"]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_max_keys_zero_lists_nothing(s3, filled, version):
    page = getattr(s3, version)(Bucket=filled, MaxKeys=0)
    assert rows_of(page) == []
    assert page["IsTruncated"] is False
    assert page["MaxKeys"] == 0


@pytest.mark.parametrize("version", [{}, {"list-type": "2"}])
@pytest.mark.parametrize("text", ["-1", "abc", "1.5", "99999999999999999999"])
def test_max_keys_that_is_no_number_is_refused(raw, filled, version, text):
    answer = raw.send("GET", f"/{filled}", query={**version, "max-keys": text})
    answer.refuses(400, "InvalidArgument")


def test_a_page_has_at_most_a_thousand(up, s3):
    keys = [f"k{i:04}" for i in range(1_001)]
    for bucket in bucket_with(up, "a-thousand", keys):
        for wish in ({}, {"MaxKeys": 1_000}, {"MaxKeys": 1_001}, {"MaxKeys": 5_000}):
            page = s3.list_objects_v2(Bucket=bucket, **wish)
            assert [entry["Key"] for entry in page["Contents"]] == keys[:1_000]
            assert page["MaxKeys"] == 1_000
            assert page["IsTruncated"]
            page = s3.list_objects_v2(
                Bucket=bucket, ContinuationToken=page["NextContinuationToken"], **wish)
            assert [entry["Key"] for entry in page["Contents"]] == keys[1_000:]
            assert not page["IsTruncated"]
        page = s3.list_objects_v2(Bucket=bucket, Prefix="k0")
        assert page["KeyCount"] == 1_000 and not page["IsTruncated"]


@pytest.mark.parametrize("token", ["garbage", "AAAA", "a/2/x", "%00", "ä", "x" * 3_000, ""])
def test_a_garbage_token_is_refused(raw, filled, token):
    answer = raw.send("GET", f"/{filled}", query={"list-type": "2", "continuation-token": token})
    answer.refuses(400, "InvalidArgument")


def test_a_changed_token_is_refused_or_harmless(s3, raw, filled):
    token = s3.list_objects_v2(Bucket=filled, MaxKeys=3)["NextContinuationToken"]
    for at in range(0, len(token), 3):
        bent = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        answer = raw.send("GET", f"/{filled}", query={"list-type": "2", "continuation-token": bent})
        assert answer.status in (200, 400), answer.body


def test_an_unknown_encoding_type_is_refused(raw, filled):
    for version in ({}, {"list-type": "2"}):
        answer = raw.send("GET", f"/{filled}", query={**version, "encoding-type": "base64"})
        answer.refuses(400, "InvalidArgument")


def test_encoding_type_url(raw, filled):
    plain = raw.send("GET", f"/{filled}", query={"list-type": "2", "prefix": "e "}).body
    assert b"<Key>e x/1</Key>" in plain and b"EncodingType" not in plain
    query = {"list-type": "2", "encoding-type": "url", "prefix": "e", "delimiter": "/"}
    coded = raw.send("GET", f"/{filled}", query=query).body
    assert b"<EncodingType>url</EncodingType>" in coded
    assert b"<Prefix>e+x/</Prefix>" in coded or b"<Prefix>e%20x/</Prefix>" in coded
    assert b"<Prefix>e%2Bx/</Prefix>" in coded
    coded = raw.send("GET", f"/{filled}", query={**query, "prefix": "ü/"}).body
    assert b"<Key>%C3%BC/1</Key>" in coded
    assert b"<Prefix>%C3%BC/</Prefix>" in coded


def test_requests_are_echoed(s3, filled):
    page = s3.list_objects_v2(
        Bucket=filled, Prefix="a", Delimiter="/", StartAfter="a0", MaxKeys=7)
    wanted = {"Name": filled, "Prefix": "a", "Delimiter": "/", "StartAfter": "a0", "MaxKeys": 7}
    assert {name: page[name] for name in wanted} == wanted
    page = s3.list_objects(Bucket=filled, Prefix="a", Delimiter="/", Marker="a0", MaxKeys=7)
    wanted = {"Name": filled, "Prefix": "a", "Delimiter": "/", "Marker": "a0", "MaxKeys": 7}
    assert {name: page[name] for name in wanted} == wanted


def test_the_owner_is_there_in_v1_and_on_demand_in_v2(s3, filled):
    owner = s3.list_buckets()["Owner"]["ID"]
    for entry in s3.list_objects(Bucket=filled)["Contents"]:
        assert entry["Owner"]["ID"] == owner
    for entry in s3.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"]:
        assert entry["Owner"]["ID"] == owner
    for entry in s3.list_objects_v2(Bucket=filled)["Contents"]:
        assert "Owner" not in entry


def test_entries_tell_the_same_as_head(s3, filled):
    for entry in s3.list_objects_v2(Bucket=filled)["Contents"]:
        head = s3.head_object(Bucket=filled, Key=entry["Key"])
        assert entry["ETag"] == head["ETag"] == f'"{md5(entry["Key"].encode())}"'
        assert entry["Size"] == head["ContentLength"] == len(entry["Key"].encode())
        assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
        assert entry["StorageClass"] == "STANDARD"


def test_an_empty_bucket_lists_nothing(s3, bucket):
    for pages in (pages_v1, pages_v2):
        for query in QUERIES:
            assert pages(s3, bucket, 10, **query) == []


def test_a_write_is_listed_at_once(s3, bucket, put):
    for i in range(30):
        put(f"k{i:02}", b"x")
        page = s3.list_objects_v2(Bucket=bucket)
        assert [entry["Key"] for entry in page["Contents"]] == [f"k{j:02}" for j in range(i + 1)]
    for i in range(30):
        s3.delete_object(Bucket=bucket, Key=f"k{i:02}")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 29 - i


def test_keys_deleted_between_pages_disturb_no_others(s3, bucket, put):
    keys = [f"k{i:02}" for i in range(20)]
    for key in keys:
        put(key, b"x")
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5)
    for key in keys[3:8]:
        s3.delete_object(Bucket=bucket, Key=key)
    put("k00a", b"x")
    put("k09a", b"x")
    page = s3.list_objects_v2(Bucket=bucket, ContinuationToken=page["NextContinuationToken"])
    assert [entry["Key"] for entry in page["Contents"]] == ["k08", "k09", "k09a", *keys[10:]]


def test_random_keys_and_queries_follow_the_model(up, s3):
    seed = int(os.environ.get("MEGALITH_SEED", random.randrange(1 << 32)))
    print(f"MEGALITH_SEED={seed}")
    rng = random.Random(seed)

    def text(longest):
        return "".join(rng.choice("ab/-.é日") for _ in range(rng.randrange(longest + 1)))

    keys = sorted({text(8) for _ in range(250)} - {""}, key=order)
    for bucket in bucket_with(up, "random-keys", keys):
        for _ in range(150):
            query = {"Prefix": text(3), "Delimiter": rng.choice(["", "/", "-", "ab", "é", "//"])}
            size = rng.choice([1, 2, 3, 7, 50, 1_000])
            expected = model(keys, query["Prefix"], query["Delimiter"])
            for pages in (pages_v1, pages_v2):
                got = pages(s3, bucket, size, **query)
                assert got == expected, f"seed {seed}: {pages.__name__} {query} by {size}"
            after = rng.choice([rng.choice(keys), text(5)])
            expected = model(keys, query["Prefix"], after=after)
            got = pages_v2(s3, bucket, size, Prefix=query["Prefix"], StartAfter=after)
            assert got == expected, f"seed {seed}: {query['Prefix']!r} after {after!r} by {size}"
