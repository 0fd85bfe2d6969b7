"""Checksums of multipart objects: of their parts' checksums, or of all their bytes."""

import pytest

from harness.checksums import ALGORITHMS, checksum, composite, field
from harness.expect import PART, absent, content, read, refused, same

BODIES = [content("checksummed 1", PART), content("checksummed 2", 1_000)]
WHOLE = b"".join(BODIES)
COMPOSITE = ["CRC32", "CRC32C", "SHA1", "SHA256"]
FULL = ["CRC32", "CRC32C", "CRC64NVME"]


def uploaded(s3, bucket, algorithm, kind):
    """An upload with both parts; returns its names and the list to complete it with."""
    names = {"Bucket": bucket, "Key": "big"}
    answer = s3.create_multipart_upload(
        **names, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert (answer["ChecksumAlgorithm"], answer["ChecksumType"]) == (algorithm, kind)
    names["UploadId"] = answer["UploadId"]
    parts = []
    for number, body in enumerate(BODIES, 1):
        value = {field(algorithm): checksum(algorithm, body)}
        answer = s3.upload_part(**names, PartNumber=number, Body=body, **value)
        assert answer[field(algorithm)] == value[field(algorithm)]
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **value})
    listed = s3.list_parts(**names)
    assert [part[field(algorithm)] for part in listed["Parts"]] == [
        part[field(algorithm)] for part in parts]
    return names, parts


def check(s3, bucket, algorithm, kind, answer):
    value = composite(algorithm, BODIES) if kind == "COMPOSITE" else checksum(algorithm, WHOLE)
    assert (answer[field(algorithm)], answer["ChecksumType"]) == (value, kind)
    head = s3.head_object(Bucket=bucket, Key="big", ChecksumMode="ENABLED")
    assert (head[field(algorithm)], head["ChecksumType"]) == (value, kind)
    same(read(s3, bucket, "big"), WHOLE)


@pytest.mark.parametrize("algorithm", COMPOSITE)
def test_composite(s3, bucket, algorithm):
    names, parts = uploaded(s3, bucket, algorithm, "COMPOSITE")
    answer = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    check(s3, bucket, algorithm, "COMPOSITE", answer)


@pytest.mark.parametrize("algorithm", FULL)
@pytest.mark.parametrize("named", [True, False])
def test_full_object(s3, bucket, algorithm, named):
    names, parts = uploaded(s3, bucket, algorithm, "FULL_OBJECT")
    value = {field(algorithm): checksum(algorithm, WHOLE)} if named else {}
    answer = s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT", **value)
    check(s3, bucket, algorithm, "FULL_OBJECT", answer)


@pytest.mark.parametrize("algorithm", FULL)
def test_a_wrong_full_object_checksum_is_refused(s3, bucket, algorithm):
    names, parts = uploaded(s3, bucket, algorithm, "FULL_OBJECT")
    with refused(400, "BadDigest"):
        s3.complete_multipart_upload(
            **names, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT",
            **{field(algorithm): checksum(algorithm, b"something else")})
    absent(s3, bucket, "big")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_part_checksum_stores_no_part(s3, bucket, algorithm):
    names = {"Bucket": bucket, "Key": "big"}
    names["UploadId"] = s3.create_multipart_upload(
        **names, ChecksumAlgorithm=algorithm)["UploadId"]
    wrong = {field(algorithm): checksum(algorithm, b"something else")}
    with refused(400, "BadDigest"):
        s3.upload_part(**names, PartNumber=1, Body=BODIES[1], **wrong)
    assert s3.list_parts(**names).get("Parts", []) == []


@pytest.mark.parametrize("algorithm", COMPOSITE)
def test_a_wrong_part_checksum_at_the_end_is_refused(s3, bucket, algorithm):
    names, parts = uploaded(s3, bucket, algorithm, "COMPOSITE")
    parts[0][field(algorithm)] = checksum(algorithm, b"something else")
    with refused(400, "InvalidPart", "BadDigest"):
        s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    absent(s3, bucket, "big")


@pytest.mark.parametrize(("algorithm", "kind"), [
    ("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"),
])
def test_kinds_that_an_algorithm_has_not(s3, bucket, algorithm, kind):
    with refused(400, "InvalidRequest"):
        s3.create_multipart_upload(
            Bucket=bucket, Key="big", ChecksumAlgorithm=algorithm, ChecksumType=kind)


def test_a_part_of_another_algorithm_is_refused(s3, bucket):
    names = {"Bucket": bucket, "Key": "big"}
    names["UploadId"] = s3.create_multipart_upload(
        **names, ChecksumAlgorithm="SHA256")["UploadId"]
    with refused(400, "InvalidRequest"):
        s3.upload_part(**names, PartNumber=1, Body=b"x", ChecksumCRC32=checksum("CRC32", b"x"))
    assert s3.list_parts(**names).get("Parts", []) == []
