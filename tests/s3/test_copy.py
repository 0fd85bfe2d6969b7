"""Copies: metadata, conditions, and that no byte is moved."""

import datetime

import pytest

from harness.expect import MIB, absent, content, md5, read, refused, same

HOUR = datetime.timedelta(hours=1)
OTHER = f'"{md5(b"something else")}"'


def source(bucket, key="source"):
    return {"Bucket": bucket, "Key": key}


def stored_bytes(up):
    """Bytes on all disks."""
    return sum(
        path.stat().st_blocks * 512
        for disk in up.disk_dirs() for path in disk.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("size", [0, 1, 4_096, 100_000, 300_000, 6 * MIB])
def test_a_copy_lives_on_its_own(s3, bucket, put, size):
    body = content("source", size)
    put("source", body)
    answer = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket))
    assert answer["CopyObjectResult"]["ETag"] == f'"{md5(body)}"'
    assert answer["CopyObjectResult"]["LastModified"]
    put("source", b"overwritten")
    same(read(s3, bucket, "copy"), body)
    s3.delete_object(Bucket=bucket, Key="source")
    same(read(s3, bucket, "copy"), body)
    s3.copy_object(Bucket=bucket, Key="second", CopySource=source(bucket, "copy"))
    s3.delete_object(Bucket=bucket, Key="copy")
    same(read(s3, bucket, "second"), body)


def test_copy_keeps_metadata(s3, bucket, put):
    put("source", b"body", Metadata={"a": "1"}, ContentType="text/x", CacheControl="no-store")
    # New metadata without REPLACE is ignored.
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket), Metadata={"b": "2"})
    answer = s3.head_object(Bucket=bucket, Key="copy")
    assert answer["Metadata"] == {"a": "1"}
    assert (answer["ContentType"], answer["CacheControl"]) == ("text/x", "no-store")


def test_replace_takes_only_new_metadata(s3, bucket, put):
    put("source", b"body", Metadata={"a": "1"}, ContentType="text/x", CacheControl="no-store")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket), Metadata={"b": "2"},
                   MetadataDirective="REPLACE", ContentType="text/y")
    answer = s3.head_object(Bucket=bucket, Key="copy")
    assert answer["Metadata"] == {"b": "2"}
    assert answer["ContentType"] == "text/y"
    assert "CacheControl" not in answer


def test_copy_to_itself_must_change_something(s3, bucket, put):
    body = content("itself", 300_000)
    put("key", body, Metadata={"a": "1"})
    with refused(400, "InvalidRequest"):
        s3.copy_object(Bucket=bucket, Key="key", CopySource=source(bucket, "key"))
    s3.copy_object(Bucket=bucket, Key="key", CopySource=source(bucket, "key"),
                   Metadata={"a": "2"}, MetadataDirective="REPLACE")
    same(read(s3, bucket, "key"), body)
    assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == {"a": "2"}


def test_copy_to_another_bucket(up, s3, bucket, put):
    body = content("other bucket", 300_000)
    put("source", body)
    other = up.bucket_name("copy-target")
    s3.create_bucket(Bucket=other)
    s3.copy_object(Bucket=other, Key="a/copy", CopySource=source(bucket))
    same(read(s3, other, "a/copy"), body)
    s3.delete_object(Bucket=bucket, Key="source")
    same(read(s3, other, "a/copy"), body)
    s3.delete_object(Bucket=other, Key="a/copy")
    s3.delete_bucket(Bucket=other)


@pytest.mark.parametrize("key", ["a b+c", "ü/ß", "100%", "x?y=z", "a#b", "日本"])
def test_source_keys_are_decoded(s3, bucket, put, key):
    put(key, key.encode())
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket, key))
    assert read(s3, bucket, "copy") == key.encode()


@pytest.mark.parametrize("form", ["{0}/source", "/{0}/source", "{0}%2Fsource", "/{0}/%73ource"])
def test_forms_of_the_source_header(raw, s3, bucket, put, form):
    put("source", b"body")
    answer = raw.send("PUT", f"/{bucket}/copy",
                      headers={"x-amz-copy-source": form.format(bucket)})
    assert answer.status == 200, answer.body
    assert read(s3, bucket, "copy") == b"body"


@pytest.mark.parametrize("form", ["", "/", "{0}", "/{0}/", "source"])
def test_a_malformed_source_is_refused(raw, s3, bucket, put, form):
    put("source", b"body")
    answer = raw.send("PUT", f"/{bucket}/copy",
                      headers={"x-amz-copy-source": form.format(bucket)})
    answer.refuses(400, "InvalidArgument", "InvalidRequest")
    absent(s3, bucket, "copy")


def test_absent_sources(s3, bucket):
    with refused(404, "NoSuchKey"):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket, "absent"))
    with refused(404, "NoSuchBucket"):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(f"no-{bucket}"[:63]))
    absent(s3, bucket, "copy")


CONDITIONS = [
    ({"CopySourceIfMatch": "etag"}, True),
    ({"CopySourceIfMatch": OTHER}, False),
    ({"CopySourceIfNoneMatch": OTHER}, True),
    ({"CopySourceIfNoneMatch": "etag"}, False),
    ({"CopySourceIfModifiedSince": -HOUR}, True),
    ({"CopySourceIfModifiedSince": 0 * HOUR}, False),
    ({"CopySourceIfUnmodifiedSince": 0 * HOUR}, True),
    ({"CopySourceIfUnmodifiedSince": -HOUR}, False),
    ({"CopySourceIfMatch": "etag", "CopySourceIfUnmodifiedSince": -HOUR}, True),
    ({"CopySourceIfNoneMatch": "etag", "CopySourceIfModifiedSince": -HOUR}, False),
]


@pytest.mark.parametrize(("conditions", "passes"), CONDITIONS,
                         ids=[" ".join(c) + f" {p}" for c, p in CONDITIONS])
def test_conditions_of_the_source(s3, bucket, put, conditions, passes):
    etag = put("source", b"body")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="source")["LastModified"]
    wish = {
        name: modified + value if isinstance(value, datetime.timedelta)
        else etag if value == "etag" else value
        for name, value in conditions.items()
    }
    if passes:
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket), **wish)
        assert read(s3, bucket, "copy") == b"body"
        return
    with refused(412, "PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket), **wish)
    absent(s3, bucket, "copy")


def test_copies_of_a_big_object_take_no_space(up, s3, bucket, put):
    body = content("big", 70 * MIB)
    put("source", body)
    before = stored_bytes(up)
    for i in range(20):
        s3.copy_object(Bucket=bucket, Key=f"copy-{i}", CopySource=source(bucket))
    # Moved bytes would be 2,100 MiB with parity; files may grow in steps.
    assert stored_bytes(up) - before < 400 * MIB
    s3.delete_object(Bucket=bucket, Key="source")
    same(read(s3, bucket, "copy-0"), body)
    same(read(s3, bucket, "copy-19"), body)
