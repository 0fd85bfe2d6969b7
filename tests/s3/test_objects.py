"""Objects: put, get, head, delete at sizes around every boundary; headers and metadata."""

import datetime
import email.header

import pytest

from harness.expect import MIB, absent, content, md5, refused, same

# Inline to copies at 4 KiB, one cell's plaintext at 64 KiB, copies to coded at 128 KiB, one
# stripe's plaintext of 4 data cells at 256 KiB.
SIZES = [0, 1, 4_095, 4_096, 4_097, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073,
         262_143, 262_144, 262_145, MIB - 1, MIB, MIB + 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1]
LONG = 70 * MIB  # two segments
METADATA_MAX = 2_048

HEADERS = {
    "ContentType": "text/plain; charset=utf-8",
    "CacheControl": "max-age=60, private",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
    "Expires": datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
}


def check_object(s3, bucket, key, body):
    """Head and get tell the same truth."""
    for answer in (s3.head_object(Bucket=bucket, Key=key), s3.get_object(Bucket=bucket, Key=key)):
        assert answer["ETag"] == f'"{md5(body)}"'
        assert answer["ContentLength"] == len(body)
        assert answer["AcceptRanges"] == "bytes"
        age = datetime.datetime.now(datetime.timezone.utc) - answer["LastModified"]
        assert abs(age) < datetime.timedelta(minutes=5)
        if "Body" in answer:
            same(answer["Body"].read(), body)


def test_an_empty_object_leaves_the_connection_as_it_was(up, bucket):
    """botocore waits to be asked for the body, even for none, and the server never asks."""
    client = up.client(read_timeout=10, max_pool_connections=1)
    for number in range(3):
        client.put_object(Bucket=bucket, Key="empty", Body=b"")
        answer = client.put_object(Bucket=bucket, Key="key", Body=b"x" * (number + 1))
        assert answer["ETag"] == f'"{md5(b"x" * (number + 1))}"'


@pytest.mark.parametrize("size", [*SIZES, LONG])
def test_round_trip(s3, bucket, put, size):
    body = content("round trip", size)
    assert put("key", body)["ETag"] == f'"{md5(body)}"'
    check_object(s3, bucket, "key", body)
    for first in {0, max(0, size // 2 - 1), max(0, size - 1)} if size else ():
        answer = s3.get_object(Bucket=bucket, Key="key", Range=f"bytes={first}-")
        same(answer["Body"].read(), body[first:])
    assert s3.delete_object(Bucket=bucket, Key="key")["ResponseMetadata"]["HTTPStatusCode"] == 204
    absent(s3, bucket, "key")
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="key")


@pytest.mark.parametrize("chain", [(0, 300_000, 10, 70_000, 0), (300_000, 300_000, 4_096)])
def test_the_last_write_wins_whatever_the_sizes(s3, bucket, put, chain):
    for turn, size in enumerate(chain):
        body = content(turn, size)
        put("key", body, Metadata={"turn": str(turn)})
        check_object(s3, bucket, "key", body)
        assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == {"turn": str(turn)}
    entries = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(entry["Key"], entry["Size"]) for entry in entries] == [("key", chain[-1])]


def test_last_modified_does_not_go_back(s3, bucket, put):
    put("key", b"1")
    first = s3.head_object(Bucket=bucket, Key="key")["LastModified"]
    put("key", b"2")
    assert s3.head_object(Bucket=bucket, Key="key")["LastModified"] >= first


def test_all_content_headers_come_back(s3, bucket, put):
    put("key", b"body", **HEADERS)
    for answer in (s3.head_object(Bucket=bucket, Key="key"),
                   s3.get_object(Bucket=bucket, Key="key")):
        assert {name: answer[name] for name in HEADERS} == HEADERS


def test_the_default_content_type(raw, s3, bucket):
    assert raw.send("PUT", f"/{bucket}/key", b"body").status == 200
    assert s3.head_object(Bucket=bucket, Key="key")["ContentType"] == "binary/octet-stream"


def test_overwriting_leaves_no_old_header(s3, bucket, put):
    put("key", b"body", Metadata={"old": "1"}, **HEADERS)
    put("key", b"body")
    answer = s3.head_object(Bucket=bucket, Key="key")
    assert answer["Metadata"] == {}
    assert [name for name in HEADERS if name != "ContentType" and name in answer] == []


def test_response_headers_can_be_overridden(s3, bucket, put):
    put("key", b"body", **HEADERS)
    wish = {
        "ContentType": "image/png",
        "CacheControl": "no-store",
        "ContentDisposition": "inline",
        "ContentEncoding": "identity",
        "ContentLanguage": "fr",
    }
    answer = s3.get_object(
        Bucket=bucket, Key="key", **{f"Response{name}": value for name, value in wish.items()})
    assert {name: answer[name] for name in wish} == wish
    assert s3.head_object(Bucket=bucket, Key="key")["ContentType"] == HEADERS["ContentType"]


def test_metadata_in_ascii(s3, bucket, put):
    metadata = {"plain": "value", "with-dash_and.dot": "a, b;  c=d", "empty": "", "n1": "0" * 500}
    put("key", b"body", Metadata=metadata)
    assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == metadata
    assert s3.get_object(Bucket=bucket, Key="key")["Metadata"] == metadata


def test_metadata_names_come_back_in_lower_case(raw, s3, bucket):
    headers = {"X-Amz-Meta-MiXed": "Value"}
    assert raw.send("PUT", f"/{bucket}/key", b"body", headers=headers).status == 200
    assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == {"mixed": "Value"}


@pytest.mark.parametrize("value", ["grüße", "日本語", "🗿 stone"])
def test_metadata_in_unicode(raw, bucket, value):
    """Raw UTF-8 goes in; it comes back as such or as RFC 2047, as in AWS."""
    sent = raw.send("PUT", f"/{bucket}/key", b"body", headers={"x-amz-meta-note": value})
    assert sent.status == 200, sent.body
    got = raw.send("HEAD", f"/{bucket}/key").headers["x-amz-meta-note"]
    got = got.encode("latin-1", "surrogateescape").decode()
    if got.startswith("=?"):
        text, charset = email.header.decode_header(got)[0]
        got = text.decode(charset)
    assert got == value


def test_metadata_up_to_two_kib(s3, bucket, put):
    """Names and values count; whether the prefix of the names does is left open."""
    one = {"k": "v" * (METADATA_MAX - 48)}
    # Python's own client takes no answer of more than 100 headers.
    many = {f"key-{i:03}": "v" * 20 for i in range(60)}
    for metadata in (one, many):
        put("key", b"body", Metadata=metadata)
        assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == metadata


@pytest.mark.parametrize(
    "metadata", [{"k": "v" * METADATA_MAX}, {f"key-{i:03}": "v" * 53 for i in range(40)}],
    ids=["one", "many"],
)
def test_more_metadata_is_refused(s3, bucket, put, metadata):
    with refused(400, "MetadataTooLarge"):
        put("key", b"body", Metadata=metadata)
    with refused(400, "MetadataTooLarge"):
        s3.create_multipart_upload(Bucket=bucket, Key="key", Metadata=metadata)
    absent(s3, bucket, "key")


def test_deleting_what_is_not_there_succeeds(s3, bucket):
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="never there")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def load(up, bucket, keys, body=b"x"):
    bare = up.bare()
    for key in keys:
        status, _, answer = bare.put(bucket, key, body)
        assert status == 200, answer


@pytest.mark.parametrize("quiet", [False, True])
def test_batch_delete_of_a_thousand(up, s3, bucket, quiet):
    there = [f"there-{i:03}" for i in range(600)]
    load(up, bucket, [*there, "kept"])
    named = there + [f"absent-{i:03}" for i in range(400)]
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in named], "Quiet": quiet})
    assert "Errors" not in answer
    deleted = sorted(entry["Key"] for entry in answer.get("Deleted", []))
    assert deleted == ([] if quiet else sorted(named))
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept"]


def test_batch_delete_of_more_is_refused_and_deletes_nothing(up, s3, bucket):
    load(up, bucket, ["k0", "k1"])
    with refused(400, "MalformedXML"):
        s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": f"k{i}"} for i in range(1_001)]})
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_batch_delete_takes_odd_and_repeated_keys(s3, bucket, put):
    keys = ["<&>\"'", "a  b", " lead", "trail ", "ä/ß", "tab\tkey", "a+b%20c"]
    for key in keys:
        put(key, b"x")
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, keys[0]]]})
    assert "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_get_under_way_survives_overwrite_and_delete(s3, bucket, put):
    """A reader gets one whole version, or an error: never a mix."""
    body = content("old", 20 * MIB)
    put("key", body)
    stream = s3.get_object(Bucket=bucket, Key="key")["Body"]
    got = stream.read(MIB)
    put("key", content("new", 20 * MIB))
    s3.delete_object(Bucket=bucket, Key="key")
    got += stream.read()
    same(got, body)
