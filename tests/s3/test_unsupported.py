"""What isn't supported says so, and never does half of something else."""

import base64

import pytest
from botocore.exceptions import ClientError

from harness.checksums import md5_text
from harness.expect import absent, read, refused

# Sub-resources of a bucket and of an object, with the methods that S3 has for them.
BUCKET = {
    "accelerate": "GET PUT", "acl": "PUT", "analytics": "GET PUT DELETE",
    "cors": "GET PUT DELETE", "encryption": "GET PUT DELETE",
    "intelligent-tiering": "GET PUT DELETE", "inventory": "GET PUT DELETE",
    "lifecycle": "GET PUT DELETE", "logging": "GET PUT", "metadataTable": "GET POST DELETE",
    "metrics": "GET PUT DELETE", "notification": "GET PUT", "object-lock": "GET PUT",
    "ownershipControls": "GET PUT DELETE", "policy": "GET PUT DELETE", "policyStatus": "GET",
    "publicAccessBlock": "GET PUT DELETE", "replication": "GET PUT DELETE",
    "requestPayment": "GET PUT", "session": "GET", "tagging": "GET PUT DELETE",
    "versioning": "PUT", "versions": "GET", "website": "GET PUT DELETE",
}
OBJECT = {
    "acl": "PUT", "legal-hold": "GET PUT", "restore": "POST",
    "retention": "GET PUT", "tagging": "GET PUT DELETE", "torrent": "GET",
}
WITH_ID = {"analytics", "intelligent-tiering", "inventory", "metrics"}
BUCKET_CALLS = [(method, name) for name, methods in BUCKET.items() for method in methods.split()]
OBJECT_CALLS = [(method, name) for name, methods in OBJECT.items() for method in methods.split()]


@pytest.fixture
def kept(s3, bucket, put):
    """A bucket with an object; checks afterwards that nothing happened to them."""
    put("key", b"kept", Metadata={"a": "1"})
    yield bucket
    assert read(s3, bucket, "key") == b"kept"
    assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == {"a": "1"}
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["key"]


def check_sub_resource(raw, path, method, name):
    """An invalid configuration may be refused for that first."""
    body = b"<Configuration/>" if method in ("PUT", "POST") else b""
    query = {name: "", **({"id": "1"} if name in WITH_ID else {})}
    answer = raw.send(method, path, body, query=query)
    if body and answer.status == 400:
        answer.refuses(400, "MalformedXML", "InvalidRequest")
    else:
        answer.refuses(501, "NotImplemented")


@pytest.mark.parametrize(("method", "name"), BUCKET_CALLS)
def test_bucket_sub_resources(raw, kept, method, name):
    check_sub_resource(raw, f"/{kept}", method, name)


@pytest.mark.parametrize(("method", "name"), OBJECT_CALLS)
def test_object_sub_resources(raw, kept, method, name):
    check_sub_resource(raw, f"/{kept}/key", method, name)


def test_renaming(raw, kept):
    """A server that doesn't know the call must not take it for a plain PUT."""
    answer = raw.send("PUT", f"/{kept}/new", query={"renameObject": ""},
                      headers={"x-amz-rename-source": f"/{kept}/key"})
    answer.refuses(501, "NotImplemented")


def test_select(raw, kept):
    query = {"select": "", "select-type": "2"}
    answer = raw.send("POST", f"/{kept}/key", b"<SelectObjectContentRequest/>", query=query)
    assert (answer.status, answer.code) in ((501, "NotImplemented"), (400, "MalformedXML"))


BY_BOTO = {
    "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
    "put_bucket_lifecycle_configuration": {"LifecycleConfiguration": {"Rules": [
        {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}},
    "put_bucket_policy": {"Policy": "{}"},
    "put_bucket_tagging": {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
    "put_bucket_acl": {"ACL": "public-read"},
    "put_bucket_website": {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}},
    "put_bucket_replication": {"ReplicationConfiguration": {"Role": "r", "Rules": [
        {"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::b"}}]}},
    "put_bucket_notification_configuration": {"NotificationConfiguration": {}},
    "put_bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": [
        {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}},
    "put_bucket_cors": {"CORSConfiguration": {"CORSRules": [
        {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}},
    "put_object_lock_configuration": {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
    "put_object_tagging": {"Key": "key", "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
    "put_object_acl": {"Key": "key", "ACL": "public-read"},
    "put_object_retention": {"Key": "key", "Retention": {"Mode": "GOVERNANCE"}},
    "put_object_legal_hold": {"Key": "key", "LegalHold": {"Status": "ON"}},
    "get_object_torrent": {"Key": "key"},
    "restore_object": {"Key": "key", "RestoreRequest": {"Days": 1}},
    "list_object_versions": {},
    "delete_object_tagging": {"Key": "key"},
    "delete_bucket_policy": {},
}


@pytest.mark.parametrize("call", BY_BOTO)
def test_calls_of_boto3(s3, kept, call):
    with refused(501, "NotImplemented"):
        getattr(s3, call)(Bucket=kept, **BY_BOTO[call])


def test_what_is_fixed_is_told_truly(s3, kept):
    """Clients ask for these before they do anything."""
    owner = s3.list_buckets()["Owner"]["ID"]
    for acl in (s3.get_bucket_acl(Bucket=kept), s3.get_object_acl(Bucket=kept, Key="key")):
        assert acl["Owner"]["ID"] == owner
        grant, = acl["Grants"]
        assert (grant["Grantee"]["ID"], grant["Permission"]) == (owner, "FULL_CONTROL")
    assert "Status" not in s3.get_bucket_versioning(Bucket=kept)
    told = s3.get_object_attributes(
        Bucket=kept, Key="key", ObjectAttributes=["ETag", "ObjectSize", "StorageClass"])
    head = s3.head_object(Bucket=kept, Key="key")
    assert told["ETag"].strip('"') == head["ETag"].strip('"')
    assert (told["ObjectSize"], told["StorageClass"]) == (4, "STANDARD")


def test_post_forms(raw, kept):
    body = (b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nform\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nbody\r\n--b--\r\n')
    answer = raw.send("POST", f"/{kept}", body,
                      headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status in (400, 403, 405, 501), answer.body
    answer = raw.plain("POST", f"/{kept}", {"content-type": "multipart/form-data; boundary=b"},
                       body)
    assert answer.status in (400, 403, 405, 501), answer.body


# Options of a write that would be broken silently if they were ignored.
WISHES = {
    "kms": {"ServerSideEncryption": "aws:kms"},
    "kms with a key": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"},
    "double kms": {"ServerSideEncryption": "aws:kms:dsse"},
    "tags": {"Tagging": "a=b"},
    "public": {"ACL": "public-read"},
    "public and writable": {"ACL": "public-read-write"},
    "granted": {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
    "legal hold": {"ObjectLockLegalHoldStatus": "ON"},
    "retention": {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": "2040-01-01"},
    "glacier": {"StorageClass": "GLACIER"},
    "redirect": {"WebsiteRedirectLocation": "/elsewhere"},
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("call", ["put_object", "create_multipart_upload", "copy_object"])
def test_wishes_are_refused_and_not_ignored(s3, kept, call, wish):
    more = {"CopySource": {"Bucket": kept, "Key": "key"}} if call == "copy_object" else {}
    with pytest.raises(ClientError) as caught:
        getattr(s3, call)(Bucket=kept, Key="new", **more, **WISHES[wish])
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in (400, 501), answer
    assert answer["Error"]["Code"] in (
        "NotImplemented", "InvalidArgument", "InvalidRequest", "InvalidStorageClass",
        "InvalidEncryptionAlgorithmError", "AccessControlListNotSupported"), answer
    absent(s3, kept, "new")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=kept)


def customer_key():
    """Headers of SSE-C; boto3 sends them over https only."""
    secret = bytes(range(32))
    prefix = "x-amz-server-side-encryption-customer"
    return {
        f"{prefix}-algorithm": "AES256",
        f"{prefix}-key": base64.b64encode(secret).decode(),
        f"{prefix}-key-md5": md5_text(secret),
    }


def test_customer_keys_are_refused(raw, s3, kept):
    for method, path, query in (("PUT", "new", {}), ("POST", "new", {"uploads": ""}),
                                ("GET", "key", {})):
        answer = raw.send(method, f"/{kept}/{path}", query=query, headers=customer_key())
        assert (answer.status, answer.code) in (
            (400, "InvalidArgument"), (400, "InvalidRequest"), (501, "NotImplemented"))
    absent(s3, kept, "new")


def test_wishes_that_are_the_default_are_accepted(s3, bucket, put):
    put("key", b"body", StorageClass="STANDARD", ACL="bucket-owner-full-control")
    put("key", b"body", ACL="private")
    assert read(s3, bucket, "key") == b"body"


def test_sse_s3_is_accepted_and_told(s3, bucket, put):
    wish = {"ServerSideEncryption": "AES256"}
    assert put("key", b"body", **wish)["ServerSideEncryption"] == "AES256"
    for call in (s3.head_object, s3.get_object):
        assert call(Bucket=bucket, Key="key")["ServerSideEncryption"] == "AES256"
    copy = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "key"},
                          **wish)
    assert copy["ServerSideEncryption"] == "AES256"
    names = {"Bucket": bucket, "Key": "big"}
    upload = s3.create_multipart_upload(**names, **wish)
    assert upload["ServerSideEncryption"] == "AES256"
    names["UploadId"] = upload["UploadId"]
    part = s3.upload_part(**names, PartNumber=1, Body=b"body")
    assert part["ServerSideEncryption"] == "AES256"
    done = s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert done["ServerSideEncryption"] == "AES256"


def test_everything_is_encrypted_unasked(s3, bucket, put):
    assert put("key", b"body")["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize("value", ["aes256", "ROT13"])
def test_unknown_ciphers_are_refused(raw, s3, bucket, value):
    answer = raw.send("PUT", f"/{bucket}/key", b"body",
                      headers={"x-amz-server-side-encryption": value})
    assert (answer.status, answer.code) in (
        (400, "InvalidArgument"), (400, "InvalidEncryptionAlgorithmError"),
        (501, "NotImplemented")), answer.body
    absent(s3, bucket, "key")


def test_versions_of_an_unversioned_bucket(s3, kept):
    """The one version is called null; no other is there."""
    assert read(s3, kept, "key", VersionId="null") == b"kept"
    for call in (s3.get_object, s3.delete_object):
        with pytest.raises(ClientError) as caught:
            call(Bucket=kept, Key="key", VersionId="3HL4kqtJlcpXroDTDmJ-rmSpXd3dIbrHY")
        code = caught.value.response["Error"]["Code"]
        assert code in ("InvalidArgument", "NoSuchVersion", "NotImplemented"), code
