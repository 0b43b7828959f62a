"""One mutated input from a seed; everything follows from the random generator."""

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.fuzz.case import Case
from tests.fuzz.mutate_bytes import mutate_bytes
from tests.fuzz.mutate_containers import mutate_inside
from tests.fuzz.mutate_text import (
    VALUES,
    looks_like_text,
    mutate_json,
    mutate_string,
    mutate_text,
    mutate_tree,
    mutate_yaml,
)

KINDS = ("u1", "i2", "i8", "f2", "f4", "f8", ">f4", ">u2", "?", "c8", "O", "U3", "M8[s]", "V4")


def mutate(rng: random.Random, seed: Case, seeds: Sequence[Case], foreign: Sequence[bytes] = ()) -> Case:
    """A mutated copy of a seed.

    Args:
        rng: Source of all choices.
        seed: The valid input.
        seeds: Inputs of the same target, for splices.
        foreign: Files of other formats.
    """
    if not seed.entry:
        return seed.changed(value=mutate_value(rng, seed.value))
    files, kind = dict(seed.files), rng.randrange(40)
    if kind == 0 and len(files) > 1:
        del files[rng.choice(sorted(files))]
    elif kind == 1:
        name = rng.choice(sorted(files))
        return seed.changed(links={name: rng.choice(("pipe", "folder", "link"))})
    elif kind == 2 and len(files) > 1:
        a, b = rng.sample(sorted(files), 2)
        files[a], files[b] = files[b], files[a]
    elif kind == 3 and foreign:
        files[rng.choice(sorted(files))] = rng.choice(foreign)
    elif kind == 4 and "/" not in seed.entry and seed.entry in files:
        name = rng.choice((seed.entry.upper(), seed.entry + ".txt", "e\u0301 |%s.x", "-x", f"a#1{seed.entry}"))
        return seed.changed(files={name if key == seed.entry else key: files[key] for key in files}, entry=name)
    else:
        name = _name(rng, files, seed.entry)
        others = [case.files[name] for case in seeds if name in case.files]
        others += [case.files[case.entry] for case in seeds if case.entry in case.files]
        files[name] = mutate_file(rng, files[name], name, [*others, *foreign[:4]])
    as_bytes = rng.random() < 0.3 if len(seed.files) == 1 and seed.entry in files else seed.as_bytes
    return seed.changed(files=files, as_bytes=as_bytes)


def _name(rng: random.Random, files: Mapping[str, bytes], entry: str) -> str:
    return entry if entry in files and rng.random() < 0.4 else rng.choice(sorted(files))


def mutate_file(rng: random.Random, data: bytes, name: str, others: Sequence[bytes] = ()) -> bytes:
    """Mutated bytes of a file, by what it holds."""
    kind = rng.random()
    if kind < 0.6 and (inside := mutate_inside(rng, data, lambda rng, inner, name: mutate_file(rng, inner, name))):
        return inside
    if looks_like_text(data):
        if kind < 0.55 and (tree := mutate_json(rng, data)) is not None:
            return tree
        if kind < 0.7 and name.endswith((".yaml", ".yml")) and (tree := mutate_yaml(rng, data)) is not None:
            return tree
        if kind < 0.85:
            return mutate_text(rng, data)
    return mutate_bytes(rng, data, others)


def mutate_value(rng: random.Random, value: Any) -> Any:
    """A mutated copy of a value in memory: a string, an array, or a mapping or list of such."""
    if rng.random() < 0.03:
        return rng.choice((*VALUES, object(), b"", b"x", 1j))
    if isinstance(value, str):
        return mutate_string(rng, value)
    if isinstance(value, bytes):
        return mutate_bytes(rng, value, ())
    if isinstance(value, np.ndarray):
        return mutate_array(rng, value)
    if isinstance(value, Mapping) and value:
        changed, key = dict(value), rng.choice(sorted(value, key=str))
        kind = rng.randrange(8)
        if kind == 0:
            del changed[key]
        elif kind == 1:
            changed[key] = rng.choice(VALUES)
        else:
            changed[key] = mutate_value(rng, changed[key])
        return changed
    if isinstance(value, list | tuple) and value:
        items = list(copy.copy(value))
        index = rng.randrange(len(items))
        items[index] = mutate_value(rng, items[index])
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, int | float):
        return mutate_tree(rng, [value])
    return rng.choice(VALUES)


def mutate_array(rng: random.Random, array: np.ndarray[Any, Any]) -> Any:
    """Another type, shape, layout or value."""
    kind = rng.randrange(9)
    with np.errstate(all="ignore"):
        if kind == 0:
            try:
                return array.astype(rng.choice(KINDS))
            except (TypeError, ValueError):
                return array.astype(object)
        if kind == 1:
            return array.reshape(rng.choice(((-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1])))
        if kind == 2:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array[None]
        if kind == 3:
            return np.swapaxes(array, 0, -1) if array.ndim else np.zeros(0)
        if kind == 4:
            return np.broadcast_to(array, (rng.choice((0, 2, 3)), *array.shape))
        if kind == 5:
            return array.tolist()
        if kind == 6:
            return array.astype("f8") * rng.choice((1e30, 1e-30, -1.0, 0.0, 1e308))
        changed = array.astype("f8") if kind == 7 and array.dtype.kind in "biuf" else array.copy()
        flat = changed.reshape(-1)
        if flat.size and changed.dtype.kind == "f":
            for _ in range(rng.choice((1, 5, flat.size))):
                flat[rng.randrange(flat.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e308, -1.0, 0.0))
        elif flat.size and changed.dtype.kind in "iu":
            bounds = np.iinfo(changed.dtype)
            for _ in range(rng.choice((1, 5))):
                flat[rng.randrange(flat.size)] = rng.choice((bounds.min, bounds.max, 0, 1))
        return changed
