"""One damaged file: what may be done to it, and which places matter."""

import shutil
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096

FLIPPED, ZEROED, TRUNCATED = "flipped", "zeroed", "truncated"
EMPTIED, GROWN, DELETED = "emptied", "grown", "deleted"
DAMAGES = (FLIPPED, ZEROED, TRUNCATED, EMPTIED, GROWN, DELETED)


def kind_of(path):
    """What sort of file of a data directory this is."""
    path = Path(path)
    if path.suffix in (".chunk", ".index", ".log"):
        return path.suffix[1:]
    for parent in path.parents:
        if parent.name.startswith(("engine-", "staged-", "partial-")):
            return f"tables/{path.name.split('.')[0]}"
    return path.name


def used_end(path):
    """The end of the last byte that isn't zero: after it, space is only reserved."""
    data = Path(path).read_bytes()
    return len(data.rstrip(b"\0"))


@dataclass
class Wound:
    """What was done to a file, and how to undo it."""

    path: Path
    damage: str
    place: str
    copy: Path

    def heal(self):
        shutil.copy2(self.copy, self.path)

    def __str__(self):
        return f"{self.path.name} {self.damage} {self.place}".strip()


def used_block(data, rng, first, end):
    """The number of a block that isn't empty."""
    blocks = [at for at in range(first // BLOCK, (end + BLOCK - 1) // BLOCK)
              if any(data[max(first, at * BLOCK) : min(end, (at + 1) * BLOCK)])]
    return rng.choice(blocks)


def damage(path, how, rng, copies, live=None):
    """Damages a file. `live`: the part of it (from, to) that must be hit, if it has one."""
    path = Path(path)
    copies.mkdir(parents=True, exist_ok=True)
    copy = copies / path.name
    shutil.copy2(path, copy)
    data = bytearray(path.read_bytes())
    first, end = live or (0, used_end(path))
    place = ""
    if how == FLIPPED:
        block = used_block(data, rng, first, end)
        used = [at for at in range(max(first, block * BLOCK), min(end, (block + 1) * BLOCK))
                if data[at]]
        at = rng.choice(used)
        data[at] ^= 1 << rng.randrange(8)
        place = f"at {at}"
    elif how == ZEROED:
        block = used_block(data, rng, first, end)
        stop = min(len(data), (block + 1) * BLOCK)
        data[block * BLOCK : stop] = bytes(stop - block * BLOCK)
        place = f"at {block * BLOCK}"
    elif how == TRUNCATED:
        keep = rng.randrange(first, end)
        del data[keep:]
        place = f"to {keep}"
    elif how == EMPTIED:
        data.clear()
    elif how == GROWN:
        data += rng.randbytes(rng.choice([1, BLOCK, 5 * BLOCK + 7]))
    if how == DELETED:
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(data)
    return Wound(path, how, place, copy)


def flip_chunks(disk, rng, spacing=16_384):
    """Flips one byte in every `spacing` bytes of every chunk file, except headers of records."""
    flipped = 0
    for path in disk.rglob("*.chunk"):
        with path.open("r+b") as file:
            data = file.read()
            for start in range(4096, len(data), spacing):
                at = start + 200 + rng.randrange(spacing // 2)
                if at >= len(data) or not any(data[at - 64 : at + 64]):
                    continue
                file.seek(at)
                file.write(bytes([data[at] ^ (1 << rng.randrange(8))]))
                flipped += 1
    return flipped
