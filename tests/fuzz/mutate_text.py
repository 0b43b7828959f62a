"""Mutations of text: numbers, words, lines, and the leaves of JSON and YAML."""

import json
import random
import re
from typing import Any

import yaml

NUMBERS = (
    "0", "-1", "1", "2", "nan", "NaN", "inf", "-inf", "1e400", "-0.0", "1e-320", "0.1", "255", "256", "65536",
    "2147483648",
    "9223372036854775808", "9" * 400, "1" + "0" * 5000, "", " ", "0x10", "1_000", "\u0661\u0662", "1,5", "None", "true",
)  # fmt: skip
WORDS = (
    "", " ", "\0", "\n", "\r", "\t", "\x1b[2J", "\ufeff", "\u202e", "e\u0301", "\U0001f9ec", "nan", "null", "None",
    "-1",
    "..",
    "../../x", "/etc/hostname", "~", "C:\\x", "a/b", "{", "}", "[", "]", '"', "'", ",", ";", "|", "%s", "{0.__class__}",
    "=cmd", "<script>", "x" * 70_000, "#", "#17", "#t=1,2", "#part=9of3", "&", "*a", "!!python/object:os.system", "---",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**6, 10**12, 2**63, -(2**63), 10**400, 0.0, 0.5, -0.5, 1.5, 1e308, 1e-308,
    float("nan"),
    float("inf"), "", " ", "nan", "x", "1", "\0", "x" * 5000, [], [None], [1, 2, 3], [[]], {}, {"": None}, {"a": 1},
    {"x": [1]},
)  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"\w+|[^\w\s]")
_SIZES = {"number": 8, "word": 16}


def looks_like_text(data: bytes) -> bool:
    """Whether the first bytes are text."""
    head = data[:512]
    return bool(head) and b"\0" not in head and sum(byte < 9 for byte in head) == 0 and not head.startswith(b"\x89")


def mutate_text(rng: random.Random, data: bytes) -> bytes:
    """Replace a number or a word, or change lines."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice((_number, _number, _word, _lines, _break))(rng, data)
    return data[: 1 << 22]


def mutate_string(rng: random.Random, text: str) -> str:
    """The same for a string, with characters that UTF-8 does not have."""
    data = mutate_text(rng, text.encode("utf-8", "surrogatepass"))
    return data.decode("utf-8", rng.choice(("replace", "surrogateescape")))


def _pick(rng: random.Random, matches: list[re.Match[bytes]]) -> re.Match[bytes]:
    early = rng.random() < 0.5  # headers
    return rng.choice(matches[:40] if early else matches)


def _replaced(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], words: tuple[str, ...]) -> bytes:
    matches = list(pattern.finditer(data[: 1 << 18]))
    if not matches:
        return data + rng.choice(words).encode()
    match = _pick(rng, matches)
    return data[: match.start()] + rng.choice(words).encode() + data[match.end() :]


def _number(rng: random.Random, data: bytes) -> bytes:
    return _replaced(rng, data, _NUMBER, NUMBERS)


def _word(rng: random.Random, data: bytes) -> bytes:
    return _replaced(rng, data, _WORD, WORDS)


def _lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[first]
    elif kind == 1:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 2:
        lines[first:first] = [lines[second]] * rng.choice((1, 2, 500))
    elif kind == 3:
        lines = lines[: first + 1]
    else:
        return (b"\r\n" if rng.random() < 0.5 else b"\r").join(lines)
    return b"\n".join(lines)


def _break(rng: random.Random, data: bytes) -> bytes:
    """Bytes that are not UTF-8, or another encoding."""
    start = rng.randrange(len(data) + 1)
    junk = rng.choice((b"\xff", b"\xe9", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf", b"\xc3"))
    if rng.random() < 0.1:
        return data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-16-le")))
    return data[:start] + junk + data[start:]


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """A copy of JSON values in which a leaf or a key is another one."""
    places = list(_places(tree, ()))
    if not places:
        return rng.choice(VALUES)
    tree = json.loads(json.dumps(tree)) if _plain(tree) else tree
    path = rng.choice(places)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key, kind = path[-1], rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("", "x", str(key) + "_", str(key).upper(), "0"))] = parent.pop(key)
    elif kind == 2 and isinstance(parent, list):
        parent.extend([parent[key]] * rng.choice((1, 3, 100)))
    elif kind == 3 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = rng.choice(
            (-parent[key], parent[key] + 1, parent[key] - 1, parent[key] * 1000, 0, str(parent[key]))
        )
    else:
        parent[key] = rng.choice(VALUES)
    return tree


def _places(tree: Any, path: tuple[Any, ...]) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _plain(tree: Any) -> bool:
    try:
        json.dumps(tree)
    except (TypeError, ValueError):
        return False
    return True


def mutate_json(rng: random.Random, data: bytes) -> bytes | None:
    """Change a leaf of a JSON file; None if it is none."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict | list):
        return None
    for _ in range(rng.choice((1, 1, 2))):
        tree = mutate_tree(rng, tree)
    return json.dumps(tree).encode()


def mutate_yaml(rng: random.Random, data: bytes) -> bytes | None:
    """Change a leaf of a YAML file; None if it is none."""
    try:
        tree = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict | list):
        return None
    return yaml.safe_dump(mutate_tree(rng, tree), allow_unicode=True, width=10**6).encode("utf-8", "surrogatepass")
