"""Data of every registered source: a small release in its own layout, or the options of a simulated one."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import TESTS, files_of

__all__ = ["SOURCES", "TESTS", "SourceSeed"]


@dataclass(frozen=True)
class SourceSeed:
    """Data of one source.

    Args:
        write: Writes the data into a folder; returns `--data.manifest`, relative to it.
        columns: `--data.columns`; the towers are modalities of the same names.
        options: `--data.options`; `{folder}` stands for the folder. Of a simulated source these are fuzzed.
    """

    write: Callable[[Path], str] | None
    columns: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)

    def case(self, folder: Path) -> Case:
        """The files, or the options."""
        if self.write is None:
            return Case(value=dict(self.options))
        entry = self.write(folder)
        return Case(files_of(folder), entry or "./")


def _table(folder: Path) -> str:
    rows = ["file,text,label,group,split,age"]
    rows += [f"{index}.npy,text {index},{'cat' if index % 2 else 'dog'},g{index},train,{index}" for index in range(6)]
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    for index in range(6):
        np.save(folder / f"{index}.npy", np.full(4, index, np.float32))
    return "t.csv"


def _shards(folder: Path) -> str:
    for number in range(2):
        with tarfile.open(folder / f"s-{number}.tar", "w") as archive:
            for key in "abc":
                stream = io.BytesIO()
                np.save(stream, np.full(4, number, np.float32))
                about = json.dumps({"caption": [f"c{number}", "d"], "group": number, "label": "cat"}).encode()
                for suffix, data in (("npy", stream.getvalue()), ("txt", b"a picture\n"), ("json", about)):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return "s-{0..1}.tar"


def _saved(folder: Path) -> str:
    import datasets

    features = datasets.Features({
        "caption": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "vector": datasets.List(datasets.Value("float32")),
    })  # fmt: skip
    rows = {"caption": list("abcd"), "label": [0, 1, -1, 0], "vector": [[k, 0.5] for k in range(4)]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder / "d"))
    return "d"


def _chebi(folder: Path) -> str:
    from tests.modalities.molecule.test_chebi20 import HEAD, TRAIN, VALID, write

    corpus = ["CID\tSMILES\tsplit", "1\tCCO\ttrain", "9\tCCC\ttest"]
    write(folder, train=[HEAD, *TRAIN], validation=[HEAD, *VALID], corpus_smiles=corpus)
    return ""


def _pcdes(folder: Path) -> str:
    from tests.modalities.molecule.test_pcdes import HEAD, LONG

    rows = [HEAD, f"10500\tCCO\t{LONG}", "10501\tO=Cl(=O)(=O)F\tit is refused", "10502\tCCC\tit is propane"]
    (folder / "validation.txt").write_text("\n".join(rows) + "\n")
    return ""


def _ptbxl(folder: Path) -> str:
    from tests.modalities.ecg.test_ptbxl import release

    release(folder)
    return ""


def _mimic(folder: Path) -> str:
    from tests.modalities.ecg.test_mimic import release

    release(folder)
    return ""


def _mimic_echo(folder: Path) -> str:
    from tests.modalities.heart.test_mimic_echo import release

    release(folder)
    return "ecg"


def _echonet(folder: Path) -> str:
    from tests.modalities.heart.test_echonet import release

    release(folder)
    return ""


def _pyg(folder: Path) -> str:
    from torch_geometric.data import InMemoryDataset

    from tests.modalities.graph.test_saved_dataset import graphs

    (folder / "processed").mkdir()
    InMemoryDataset.save(graphs(), str(folder / "processed" / "data.pt"))
    return ""


def _captioned(name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from tests.modalities.video.sources import test_captioned as captioned
        from tests.modalities.video.video_files import numbered, write_video

        clip = write_video([numbered(index, 32, 56) for index in range(8)])
        listed = [{"video": "a.mp4", "caption": "a panda"}, {"image": "b.mp4", "caption": ["1", "2"]}]
        files, clips = {
            "msrvtt": ({"MSRVTT_data.json": captioned.MSRVTT}, captioned.CLIPS),
            "activitynet": ({"train.json": captioned.ACTIVITYNET}, ("v_a.mp4", "v_b.mp4")),
            "vatex": ({"vatex_training_v1.0.json": captioned.VATEX}, ("a_b.mp4", "plain.mp4")),
            "trajvit": ({"list.json": listed}, ("a.mp4", "b.mp4")),
        }[name]  # fmt: skip
        captioned.write(folder, files, clips)
        for one in clips:
            (folder / one).write_bytes(clip)
        return "list.json" if name == "trajvit" else ""

    return write


def _modelnet(folder: Path) -> str:
    from tests.modalities.pointcloud.test_published import pointnet_release

    pointnet_release(folder)
    return ""


def _scan(folder: Path) -> str:
    from tests.modalities.pointcloud.test_published import write_h5

    write_h5(folder / "main_split/training_objectdataset_augmentedrot_scale75.h5", [4, 14, 0])
    write_h5(folder / "main_split/test_objectdataset_augmentedrot_scale75.h5", [9])
    return ""


def _shapenet(folder: Path) -> str:
    from tests.modalities.pointcloud.test_published import clouds

    (folder / "shapenet_pc").mkdir()
    for index, name in enumerate(("02691156-abc", "03001627-d-e")):
        np.save(folder / f"shapenet_pc/{name}.npy", clouds(1, index)[0])
    taxonomy = [{"synsetId": "02691156", "name": "airplane, plane"}, {"synsetId": "03001627", "name": "chair"}]
    (folder / "taxonomy.json").write_text(json.dumps(taxonomy))
    (folder / "train.txt").write_text("02691156-abc.npy\n")
    (folder / "test.txt").write_text("03001627-d-e.npy\n")
    return ""


_VECTORS = {"vector": "file", "text": "text"}
_TINY = {"train": 2, "validation": 1, "test": 1, "seed": 0}
SOURCES: dict[str, SourceSeed] = {
    "manifest": SourceSeed(_table, _VECTORS, {"targets": ["age"]}),
    "webdataset": SourceSeed(_shards, {"vector": "npy", "text": "json:caption"}),
    "datasets": SourceSeed(_saved, {"vector": "vector", "text": "caption", "label": "label"}),
    "digits": SourceSeed(None, {"image": "image", "text": "text"}),
    "chebi20": SourceSeed(_chebi, {"molecule": "smiles", "text": "text"}),
    "pcdes": SourceSeed(_pcdes, {"molecule": "smiles", "text": "text"}),
    "ptbxl": SourceSeed(_ptbxl, {"ecg": "ecg", "text": "text"}),
    "mimic-ecg": SourceSeed(_mimic, {"ecg": "ecg", "text": "text"}),
    "mimic-ecg-echo": SourceSeed(
        _mimic_echo, {"ecg": "ecg", "echo": "echo", "text": "text"}, {"echo": "{folder}/echo"}
    ),
    "echonet-dynamic": SourceSeed(_echonet, {"echo": "echo", "text": "text"}),
    "pyg": SourceSeed(_pyg, {"graph": "graph", "molecule": "smiles", "text": "text", "label": "y"}),
    "msrvtt": SourceSeed(_captioned("msrvtt"), {"video": "video", "text": "text"}),
    "activitynet": SourceSeed(_captioned("activitynet"), {"video": "video", "text": "text"}),
    "vatex": SourceSeed(_captioned("vatex"), {"video": "video", "text": "text"}),
    "trajvit": SourceSeed(_captioned("trajvit"), {"video": "video", "text": "text"}),
    "modelnet40": SourceSeed(_modelnet, {"pointcloud": "pointcloud", "text": "text"}),
    "scanobjectnn": SourceSeed(_scan, {"pointcloud": "pointcloud", "text": "text"}),
    "shapenet55": SourceSeed(_shapenet, {"pointcloud": "pointcloud", "text": "text"}),
    "hearts": SourceSeed(None, {"ecg": "ecg", "echo": "echo", "text": "text"}, dict(_TINY)),
    "shapes": SourceSeed(None, {"video": "video", "text": "text"}, dict(_TINY)),
    "solids": SourceSeed(None, {"pointcloud": "pointcloud", "text": "text"}, dict(_TINY)),
    "fragments": SourceSeed(None, {"molecule": "smiles", "text": "text"}, dict(_TINY)),
}
"""Registered name -> its data."""
