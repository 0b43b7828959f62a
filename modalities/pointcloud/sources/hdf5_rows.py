"""HDF5 files of many labelled clouds, as PointNet's: `data (n, points, 3)`, and `label (n,)` or `(n, 1)`."""

import io
from pathlib import Path

import numpy as np

from mmalign.errors import BadSample, UserError
from mmalign.registry import missing_extra
from modalities.common.reading.local_file import demand_file
from modalities.pointcloud.formats.arrays import own_dataset, read_dataset

MARK = "#"
"""Between the name of a file and a row of it: `ply_data_train0.h5#17`."""


def labels_of(path: Path, names: tuple[str, ...]) -> list[str]:
    """The class name of each row.

    Raises:
        UserError: the file is damaged, or a label has no name.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing_extra("h5py", "pointcloud") from error
    try:
        demand_file(path, "an HDF5 file with data and label")
        with h5py.File(path, "r") as file:
            labels = read_dataset(file, "label", path.name).reshape(-1)
            rows = len(own_dataset(file, "data", path.name))
    except Exception as error:  # the library raises arbitrary exceptions for damaged files
        came = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: expected an HDF5 file with data and label, got another: {came}") from error
    if len(labels) != rows:
        raise UserError(f"{path}: expected one label for each of {rows} clouds, got {len(labels)}")
    if labels.dtype.kind not in "iu" or (rows and not 0 <= labels.min() <= labels.max() < len(names)):
        raise UserError(f"{path}: expected labels in 0..{len(names) - 1}, got others")
    return [names[label] for label in labels.tolist()]


def cloud_of_row(folder: Path, name: str, known: set[str]) -> bytes:
    """One cloud as an NPY file.

    Args:
        folder: Where the files lie.
        name: File and row: `ply_data_train0.h5#17`.
        known: Files that may be read.

    Raises:
        BadSample: there is no such file or row.
    """
    import h5py

    file_name, _, row = name.partition(MARK)
    if file_name not in known or not row.isdecimal():
        raise BadSample(name, "FILE.h5#ROW of this source", "another name")
    demand_file(folder / file_name, "an HDF5 file", name=name)
    try:
        with h5py.File(folder / file_name, "r") as file:
            rows = len(own_dataset(file, "data", name))
            if int(row) >= rows:
                raise BadSample(name, f"a row below {rows}", row)
            values = read_dataset(file, "data", name, int(row))
    except BadSample:
        raise
    except Exception as error:  # the library raises arbitrary exceptions for damaged files
        raise BadSample(name, "a readable HDF5 file", f"a damaged one ({type(error).__name__})") from error
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()
