"""Changes rows in a backup of the metadata, and makes its checksums right again.

`docs/formats/metadata-backup.md` draws the two files. blake3 is written out here, because Python's
library has none; a MiB takes some seconds.
"""

import struct
from pathlib import Path

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
       0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_STEPS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_MASK = 0xFFFFFFFF
HEAD_LEN = 16
PUT = 1


def _compress(value, block, counter, length, flags):
    state = [*value, *_IV[:4], counter & _MASK, counter >> 32, length, flags]
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    for _ in range(7):
        for at, (a, b, c, d) in enumerate(_STEPS):
            for word, first, second in ((words[2 * at], 16, 12), (words[2 * at + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & _MASK
                mixed = state[d] ^ state[a]
                state[d] = (mixed >> first | mixed << (32 - first)) & _MASK
                state[c] = (state[c] + state[d]) & _MASK
                mixed = state[b] ^ state[c]
                state[b] = (mixed >> second | mixed << (32 - second)) & _MASK
        words = [words[at] for at in _ORDER]
    return [state[at] ^ state[at + 8] for at in range(8)]


def _node(data, number, root):
    if len(data) <= 1024:
        value = _IV
        blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
        for at, block in enumerate(blocks):
            last = at == len(blocks) - 1
            flags = (_CHUNK_START if at == 0 else 0) | ((_CHUNK_END | root) if last else 0)
            value = _compress(value, block, number, len(block), flags)
        return value
    left = 1024
    while left * 2 < len(data):
        left *= 2
    halves = _node(data[:left], number, 0) + _node(data[left:], number + left // 1024, 0)
    return _compress(_IV, struct.pack("<16I", *halves), 0, 64, _PARENT | root)


def blake3(data):
    """The hash in hexadecimal digits."""
    return struct.pack("<8I", *_node(data, 0, _ROOT)).hex()


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
