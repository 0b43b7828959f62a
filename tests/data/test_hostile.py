"""Every case of `hostile.tsv`, from a folder, a tar and a zip: rejected with its reason, and the rest is served."""

import csv
import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmalign.data.checking import check_samples
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.modality import Modality
from mmalign.training.data_module import TrainingData

CASES = Path(__file__).with_name("hostile.tsv")


def huge_header() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def contents(png: Any) -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.radial_gradient("L").save(buffer, "JPEG")
    return {
        "good.png": png(3),
        "cut.jpg": buffer.getvalue()[:900],
        "text.png": b"this is a text\n",
        "empty.png": b"",
        "header.png": huge_header(),
        "large.png": png(1) + b"\0" * 2_000_000,
    }


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    root = path / "files"
    (root / "folder").mkdir(parents=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    (path / "secret.png").write_bytes(files["good.png"])
    (root / "link.png").symlink_to(path / "secret.png")
    os.mkfifo(root / "pipe.png")
    return root


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path / "files.tar", "w") as archive:
        for name, data in {**files, "../secret.png": files["good.png"], "/secret.png": files["good.png"]}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind in {
            "link.png": tarfile.SYMTYPE,
            "pipe.png": tarfile.FIFOTYPE,
            "folder": tarfile.DIRTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../secret.png" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info)
    return path / "files.tar"


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, "../secret.png": files["good.png"], "/secret.png": files["good.png"]}.items():
            archive.writestr(name, data)
        for name, mode in {"link.png": 0o120777, "pipe.png": 0o010644, "folder/": 0o040755}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "../secret.png" if name == "link.png" else "")
    return path / "files.zip"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [folder_of, tar_of, zip_of])
def test_hostile_records_are_rejected_with_a_reason_and_others_are_read(
    tmp_path: Path, png: Any, modalities: dict[str, Modality], kind: Any
) -> None:
    with CASES.open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file, delimiter="\t"))
    config = DataConfig(
        manifest=str(CASES),
        files=str(kind(tmp_path, contents(png))),
        columns={"image": "file", "text": "text"},
        options={"max_file_mb": 1},
        validation=0,
        batch_size=1,
        max_rejected=1,
    )
    report = check_samples(config, modalities, sheet=tmp_path / "sheet.png")
    found = {problem.location: problem for problem in report.problems}
    for line, case in enumerate(cases, start=2):
        row = f"hostile.tsv:{line}"
        assert (row in found) == bool(case["reason"]), case["case"]
        if case["reason"]:
            assert case["reason"] in found[row].reason, case["case"]
            assert "\n" not in str(found[row]), case["case"]
            assert found[row].tower, case["case"]
    assert report.bad == len(cases) - 1
    data = Dataset.open(config, modalities)
    transforms = {
        "image": modalities["image"].transform("convnet", {}, size=8),
        "text": modalities["text"].transform("transformer", {}),
    }
    transforms["text"].fit(data.split("train").samples("text"))
    assert len(list(TrainingData(data, transforms).train_dataloader())) == 1
