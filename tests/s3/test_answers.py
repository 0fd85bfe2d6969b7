"""Answers as AWS gives them, where real clients look closely."""

import pytest

from harness.checksums import ALGORITHMS, checksum, field
from harness.expect import absent, content, read, refused, same

FOREIGN = ["md5", "sha512", "xxhash3", "xxhash64", "xxhash128", "of-tomorrow"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_checksum_is_refused(raw, s3, bucket, name):
    header = {f"x-amz-checksum-{name}": "AAAAAAAAAAA="}
    raw.send("PUT", f"/{bucket}/key", b"body", headers=header).refuses(400, "InvalidRequest")
    absent(s3, bucket, "key")


def test_a_wrong_hash_of_a_document_is_no_failure_of_the_server(up, raw, s3):
    name = up.bucket_name("hashed")
    answer = raw.send("PUT", f"/{name}", b"<CreateBucketConfiguration/>", payload="0" * 64)
    answer.refuses(400, "XAmzContentSHA256Mismatch")
    assert name not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def test_a_download_of_a_replaced_object_begins_anew(raw, s3, bucket, put):
    old = put("key", content("old", 100_000))["ETag"]
    go_on = {"range": "bytes=50000-", "if-range": old}
    part = raw.send("GET", f"/{bucket}/key", headers=go_on)
    assert (part.status, part.body) == (206, content("old", 100_000)[50_000:])
    new = content("new", 90_000)
    put("key", new)
    whole = raw.send("GET", f"/{bucket}/key", headers=go_on)
    assert whole.status == 200
    same(whole.body, new)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_copy_with_a_checksum_of_its_own(s3, bucket, put, algorithm):
    body = content(algorithm, 200_000)
    put("key", body)
    copied = s3.copy_object(Bucket=bucket, Key="copy", ChecksumAlgorithm=algorithm,
                            CopySource={"Bucket": bucket, "Key": "key"})
    value = checksum(algorithm, body)
    assert copied["CopyObjectResult"][field(algorithm)] == value
    head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert (head[field(algorithm)], head["ChecksumType"]) == (value, "FULL_OBJECT")
    same(read(s3, bucket, "copy"), body)


@pytest.mark.parametrize("https", [False, True])
def test_a_completion_tells_a_url(up, bucket, https):
    s3 = up.client(https=https)
    names = {"Bucket": bucket, "Key": "a/b c"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    part = s3.upload_part(**names, PartNumber=1, Body=b"body")
    done = s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert done["Location"] == f"{s3.meta.endpoint_url}/{bucket}/a/b%20c"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="a/b c", ObjectAttributes=["ETag"])
    assert attributes["ETag"] == done["ETag"].strip('"')


def test_a_bucket_with_nothing_but_uploads_can_be_deleted(up, s3):
    name = up.bucket_name("cut-uploads")
    s3.create_bucket(Bucket=name)
    for number in range(40):
        begun = s3.create_multipart_upload(Bucket=name, Key=f"key-{number}")
    part = {"Bucket": name, "Key": "key-39", "UploadId": begun["UploadId"], "PartNumber": 1}
    s3.upload_part(**part, Body=b"body")
    s3.put_object(Bucket=name, Key="key", Body=b"body")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=name)
    assert len(s3.list_multipart_uploads(Bucket=name)["Uploads"]) == 40
    s3.delete_object(Bucket=name, Key="key")
    s3.delete_bucket(Bucket=name)
    with refused(404, "NoSuchBucket"):
        s3.upload_part(**part, Body=b"body")
    assert name not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def test_public_access_lists_are_refused_for_good(s3, bucket, put):
    with refused(400, "AccessControlListNotSupported"):
        put("key", b"body", ACL="public-read")
    absent(s3, bucket, "key")


@pytest.mark.parametrize("encoding", [{}, {"EncodingType": "url"}])
def test_keys_with_control_characters_are_listed(raw, s3, bucket, put, encoding):
    put("a\x01b", b"body")
    if encoding:
        assert s3.list_objects_v2(Bucket=bucket, **encoding)["Contents"][0]["Key"] == "a%01b"
    else:
        listed = raw.send("GET", f"/{bucket}", query={"list-type": "2"})
        assert b"<Key>a&#x1;b</Key>" in listed.body
