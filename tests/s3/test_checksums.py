"""Checksums by header and by trailer, Content-MD5, and aws-chunked bodies of every kind."""

import base64

import pytest

from harness import aws_chunked
from harness.aws_chunked import SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER, ChunkedPut
from harness.checksums import ALGORITHMS, checksum, field, header, md5_text
from harness.expect import absent, content, read, refused, same
from harness.raw_http import Gone

SIZES = [0, 10, 5_000, 200_000]
BY_BOTO = ["CRC32", "SHA1", "SHA256"]  # the others need a compiled library


def stored(s3, bucket, key="key"):
    """What HEAD and GET both return if it is requested."""
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    got["Body"].read()
    found = [{n: v for n, v in answer.items() if n.startswith("Checksum")}
             for answer in (head, got)]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_by_header(s3, bucket, put, algorithm, size):
    body = content(algorithm, size)
    value = checksum(algorithm, body)
    answer = put("key", body, **{field(algorithm): value})
    assert answer[field(algorithm)] == value
    assert stored(s3, bucket) == {field(algorithm): value, "ChecksumType": "FULL_OBJECT"}
    same(read(s3, bucket, "key"), body)
    plain = s3.head_object(Bucket=bucket, Key="key")
    assert [name for name in plain if name.startswith("Checksum")] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_value_stores_nothing(s3, bucket, put, algorithm, size):
    wrong = checksum(algorithm, b"something else")
    with refused(400, "BadDigest"):
        put("key", content(algorithm, size), **{field(algorithm): wrong})
    absent(s3, bucket, "key")
    put("key", b"kept")
    with refused(400, "BadDigest"):
        put("key", content(algorithm, size), **{field(algorithm): wrong})
    assert read(s3, bucket, "key") == b"kept"


@pytest.mark.parametrize("value", ["abc", "!!!!", "AAAA", "A" * 400])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_malformed_value_is_refused(raw, s3, bucket, algorithm, value):
    answer = raw.send("PUT", f"/{bucket}/key", b"body", headers={header(algorithm): value})
    answer.refuses(400, "InvalidRequest")
    absent(s3, bucket, "key")


def test_two_checksums_are_refused(raw, s3, bucket):
    both = {header(a): checksum(a, b"body") for a in ("CRC32", "SHA256")}
    raw.send("PUT", f"/{bucket}/key", b"body", headers=both).refuses(400, "InvalidRequest")
    absent(s3, bucket, "key")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", BY_BOTO)
@pytest.mark.parametrize("https", [False, True])  # boto3 sends trailers over https only
def test_boto3_chooses_the_way(up, s3, bucket, algorithm, size, https):
    body = content(algorithm, size)
    answer = up.client(https=https).put_object(
        Bucket=bucket, Key="key", Body=body, ChecksumAlgorithm=algorithm)
    assert answer[field(algorithm)] == checksum(algorithm, body)
    assert stored(s3, bucket)[field(algorithm)] == checksum(algorithm, body)
    same(read(s3, bucket, "key"), body)
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="key")


def test_a_copy_keeps_its_checksum(s3, bucket, put):
    value = checksum("SHA256", b"body")
    put("key", b"body", ChecksumSHA256=value)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "key"})
    assert stored(s3, bucket, "copy")["ChecksumSHA256"] == value


@pytest.mark.parametrize("size", SIZES)
def test_content_md5(s3, bucket, put, size):
    body = content("md5", size)
    put("key", body, ContentMD5=md5_text(body))
    same(read(s3, bucket, "key"), body)
    with refused(400, "BadDigest"):
        put("key", content("other", size + 1), ContentMD5=md5_text(body))
    same(read(s3, bucket, "key"), body)


@pytest.mark.parametrize("value", ["", "abc", "not base64 at all", "0" * 32,
                                   base64.b64encode(b"short").decode()])
def test_a_malformed_content_md5_is_refused(raw, s3, bucket, value):
    answer = raw.send("PUT", f"/{bucket}/key", b"body", headers={"content-md5": value})
    answer.refuses(400, "InvalidDigest")
    absent(s3, bucket, "key")


def trailer_for(mode, algorithm, body):
    return None if mode == SIGNED else (header(algorithm), checksum(algorithm, body))


def chunked_put(raw, bucket, body, mode, algorithm="CRC32", **more):
    more = {"trailer": trailer_for(mode, algorithm, body), **more}
    return ChunkedPut(raw.signer(), f"/{bucket}/key", body, mode, **more)


@pytest.mark.parametrize("size", [*SIZES, 65_536, 131_073])
@pytest.mark.parametrize("mode", aws_chunked.MODES)
def test_chunked_bodies(raw, s3, bucket, mode, size):
    body = content(mode, size)
    answer = chunked_put(raw, bucket, body, mode).send(raw)
    assert answer.status == 200, answer.body
    same(read(s3, bucket, "key"), body)
    head = s3.head_object(Bucket=bucket, Key="key")
    assert head["ContentLength"] == size
    assert "ContentEncoding" not in head
    if mode != SIGNED:
        assert stored(s3, bucket)["ChecksumCRC32"] == checksum("CRC32", body)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_by_trailer(raw, s3, bucket, mode, algorithm):
    body = content(algorithm, 200_000)
    answer = chunked_put(raw, bucket, body, mode, algorithm).send(raw)
    assert answer.status == 200, answer.body
    assert answer.headers[header(algorithm)] == checksum(algorithm, body)
    expected = {field(algorithm): checksum(algorithm, body), "ChecksumType": "FULL_OBJECT"}
    assert stored(s3, bucket) == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_a_wrong_trailer_stores_nothing(raw, s3, bucket, mode, algorithm):
    trailer = (header(algorithm), checksum(algorithm, b"something else"))
    put = chunked_put(raw, bucket, content(algorithm, 200_000), mode, trailer=trailer)
    put.send(raw).refuses(400, "BadDigest")
    absent(s3, bucket, "key")


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
@pytest.mark.parametrize("value", ["abc", "", "AAAAAAAA"])
def test_a_malformed_trailer_stores_nothing(raw, s3, bucket, mode, value):
    put = chunked_put(raw, bucket, content(mode, 200_000), mode, trailer=(header("CRC32"), value))
    answer = put.send(raw)
    answer.refuses(400, "InvalidRequest", "MalformedTrailerError", "BadDigest")
    absent(s3, bucket, "key")


@pytest.mark.parametrize("mode", aws_chunked.MODES)
@pytest.mark.parametrize("wish, kept", [
    ("aws-chunked", None), ("gzip,aws-chunked", "gzip"), ("aws-chunked, gzip", "gzip"),
    ("gzip", "gzip"), (None, None),
])
def test_aws_chunked_is_not_stored(raw, s3, bucket, mode, wish, kept):
    body = content(mode, 70_000)
    put = chunked_put(raw, bucket, body, mode, headers={"content-encoding": wish})
    answer = put.send(raw)
    assert answer.status == 200, answer.body
    assert s3.head_object(Bucket=bucket, Key="key").get("ContentEncoding") == kept
    same(read(s3, bucket, "key"), body)


def flip(frame, at):
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


def bad_data(frames):
    return [frames[0], flip(frames[1], 500), *frames[2:]]


def bad_signature(frames):
    # ";chunk-signature=" and 64 digits stand in the first line.
    at = frames[1].index(b"=") + 1
    other = b"0" if frames[1][at : at + 1] != b"0" else b"1"
    return [frames[0], frames[1][:at] + other + frames[1][at + 1 :], *frames[2:]]


def swapped(frames):
    return [frames[1], frames[0], *frames[2:]]


def bad_last_signature(frames):
    last = frames[-1].rstrip(b"\r\n")
    other = b"0" if last[-1:] != b"0" else b"1"
    return [*frames[:-1], last[:-1] + other + frames[-1][len(last) :]]


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
@pytest.mark.parametrize("bend", [bad_data, bad_signature, swapped, bad_last_signature])
def test_forged_chunks_store_nothing(raw, s3, bucket, put, mode, bend):
    put("key", b"kept")
    forged = chunked_put(raw, bucket, content(mode, 200_000), mode)
    answer = forged.send(raw, bend(forged.frames))
    answer.refuses(403, "SignatureDoesNotMatch")
    assert read(s3, bucket, "key") == b"kept"


def without_unsigned_bits(mode):
    return 1 if mode == SIGNED else 2


# How a stream's framing may be cut or altered. The last data chunk is at -1 - tail.
CUTS = {
    "a chunk is missing": lambda frames, tail: frames[1:],
    "the final chunk is missing": lambda frames, tail: frames[:-tail],
    "cut within a chunk": lambda frames, tail: [*frames[:2], frames[2][:300]],
    "only one chunk": lambda frames, tail: frames[:1],
    "nothing at all": lambda frames, tail: [],
    "final chunk first": lambda frames, tail: [frames[-tail], b"\r\n", *frames],
    "no hex": lambda frames, tail: [b"xyz" + frames[0], *frames[1:]],
    "a size beyond all bounds": lambda frames, tail: [b"f" * 40 + frames[0], *frames[1:]],
    "an endless line": lambda frames, tail: [b"1" * 100_000],
    "no line end after the data": lambda frames, tail: [frames[0][:-2] + b"xx", *frames[1:]],
}


@pytest.mark.parametrize("mode", aws_chunked.MODES)
@pytest.mark.parametrize("cut", CUTS)
def test_broken_framing_stores_nothing(raw, s3, bucket, put, mode, cut):
    """The HTTP length fits the bytes that are sent: only the chunks are wrong."""
    put("key", b"kept")
    whole = chunked_put(raw, bucket, content(mode, 200_000), mode)
    answer = whole.send(raw, CUTS[cut](whole.frames, without_unsigned_bits(mode)))
    assert answer.status in (400, 403), answer.body
    assert answer.code
    assert read(s3, bucket, "key") == b"kept"


@pytest.mark.parametrize("mode", aws_chunked.MODES)
@pytest.mark.parametrize("cut_at", [0, 100, 65_536, 150_000, -3])
def test_a_connection_that_ends_early_stores_nothing(raw, s3, bucket, put, mode, cut_at):
    put("key", b"kept")
    whole = chunked_put(raw, bucket, content(mode, 200_000), mode)
    body = b"".join(whole.frames)
    try:
        answer = whole.send(raw, [body[:cut_at]], content_length=str(len(body)))
        assert answer.status == 400, answer.body
    except Gone:
        pass  # hanging up on a client that hung up is right as well
    assert read(s3, bucket, "key") == b"kept"


@pytest.mark.parametrize("mode", aws_chunked.MODES)
@pytest.mark.parametrize("length", ["199999", "200001", "0", "-1", "abc", None])
def test_the_decoded_length_must_be_true(raw, s3, bucket, mode, length):
    put = chunked_put(raw, bucket, content(mode, 200_000), mode,
                      headers={"x-amz-decoded-content-length": length})
    answer = put.send(raw)
    assert answer.status in (400, 411), answer.body
    assert answer.code
    absent(s3, bucket, "key")


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_a_promised_trailer_must_come(raw, s3, bucket, mode):
    put = chunked_put(raw, bucket, content(mode, 70_000), mode, trailer=None,
                      headers={"x-amz-trailer": header("CRC32")})
    answer = put.send(raw)
    assert answer.status == 400, answer.body
    absent(s3, bucket, "key")


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_a_trailer_must_be_the_promised_one(raw, s3, bucket, mode):
    body = content(mode, 70_000)
    put = chunked_put(raw, bucket, body, mode)
    signer = raw.signer()
    promised = ChunkedPut(signer, f"/{bucket}/key", body, mode,
                          trailer=(header("SHA256"), checksum("SHA256", body)))
    frames = [*promised.frames[:-1], put.frames[-1]]
    assert promised.send(raw, frames).status in (400, 403)
    absent(s3, bucket, "key")


@pytest.mark.parametrize("mode", aws_chunked.MODES)
def test_chunked_parts(raw, s3, bucket, mode):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    body = content(mode, 300_000)
    put = chunked_put(raw, bucket, body, mode, query={"uploadId": upload, "partNumber": "1"})
    answer = put.send(raw)
    assert answer.status == 200, answer.body
    s3.complete_multipart_upload(
        Bucket=bucket, Key="key", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": answer.headers["etag"]}]})
    same(read(s3, bucket, "key"), body)
