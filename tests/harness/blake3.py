"""blake3, written out because Python's library has none. A MiB takes some seconds."""

import struct

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
       0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_STEPS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT, _CONTEXT, _MATERIAL = 1, 2, 4, 8, 32, 64
_MASK = 0xFFFFFFFF


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


def _node(key, mode, data, number, root):
    if len(data) <= 1024:
        value = key
        blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
        for at, block in enumerate(blocks):
            last = at == len(blocks) - 1
            flags = (_CHUNK_START if at == 0 else 0) | ((_CHUNK_END | root) if last else 0)
            value = _compress(value, block, number, len(block), flags | mode)
        return value
    left = 1024
    while left * 2 < len(data):
        left *= 2
    halves = (_node(key, mode, data[:left], number, 0)
              + _node(key, mode, data[left:], number + left // 1024, 0))
    return _compress(key, struct.pack("<16I", *halves), 0, 64, _PARENT | root | mode)


def blake3(data):
    """The hash in hexadecimal digits."""
    return struct.pack("<8I", *_node(_IV, 0, data, 0, _ROOT)).hex()


def derived(context, material):
    """The 32 bytes that the key-derivation mode makes."""
    key = _node(_IV, _CONTEXT, context.encode(), 0, _ROOT)
    return struct.pack("<8I", *_node(key, _MATERIAL, material, 0, _ROOT))
