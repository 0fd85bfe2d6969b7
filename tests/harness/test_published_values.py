"""The tests' own tools against published values: a wrong tool would prove nothing."""

import datetime

import pytest

from harness import aws_chunked, checksums
from harness.blake3 import blake3, derived
from harness.signature_v4 import Signer

# From "Signature Calculations for the Authorization Header" in S3's API reference.
KEYS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
DAY = datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc)


def test_presigned_url_is_the_documented_one():
    signer = Signer("examplebucket.s3.amazonaws.com", *KEYS, now=DAY)
    target = signer.presign("GET", "/test.txt", expires=86_400)
    assert target.endswith(
        "Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_chunk_signatures_are_the_documented_ones():
    signer = Signer("s3.amazonaws.com", *KEYS, now=DAY)
    headers = {"content-length": "66824", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    put = aws_chunked.ChunkedPut(signer, "/examplebucket/chunkObject.txt", b"a" * 66_560,
                             aws_chunked.SIGNED, headers=headers)
    assert put.signatures == [
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    assert len(b"".join(put.frames)) == 66_824


def test_trailer_signatures_are_the_documented_ones():
    data = b"a" * 66_560
    signer = Signer("s3.amazonaws.com", *KEYS, now=DAY)
    put = aws_chunked.ChunkedPut(
        signer, "/examplebucket/chunkObject.txt", data, aws_chunked.SIGNED_TRAILER,
        trailer=("x-amz-checksum-crc32c", checksums.checksum("CRC32C", data)),
        headers={"x-amz-storage-class": "REDUCED_REDUNDANCY"},
    )
    assert put.signatures == [
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
    ]


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("CRC32", "cbf43926"),
        ("CRC32C", "e3069283"),
        ("CRC64NVME", "ae8b14860a799888"),
        ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
    ],
)
def test_checksums_have_their_check_values(algorithm, value):
    assert checksums.RAW[algorithm](b"123456789").hex() == value


@pytest.mark.parametrize(("length", "plain", "key"), [
    (0, "af1349b9f5f9a1a6a0404dea36dcc949", "2cc39783c223154fea8dfb7c1b1660f2"),
    (1025, "d00278ae47eb27b34faecf67b4fe263f", "effaa245f065fbf82ac186839a249707"),
])
def test_blake3_is_that_of_its_test_vectors(length, plain, key):
    """Of BLAKE3-team/BLAKE3, test_vectors.json: bytes that count from 0 to 250 again and again."""
    data = bytes(at % 251 for at in range(length))
    assert blake3(data).startswith(plain)
    context = "BLAKE3 2019-12-27 16:29:52 test vectors context"
    assert derived(context, data).hex().startswith(key)
