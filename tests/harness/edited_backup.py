"""Changes rows in a backup of the metadata, and makes its checksums right again.

`docs/formats/metadata-backup.md` draws the two files.
"""

import struct
from pathlib import Path

from .blake3 import blake3

_MASK = 0xFFFFFFFF
HEAD_LEN = 16
PUT = 1


def _crc32c(data):
    crc = _MASK
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ _MASK


def _varint(number):
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(written) + bytes([number])


def _read_varint(data, at):
    number, shift = 0, 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return number, at


def _records(frame):
    at = 0
    while at < len(frame):
        kind = frame[at]
        key_len, at = _read_varint(frame, at + 1)
        value_len, at = _read_varint(frame, at)
        yield kind, frame[at : at + key_len], frame[at + key_len : at + key_len + value_len]
        at += key_len + value_len


def edit(directory, change):
    """`change(key, value)` returns each row's new value, or None to leave the row out."""
    rows, card = Path(directory) / "rows", Path(directory) / "backup"
    data = rows.read_bytes()
    written, at, count = bytearray(data[:HEAD_LEN]), HEAD_LEN, 0
    while at < len(data):
        length, _ = struct.unpack_from("<II", data, at)
        frame = bytearray()
        for kind, key, value in _records(data[at + 8 : at + 8 + length]):
            changed = change(key, value) if kind == PUT else value
            if changed is not None:
                frame += bytes([kind]) + _varint(len(key)) + _varint(len(changed)) + key + changed
                count += 1
        at += 8 + length
        written += struct.pack("<II", len(frame), _crc32c(frame)) + frame
    rows.write_bytes(written)
    text = ""
    for line in card.read_text().splitlines():
        name = line.split(" ")[0]
        now = {"records": count, "length": len(written), "rows": blake3(bytes(written))}
        if name != "checksum":
            text += f"{name} {now[name]}\n" if name in now else f"{line}\n"
    card.write_text(f"{text}checksum {blake3(text.encode())}\n")
