"""The source `scanobjectnn`: ScanObjectNN, scanned objects of 15 classes (Uy et al. 2019)."""

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from mmalign.registry import nearest
from modalities.common.sources.published_dataset import check_options
from modalities.pointcloud.sources.classes import ClassifiedShapes, shapes_folder
from modalities.pointcloud.sources.hdf5_rows import MARK, labels_of

CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip
"""In the order of the release, which its labels count."""

VARIANTS = {
    "obj-bg": ("main_split", ""),
    "obj-only": ("main_split_nobg", ""),
    "pb-t50-rs": ("main_split", "_augmentedrot_scale75"),
}
"""Name in papers -> folder, and what the names of its files end in."""

FILES = {"train": "training_objectdataset", "test": "test_objectdataset"}


class ScanObjectNNSource(ClassifiedShapes):
    """The unpacked HDF5 files of ScanObjectNN: `--data.manifest FOLDER`, with `main_split` or `main_split_nobg` in it.

    2,048 points each, y up, neither centred nor scaled.

    Columns: `pointcloud`, `text` ("a chair"), `label` (the class), `id`, `split` (train or test).

    Options: `variant`: pb-t50-rs (default; perturbed, the hardest), obj-bg (with background) or obj-only.

    Raises:
        UserError: a file is missing or damaged, or an option is unknown.
    """

    kind = "ScanObjectNN"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ("variant",))
        variant = config.options.get("variant", "pb-t50-rs")
        if variant not in VARIANTS:
            raise UserError(f"--data.options.variant cannot be {variant!r}{nearest(str(variant), VARIANTS)}")
        folder = shapes_folder(config, "scanobjectnn")
        part, ending = VARIANTS[variant]
        shapes = []
        for split, start in FILES.items():
            name = f"{part}/{start}{ending}.h5"
            if not (folder / name).is_file():
                raise UserError(f"{folder}: expected {name} of ScanObjectNN, got none")
            labels = labels_of(folder / name, CLASSES)
            shapes += [(f"{name}{MARK}{row}", label, split) for row, label in enumerate(labels)]
        super().__init__(config, folder, shapes)
