"""Signatures: what is accepted, and everything that must not be."""

import base64
import datetime
import hashlib
import hmac
import re
import time
import urllib.parse

import pytest

from harness.checksums import md5_text
from harness.expect import absent, read, refused
from harness.signature_v4 import UNSIGNED, Signer, target_of

DAY_S = 86_400


def now(**shift):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**shift)


@pytest.fixture
def path(bucket, put):
    """An object with the body b"body"."""
    put("key", b"body")
    return f"/{bucket}/key"


def test_a_wrong_secret(up, raw, path):
    keys = (up.credentials[0], "x" * 40)
    for method in ("GET", "PUT", "DELETE"):
        answer = raw.send(method, path, signer=raw.signer(keys))
        answer.refuses(403, "SignatureDoesNotMatch")
    assert raw.send("GET", path).body == b"body"


@pytest.mark.parametrize("key", [
    "AKIAUNKNOWNUNKNOWN00", "x", "a" * 128, "MGLUNKNOWNUNKNOWNUNK", "MGLUNKNOWNUNKNOWNUNKNOWN",
])
def test_an_unknown_key(up, raw, path, key):
    signer = raw.signer((key, up.credentials[1]))
    answer = raw.send("GET", path, signer=signer)
    answer.refuses(403, "InvalidAccessKeyId")


def test_a_refusal_tells_no_secret_and_no_right_signature(up, raw, path):
    signer = raw.signer()
    sent = signer.headers("GET", path)
    right = signer.seed
    wrong = sent["authorization"].replace(right, "0" * 64)
    answer = raw.plain("GET", path, {**sent, "authorization": wrong})
    answer.refuses(403, "SignatureDoesNotMatch")
    everything = answer.body + str(answer.headers).encode()
    assert right.encode() not in everything
    assert up.credentials[1].encode() not in everything


@pytest.mark.parametrize(("method", "tail"), [
    ("GET", "/key"), ("HEAD", "/key"), ("PUT", "/new"), ("DELETE", "/key"), ("GET", ""),
    ("GET", "?list-type=2"), ("POST", "?delete"), ("POST", "/new?uploads"), ("DELETE", ""),
])
def test_nobody_gets_in_unsigned(raw, s3, bucket, path, method, tail):
    answer = raw.plain(method, f"/{bucket}{tail}", {"content-length": "0"})
    assert answer.status == 403
    if method != "HEAD":
        assert answer.code == "AccessDenied"
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["key"]


def test_nobody_lists_or_creates_buckets_unsigned(raw):
    raw.plain("GET", "/").refuses(403, "AccessDenied")
    raw.plain("PUT", "/anonymous-bucket", {"content-length": "0"}).refuses(403, "AccessDenied")


@pytest.mark.parametrize("minutes", [-14, 14])
def test_clocks_may_differ_a_little(raw, path, minutes):
    answer = raw.send("GET", path, signer=raw.signer(now=now(minutes=minutes)))
    assert answer.body == b"body"


@pytest.mark.parametrize("shift", [{"minutes": -16}, {"minutes": 16}, {"days": -1}, {"days": 400}])
def test_a_skewed_clock(raw, path, shift):
    answer = raw.send("GET", path, signer=raw.signer(now=now(**shift)))
    answer.refuses(403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("scope", [{"region": "eu-west-1"}, {"service": "ec2"}, {"region": ""}])
def test_a_wrong_scope(raw, path, scope):
    answer = raw.send("GET", path, signer=raw.signer(**scope))
    answer.refuses(400, "AuthorizationHeaderMalformed")
    answer = raw.plain("GET", raw.signer(**scope).presign("GET", path))
    answer.refuses(400, "AuthorizationQueryParametersError")


def test_a_scope_of_another_day(raw, path):
    signer = raw.signer()
    yesterday = now(days=-1).strftime("%Y%m%d")
    signer.scope = yesterday + signer.scope[8:]
    answer = raw.send("GET", path, signer=signer)
    assert answer.status in (400, 403), answer.body
    assert answer.code in ("AuthorizationHeaderMalformed", "SignatureDoesNotMatch")


BROKEN = [
    "", "nonsense", "Bearer abcdef", "Basic dXNlcjpwYXNz", "AWS4-HMAC-SHA256",
    "AWS4-HMAC-SHA256 Credential=x", "AWS4-HMAC-SHA256 Credential=a/b/c, Signature=0",
    "AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
    "AWS4-HMAC-SHA256 " + "A" * 5_000, "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/e",
]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_authorization_headers(raw, path, text):
    sent = raw.signer().headers("GET", path)
    answer = raw.plain("GET", path, {**sent, "authorization": text})
    assert answer.status in (400, 403, 501), answer.body
    assert answer.code in ("AuthorizationHeaderMalformed", "InvalidArgument", "InvalidRequest",
                           "AccessDenied", "MissingSecurityHeader", "NotImplemented")


def test_date_headers_that_are_missing_or_broken(raw, path):
    sent = raw.signer().headers("GET", path)
    for date in (None, "", "yesterday", "20260101", "2026-01-01T00:00:00Z"):
        headers = {n: v for n, v in {**sent, "x-amz-date": date}.items() if v is not None}
        answer = raw.plain("GET", path, headers)
        assert answer.status in (400, 403), (date, answer.body)


def tampered(raw, signed_path, **change):
    """Signs a GET and sends something else."""
    sent = raw.signer().headers("GET", signed_path, {"response-content-type": "text/x"},
                                {"x-amz-meta-a": "1", "range": "bytes=0-1"})
    method = change.get("method", "GET")
    query = change.get("query", {"response-content-type": "text/x"})
    target = target_of(change.get("path", signed_path), query)
    return raw.plain(method, target, {**sent, **change.get("headers", {})})


def test_tampering_is_seen(raw, path):
    assert tampered(raw, path).body == b"bo"
    changes = [
        {"method": "DELETE"}, {"path": path + "2"}, {"query": {}},
        {"query": {"response-content-type": "text/y"}},
        {"query": {"response-content-type": "text/x", "acl": ""}},
        {"headers": {"x-amz-meta-a": "2"}}, {"headers": {"range": "bytes=0-2"}},
        {"headers": {"host": "elsewhere"}},
    ]
    for change in changes:
        tampered(raw, path, **change).refuses(403, "SignatureDoesNotMatch")
    assert raw.send("GET", path).body == b"body"


def test_a_body_that_is_not_the_signed_one(raw, s3, bucket):
    good = hashlib.sha256(b"good").hexdigest()
    answer = raw.send("PUT", f"/{bucket}/new", b"evil", payload=good)
    answer.refuses(400, "XAmzContentSHA256Mismatch")
    absent(s3, bucket, "new")
    big = b"e" * 400_000
    answer = raw.send("PUT", f"/{bucket}/new", big, payload=good)
    answer.refuses(400, "XAmzContentSHA256Mismatch")
    absent(s3, bucket, "new")


def test_a_batch_that_is_not_the_signed_one(raw, s3, bucket, path):
    body = b"<Delete><Object><Key>key</Key></Object></Delete>"
    answer = raw.send("POST", f"/{bucket}", body, query={"delete": ""},
                      headers={"content-md5": md5_text(body)},
                      payload=hashlib.sha256(b"good").hexdigest())
    answer.refuses(400, "XAmzContentSHA256Mismatch")
    assert read(s3, bucket, "key") == b"body"


@pytest.mark.parametrize("value", ["abc", "0" * 63, "UNSIGNED", "STREAMING-NONSENSE", ""])
def test_a_payload_hash_that_is_none(raw, s3, bucket, value):
    signer = raw.signer()
    sent = signer.headers("PUT", f"/{bucket}/new", payload=value)
    answer = raw.plain("PUT", f"/{bucket}/new", sent, b"body")
    assert answer.status == 400, answer.body
    assert answer.code in ("InvalidArgument", "InvalidRequest", "XAmzContentSHA256Mismatch")
    absent(s3, bucket, "new")


def test_a_payload_hash_that_is_missing(raw, s3, bucket):
    sent = raw.signer().headers("PUT", f"/{bucket}/new", headers={"x-amz-content-sha256": None},
                                payload=hashlib.sha256(b"body").hexdigest())
    assert "x-amz-content-sha256" not in sent
    answer = raw.plain("PUT", f"/{bucket}/new", sent, b"body")
    assert answer.status == 400, answer.body
    absent(s3, bucket, "new")


ADDED = {"x-amz-meta-evil": "1", "x-amz-acl": "public-read", "x-amz-copy-source": "/other/key",
         "x-amz-storage-class": "GLACIER", "x-amz-server-side-encryption": "AES256"}


@pytest.mark.parametrize("name", ADDED)
def test_an_amz_header_added_after_signing(raw, s3, bucket, name):
    """Whoever holds another's signed request must not be able to change its meaning."""
    answer = raw.send("PUT", f"/{bucket}/new", b"body", extra={name: ADDED[name]})
    answer.refuses(403, "AccessDenied", "SignatureDoesNotMatch")
    target = raw.signer().presign("PUT", f"/{bucket}/new")
    answer = raw.plain("PUT", target, {name: ADDED[name]}, b"body")
    answer.refuses(403, "AccessDenied", "SignatureDoesNotMatch")
    absent(s3, bucket, "new")


def test_the_host_must_be_signed(raw, path):
    signer = raw.signer()
    sent = signer.headers("GET", path, headers={"host": None})
    assert "host" not in sent
    answer = raw.plain("GET", path, sent)
    assert answer.status in (400, 403), answer.body


def test_two_signatures_at_once(raw, path):
    signer = raw.signer()
    target = signer.presign("GET", path)
    answer = raw.plain("GET", target, signer.headers("GET", path))
    assert answer.status in (400, 403), answer.body
    assert answer.code in ("InvalidArgument", "SignatureDoesNotMatch", "AccessDenied")


def test_a_session_token_of_nobody(raw, path):
    answer = raw.send("GET", path, headers={"x-amz-security-token": "x" * 100})
    assert answer.status in (400, 403), answer.body
    assert answer.code in ("InvalidToken", "InvalidAccessKeyId", "AccessDenied")


def v2_signature(secret, text):
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def test_signature_version_2_by_header(up, raw, path):
    """The signature is right: the request is refused for its age."""
    key, secret = up.credentials
    date = now().strftime("%a, %d %b %Y %H:%M:%S GMT")
    signature = v2_signature(secret, f"GET\n\n\n{date}\n{path}")
    answer = raw.plain("GET", path, {"date": date, "authorization": f"AWS {key}:{signature}"})
    answer.refuses(400, "InvalidRequest")


def test_signature_version_2_by_query(up, raw, path):
    key, secret = up.credentials
    expires = int(time.time()) + 600
    signature = v2_signature(secret, f"GET\n\n\n{expires}\n{path}")
    query = urllib.parse.urlencode(
        {"AWSAccessKeyId": key, "Expires": expires, "Signature": signature})
    answer = raw.plain("GET", f"{path}?{query}")
    answer.refuses(400, "InvalidRequest")


def test_a_disowned_key_may_not_reach_into_the_bucket(raw, path, stranger_keys):
    signer = raw.signer(stranger_keys)
    raw.send("GET", path, signer=signer).refuses(403, "AccessDenied")
    raw.plain("GET", raw.signer(stranger_keys).presign("GET", path)).refuses(403, "AccessDenied")


def test_path_and_query_are_signed_as_sent(raw, s3, bucket):
    """Odd characters make signers and servers disagree."""
    for key in ("a b", "a+b", "a%20b", "ü", "a//b", "a/./b", "~", "*", "'()!"):
        query = {"x-id": "PutObject", "é": "+ "}
        answer = raw.send("PUT", f"/{bucket}/{key}", b"body", query=query)
        assert answer.status == 200, (key, answer.body)
        assert read(s3, bucket, key) == b"body"


# Presigned requests.

def test_presigned_get_and_put(raw, s3, bucket):
    path = f"/{bucket}/pre signed+ü"
    answer = raw.plain("PUT", raw.signer().presign("PUT", path), {}, b"uploaded")
    assert answer.status == 200, answer.body
    answer = raw.plain("GET", raw.signer().presign("GET", path))
    assert (answer.status, answer.body) == (200, b"uploaded")
    assert raw.plain("HEAD", raw.signer().presign("HEAD", path)).status == 200
    assert raw.plain("DELETE", raw.signer().presign("DELETE", path)).status == 204
    absent(s3, bucket, "pre signed+ü")


def test_presigned_with_signed_headers(raw, s3, bucket):
    headers = {"content-type": "text/x", "x-amz-meta-a": "1"}
    target = raw.signer().presign("PUT", f"/{bucket}/key", headers=headers)
    answer = raw.plain("PUT", target, headers, b"body")
    assert answer.status == 200, answer.body
    head = s3.head_object(Bucket=bucket, Key="key")
    assert (head["ContentType"], head["Metadata"]) == ("text/x", {"a": "1"})
    for other in ({}, {"content-type": "text/x"}, {**headers, "x-amz-meta-a": "2"}):
        answer = raw.plain("PUT", target, other, b"other")
        assert answer.status == 403, answer.body
    assert read(s3, bucket, "key") == b"body"


def test_presigned_with_response_headers(raw, path):
    target = raw.signer().presign("GET", path, query={"response-content-type": "text/y"})
    answer = raw.plain("GET", target)
    assert answer.headers["content-type"] == "text/y"


def test_presigned_by_boto3(s3, raw, bucket, path):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    parts = urllib.parse.urlsplit(url)
    answer = raw.plain("GET", f"{parts.path}?{parts.query}", {"host": parts.netloc})
    assert answer.body == b"body"


@pytest.mark.parametrize(("ago_s", "expires"), [(2, 1), (3_700, 3_600), (8 * DAY_S, 7 * DAY_S)])
def test_an_expired_url(raw, path, ago_s, expires):
    target = raw.signer(now=now(seconds=-ago_s)).presign("GET", path, expires=expires)
    answer = raw.plain("GET", target)
    answer.refuses(403, "AccessDenied")


def test_an_old_url_that_lasts(raw, path):
    target = raw.signer(now=now(days=-6)).presign("GET", path, expires=7 * DAY_S)
    assert raw.plain("GET", target).body == b"body"


def test_a_url_of_the_future(raw, path):
    target = raw.signer(now=now(hours=1)).presign("GET", path)
    raw.plain("GET", target).refuses(403, "AccessDenied", "RequestTimeTooSkewed")


@pytest.mark.parametrize("expires", [7 * DAY_S + 1, 10**12, 10**30, -1, "abc", "", "1.5"])
def test_a_span_of_time_that_no_url_may_have(raw, path, expires):
    target = raw.signer().presign("GET", path, expires=expires)
    raw.plain("GET", target).refuses(400, "AuthorizationQueryParametersError")


def test_a_url_without_any_time(raw, path):
    answer = raw.plain("GET", raw.signer().presign("GET", path, expires=0))
    assert (answer.status, answer.code) in (
        (400, "AuthorizationQueryParametersError"), (403, "AccessDenied"))


def test_seven_days_are_allowed(raw, path):
    target = raw.signer().presign("GET", path, expires=7 * DAY_S)
    assert raw.plain("GET", target).body == b"body"


def test_a_tampered_url(raw, s3, bucket, path):
    target = raw.signer().presign("GET", path, expires=100)
    other = [
        ("DELETE", target),
        ("PUT", target),
        ("GET", target.replace("/key?", "/key2?")),
        ("GET", target + "&response-content-type=text%2Fhtml"),
        ("GET", target.replace("X-Amz-Expires=100", "X-Amz-Expires=1000")),
        ("GET", re.sub(r"Signature=\w{4}", "Signature=0000", target)),
    ]
    for method, changed in other:
        raw.plain(method, changed).refuses(403, "SignatureDoesNotMatch")
    assert read(s3, bucket, "key") == b"body"


@pytest.mark.parametrize("name", ["X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                                  "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Algorithm"])
def test_a_url_that_lacks_something(raw, path, name):
    target = raw.signer().presign("GET", path)
    answer = raw.plain("GET", re.sub(rf"{name}=[^&]*&?", "", target).rstrip("&"))
    assert answer.status in (400, 403), answer.body
    assert answer.code in ("AuthorizationQueryParametersError", "AccessDenied", "InvalidArgument",
                           "InvalidRequest")


def test_a_url_of_a_wrong_secret(up, raw, path):
    target = raw.signer((up.credentials[0], "x" * 40)).presign("GET", path)
    raw.plain("GET", target).refuses(403, "SignatureDoesNotMatch")


def test_an_unsigned_payload_is_allowed_with_a_signature(raw, s3, bucket):
    assert raw.send("PUT", f"/{bucket}/key", b"body", payload=UNSIGNED).status == 200
    assert read(s3, bucket, "key") == b"body"


def test_a_signature_for_one_endpoint_is_none_for_another(raw, path):
    signer = Signer("s3.example.com", *raw.keys)
    sent = signer.headers("GET", path)
    answer = raw.plain("GET", path, {**sent, "host": raw.host})
    answer.refuses(403, "SignatureDoesNotMatch")


def test_boto3_without_a_signature(up, bucket, put):
    from botocore import UNSIGNED as NOBODY
    put("key", b"body")
    with refused(403, "AccessDenied"):
        up.client(signature_version=NOBODY).get_object(Bucket=bucket, Key="key")
