"""The header of a PLY file: what it declares, checked against the bytes that follow."""

from dataclasses import dataclass, field

from mmalign.errors import BadSample
from modalities.pointcloud.formats.limits import MAX_TEXT_BYTES, check_rows

SIZES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2, "int": 4, "uint": 4,
    "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8, "float64": 8,
}  # fmt: skip
"""Type of a property -> bytes."""

MAX_HEADER = 1 << 16


@dataclass
class Element:
    """One kind of row: its name, how many rows there are, and the least size of a row in bytes."""

    name: str
    rows: int
    size: int = 0
    properties: dict[str, str] = field(default_factory=dict)


def check_ply(data: bytes, name: str) -> dict[str, Element]:
    """Read the header and refuse what the file cannot hold.

    Raises:
        BadSample: the header is damaged, or declares more rows than there are bytes or lines.
    """
    end = data.find(b"end_header", 0, MAX_HEADER)
    if end < 0:
        raise BadSample(name, f"a PLY header of at most {MAX_HEADER} bytes that ends in end_header", "none")
    body = data.find(b"\n", end) + 1
    elements: dict[str, Element] = {}
    form = ""
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                element = elements[words[1]] = Element(words[1], int(words[2]))
                check_rows(element.rows, f"rows of {words[1][:20]}", name)
            elif words[:1] == ["property"]:
                # Of a list only the length is sure to be there.
                kind = words[2] if words[1] == "list" else words[1]
                element.size += SIZES[kind]
                element.properties[words[-1]] = words[1]
        except (IndexError, KeyError, ValueError, UnboundLocalError) as error:
            if isinstance(error, BadSample):
                raise
            raise BadSample(name, "a PLY header of elements and properties of known types", "a damaged one") from error
    if form not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise BadSample(name, "a PLY file in ascii, binary_little_endian or binary_big_endian", "another format")
    rows = sum(element.rows for element in elements.values())
    if form == "ascii":
        if len(data) > MAX_TEXT_BYTES:
            raise BadSample(name, f"an ASCII file of at most {MAX_TEXT_BYTES} bytes", f"{len(data)} bytes")
        held = sum(1 for line in data[body:].splitlines() if line.strip())
        if held < rows:
            raise BadSample(name, f"{rows} rows of data, as its header declares", f"{held}")
    elif sum(element.rows * element.size for element in elements.values()) > len(data) - body:
        raise BadSample(name, f"{rows} rows of data, as its header declares", f"{len(data) - body} bytes")
    return elements
