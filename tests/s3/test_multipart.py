"""Multipart uploads."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.expect import MIB, PART, absent, content, md5, read, refused, same


class Upload:
    """One upload and what was put into it."""

    def __init__(self, s3, bucket, key="big", **more):
        self.s3 = s3
        self.names = {"Bucket": bucket, "Key": key}
        self.id = s3.create_multipart_upload(**self.names, **more)["UploadId"]
        self.bodies = {}
        self.etags = {}

    def part(self, number, body, **more):
        answer = self.s3.upload_part(
            **self.names, UploadId=self.id, PartNumber=number, Body=body, **more)
        assert answer["ETag"] == f'"{md5(body)}"'
        self.bodies[number], self.etags[number] = body, answer["ETag"]
        return answer

    def complete(self, numbers=None, etags=None, **more):
        etags = {**self.etags, **(etags or {})}
        parts = [{"PartNumber": n, "ETag": etags[n]} for n in numbers or sorted(self.etags)]
        return self.s3.complete_multipart_upload(
            **self.names, UploadId=self.id, MultipartUpload={"Parts": parts}, **more)

    def abort(self):
        return self.s3.abort_multipart_upload(**self.names, UploadId=self.id)

    def etag(self, numbers=None):
        numbers = numbers or sorted(self.bodies)
        digests = b"".join(hashlib.md5(self.bodies[n]).digest() for n in numbers)
        return f'"{md5(digests)}-{len(numbers)}"'

    def body(self, numbers=None):
        return b"".join(self.bodies[n] for n in numbers or sorted(self.bodies))

    def list(self, **more):
        return self.s3.list_parts(**self.names, UploadId=self.id, **more)


@pytest.fixture
def start(s3, bucket):
    return lambda key="big", **more: Upload(s3, bucket, key, **more)


def full(seed):
    return content(f"part {seed}", PART)


def test_three_parts_become_an_object(s3, bucket, start):
    upload = start(Metadata={"a": "1"}, ContentType="text/x", CacheControl="no-store")
    upload.part(1, full(1))
    upload.part(2, full(2))
    upload.part(3, b"the end")
    absent(s3, bucket, "big")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    answer = upload.complete()
    assert (answer["Bucket"], answer["Key"]) == (bucket, "big")
    assert answer["ETag"] == upload.etag()
    assert bucket in answer["Location"] and answer["Location"].endswith("big")
    same(read(s3, bucket, "big"), upload.body())
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ETag"] == upload.etag()
    assert head["ContentLength"] == len(upload.body())
    assert head["Metadata"] == {"a": "1"}
    assert (head["ContentType"], head["CacheControl"]) == ("text/x", "no-store")
    entry, = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ETag"], entry["Size"]) == (upload.etag(), len(upload.body()))
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    for first, last in ((PART - 1, PART), (PART, PART), (2 * PART - 3, 2 * PART + 2)):
        got = read(s3, bucket, "big", Range=f"bytes={first}-{last}")
        assert got == upload.body()[first : last + 1]


@pytest.mark.parametrize("sizes", [(0,), (1,), (4_097,), (PART + 1, 0), (PART, PART + 65_536, 1),
                                   (70 * MIB, 300_000)])
def test_part_sizes(s3, bucket, start, sizes):
    upload = start()
    for number, size in enumerate(sizes, 1):
        upload.part(number, content(number, size))
    assert upload.complete()["ETag"] == upload.etag()
    same(read(s3, bucket, "big"), upload.body())
    size = sum(sizes)
    if size > 10:
        same(read(s3, bucket, "big", Range="bytes=-10"), upload.body()[-10:])


def test_numbers_may_come_in_any_order_and_have_gaps(s3, bucket, start):
    upload = start()
    for number in (9_999, 7, 10_000, 1):
        upload.part(number, full(number) if number < 10_000 else b"end")
    upload.complete()
    same(read(s3, bucket, "big"), upload.body([1, 7, 9_999, 10_000]))
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"] == upload.etag()


def test_parts_may_be_left_out(s3, bucket, start):
    upload = start()
    for number in (1, 2, 3):
        upload.part(number, full(number))
    assert upload.complete([1, 3])["ETag"] == upload.etag([1, 3])
    same(read(s3, bucket, "big"), upload.body([1, 3]))


def test_a_part_can_be_replaced(s3, bucket, start):
    upload = start()
    old = upload.part(1, full("old"))["ETag"]
    upload.part(2, b"end")
    upload.part(1, full("new"))
    with refused(400, "InvalidPart"):
        upload.complete(etags={1: old})
    listed = upload.list()["Parts"]
    assert [(part["PartNumber"], part["ETag"]) for part in listed] == sorted(upload.etags.items())
    upload.complete()
    same(read(s3, bucket, "big"), full("new") + b"end")


# Wrong lists of parts, for an upload of parts 1 (full), 2 (short), 3 (full).
WRONG = {
    "part never uploaded": ([1, 3, 4], {4: f'"{md5(b"")}"'}, "InvalidPart"),
    "another part's etag": ([1, 3], {1: f'"{md5(b"x")}"'}, "InvalidPart"),
    "no etag at all": ([1, 3], {1: '""'}, "InvalidPart"),
    "wrong order": ([3, 1], {}, "InvalidPartOrder"),
    "twice the same": ([1, 1], {}, "InvalidPartOrder"),
    "short part inside": ([1, 2, 3], {}, "EntityTooSmall"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_lists_are_refused_and_harm_nothing(s3, bucket, start, put, case):
    numbers, etags, code = WRONG[case]
    put("big", b"what was there before")
    upload = start()
    upload.part(1, full(1))
    upload.part(2, b"short")
    upload.part(3, full(3))
    with refused(400, code):
        upload.complete(numbers, etags)
    assert read(s3, bucket, "big") == b"what was there before"
    upload.complete([1, 3])
    same(read(s3, bucket, "big"), upload.body([1, 3]))


def test_one_byte_under_five_mib_is_too_small(start):
    upload = start()
    upload.part(1, full(1)[:-1])
    upload.part(2, b"end")
    with refused(400, "EntityTooSmall"):
        upload.complete()


def test_etags_may_lack_their_quotes(s3, bucket, start):
    upload = start()
    upload.part(1, b"only")
    upload.complete(etags={1: upload.etags[1].strip('"')})
    assert read(s3, bucket, "big") == b"only"


def test_completing_twice_answers_the_same(s3, bucket, start):
    upload = start()
    upload.part(1, full(1))
    upload.part(2, b"end")
    first, second = upload.complete(), upload.complete()
    assert first["ETag"] == second["ETag"]
    same(read(s3, bucket, "big"), upload.body())


def test_completing_again_does_not_bring_back_an_overwritten_object(s3, bucket, start, put):
    upload = start()
    upload.part(1, b"old")
    upload.complete()
    put("big", b"new")
    try:
        upload.complete()
    except s3.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchUpload"
    assert read(s3, bucket, "big") == b"new"


@pytest.mark.parametrize("number", [0, -1, 10_001, 1 << 32])
def test_part_numbers_out_of_range(raw, start, bucket, number):
    upload = start()
    answer = raw.send("PUT", f"/{bucket}/big", b"x",
                      query={"uploadId": upload.id, "partNumber": str(number)})
    answer.refuses(400, "InvalidArgument")
    assert "Parts" not in upload.list()


def test_a_part_number_that_is_no_number(raw, s3, start, bucket):
    upload = start()
    answer = raw.send("PUT", f"/{bucket}/big", b"x",
                      query={"uploadId": upload.id, "partNumber": "abc"})
    answer.refuses(400, "InvalidArgument")
    # Half of the pair must not turn the request into a plain PUT.
    for query in ({"uploadId": upload.id}, {"partNumber": "1"}):
        assert raw.send("PUT", f"/{bucket}/big", b"x", query=query).status in (400, 405, 501)
        absent(s3, bucket, "big")


def test_after_an_abort_nothing_is_left(s3, bucket, start):
    upload = start()
    upload.part(1, full(1))
    assert upload.abort()["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused(404, "NoSuchUpload"):
        upload.part(2, b"late")
    with refused(404, "NoSuchUpload"):
        upload.list()
    with refused(404, "NoSuchUpload"):
        upload.complete()
    with refused(404, "NoSuchUpload"):
        upload.abort()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    absent(s3, bucket, "big")


@pytest.mark.parametrize(
    "upload_id", ["garbage", "00000000-0000-0000-0000-000000000000", "A" * 200])
def test_unknown_uploads(s3, bucket, upload_id):
    names = {"Bucket": bucket, "Key": "big", "UploadId": upload_id}
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**names, PartNumber=1, Body=b"x")
    with refused(404, "NoSuchUpload"):
        s3.list_parts(**names)
    with refused(404, "NoSuchUpload"):
        s3.complete_multipart_upload(
            **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"0"'}]})
    with refused(404, "NoSuchUpload"):
        s3.abort_multipart_upload(**names)


def test_an_upload_belongs_to_its_key(s3, bucket, start):
    upload = start("one")
    upload.part(1, b"x")
    names = {"Bucket": bucket, "Key": "other", "UploadId": upload.id}
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**names, PartNumber=2, Body=b"x")
    with refused(404, "NoSuchUpload"):
        s3.complete_multipart_upload(
            **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": upload.etags[1]}]})
    with refused(404, "NoSuchUpload"):
        s3.abort_multipart_upload(**names)
    upload.complete()
    absent(s3, bucket, "other")


def test_an_upload_outlives_writes_of_its_key(s3, bucket, start, put):
    upload = start()
    upload.part(1, b"multi")
    put("big", b"single")
    s3.delete_object(Bucket=bucket, Key="big")
    put("big", b"single again")
    upload.complete()
    assert read(s3, bucket, "big") == b"multi"


def test_parts_in_parallel(up, s3, bucket, start):
    upload = start()
    client = up.client()
    upload.s3 = client
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: upload.part(n, content(f"parallel {n}", PART + n)), range(1, 13)))
    assert upload.complete()["ETag"] == upload.etag()
    same(read(s3, bucket, "big"), upload.body())


def test_one_part_number_written_in_parallel_is_one_of_them(up, s3, bucket, start):
    upload = start()
    upload.s3 = up.client()
    bodies = [content(f"same number {i}", 300_000) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: upload.part(1, body), bodies))
    part, = upload.list()["Parts"]
    upload.complete(etags={1: part["ETag"]})
    got = read(s3, bucket, "big")
    assert got in bodies and f'"{md5(got)}"' == part["ETag"]


def test_complete_in_parallel_makes_one_object(up, s3, bucket, start):
    upload = start()
    upload.part(1, full(1))
    upload.part(2, b"end")
    upload.s3 = up.client()

    def complete(_):
        try:
            return upload.complete()["ETag"]
        except s3.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(complete, range(6)))
    assert upload.etag() in results
    assert set(results) <= {upload.etag(), "NoSuchUpload", "OperationAborted"}, results
    same(read(s3, bucket, "big"), upload.body())


@pytest.mark.parametrize("size", ["right", "wrong"])
def test_the_announced_size_is_checked(s3, bucket, start, size):
    upload = start()
    upload.part(1, full(1))
    upload.part(2, b"end")
    if size == "wrong":
        with refused(400, "InvalidRequest"):
            upload.complete(MpuObjectSize=PART + 4)
        absent(s3, bucket, "big")
    upload.complete(MpuObjectSize=PART + 3)
    same(read(s3, bucket, "big"), upload.body())


def test_get_by_part_number(s3, bucket, start):
    upload = start()
    upload.part(1, full(1))
    upload.part(2, full(2) + b"more")
    upload.part(3, b"end")
    upload.complete()
    at = 0
    for number, body in upload.bodies.items():
        answer = s3.get_object(Bucket=bucket, Key="big", PartNumber=number)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["PartsCount"] == 3
        total = len(upload.body())
        assert answer["ContentRange"] == f"bytes {at}-{at + len(body) - 1}/{total}"
        same(answer["Body"].read(), body)
        head = s3.head_object(Bucket=bucket, Key="big", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
        at += len(body)
    with refused(416, "InvalidPartNumber"):
        s3.get_object(Bucket=bucket, Key="big", PartNumber=4)
    with refused(416):
        s3.head_object(Bucket=bucket, Key="big", PartNumber=4)
    with refused(400, "InvalidRequest"):
        s3.get_object(Bucket=bucket, Key="big", PartNumber=1, Range="bytes=0-1")


def test_a_plain_object_has_one_part(s3, bucket, put):
    put("plain", b"body")
    assert read(s3, bucket, "plain", PartNumber=1) == b"body"
    with refused(416, "InvalidPartNumber"):
        s3.get_object(Bucket=bucket, Key="plain", PartNumber=2)


def test_the_object_can_be_copied_and_the_copy_outlives_it(s3, bucket, start):
    upload = start()
    upload.part(1, full(1))
    upload.part(2, full(2))
    upload.complete()
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "big"})
    s3.delete_object(Bucket=bucket, Key="big")
    same(read(s3, bucket, "copy"), upload.body())
