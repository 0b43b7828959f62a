"""NPY, NPZ, HDF5 and text tables of points: bytes -> `Geometry`. Nothing is unpickled."""

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.common.reading.npy import archive_arrays, array_from
from modalities.common.reading.numbers import stated_array
from modalities.common.reading.silence import quiet_warnings
from modalities.pointcloud.formats.limits import MAX_ROWS, MAX_TEXT_BYTES, check_rows
from modalities.pointcloud.sample import Geometry

NAMES = {
    "points": ("points", "xyz", "pos", "data", "vertices"),
    "colours": ("colours", "colors", "rgb", "colour", "color"),
    "normals": ("normals", "normal"),
    "faces": ("faces", "triangles"),
}
"""Field of `Geometry` -> names of the arrays that hold it; the first that is there is read."""

COLUMNS = {"x": 0, "y": 1, "z": 2, "red": 3, "green": 4, "blue": 5, "r": 3, "g": 4, "b": 5, "nx": 6, "ny": 7, "nz": 8}
"""Name of a column of a text table -> its place; others are not read."""

ADVICE = "3 columns x y z, or 6 with unit normals; name other columns: an NPZ of points, colours and normals"


def from_arrays(arrays: Mapping[Any, Any], name: str) -> Geometry:
    """Named arrays: `points`, and optionally `colours`, `normals`, `faces`.

    Raises:
        BadSample: there are no points, or an array is not of numbers.
    """
    fields: dict[str, NDArray[Any]] = {}
    for field, names in NAMES.items():
        for key in names:
            if arrays.get(key) is not None and field not in fields:
                values = stated_array(arrays[key], f"numbers in {key}", name)
                if values.dtype.kind not in "iuf":
                    raise BadSample(name, f"numbers in {key}", f"values of type {values.dtype}")
                fields[field] = values
    if "points" not in fields:
        raise BadSample(name, f"an array named {' or '.join(NAMES['points'])}", "none")
    geometry = from_table(fields.pop("points"), name)
    geometry.faces, geometry.colours = fields.get("faces"), fields.get("colours")
    geometry.normals = fields.get("normals", geometry.normals)
    return geometry


def from_table(values: NDArray[Any], name: str) -> Geometry:
    """Points in rows of x y z, or of x y z and a unit normal: six columns could as well hold colours.

    Raises:
        BadSample: the columns do not say what they are.
    """
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] not in (3, 6):
        raise BadSample(name, f"points in rows of {ADVICE}", f"{values.dtype} values of shape {values.shape}")
    check_rows(len(values), "points", name)
    if values.shape[1] == 3:
        return Geometry(values)
    with np.errstate(all="ignore"):
        length = np.square(values[:, 3:].astype(np.float64)).sum(1)
    if not np.all(np.abs(length - 1) < 0.02):
        raise BadSample(name, f"points in rows of {ADVICE}", "6 columns, of which the last 3 are no unit normals")
    return Geometry(values[:, :3], normals=values[:, 3:])


def parse_npy(data: bytes, name: str) -> Geometry:
    """One array of points."""
    return from_table(array_from(data, name), name)


def parse_npz(data: bytes, name: str) -> Geometry:
    """Named arrays, see `NAMES`; members of other names are not read."""
    wanted = [key for names in NAMES.values() for key in names]
    return from_arrays(archive_arrays(data, wanted, name, most=MAX_ROWS * 24), name)


def parse_h5(data: bytes, name: str) -> Geometry:
    """HDF5 of one cloud: `data` or another name of `NAMES`, `(n, 3)` or `(1, n, 3)`."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing_extra("h5py", "pointcloud") from error
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            wanted = {key: names for names in NAMES.values() for key in names}
            return from_arrays({key: read_dataset(file, key, name) for key in file if key in wanted}, name)
    except BadSample:
        raise
    except Exception as error:  # the library raises arbitrary exceptions for damaged files
        raise BadSample(name, "a readable HDF5 file", f"a damaged one ({type(error).__name__})") from error


def read_dataset(file: Any, key: str, name: str, row: int | None = None) -> NDArray[Any]:
    """An array of an open HDF5 file, or one row of it; never of another file.

    Raises:
        BadSample: it lies in another file, is no array of numbers, or is too large.
    """
    dataset = own_dataset(file, key, name)
    shape = dataset.shape if row is None else dataset.shape[1:]
    if int(np.prod(shape, dtype=object)) > MAX_ROWS * 9:
        raise BadSample(name, f"at most {MAX_ROWS} points in {key!r}", f"shape {shape}")
    return np.asarray(dataset[()] if row is None else dataset[row])


def own_dataset(file: Any, key: str, name: str) -> Any:
    """A dataset of numbers whose values lie in the open HDF5 file itself.

    Raises:
        BadSample: it lies in another file, or is no array of numbers.
    """
    import h5py

    link = file.get(key, getlink=True)
    dataset = file.get(key) if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise BadSample(name, f"a dataset {key!r} in the file itself", "a group, or a link to elsewhere")
    if dataset.dtype.kind not in "iuf":
        raise BadSample(name, f"numbers in {key!r}", f"values of type {dataset.dtype}")
    return dataset


def parse_text(data: bytes, name: str) -> Geometry:
    """A text table (XYZ, TXT, CSV): numbers split by spaces, commas, semicolons or tabs.

    A first line of names (`x y z red green blue nx ny nz`, in any order, perhaps after `#` or `//`) says what the
    columns are. Without it there are 3 columns, or 6 with unit normals. Colours are whole numbers in 0..255, or
    fractions in 0..1.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise BadSample(name, f"a text file of at most {MAX_TEXT_BYTES} bytes", f"{len(data)} bytes")
    head, _, rest = data.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    words = re.split(r"[\s,;]+", head.decode("utf-8", "replace").lower().strip("#/ \t\r\"';,"))
    named = {"x", "y", "z"} <= set(words)
    try:
        with quiet_warnings:  # of a file without rows
            values = np.loadtxt(
                io.StringIO(re.sub("[,;\t]", " ", (rest if named else data).decode("utf-8-sig"))),
                comments=("#", "//"), ndmin=2,
            )  # fmt: skip
    except ValueError as error:
        raise BadSample(name, "a table of numbers, each row as long as the first", "another text") from error
    if not named:
        return from_table(values, name)
    if len(words) != values.shape[1]:
        raise BadSample(name, f"{len(words)} columns, as its first line names them", str(values.shape[1]))
    check_rows(len(values), "points", name)
    columns = {COLUMNS[word]: values[:, column] for column, word in enumerate(words) if word in COLUMNS}
    points, colours, normals = (
        np.stack([columns[first + axis] for axis in range(3)], axis=1)
        if all(first + axis in columns for axis in range(3)) else None
        for first in (0, 3, 6)
    )  # fmt: skip
    assert points is not None  # named
    return Geometry(points, None, None if colours is None else _whole(colours), normals)


def _whole(colours: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers up to 255 as integers; others, NaN and infinity too, unchanged: the range of floats refuses them.

    Example:
        >>> _whole(np.array([[0.0, 255.0, 7.0]])), _whole(np.array([[0.0, np.inf, 2.0]]))
        (array([[  0, 255,   7]]), array([[ 0., inf,  2.]]))
    """
    fits = colours.size and (np.abs(colours) <= 255).all() and (colours == np.rint(colours)).all()
    return colours.astype(np.int64) if fits and colours.max() > 1 else colours
