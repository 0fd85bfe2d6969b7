"""Buckets: names, owners, and what a stranger may do with them (nothing)."""

import datetime
import uuid

import pytest
from botocore.exceptions import ClientError

from harness.expect import read, refused
from harness.process import wait_until

VALID = ["abc", "a" * 63, "0123", "a-b.c-d", "1a.2b.3c", "a--b", "1.2.3.4.5", "256.a.1.1"]
INVALID = ["ab", "a" * 64, "Upper", "under_score", "-start", "end-", ".start", "end.",
           "two..dots", "192.168.1.1", "xn--foo", "sthree-foo", "foo-s3alias", "foo--ol-s3",
           "spa ce", "perc%ent", "ünicode", "new\nline", "nul\0byte", "semi;colon", "plus+plus"]
WITHIN_S = 5


def unique(name):
    """Makes the name unique, keeping its form, if its length allows that."""
    return name if len(name) in (3, 63) else f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("name", VALID)
def test_valid_names_are_accepted(s3, name):
    name = unique(name)
    assert s3.create_bucket(Bucket=name)["Location"] == f"/{name}"
    try:
        assert name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
        s3.put_object(Bucket=name, Key="key", Body=b"body")
        assert read(s3, name, "key") == b"body"
        s3.delete_object(Bucket=name, Key="key")
    finally:
        s3.delete_bucket(Bucket=name)


@pytest.mark.parametrize("name", INVALID)
def test_invalid_names_are_refused(s3, raw, name):
    raw.send("PUT", f"/{name}").refuses(400, "InvalidBucketName")
    assert name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_creating_ones_own_bucket_again_changes_nothing(s3, bucket, put):
    put("kept", b"body")
    s3.create_bucket(Bucket=bucket)  # S3's first region answers 200, the others 409
    assert read(s3, bucket, "kept") == b"body"


def test_creating_somebody_elses_bucket_is_refused(s3, bucket, stranger):
    with refused(409, "BucketAlreadyExists"):
        stranger.create_bucket(Bucket=bucket)
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_name_is_free_again_after_its_bucket_is_deleted(up, s3, stranger):
    name = up.bucket_name("reused")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="old", Body=b"old")
    s3.delete_object(Bucket=name, Key="old")
    s3.delete_bucket(Bucket=name)
    stranger.create_bucket(Bucket=name)
    assert stranger.list_objects_v2(Bucket=name)["KeyCount"] == 0
    with refused(403):
        s3.head_bucket(Bucket=name)
    stranger.delete_bucket(Bucket=name)


def test_head(s3, bucket, stranger):
    answer = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]
    assert answer["HTTPStatusCode"] == 200
    assert answer["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"
    with refused(404):
        s3.head_bucket(Bucket=f"missing-{uuid.uuid4()}")
    with refused(403):
        stranger.head_bucket(Bucket=bucket)


def test_location_of_the_first_region_is_empty(s3, bucket):
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def test_list_shows_only_ones_own_in_order(up, s3, bucket, stranger):
    name = up.bucket_name("of-the-stranger")
    stranger.create_bucket(Bucket=name)
    mine, theirs = s3.list_buckets(), stranger.list_buckets()
    names = [entry["Name"] for entry in mine["Buckets"]]
    assert names == sorted(names)
    assert bucket in names and name not in names
    assert [entry["Name"] for entry in theirs["Buckets"]] == [name]
    assert mine["Owner"]["ID"] and mine["Owner"]["ID"] != theirs["Owner"]["ID"]
    created = theirs["Buckets"][0]["CreationDate"]
    age = datetime.datetime.now(datetime.timezone.utc) - created
    assert abs(age) < datetime.timedelta(minutes=5)
    stranger.delete_bucket(Bucket=name)
    assert stranger.list_buckets()["Buckets"] == []


def test_only_an_empty_bucket_can_be_deleted(up, s3):
    name = up.bucket_name("deleted")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="key", Body=b"body")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=name)
    assert read(s3, name, "key") == b"body"
    s3.delete_object(Bucket=name, Key="key")
    answer = s3.delete_bucket(Bucket=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused(404, "NoSuchBucket"):
        s3.delete_bucket(Bucket=name)
    with refused(404, "NoSuchBucket"):
        s3.put_object(Bucket=name, Key="key", Body=b"body")


# What a stranger tries on another's bucket `b` with an object "key" and an upload `u`.
TRESPASSES = {
    "list v1": lambda c, b, u: c.list_objects(Bucket=b),
    "list v2": lambda c, b, u: c.list_objects_v2(Bucket=b),
    "location": lambda c, b, u: c.get_bucket_location(Bucket=b),
    "delete bucket": lambda c, b, u: c.delete_bucket(Bucket=b),
    "get": lambda c, b, u: c.get_object(Bucket=b, Key="key"),
    "get absent": lambda c, b, u: c.get_object(Bucket=b, Key="absent"),
    "put": lambda c, b, u: c.put_object(Bucket=b, Key="key", Body=b"other"),
    "put new": lambda c, b, u: c.put_object(Bucket=b, Key="new", Body=b"other"),
    "delete": lambda c, b, u: c.delete_object(Bucket=b, Key="key"),
    "delete absent": lambda c, b, u: c.delete_object(Bucket=b, Key="absent"),
    "copy within": lambda c, b, u: c.copy_object(
        Bucket=b, Key="new", CopySource={"Bucket": b, "Key": "key"}),
    "create upload": lambda c, b, u: c.create_multipart_upload(Bucket=b, Key="new"),
    "list uploads": lambda c, b, u: c.list_multipart_uploads(Bucket=b),
    "upload part": lambda c, b, u: c.upload_part(
        Bucket=b, Key="upload", UploadId=u, PartNumber=1, Body=b"other"),
    "list parts": lambda c, b, u: c.list_parts(Bucket=b, Key="upload", UploadId=u),
    "complete": lambda c, b, u: c.complete_multipart_upload(
        Bucket=b, Key="upload", UploadId=u,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}),
    "abort": lambda c, b, u: c.abort_multipart_upload(Bucket=b, Key="upload", UploadId=u),
}


@pytest.mark.parametrize("trespass", TRESPASSES)
def test_a_stranger_gets_access_denied(s3, bucket, put, stranger, trespass):
    put("key", b"body")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="upload")["UploadId"]
    with refused(403, "AccessDenied"):
        TRESPASSES[trespass](stranger, bucket, upload)
    assert read(s3, bucket, "key") == b"body"
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["key"]
    listed = s3.list_parts(Bucket=bucket, Key="upload", UploadId=upload)
    assert listed.get("Parts", []) == []


def test_a_stranger_cannot_head(bucket, put, stranger):
    put("key", b"body")
    for key in ("key", "absent"):
        with refused(403):
            stranger.head_object(Bucket=bucket, Key=key)


def test_a_stranger_cannot_batch_delete(s3, bucket, put, stranger):
    put("key", b"body")
    try:
        answer = stranger.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]})
        assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
        assert "Deleted" not in answer
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"
    assert read(s3, bucket, "key") == b"body"


def test_a_stranger_cannot_copy_out(up, bucket, put, stranger):
    put("key", b"body")
    name = up.bucket_name("loot")
    stranger.create_bucket(Bucket=name)
    source = {"Bucket": bucket, "Key": "key"}
    with refused(403, "AccessDenied"):
        stranger.copy_object(Bucket=name, Key="taken", CopySource=source)
    upload = stranger.create_multipart_upload(Bucket=name, Key="taken")["UploadId"]
    with refused(403, "AccessDenied"):
        stranger.upload_part_copy(
            Bucket=name, Key="taken", UploadId=upload, PartNumber=1, CopySource=source)
    stranger.abort_multipart_upload(Bucket=name, Key="taken", UploadId=upload)
    assert stranger.list_objects_v2(Bucket=name)["KeyCount"] == 0
    stranger.delete_bucket(Bucket=name)


def test_expecting_another_owner_is_refused(s3, bucket, put):
    put("key", b"body")
    with refused(403, "AccessDenied"):
        s3.get_object(Bucket=bucket, Key="key", ExpectedBucketOwner="111122223333")
    with refused(403, "AccessDenied"):
        s3.delete_object(Bucket=bucket, Key="key", ExpectedBucketOwner="111122223333")
    assert read(s3, bucket, "key") == b"body"


def is_refused(client):
    try:
        client.list_buckets()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        return error.response["Error"]["Code"] in ("InvalidAccessKeyId", "AccessDenied")
    return False


def test_a_disabled_key_stops_working_and_its_siblings_do_not(up):
    name = f"account-{uuid.uuid4().hex[:8]}"
    first = up.new_account(name)
    client = up.client(first)
    client.list_buckets()
    up.command("key", "disable", first[0])
    wait_until("the key is refused", lambda: is_refused(client), WITHIN_S)
    up.client().list_buckets()
    up.command("key", "enable", first[0])
    wait_until("the key works again", client.list_buckets, WITHIN_S)


def test_keys_of_a_disabled_account_stop_working(up, s3):
    name = f"account-{uuid.uuid4().hex[:8]}"
    client = up.client(up.new_account(name))
    bucket = up.bucket_name("disabled")
    client.create_bucket(Bucket=bucket)
    up.command("account", "disable", name)
    wait_until("its key is refused", lambda: is_refused(client), WITHIN_S)
    s3.list_buckets()
    up.command("account", "enable", name)
    wait_until("its key works again", client.list_buckets, WITHIN_S)
    assert [entry["Name"] for entry in client.list_buckets()["Buckets"]] == [bucket]
    client.delete_bucket(Bucket=bucket)
