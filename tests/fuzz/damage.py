"""Damage that disks, transfers and programs do to any file."""

from __future__ import annotations

import random

HEAD = 160  # bytes in which nearly all headers lie


def damaged(rng: random.Random, data: bytes, intact: int = 0) -> bytes:
    """`data` with one thing wrong beyond its first `intact` bytes."""
    place = rng.randrange(intact, max(intact + 1, len(data) if rng.random() < 0.5 else min(HEAD, len(data))))
    kind = rng.randrange(9)
    if kind == 0:
        return data[:place]
    if kind <= 3:  # bits
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            where = rng.randrange(intact, max(intact + 1, len(data))) if rng.random() < 0.3 else place
            if where < len(changed):
                changed[where] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 4:  # a number of a header
        number = rng.choice((0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(2**32)))
        size = rng.choice((1, 2, 4))
        written = (number % 256**size).to_bytes(size, rng.choice(("little", "big")))
        return data[:place] + written + data[place + size :]
    if kind == 5:
        return data[:place] + data[max(intact, place - rng.randrange(1, 400)) :]
    if kind == 6:
        return data[:place] + data[place + rng.randrange(1, 400) :]
    if kind == 7:
        return data[:place] + bytes(min(512, max(0, len(data) - place))) + data[place + 512 :]
    return data[:place] + rng.randbytes(rng.randrange(1, 64)) + data[place:]
