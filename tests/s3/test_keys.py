"""Odd keys: a key is bytes with an order, never a path, never a piece of XML or of a URL."""

import urllib.parse
import xml.etree.ElementTree as ElementTree

import pytest

from harness.expect import MIB, content, read, refused, same

NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
ODD = [
    "a/../b", "a/./b", "a/..", "./a", ".", "...", ".hidden", "a//b", "//", "/", "/lead", "///a",
    "trail/", "a b", " lead", "trail ", "a+b", "a%b", "100%", "%2e%2e%2f", "%00", "a&b=c", "a?b=c",
    "?acl", "a#b", "a;b", "a:b", "a@b", "a$b", "a,b", "a'b", 'a"b', "a<b>c", "a\\b", "C:\\x\\y",
    "..\\x", "a|b", "a^b", "a`b", "a{b}", "a[b]", "a~b", "a*b", "!-_.*'()", "ünï/çødé", "e\u0301",
    "\u00e9", "日本語/キー", "שלום", "🗿/🙂", "\u200b", "\ufeffbom", "\uff5e", "\U0010ffff", "CON",
    "nul", "CASE", "case", "index.html", "soap", "$(id)", "'; DROP TABLE objects; --",
    "]]>&amp;<!--", "a" * 300 + "/" + "b" * 300,
]
CONTROL = ["tab\tkey", "new\nline", "cr\rkey", "bell\x07", "\x01", "\x1f", "del\x7f", "nel\u0085",
           "\ud7ff", "\ue000"]
# Relative beyond the start: AWS refuses some of these, others store them. Both are right.
CLIMBING = ["..", "../x", "../../etc/passwd", "a/../../b", "/..", "//../x"]


def listed(raw, bucket, **query):
    """The keys of a listing with encoding-type=url, decoded by hand."""
    answer = raw.send("GET", f"/{bucket}", query={
        "list-type": "2", "encoding-type": "url", **query})
    assert answer.status == 200, answer.body
    root = ElementTree.fromstring(answer.body)
    return [urllib.parse.unquote_plus(e.findtext(f"{NS}Key")) for e in root.iter(f"{NS}Contents")]


@pytest.mark.parametrize("key", ODD + CONTROL, ids=ascii)
def test_odd_keys_round_trip(raw, bucket, key):
    path = f"/{bucket}/{key}"
    body = b"body of " + key.encode()
    answer = raw.send("PUT", path, body)
    assert answer.status == 200, answer.body
    answer = raw.send("GET", path)
    assert (answer.status, answer.body) == (200, body)
    assert raw.send("HEAD", path).headers["content-length"] == str(len(body))
    assert listed(raw, bucket) == [key]
    assert listed(raw, bucket, prefix=key) == [key]
    assert raw.send("DELETE", path).status == 204
    assert raw.send("GET", path).status == 404
    assert listed(raw, bucket) == []


@pytest.mark.parametrize("key", CLIMBING)
def test_climbing_keys_are_kept_or_refused_and_go_nowhere_else(raw, s3, bucket, put, key):
    put("etc/passwd", b"kept")
    put("b", b"kept")
    put("x", b"kept")
    answer = raw.send("PUT", f"/{bucket}/{key}", b"climbed")
    assert answer.status in (200, 400), answer.body
    stored = answer.status == 200
    expected = sorted(["b", "etc/passwd", "x"] + [key] * stored, key=str.encode)
    assert listed(raw, bucket) == expected
    got = raw.send("GET", f"/{bucket}/{key}")
    assert (got.status, got.body == b"climbed") in ([(200, True)] if stored else [(400, False)])
    for kept in ("etc/passwd", "b", "x"):
        assert read(s3, bucket, kept) == b"kept"


def test_climbing_does_not_reach_another_bucket(up, raw, s3, bucket):
    other = up.bucket_name("climbed-into")
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=other, Key="key", Body=b"kept")
    for method in ("PUT", "GET", "DELETE"):
        raw.send(method, f"/{bucket}/../{other}/key", b"climbed" if method == "PUT" else b"")
        assert read(s3, other, "key") == b"kept"
    s3.delete_object(Bucket=other, Key="key")
    s3.delete_bucket(Bucket=other)


def test_all_odd_keys_live_side_by_side(s3, bucket, put):
    keys = ODD + CONTROL
    for key in keys:
        put(key, key.encode())
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={
        "PageSize": 7})
    got = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert got == sorted(keys, key=str.encode)
    for key in keys:
        assert read(s3, bucket, key) == key.encode(), ascii(key)
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys if key not in CONTROL]})
    assert "Errors" not in answer
    left = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert sorted(left) == sorted(CONTROL)
    for key in CONTROL:  # not all of them could stand in XML
        s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_name_may_be_key_and_folder(s3, bucket, put):
    for key in ("a", "a/", "a/b", "a/b/", "a/b/c"):
        put(key, key.encode())
    for key in ("a", "a/", "a/b", "a/b/", "a/b/c"):
        assert read(s3, bucket, key) == key.encode()
    s3.delete_object(Bucket=bucket, Key="a")
    s3.delete_object(Bucket=bucket, Key="a/b")
    left = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert left == ["a/", "a/b/", "a/b/c"]


@pytest.mark.parametrize("letter", ["k", "ü", "日", "🗿"])
def test_keys_of_1024_bytes(raw, bucket, letter):
    width = len(letter.encode())
    key = letter * (1_024 // width) + "x" * (1_024 % width)
    assert len(key.encode()) == 1_024
    assert raw.send("PUT", f"/{bucket}/{key}", b"body").status == 200
    assert raw.send("GET", f"/{bucket}/{key}").body == b"body"
    assert listed(raw, bucket) == [key]


@pytest.mark.parametrize("key", ["k" * 1_025, "k" + "ü" * 512, "k" * 5_000])
def test_longer_keys_are_refused(raw, s3, bucket, put, key):
    raw.send("PUT", f"/{bucket}/{key}", b"body").refuses(400, "KeyTooLongError")
    put("source", b"body")
    with refused(400, "KeyTooLongError"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    with refused(400, "KeyTooLongError"):
        s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": "source"})
    assert listed(raw, bucket) == ["source"]


@pytest.mark.parametrize("key", ["nul\0byte", "\0", "end\0"], ids=ascii)
def test_nul_is_refused(raw, bucket, put, key):
    put("nul", b"kept")
    answer = raw.send("PUT", f"/{bucket}/{key}", b"body")
    assert answer.status == 400, answer.body
    assert answer.code
    assert listed(raw, bucket) == ["nul"]
    assert raw.send("GET", f"/{bucket}/nul").body == b"kept"


@pytest.mark.parametrize("key", ["a\udcff", "a\udcc3(", "a\udced\udca0\udc80"], ids=ascii)
def test_bytes_that_are_no_utf8_are_refused(raw, bucket, key):
    """Properly signed, so that only the bytes are wrong."""
    answer = raw.send("PUT", f"/{bucket}/{key}", b"body")
    assert answer.status == 400, answer.body
    assert listed(raw, bucket) == []


@pytest.mark.parametrize("escape", ["%zz", "%", "%2"])
def test_broken_escapes_are_refused(raw, bucket, escape):
    signed = raw.signer().headers("PUT", f"/{bucket}/a")
    answer = raw.plain("PUT", f"/{bucket}/a{escape}", {**signed, "content-length": "0"})
    assert answer.status in (400, 403), answer.body
    assert listed(raw, bucket) == []


@pytest.mark.parametrize("key", ["a b+c%/🗿", "x/../y", "a<&>b", "new\nline"], ids=ascii)
def test_odd_keys_in_every_other_operation(s3, bucket, put, key):
    body = content(key, 300_000)
    put(key, body)
    s3.copy_object(Bucket=bucket, Key="copy of " + key, CopySource={"Bucket": bucket, "Key": key})
    same(read(s3, bucket, "copy of " + key), body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big " + key)
    assert upload["Key"] == "big " + key
    upload = upload["UploadId"]
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [(u["Key"], u["UploadId"]) for u in uploads] == [("big " + key, upload)]
    part = content(key, 5 * MIB)
    parts = []
    for number, data in ((1, part), (2, b"end")):
        answer = s3.upload_part(Bucket=bucket, Key="big " + key, UploadId=upload,
                                PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    done = s3.complete_multipart_upload(Bucket=bucket, Key="big " + key, UploadId=upload,
                                        MultipartUpload={"Parts": parts})
    assert done["Key"] == "big " + key
    same(read(s3, bucket, "big " + key), part + b"end")
