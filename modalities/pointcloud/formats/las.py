"""LAS and LAZ through laspy, read in pieces: bytes -> `Geometry`."""

import io

import numpy as np

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.common.reading.silence import quiet_library
from modalities.pointcloud.sample import MAX_POINTS, Geometry
from modalities.pointcloud.surface import smallest_hashes

PIECE = 1 << 18
"""Points that are decoded at once."""

MAX_LAS_POINTS = 1 << 27

quiet_points = quiet_library("laspy")
"""Inside `with quiet_points:` laspy logs nothing about a damaged file, and no warning is shown."""


def parse_las(data: bytes, name: str) -> Geometry:
    """Coordinates in double precision and, where the point format has them, colours of 16 bits.

    Of more than `MAX_POINTS` points a subset is kept that does not depend on their order. Coordinates stay relative to
    the header's offset, which is subtracted before float32: centimetres survive UTM coordinates.

    Raises:
        BadSample: the file is damaged, declares more points than it holds, or its colours are of 8 bits.
    """
    try:
        import laspy
    except ModuleNotFoundError as error:
        raise missing_extra("laspy", "pointcloud") from error
    _check_records(data, name)
    points = np.zeros((0, 3), np.int32)
    paint = np.zeros((0, 3), np.uint16)
    seen, coloured = 0, False
    try:
        with quiet_points, laspy.open(io.BytesIO(data), closefd=False) as reader:
            count = int(reader.header.point_count)
            if count > MAX_LAS_POINTS:
                raise BadSample(name, f"at most {MAX_LAS_POINTS} points", str(count))
            if not reader.header.are_points_compressed and count * reader.header.point_format.size > len(data):
                raise BadSample(name, f"{count} points, as its header declares", f"{len(data)} bytes")
            if reader.header.are_points_compressed:
                _check_chunks(data, int(reader.header.offset_to_point_data), name)
            scales = np.asarray(reader.header.scales)
            coloured = {"red", "green", "blue"} <= set(reader.header.point_format.dimension_names)
            for piece in reader.chunk_iterator(PIECE):
                seen += len(piece)
                points = np.concatenate([points, np.stack([piece.X, piece.Y, piece.Z], axis=1)])
                if coloured:
                    paint = np.concatenate([paint, np.stack([piece.red, piece.green, piece.blue], axis=1)])
                chosen = smallest_hashes(points, MAX_POINTS)
                points, paint = points[chosen], paint[chosen] if coloured else paint
    except BadSample:
        raise
    except Exception as error:  # the decoder raises arbitrary exceptions for damaged files
        raise BadSample(name, "a readable LAS or LAZ file", f"a damaged one ({type(error).__name__})") from error
    if seen != count:
        raise BadSample(name, f"{count} points, as its header declares", str(seen))
    colours = None
    if coloured and paint.any():
        if paint.max() < 256:
            raise BadSample(name, "colours of 16 bits, as LAS defines them", "colours in 0..255: multiply them by 257")
        colours = paint / 65535.0
    return Geometry(points * scales, None, colours, up="z")


def _check_records(data: bytes, name: str) -> None:
    """Refuse a file whose header states more records of variable length than its bytes: laspy would read them all.

    Their numbers are at bytes 100 and, from LAS 1.4 on, 243; the head of one has 54 or 60 bytes (LAS 1.4, table 3).
    """
    records = int.from_bytes(data[100:104], "little")
    extended = int.from_bytes(data[243:247], "little") if data[24:26] >= b"\x01\x04" else 0
    if 54 * records + 60 * extended > len(data):
        raise BadSample(name, "a LAS or LAZ file", f"a header that states {records + extended} records")


def _check_chunks(data: bytes, start: int, name: str) -> None:
    """Refuse a LAZ file whose table states more chunks than it has bytes: the decoder reserves memory for all of them.

    The compressed points begin with the table's offset, or -1 where that is in the last eight bytes; the table begins
    with a version and the number of chunks (LASzip, Isenburg 2013).
    """
    offset = int.from_bytes(data[start : start + 8], "little", signed=True)
    offset = int.from_bytes(data[-8:], "little", signed=True) if offset == -1 else offset
    chunks = int.from_bytes(data[offset + 4 : offset + 8], "little") if 0 < offset <= len(data) - 8 else -1
    if not 0 <= chunks <= len(data):
        raise BadSample(name, "a table of compressed chunks inside the file", "one that is damaged")
