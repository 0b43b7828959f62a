"""Checksums of PNG files, which decoders compare in part only."""

import struct
import zlib
from typing import BinaryIO

from mmalign.errors import BadSample

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 1 << 20


def check_png(stream: BinaryIO, source: object) -> None:
    """Compare the CRC of every chunk up to IEND; other files are not looked at. The stream is rewound.

    Raises:
        BadSample: a CRC does not agree, or the file ends before IEND.
    """
    stream.seek(0)
    if stream.read(len(SIGNATURE)) == SIGNATURE:
        while _chunk(stream, source) != b"IEND":
            pass
    stream.seek(0)


def _chunk(stream: BinaryIO, source: object) -> bytes:
    """Read one chunk (length, type, content, CRC) and return its type."""
    head = stream.read(8)
    length = struct.unpack(">I", head[:4])[0] if len(head) == 8 else 0
    kind, left = head[4:], length
    total = zlib.crc32(kind)
    while left and (piece := stream.read(min(left, _PIECE))):
        total, left = zlib.crc32(piece, total), left - len(piece)
    stated = stream.read(4)
    if len(head) < 8 or left or len(stated) < 4:
        raise BadSample(source, "a whole PNG picture", "a truncated one")
    if stated != total.to_bytes(4, "big"):
        raise BadSample(source, "a PNG picture whose checksums agree", "a damaged one")
    return kind
