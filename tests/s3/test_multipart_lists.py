"""Lists of parts and of uploads, and parts copied from other objects."""

import datetime

import pytest

from harness.expect import PART, absent, content, md5, read, refused, same


def begin(s3, bucket, key):
    return s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]


def test_parts_are_listed_page_by_page(s3, bucket):
    upload = begin(s3, bucket, "big")
    names = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    numbers = [1, 2, 3, 10, 500, 10_000]
    for number in reversed(numbers):
        s3.upload_part(**names, PartNumber=number, Body=b"x" * number)
    page = s3.list_parts(**names)
    assert [part["PartNumber"] for part in page["Parts"]] == numbers
    for part in page["Parts"]:
        body = b"x" * part["PartNumber"]
        assert (part["Size"], part["ETag"]) == (len(body), f'"{md5(body)}"')
        age = datetime.datetime.now(datetime.timezone.utc) - part["LastModified"]
        assert abs(age) < datetime.timedelta(minutes=5)
    assert (page["Bucket"], page["Key"], page["UploadId"]) == (bucket, "big", upload)
    assert page["IsTruncated"] is False
    assert page["StorageClass"] == "STANDARD"
    assert page["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]
    assert page["Initiator"]["ID"]

    got, marker = [], 0
    while True:
        page = s3.list_parts(**names, MaxParts=2, PartNumberMarker=marker)
        assert (page["MaxParts"], page["PartNumberMarker"]) == (2, marker)
        got += [part["PartNumber"] for part in page["Parts"]]
        if not page["IsTruncated"]:
            break
        assert len(page["Parts"]) == 2
        marker = page["NextPartNumberMarker"]
        assert marker == got[-1]
    assert got == numbers
    rest = s3.list_parts(**names, PartNumberMarker=5)["Parts"]
    assert [part["PartNumber"] for part in rest] == [10, 500, 10_000]
    assert s3.list_parts(**names, PartNumberMarker=10_000).get("Parts", []) == []
    s3.abort_multipart_upload(**names)


@pytest.fixture
def uploads(s3, bucket):
    """Open uploads; one key has three."""
    keys = ["a/1", "a/2", "a/2", "a/2", "b", "c/d/e", "ü x"]
    made = [(key, begin(s3, bucket, key)) for key in keys]
    assert len({upload for _, upload in made}) == len(keys)
    return made


def uploads_of(page):
    return [(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", [])]


def test_uploads_are_listed_in_order(s3, bucket, uploads):
    page = s3.list_multipart_uploads(Bucket=bucket)
    # By key, and the uploads of one key by their start.
    assert uploads_of(page) == uploads
    assert page["IsTruncated"] is False
    owner = s3.list_buckets()["Owner"]["ID"]
    for entry in page["Uploads"]:
        assert entry["Owner"]["ID"] == owner
        assert entry["StorageClass"] == "STANDARD"
        age = datetime.datetime.now(datetime.timezone.utc) - entry["Initiated"]
        assert abs(age) < datetime.timedelta(minutes=5)


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_uploads_are_listed_page_by_page(s3, bucket, uploads, size):
    got, markers = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **markers)
        assert page["MaxUploads"] == size
        got += uploads_of(page)
        if not page["IsTruncated"]:
            break
        assert len(uploads_of(page)) == size
        markers = {"KeyMarker": page["NextKeyMarker"],
                   "UploadIdMarker": page["NextUploadIdMarker"]}
    assert got == uploads


def test_a_key_marker_alone_skips_all_of_its_uploads(s3, bucket, uploads):
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="a/2")
    assert uploads_of(page) == uploads[4:]


def test_uploads_by_prefix_and_delimiter(s3, bucket, uploads):
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert uploads_of(page) == uploads[:4]
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [key for key, _ in uploads_of(page)] == ["b", "ü x"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/", "c/"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="c/", Delimiter="/")
    assert uploads_of(page) == []
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["c/d/"]


def test_aborting_one_upload_of_a_key_keeps_the_others(s3, bucket, uploads):
    key, upload = uploads[2]
    s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    assert uploads_of(s3.list_multipart_uploads(Bucket=bucket)) == uploads[:2] + uploads[3:]


@pytest.fixture
def source(put):
    body = content("copied from", 2 * PART + 1_000)
    put("source", body)
    return body


def copy_part(s3, bucket, upload, number, **more):
    return s3.upload_part_copy(
        Bucket=bucket, Key="big", UploadId=upload, PartNumber=number,
        CopySource={"Bucket": bucket, "Key": "source"}, **more)


def test_parts_copied_from_an_object(s3, bucket, source):
    upload = begin(s3, bucket, "big")
    names = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    ranges = [None, (0, PART - 1), (777, PART + 65_536), (2 * PART, 2 * PART + 999)]
    expected, parts = b"", []
    for number, span in enumerate(ranges, 1):
        more = {"CopySourceRange": f"bytes={span[0]}-{span[1]}"} if span else {}
        answer = copy_part(s3, bucket, upload, number, **more)["CopyPartResult"]
        body = source[span[0] : span[1] + 1] if span else source
        expected += body
        if span:
            assert answer["ETag"] == f'"{md5(body)}"'
        assert answer["LastModified"]
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    listed = s3.list_parts(**names)["Parts"]
    assert [part["ETag"] for part in listed] == [part["ETag"] for part in parts]
    s3.delete_object(Bucket=bucket, Key="source")
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    same(read(s3, bucket, "big"), expected)


@pytest.mark.parametrize("span", ["bytes=0-10486760", "bytes=99999999-", "bytes=99999999-99999999",
                                  "bytes=5-", "bytes=-5", "bytes=5-4", "0-5", "bytes=0-1,3-4"])
def test_copied_ranges_must_be_whole_and_inside(s3, bucket, source, span):
    upload = begin(s3, bucket, "big")
    with pytest.raises(s3.exceptions.ClientError) as caught:
        copy_part(s3, bucket, upload, 1, CopySourceRange=span)
    answer = caught.value.response
    got = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
    assert got in ((400, "InvalidArgument"), (416, "InvalidRange"), (400, "InvalidRange")), got
    listed = s3.list_parts(Bucket=bucket, Key="big", UploadId=upload)
    assert listed.get("Parts", []) == []


def test_conditions_of_a_copied_part(s3, bucket, source):
    upload = begin(s3, bucket, "big")
    etag = s3.head_object(Bucket=bucket, Key="source")["ETag"]
    with refused(412, "PreconditionFailed"):
        copy_part(s3, bucket, upload, 1, CopySourceIfNoneMatch=etag)
    with refused(412, "PreconditionFailed"):
        copy_part(s3, bucket, upload, 1, CopySourceIfMatch='"0123"')
    copy_part(s3, bucket, upload, 1, CopySourceIfMatch=etag)


def test_parts_copied_from_nothing(s3, bucket):
    upload = begin(s3, bucket, "big")
    with refused(404, "NoSuchKey"):
        copy_part(s3, bucket, upload, 1)
    absent(s3, bucket, "big")


def test_a_copied_part_replaces_an_uploaded_one(s3, bucket, source):
    upload = begin(s3, bucket, "big")
    names = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    s3.upload_part(**names, PartNumber=1, Body=b"uploaded")
    etag = copy_part(s3, bucket, upload, 1, CopySourceRange="bytes=10-19")["CopyPartResult"]["ETag"]
    s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert read(s3, bucket, "big") == source[10:20]
