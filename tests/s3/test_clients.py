"""The clients that people use: the aws command line and boto3, over http and https."""

import filecmp
import hashlib
import os
import random
import shutil
import socket
import stat
import subprocess
import sysconfig
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3.s3.transfer
import pytest

from harness.expect import MIB, content, read, same

FULL = os.environ.get("MEGALITH_FULL") == "1"
FILES = 500
# A real tree, from wherever this machine has one.
REAL_TREES = ["/usr/share/doc", "/usr/share", sysconfig.get_path("stdlib")]
FILES_FULL_MIN = 5_000
FILES_FULL_MAX = 8_000


def generate(root):
    """A tree with the sizes and names that trouble clients."""
    rng = random.Random("tree")
    sizes = [0, 1, 100, 4_095, 4_096, 4_097, 10_000, 65_536, 131_072, 131_073, 300_000]
    folders = ["", "a/", "a/b/c/d/e/", "with space/", "ünï/", "plus+and%20/", ".hidden/", "x..y/"]
    for number in range(FILES):
        name = f"{rng.choice(folders)}{number:04}{rng.choice(['', '.txt', ' copy', '+', ' é'])}"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice(sizes) if number % 5 else rng.randrange(5_000)))
    (root / "multipart.bin").write_bytes(content("multipart", 20 * MIB + 1))


def take_real(root):
    """Regular files of a system's own tree, and one file of 1 GiB."""
    taken = 0
    for tree in map(Path, REAL_TREES):
        for folder, _, names in os.walk(tree):
            for name in names:
                path = Path(folder) / name
                if taken == FILES_FULL_MAX or not stat.S_ISREG(path.lstat().st_mode):
                    continue
                target = root / tree.name / path.relative_to(tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                taken += 1
    assert taken >= FILES_FULL_MIN, f"only {taken} files in {REAL_TREES}"
    with (root / "one-gib.bin").open("wb") as file:
        for number in range(1_024):
            file.write(hashlib.shake_128(number.to_bytes(4, "big")).digest(MIB))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    (take_real if FULL else generate)(root)
    return root


def files_of(root):
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def check_same_trees(left, right):
    done = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[:3_000] + done.stderr[:3_000]
    assert files_of(left) == files_of(right)


@pytest.fixture
def aws(up, tmp_path):
    """Runs `aws …` as a user would, with its own configuration."""
    config = tmp_path / "aws-config"
    # In us-east-1 this client presigns with version 2 unless it is told otherwise.
    config.write_text("[default]\nregion = us-east-1\nmax_attempts = 1\nretry_mode = standard\n"
                      "s3 =\n    signature_version = s3v4\n")
    key, secret = up.credentials
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
    }

    def run(*args, check=True, https=False, **more):
        where = ["--endpoint-url", up.https_endpoint if https else up.endpoint]
        where += ["--ca-bundle", up.ca_file] if https else []
        done = subprocess.run(["aws", *where, *map(str, args)], capture_output=True, env=env,
                              timeout=1_800, **more)
        if check:
            assert done.returncode == 0, (args, done.stdout[-2_000:], done.stderr[-2_000:])
        return done

    return run


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_aws_carries_a_tree_there_and_back(up, s3, aws, tree, tmp_path, https):
    name = up.bucket_name("aws-tree")
    where = f"s3://{name}"
    aws("s3", "mb", where, https=https)
    aws("s3", "cp", "--recursive", "--only-show-errors", tree, f"{where}/tree", https=https)
    listing = aws("s3", "ls", "--recursive", "--summarize", where, https=https).stdout.decode()
    files = files_of(tree)
    assert f"Total Objects: {len(files)}\n" in listing
    assert f"Total Size: {sum((tree / path).stat().st_size for path in files)}\n" in listing

    back = tmp_path / "back"
    aws("s3", "sync", "--only-show-errors", f"{where}/tree", back, https=https)
    check_same_trees(tree, back)
    # Nothing has changed, so nothing is transferred again.
    assert aws("s3", "sync", f"{where}/tree", back, https=https).stdout == b""
    (back / "new file").write_bytes(b"new")
    assert aws("s3", "sync", back, f"{where}/tree", https=https).stdout.count(b"upload:") == 1
    assert read(s3, name, "tree/new file") == b"new"

    aws("s3", "rm", "--recursive", "--only-show-errors", where, https=https)
    assert aws("s3", "ls", where, https=https).stdout == b""
    aws("s3", "rb", where, https=https)
    assert name.encode() not in aws("s3", "ls", https=https).stdout


def test_aws_lists_folders_and_files(aws, bucket, put):
    for key in ("a/1", "a/2", "b/3", "file"):
        put(key, key.encode())
    lines = aws("s3", "ls", f"s3://{bucket}").stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["a/", "b/", "file"]
    lines = aws("s3", "ls", f"s3://{bucket}/a/").stdout.decode().splitlines()
    assert [line.split()[-2:] for line in lines] == [["3", "1"], ["3", "2"]]
    assert aws("s3", "ls", f"s3://{bucket}/absent", check=False).returncode == 1


def test_aws_moves_and_copies(s3, aws, bucket, put):
    for key in ("from/1", "from/2", "from/sub/3"):
        put(key, key.encode())
    big = content("moved", 20 * MIB)
    put("from/big", big)  # copied in parts by the client
    aws("s3", "cp", "--recursive", f"s3://{bucket}/from", f"s3://{bucket}/copy")
    aws("s3", "mv", "--recursive", f"s3://{bucket}/from", f"s3://{bucket}/to")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == [f"{folder}/{name}" for folder in ("copy", "to")
                    for name in ("1", "2", "big", "sub/3")]
    for folder in ("copy", "to"):
        same(read(s3, bucket, f"{folder}/big"), big)
        assert read(s3, bucket, f"{folder}/sub/3") == b"from/sub/3"


@pytest.mark.parametrize("size", [0, 100, 20 * MIB + 7])
def test_aws_streams(s3, aws, bucket, size):
    body = content("streamed", size)
    aws("s3", "cp", "-", f"s3://{bucket}/streamed", input=body)
    same(read(s3, bucket, "streamed"), body)
    same(aws("s3", "cp", f"s3://{bucket}/streamed", "-").stdout, body)


def test_aws_presigns(aws, bucket, put):
    put("a b+ü", b"body")
    url = aws("s3", "presign", f"s3://{bucket}/a b+ü", "--expires-in", "60").stdout.decode()
    with urllib.request.urlopen(url.strip()) as answer:
        assert answer.read() == b"body"


def test_aws_refuses_to_remove_a_full_bucket_and_can_force_it(up, s3, aws):
    name = up.bucket_name("forced")
    aws("s3", "mb", f"s3://{name}")
    s3.put_object(Bucket=name, Key="key", Body=b"body")
    done = aws("s3", "rb", f"s3://{name}", check=False)
    assert done.returncode != 0 and b"BucketNotEmpty" in done.stderr
    aws("s3", "rb", "--force", f"s3://{name}")
    assert name not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def test_aws_low_level_calls(aws, bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"low level")
    names = ["--bucket", bucket, "--key", "key"]
    aws("s3api", "put-object", *names, "--body", tmp_path / "file", "--metadata", "a=1",
        "--checksum-algorithm", "SHA256")
    head = aws("s3api", "head-object", *names, "--checksum-mode", "ENABLED").stdout
    assert b"ChecksumSHA256" in head and b'"a": "1"' in head
    aws("s3api", "get-object", *names, "--range", "bytes=4-8", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"level"
    done = aws("s3api", "put-object", *names, "--if-none-match", "*", check=False)
    assert done.returncode != 0 and b"PreconditionFailed" in done.stderr


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_boto3_carries_a_tree_there_and_back(up, s3, bucket, tree, tmp_path, https):
    client = up.client(https=https)
    transfer = boto3.s3.transfer.TransferConfig(
        multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB + 4_097, max_concurrency=4)
    files = files_of(tree)

    def upload(path):
        client.upload_file(str(tree / path), bucket, str(path), Config=transfer)

    def download(path):
        target = tmp_path / "back" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, str(path), str(target), Config=transfer)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, files))
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = {e["Key"]: e["Size"] for page in pages for e in page["Contents"]}
        assert found == {str(path): (tree / path).stat().st_size for path in files}
        list(pool.map(download, files))
    check_same_trees(tree, tmp_path / "back")
    if not FULL:
        assert "-" in s3.head_object(Bucket=bucket, Key="multipart.bin")["ETag"]


def test_boto3_checks_the_certificate(up, bucket):
    """The CA of the cluster is what makes https work: without it there is no connection."""
    from botocore.exceptions import SSLError

    from harness import s3_clients
    assert up.client(https=True).head_bucket(Bucket=bucket)
    stranger = s3_clients.client(up.https_endpoint, *up.credentials, verify=True)
    with pytest.raises(SSLError):
        stranger.head_bucket(Bucket=bucket)


def test_file_objects(s3, bucket, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content("file object", 9 * MIB))
    with source.open("rb") as file:
        s3.upload_fileobj(file, bucket, "key")
    with target.open("wb") as file:
        s3.download_fileobj(bucket, "key", file)
    assert filecmp.cmp(source, target, shallow=False)


# Virtual-host style: bucket.localhost.

@pytest.fixture
def localhost(monkeypatch):
    """Resolves *.localhost as in RFC 6761, which not every machine does."""
    resolve = socket.getaddrinfo

    def resolved(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        local = isinstance(name, str) and name.endswith(".localhost")
        return resolve("127.0.0.1" if local else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def test_virtual_hosts_by_boto3(up, s3, bucket, localhost):
    from harness import s3_clients
    client = s3_clients.client(f"http://localhost:{up.port}", *up.credentials,
                            s3={"addressing_style": "virtual"})
    hosts = []
    client.meta.events.register(
        "before-send.s3", lambda request, **_: hosts.append(request.url))
    body = content("virtual", 300_000)
    client.put_object(Bucket=bucket, Key="a b/ü", Body=body)
    same(read(client, bucket, "a b/ü"), body)
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "a b/ü"
    assert all(f"//{bucket}.localhost" in url for url in hosts), hosts
    same(read(s3, bucket, "a b/ü"), body)
    client.delete_object(Bucket=bucket, Key="a b/ü")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("with_port", [True, False])
def test_virtual_hosts_by_hand(raw, s3, bucket, put, with_port):
    put("key", b"body")
    host = f"{bucket}.localhost" + (f":{raw.address[1]}" if with_port else "")
    answer = raw.send("GET", "/key", signer=raw.signer(host=host))
    assert (answer.status, answer.body) == (200, b"body")
    listing = raw.send("GET", "/", query={"list-type": "2"}, signer=raw.signer(host=host))
    assert b"<Key>key</Key>" in listing.body


def test_other_hosts_are_path_style(raw, bucket, put):
    put("key", b"body")
    for host in ("localhost", "s3.example.com", "127.0.0.1", raw.host, "LOCALHOST:1"):
        answer = raw.send("GET", f"/{bucket}/key", signer=raw.signer(host=host))
        assert answer.body == b"body", (host, answer.body)
