"""The checksums of `x-amz-checksum-*`, computed apart from boto3, which lacks some."""

import base64
import hashlib
import zlib


def _table(polynomial):
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _table(0x82F63B78)
_CRC64NVME = _table(0x9A6C9329AC4BC9B5)


def _crc(table, bits, data):
    ones = (1 << bits) - 1
    crc = ones
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return (crc ^ ones).to_bytes(bits // 8, "big")


RAW = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: _crc(_CRC32C, 32, data),
    "CRC64NVME": lambda data: _crc(_CRC64NVME, 64, data),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
ALGORITHMS = tuple(RAW)


def text(raw):
    return base64.b64encode(raw).decode()


def checksum(algorithm, data):
    """The value as it stands in a header."""
    return text(RAW[algorithm](data))


def composite(algorithm, parts):
    """A multipart object's checksum of checksums."""
    whole = b"".join(RAW[algorithm](part) for part in parts)
    return f"{checksum(algorithm, whole)}-{len(parts)}"


def header(algorithm):
    return f"x-amz-checksum-{algorithm.lower()}"


def field(algorithm):
    """The name in boto3's arguments and answers."""
    return f"Checksum{algorithm}"


def md5_text(data):
    return text(hashlib.md5(data).digest())
