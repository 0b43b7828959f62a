"""The source `modelnet40`: ModelNet40, 12,311 CAD shapes of 40 classes (Wu et al. 2015)."""

from collections.abc import Iterator
from pathlib import Path

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.sources.published_dataset import check_options
from modalities.pointcloud.sources.classes import ClassifiedShapes, listed_files, names_in, shapes_folder
from modalities.pointcloud.sources.hdf5_rows import MARK, labels_of

SPLITS = ("train", "test")
LISTS = "modelnet40_shape_names.txt"
ADVICE = (
    "expected ModelNet40: CLASS/train/*.off, or ply_data_train*.h5 with shape_names.txt, "
    f"or CLASS/*.txt with {LISTS}"
)  # fmt: skip


class ModelNet40Source(ClassifiedShapes):
    """The unpacked ModelNet40 in one of its three forms: `--data.manifest FOLDER`.

    - The meshes: `CLASS/train/*.off` and `CLASS/test/*.off`; z points up: set `transform.up: z`.
    - PointNet's HDF5 files: `ply_data_train*.h5`, `ply_data_test*.h5` and `shape_names.txt`; 2,048 points, y up.
    - PointNet++'s resampled tables: `CLASS/*.txt` with normals, `modelnet40_train.txt`, `modelnet40_test.txt` and
      `modelnet40_shape_names.txt`; y up.

    The forms hold other points of the same shapes and give other accuracies: name the one in use. The release has no
    colours. Caches in pickle (`*.dat`) are not read.

    Columns: `pointcloud`, `text` ("a flower pot"), `label` (the class in words), `id`, `split` (train or test).

    Raises:
        UserError: the folder has none of the forms, or an option is given.
    """

    kind = "ModelNet40"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ())
        folder = shapes_folder(config, "modelnet40")
        super().__init__(config, folder, list(_shapes(folder)))


def _shapes(folder: Path) -> Iterator[tuple[str, str, str]]:
    if (folder / LISTS).is_file():
        known = set(names_in(folder / LISTS))
        for split in SPLITS:
            for name in listed_files(folder / f"modelnet40_{split}.txt"):
                label = name.rpartition("_")[0]
                if label not in known:
                    raise UserError(f"{folder}: expected a shape of a class in {LISTS}, got {name[:60]!r}")
                yield f"{label}/{name}.txt", label, split
    elif (folder / "shape_names.txt").is_file():
        names = names_in(folder / "shape_names.txt")
        for split in SPLITS:
            for path in sorted(folder.glob(f"ply_data_{split}*.h5")):
                for row, label in enumerate(labels_of(path, names)):
                    yield f"{path.name}{MARK}{row}", label, split
    else:
        paths = sorted(path for split in SPLITS for path in folder.glob(f"*/{split}/*.off"))
        if not paths:
            raise UserError(f"{folder}: {ADVICE}; got none of them")
        for path in paths:
            yield path.relative_to(folder).as_posix(), path.parent.parent.name, path.parent.name
