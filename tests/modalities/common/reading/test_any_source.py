"""The kinds of source: each goes to its reader; anything else, and too many bytes, are rejected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmalign.errors import BadSample
from modalities.common.reading.any_source import SIGNATURES, beginning, read_any


def read(source: Any) -> tuple[str, tuple[str, Any]]:
    def path(file: Path) -> tuple[str, Any]:
        return "path", file

    def data(content: bytes, name: str) -> tuple[str, Any]:
        return "bytes", (content, name)

    def mapping(arrays: Mapping[Any, Any], name: str) -> tuple[str, Any]:
        return "mapping", (arrays, name)

    return read_any(source, kind="clip", expected="a clip", path=path, data=data, mapping=mapping, most=4)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("a.mp4", ("a.mp4", ("path", Path("a.mp4")))),
        (Path("a.mp4"), ("a.mp4", ("path", Path("a.mp4")))),
        (b"1234", ("4 bytes", ("bytes", (b"1234", "4 bytes")))),
        (memoryview(b"12"), ("2 bytes", ("bytes", (b"12", "2 bytes")))),
        ({"frames": 1}, ("clip", ("mapping", ({"frames": 1}, "clip")))),
    ],
)
def test_each_kind_goes_to_its_reader(source: Any, result: Any) -> None:
    assert read(source) == result


@pytest.mark.parametrize(("source", "message"), [(b"12345", "at most 4 bytes, got 5 bytes"), (3, "a clip, got a int")])
def test_other_sources_are_rejected(source: Any, message: str) -> None:
    with pytest.raises(BadSample, match=message):
        read(source)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"Miller, Ann; 1961", "a text file"),
        ("Müller".encode(), "a text file"),
        ("Ödön".encode(), "a file of an unknown kind"),
        (b"Miller\0Ann", "a file of an unknown kind"),
        (b"\x08\0\x05\0Miller^Ann", "DICOM without its preamble"),
        *((signature + b"Miller", kind) for signature, kind in SIGNATURES.items()),
    ],
)
def test_a_file_of_no_known_format_is_named_and_not_quoted(data: bytes, kind: str) -> None:
    assert beginning(data) == kind
