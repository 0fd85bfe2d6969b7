"""Preconditions of reads and writes."""

import datetime
import threading

import pytest
from botocore.exceptions import ClientError

from harness.expect import absent, content, md5, read, refused

BODY = b"the body"
ETAG = f'"{md5(BODY)}"'
OTHER = f'"{md5(b"something else")}"'
HOUR = datetime.timedelta(hours=1)
# Times relative to the object's own: its last second, an hour before, a second after.
SAME, BEFORE = datetime.timedelta(0), -HOUR

OK, NOT_MODIFIED, FAILED = 200, 304, 412
READS = [
    ({"IfMatch": ETAG}, OK),
    ({"IfMatch": "*"}, OK),
    ({"IfMatch": ETAG.strip('"')}, OK),
    ({"IfMatch": OTHER}, FAILED),
    ({"IfNoneMatch": OTHER}, OK),
    ({"IfNoneMatch": ETAG}, NOT_MODIFIED),
    ({"IfNoneMatch": "*"}, NOT_MODIFIED),
    ({"IfModifiedSince": BEFORE}, OK),
    ({"IfModifiedSince": SAME}, NOT_MODIFIED),
    ({"IfUnmodifiedSince": SAME}, OK),
    ({"IfUnmodifiedSince": HOUR}, OK),
    ({"IfUnmodifiedSince": BEFORE}, FAILED),
    # An ETag overrides the date beside it.
    ({"IfMatch": ETAG, "IfUnmodifiedSince": BEFORE}, OK),
    ({"IfMatch": OTHER, "IfUnmodifiedSince": SAME}, FAILED),
    ({"IfNoneMatch": ETAG, "IfModifiedSince": BEFORE}, NOT_MODIFIED),
    ({"IfNoneMatch": OTHER, "IfModifiedSince": SAME}, OK),
    # The first pair fails before the second says that nothing is new.
    ({"IfMatch": OTHER, "IfNoneMatch": ETAG}, FAILED),
    ({"IfMatch": ETAG, "IfNoneMatch": ETAG}, NOT_MODIFIED),
    ({"IfMatch": ETAG, "IfNoneMatch": OTHER}, OK),
    ({"IfUnmodifiedSince": BEFORE, "IfModifiedSince": SAME}, FAILED),
    ({"IfUnmodifiedSince": SAME, "IfModifiedSince": BEFORE}, OK),
]


def name(conditions):
    return " ".join(
        f"{header}={'etag' if value == ETAG else 'other' if value == OTHER else value}"
        for header, value in conditions.items()
    )


@pytest.mark.parametrize(("conditions", "status"), READS, ids=[name(c) for c, _ in READS])
@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_reads(s3, bucket, put, operation, conditions, status):
    put("key", BODY)
    modified = s3.head_object(Bucket=bucket, Key="key")["LastModified"]
    wish = {
        header: modified + value if isinstance(value, datetime.timedelta) else value
        for header, value in conditions.items()
    }

    def run():
        return getattr(s3, operation)(Bucket=bucket, Key="key", **wish)

    if status == OK:
        assert run()["ETag"] == ETAG
        return
    code = "PreconditionFailed" if (status, operation) == (FAILED, "get_object") else str(status)
    with refused(status, code) as caught:
        run()
    if status == NOT_MODIFIED:
        assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["etag"] == ETAG


@pytest.mark.parametrize("wish", [{"IfMatch": ETAG}, {"IfNoneMatch": ETAG}])
def test_reads_of_absent_keys_are_not_found(s3, bucket, wish):
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="absent", **wish)


def completed(s3, bucket, key, body, **wish):
    """A multipart upload of one part, completed with these conditions."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}, **wish)


def copied(s3, bucket, key, body, **wish):
    s3.put_object(Bucket=bucket, Key=f"source of {key}", Body=body)
    return s3.copy_object(
        Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": f"source of {key}"}, **wish)


WRITES = {
    "put": lambda s3, bucket, key, body, **wish: s3.put_object(
        Bucket=bucket, Key=key, Body=body, **wish),
    "complete": completed,
    "copy": copied,
}


@pytest.fixture(params=WRITES)
def write(request, s3, bucket):
    """Each of the ways to write an object."""
    return lambda key, body, **wish: WRITES[request.param](s3, bucket, key, body, **wish)


@pytest.mark.parametrize("size", [10, 50_000, 300_000])
def test_if_none_match_writes_only_where_nothing_is(s3, bucket, write, size):
    first, second = content("first", size), content("second", size)
    write("key", first, IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        write("key", second, IfNoneMatch="*")
    assert read(s3, bucket, "key") == first
    s3.delete_object(Bucket=bucket, Key="key")
    write("key", second, IfNoneMatch="*")
    assert read(s3, bucket, "key") == second


@pytest.mark.parametrize("size", [10, 50_000, 300_000])
def test_if_match_writes_only_over_that_version(s3, bucket, put, write, size):
    first, second = content("first", size), content("second", size)
    etag = put("key", first)["ETag"]
    with refused(412, "PreconditionFailed"):
        write("key", second, IfMatch=OTHER)
    assert read(s3, bucket, "key") == first
    write("key", second, IfMatch=etag)
    assert read(s3, bucket, "key") == second
    with refused(412, "PreconditionFailed"):
        write("key", first, IfMatch=etag)
    assert read(s3, bucket, "key") == second


def test_if_match_on_an_absent_key_is_not_found(s3, bucket, write):
    with refused(404, "NoSuchKey"):
        write("key", BODY, IfMatch=OTHER)
    absent(s3, bucket, "key")


def test_a_write_takes_only_the_star_for_absence(s3, bucket, write):
    with refused(501, "NotImplemented"):
        write("key", BODY, IfNoneMatch=OTHER)
    absent(s3, bucket, "key")


def test_a_conditional_delete_is_never_unconditional(s3, bucket, put):
    """It may be refused as not implemented, but a wrong ETag must not delete."""
    put("key", BODY)
    with pytest.raises(ClientError) as caught:
        s3.delete_object(Bucket=bucket, Key="key", IfMatch=OTHER)
    assert caught.value.response["Error"]["Code"] in ("PreconditionFailed", "NotImplemented")
    assert read(s3, bucket, "key") == BODY


def test_a_conditional_batch_delete_is_never_unconditional(s3, bucket, put):
    put("key", BODY)
    try:
        answer = s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": "key", "ETag": OTHER}]})
        codes = [error["Code"] for error in answer.get("Errors", [])]
    except ClientError as error:
        codes = [error.response["Error"]["Code"]]
    assert codes in (["PreconditionFailed"], ["NotImplemented"])
    assert read(s3, bucket, "key") == BODY


def race(count, work):
    """Runs `work(i)` in `count` threads that start together; returns what they returned."""
    barrier = threading.Barrier(count)
    results = [None] * count

    def run(i):
        barrier.wait()
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in results, results
    return results


@pytest.mark.parametrize("size", [10, 50_000, 300_000])
@pytest.mark.parametrize("turn", range(3))
def test_exactly_one_of_twenty_creates_the_key(up, s3, bucket, size, turn):
    bares = [up.bare() for _ in range(20)]
    bodies = [content(f"racer {i}", size) for i in range(20)]

    def work(i):
        return bares[i].request(
            "PUT", f"/{bucket}/key", body=bodies[i], headers={"if-none-match": "*"})[0]

    statuses = race(20, work)
    winners = [i for i, status in enumerate(statuses) if status == 200]
    assert len(winners) == 1, statuses
    assert set(statuses) <= {200, 409, 412}, statuses
    assert read(s3, bucket, "key") == bodies[winners[0]]


def test_no_update_is_lost_with_if_match(up, s3, bucket, put):
    """Eight threads increment one number by compare-and-swap."""
    put("counter", b"0")

    def work(_):
        client, wins = up.client(), 0
        for _ in range(15):
            answer = client.get_object(Bucket=bucket, Key="counter")
            number = int(answer["Body"].read())
            try:
                client.put_object(Bucket=bucket, Key="counter", Body=str(number + 1).encode(),
                                  IfMatch=answer["ETag"])
                wins += 1
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error
        return wins

    wins = race(8, work)
    assert sum(wins) > 0
    assert int(read(s3, bucket, "counter")) == sum(wins), wins
