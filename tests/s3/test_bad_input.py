"""Bad input gets S3's own error, and loses nothing."""

import errno
import http.client
import socket
import uuid

import pytest

from harness.checksums import md5_text
from harness.expect import absent, content, read, refused
from harness.raw_http import Gone
from harness.signature_v4 import UNSIGNED, target_of

GIB = 1 << 30


@pytest.fixture
def key(bucket, put):
    """An object that must survive."""
    put("key", b"kept")
    return "key"


def post_xml(raw, path, query, body):
    return raw.send("POST", path, body, query=query, headers={"content-md5": md5_text(body)})


BOMB = (b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "' + b"x" * 1_000 + b'">'
        + b"".join(f'<!ENTITY a{i + 1} "{f"&a{i or str()};" * 20}">'.encode() for i in range(8))
        + b"]>")
NO_XML = [b"nonsense", b"<", b"<Delete", b"<Delete></Other>", b"\xff\xfe\x00", b"{}",
          b'<?xml version="1.0" encoding="no-such"?>', b"<a>" * 10_000]
NO_DELETE = [
    *NO_XML, b"<Delete/>", b"<Delete></Delete>", b"<Other><Object><Key>key</Key></Object></Other>",
    b"<Delete><Object></Object></Delete>", b"<Delete><Object><Key>key</Key></Object>",
    b"<Delete><Object><Key>key</Key></Object><Quiet>maybe</Quiet></Delete>",
    BOMB + b"<Delete><Object><Key>&a8;</Key></Object></Delete>",
    b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<Delete><Object><Key>&x;</Key></Object></Delete>",
]
NO_COMPLETE = [
    *NO_XML, b"<CompleteMultipartUpload/>", b"<Other/>",
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
    b"<CompleteMultipartUpload><Part><ETag>0</ETag></Part></CompleteMultipartUpload>",
    b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>0</ETag></Part>"
    b"</CompleteMultipartUpload>",
]


@pytest.mark.parametrize("body", NO_DELETE, ids=lambda body: ascii(body[:60]))
def test_malformed_batch_deletes(raw, s3, bucket, key, body):
    post_xml(raw, f"/{bucket}", {"delete": ""}, body).refuses(400, "MalformedXML")
    assert read(s3, bucket, key) == b"kept"


def test_an_empty_batch_delete(raw, s3, bucket, key):
    answer = post_xml(raw, f"/{bucket}", {"delete": ""}, b"")
    answer.refuses(400, "MalformedXML", "MissingRequestBodyError")
    assert read(s3, bucket, key) == b"kept"


def test_a_batch_delete_needs_a_digest(raw, s3, bucket, key):
    body = b"<Delete><Object><Key>key</Key></Object></Delete>"
    answer = raw.send("POST", f"/{bucket}", body, query={"delete": ""})
    answer.refuses(400, "InvalidRequest")
    answer = raw.send("POST", f"/{bucket}", body, query={"delete": ""},
                      headers={"content-md5": md5_text(b"other")})
    answer.refuses(400, "BadDigest")
    assert read(s3, bucket, key) == b"kept"


@pytest.mark.parametrize("body", NO_COMPLETE, ids=lambda body: ascii(body[:60]))
def test_malformed_completes(raw, s3, bucket, body):
    names = {"Bucket": bucket, "Key": "big"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    part = s3.upload_part(**names, PartNumber=1, Body=b"x")
    answer = post_xml(raw, f"/{bucket}/big", {"uploadId": names["UploadId"]}, body)
    answer.refuses(400, "MalformedXML")
    absent(s3, bucket, "big")
    s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})


def test_endless_xml_is_not_read_to_its_end(raw, s3, bucket, key):
    """A list of 1,000 keys needs 2 MiB at most; no honest list has ten times that."""
    body = b"<Delete>" + b" " * (20 << 20)
    try:
        answer = post_xml(raw, f"/{bucket}", {"delete": ""}, body)
        assert answer.status in (400, 413), answer.body
    except Gone:
        pass
    assert read(s3, bucket, key) == b"kept"


@pytest.mark.parametrize("body", [b"nonsense", b"<Other/>", b"<CreateBucketConfiguration>"])
def test_malformed_bucket_creations(raw, body):
    name = f"malformed-{uuid.uuid4()}"
    raw.send("PUT", f"/{name}", body).refuses(400, "MalformedXML")
    assert raw.send("HEAD", f"/{name}").status == 404


# Bodies and their lengths.

def send_announced(raw, path, length, body, half_close=True):
    """Announces one length and sends another."""
    headers = raw.signer().headers("PUT", path, payload=UNSIGNED)
    return raw.plain("PUT", path, {**headers, "content-length": str(length)}, body,
                     half_close=half_close)


@pytest.mark.parametrize("length", [5, 5_000, 100_000, 1_000_000])
@pytest.mark.parametrize("missing", [1, 5, 4_000])
def test_a_body_that_ends_early_stores_nothing(raw, s3, bucket, key, length, missing):
    body = content("short", length)[: max(0, length - missing)]
    for name in ("key", "new"):
        try:
            answer = send_announced(raw, f"/{bucket}/{name}", length, body)
            assert answer.status == 400, answer.body
        except Gone:
            pass
    assert read(s3, bucket, key) == b"kept"
    absent(s3, bucket, "new")


def test_an_upload_that_is_cut_off_stores_nothing(raw, s3, bucket, key):
    """The connection is reset in the middle of a body of two segments."""
    path = f"/{bucket}/key"
    headers = raw.signer().headers("PUT", path, payload=UNSIGNED)
    head = [f"PUT {path} HTTP/1.1", f"content-length: {70 << 20}",
            *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(raw.address, timeout=60) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall("\r\n".join([*head, "", ""]).encode())
        sock.sendall(content("cut off", 66 << 20))
    assert read(s3, bucket, key) == b"kept"


def test_no_length_at_all(raw, s3, bucket):
    path = f"/{bucket}/new"
    headers = raw.signer().headers("PUT", path, payload=UNSIGNED)
    raw.plain("PUT", path, headers, b"").refuses(411, "MissingContentLength")
    absent(s3, bucket, "new")


def test_chunked_transfer_without_a_length(raw, s3, bucket):
    path = f"/{bucket}/new"
    headers = raw.signer().headers("PUT", path, payload=UNSIGNED)
    answer = raw.plain("PUT", path, {**headers, "transfer-encoding": "chunked"},
                       b"4\r\nbody\r\n0\r\n\r\n")
    assert (answer.status, answer.code) in (
        (411, "MissingContentLength"), (501, "NotImplemented")), answer.body
    absent(s3, bucket, "new")


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "", "9" * 30, "4, 5"])
def test_a_length_that_is_no_number(raw, s3, bucket, length):
    try:
        answer = send_announced(raw, f"/{bucket}/new", length, b"body")
        assert answer.status == 400, answer.body
    except Gone:
        pass
    absent(s3, bucket, "new")


def test_two_lengths(raw, s3, bucket):
    path = f"/{bucket}/new"
    headers = [*raw.signer().headers("PUT", path, payload=UNSIGNED).items(),
               ("content-length", "4"), ("content-length", "40")]
    try:
        assert raw.plain("PUT", path, headers, b"body", half_close=True).status == 400
    except Gone:
        pass
    absent(s3, bucket, "new")


@pytest.mark.parametrize("length", [5 * GIB + 1, 1 << 62])
@pytest.mark.parametrize("query", [{}, {"partNumber": "1"}])
def test_more_than_five_gib_is_refused_before_it_is_sent(raw, s3, bucket, length, query):
    path = f"/{bucket}/new"
    if query:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="new")["UploadId"]
        query = {**query, "uploadId": upload}
    headers = raw.signer().headers("PUT", path, query, payload=UNSIGNED)
    headers |= {"content-length": str(length), "expect": "100-continue"}
    answer = raw.plain("PUT", target_of(path, query), headers)
    answer.refuses(400, "EntityTooLarge")
    absent(s3, bucket, "new")


def test_expect_continue_is_not_answered_before_the_signature(raw, up, bucket):
    path = f"/{bucket}/new"
    signer = raw.signer((up.credentials[0], "x" * 40))
    headers = signer.headers("PUT", path, payload=UNSIGNED)
    headers |= {"content-length": "1000000", "expect": "100-continue"}
    raw.plain("PUT", path, headers).refuses(403, "SignatureDoesNotMatch")


# Connections.

def answers_on_one_connection(raw, requests):
    """Sends each request after the answer to the one before; obeys `Connection: close`."""
    connection = http.client.HTTPConnection(*raw.address, timeout=20)
    answers = []
    for method, path, headers, body in requests:
        sent = raw.signer().headers(method, path, headers=headers, payload=UNSIGNED)
        sent.pop("host")
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        try:
            connection.endheaders(body)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        except (BrokenPipeError, ConnectionResetError):
            assert body, "closed without a word before a request without a body"
            connection.close()  # to hang up in the middle of a long body is right
            answers.append(None)
    connection.close()
    return answers


@pytest.mark.parametrize("size", [2, 5_000, 2_000_000])
@pytest.mark.parametrize("expects", [True, False])
def test_a_refused_body_does_not_disturb_the_next_request(raw, bucket, key, size, expects):
    """The body of a refused PUT is skipped or never sent. Its connection must either go on with
    the next request or be announced as closed; its bytes must never be taken for a request, nor
    the next request for its bytes."""
    path = f"/{bucket}/key"
    refused_put = {"if-none-match": "*", "content-length": str(size)}
    if expects:
        # Nothing is sent after the refusal, as HTTP requires.
        refused_put["expect"] = "100-continue"
    body = None if expects else content("refused", size)
    requests = [("PUT", path, refused_put, body), ("GET", path, {}, None)] * 5
    assert answers_on_one_connection(raw, requests)[1::2] == [(200, b"kept")] * 5


def served(s3, bucket):
    assert read(s3, bucket, "key") == b"kept"


@pytest.mark.parametrize("extra", [
    {"x-long": "x" * (2 << 20)}, {f"x-many-{i}": "x" for i in range(5_000)},
    {"x-amz-meta-long": "x" * (64 << 10)}, {"authorization": "x" * (1 << 20)},
], ids=["one", "many", "metadata", "authorization"])
def test_huge_headers_are_refused(raw, s3, bucket, key, extra):
    try:
        answer = raw.send("PUT", f"/{bucket}/key", b"body", extra=extra)
        assert 400 <= answer.status < 500, answer.body
    except Gone:
        pass
    served(s3, bucket)


@pytest.mark.parametrize("size", [100_000, 10_000_000])
def test_huge_targets_are_refused(raw, s3, bucket, key, size):
    try:
        answer = raw.plain("GET", f"/{bucket}/{'x' * size}")
        assert 400 <= answer.status < 500, answer.body
    except Gone:
        pass
    served(s3, bucket)


GARBAGE = [b"\0" * 5_000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n",
           b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
           b"GET / HTTP/1.1\r\nHost: a\r\n bad folding\r\n\r\n"]


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: ascii(data[:20]))
def test_garbage_harms_nobody(raw, s3, bucket, key, data):
    with socket.create_connection(raw.address, timeout=60) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
        except OSError as error:
            # The server has closed already.
            assert error.errno == errno.ENOTCONN
    served(s3, bucket)


def test_slow_and_silent_clients_block_nobody(raw, s3, bucket, key):
    """Two hundred connections say half of something; the others are served meanwhile."""
    path = f"/{bucket}/new"
    signed = raw.signer().headers("PUT", path, payload=UNSIGNED)
    lines = [f"{name}: {value}" for name, value in signed.items()]
    half_head = f"PUT {path} HTTP/1.1\r\n{lines[0]}\r\nx-half".encode()
    half_body = "\r\n".join([f"PUT {path} HTTP/1.1", *lines, "content-length: 5000000", "", "x"])
    sockets = [socket.create_connection(raw.address, timeout=60) for _ in range(200)]
    try:
        for number, sock in enumerate(sockets):
            sock.sendall((b"", half_head, half_body.encode())[number % 3])
        for turn in range(20):
            served(s3, bucket)
            body = content(f"meanwhile {turn}", 300_000)
            s3.put_object(Bucket=bucket, Key=f"meanwhile/{turn}", Body=body)
            assert read(s3, bucket, f"meanwhile/{turn}") == body
    finally:
        for sock in sockets:
            sock.close()
    absent(s3, bucket, "new")


def test_a_reader_that_goes_away_harms_nobody(raw, s3, bucket, key, put):
    put("long", content("long", 20 << 20))
    path = f"/{bucket}/long"
    headers = raw.signer().headers("GET", path)
    head = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for _ in range(20):
        with socket.create_connection(raw.address, timeout=60) as sock:
            sock.sendall("\r\n".join([*head, "", ""]).encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
    served(s3, bucket)


# Names of things that don't exist.

def upload_of(bucket):
    return {"Bucket": bucket, "Key": "k", "UploadId": "x"}


IN_NO_BUCKET = {
    "list v1": lambda c, b: c.list_objects(Bucket=b),
    "list v2": lambda c, b: c.list_objects_v2(Bucket=b),
    "list uploads": lambda c, b: c.list_multipart_uploads(Bucket=b),
    "location": lambda c, b: c.get_bucket_location(Bucket=b),
    "delete bucket": lambda c, b: c.delete_bucket(Bucket=b),
    "put": lambda c, b: c.put_object(Bucket=b, Key="k", Body=b"x"),
    "get": lambda c, b: c.get_object(Bucket=b, Key="k"),
    "delete": lambda c, b: c.delete_object(Bucket=b, Key="k"),
    "batch": lambda c, b: c.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "k"}]}),
    "copy": lambda c, b: c.copy_object(Bucket=b, Key="k", CopySource={"Bucket": b, "Key": "s"}),
    "create upload": lambda c, b: c.create_multipart_upload(Bucket=b, Key="k"),
    "upload part": lambda c, b: c.upload_part(**upload_of(b), PartNumber=1, Body=b"x"),
    "list parts": lambda c, b: c.list_parts(**upload_of(b)),
    "abort": lambda c, b: c.abort_multipart_upload(**upload_of(b)),
}


@pytest.mark.parametrize("operation", IN_NO_BUCKET)
def test_unknown_buckets(s3, operation):
    with refused(404, "NoSuchBucket"):
        IN_NO_BUCKET[operation](s3, f"missing-{uuid.uuid4()}")


def test_unknown_keys(s3, bucket):
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="absent")
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="absent", Range="bytes=0-1")
    absent(s3, bucket, "absent")
    with refused(404):
        s3.head_object(Bucket=f"missing-{uuid.uuid4()}", Key="k")


def test_errors_are_s3s_xml(raw, bucket):
    answer = raw.send("GET", f"/{bucket}/a%20<b>")
    answer.refuses(404, "NoSuchKey")
    assert answer.headers["content-type"] == "application/xml"
    request_id = answer.headers["x-amz-request-id"]
    assert request_id and f"<RequestId>{request_id}</RequestId>".encode() in answer.body
    assert b"<Message>" in answer.body
    other = raw.send("GET", f"/{bucket}/absent").headers["x-amz-request-id"]
    assert other != request_id
    head = raw.send("HEAD", f"/{bucket}/absent")
    assert (head.status, head.body) == (404, b"")
    assert head.headers["x-amz-request-id"]


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "MKCOL", "NONSENSE"])
def test_unknown_methods(raw, s3, bucket, key, method):
    for path in (f"/{bucket}", f"/{bucket}/key"):
        answer = raw.send(method, path)
        assert answer.status in (400, 405, 501), answer.body
    served(s3, bucket)


def test_methods_where_they_mean_nothing(raw, s3, bucket, key):
    assert raw.send("POST", f"/{bucket}/key", b"body").status in (400, 405, 501)
    for method in ("PUT", "POST", "DELETE"):
        assert raw.send(method, "/").status in (400, 405, 501)
    served(s3, bucket)
