"""Mutations of bytes: flips, truncation, splices, and lies in binary numbers."""

import random
import struct
from collections.abc import Callable, Sequence

INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
SINGLES = (0.0, -0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e38)
FLOATS = (*SINGLES, 1e308, 1e-308)
MAX_BYTES = 1 << 22
"""Largest input: a file that grows by mutation stays quick to read."""

Bytes = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]


def position(rng: random.Random, size: int) -> int:
    """An offset: in half of the cases among the first bytes, where headers are."""
    if size < 2 or rng.random() < 0.5:
        return rng.randrange(max(size, 1))
    return min(int(2 ** rng.uniform(0, size.bit_length())), size) - 1


def flip_bits(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[position(rng, len(data))] ^= 1 << rng.randrange(8)
    return data


def overwrite(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    start, count = position(rng, len(data)), rng.choice((1, 4, 32, 256))
    for index in range(start, min(start + count, len(data))):
        data[index] = rng.choice((0, 255, rng.randrange(256)))
    return data


def truncate(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    return data[: rng.choice((position(rng, len(data)), len(data) - rng.randrange(1, min(len(data), 64) + 1)))]


def move(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    """Delete, repeat or insert a piece."""
    start, target = position(rng, len(data)), position(rng, len(data))
    piece = data[start : start + rng.choice((1, 2, 16, 256, 4096))]
    kind = rng.randrange(3)
    if kind == 0:
        del data[start : start + len(piece)]
    elif kind == 1:
        data[target:target] = piece * rng.choice((1, 2, 16))
    else:
        data[target:target] = rng.randbytes(rng.choice((1, 4, 64)))
    return data


def splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    """The beginning of one file and the end of another one."""
    other = bytearray(rng.choice(others)) if others else data
    if not other or rng.random() < 0.1:
        return other
    return data[: position(rng, len(data))] + other[position(rng, len(other)) :]


def lie(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    """A binary number of another value: a count, a size, an offset, a rate."""
    start = position(rng, len(data))
    order = rng.choice("<>")
    if rng.random() < 0.2:
        kind = rng.choice("fd")
        number = rng.choice(FLOATS if kind == "d" else SINGLES)
        packed = struct.pack(order + kind, number)
    else:
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice((*INTEGERS, len(data), len(data) + 1, rng.randrange(1 << 16)))
        packed = (value % (1 << (8 * width))).to_bytes(width, "little" if order == "<" else "big")
    data[start : start + len(packed)] = packed
    return data


MUTATIONS: tuple[Bytes, ...] = (flip_bits, overwrite, truncate, move, splice, lie, lie)


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to three mutations; `others` are files to splice."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not changed:
            return rng.randbytes(rng.choice((0, 1, 16)))
        changed = rng.choice(MUTATIONS)(rng, changed, others)
    return bytes(changed[:MAX_BYTES])
