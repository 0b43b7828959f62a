"""Both data sets as files that either program reads: pictures in a folder, one TSV a split, one model configuration."""

import csv
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("filepath", "file", "caption", "group", "split")


@dataclass(frozen=True)
class Row:
    """One pair: the picture's absolute path, its caption, what it must not be separated from, and its split."""

    filepath: str
    caption: str
    group: str
    split: str

    @property
    def file(self) -> str:
        """The picture as seen from the table's folder: mmalign reads nothing outside of it."""
        return "/".join(Path(self.filepath).parts[-2:])


@dataclass(frozen=True)
class Prepared:
    """What a run needs.

    Args:
        name: eurosat or emoji.
        train: TSV of the training rows alone, so that neither program spends time on the held-out ones.
        held_out: The rows that quality is measured on.
        model: Folder with `open_clip_config.json`, which both programs build their towers from.
        size: Side of the square picture, the files' own, so that neither program resizes a held-out one.
        train_rows: How many rows `train` has.
    """

    name: str
    train: Path
    held_out: tuple[Row, ...]
    model: Path
    size: int
    train_rows: int


def data_folder() -> Path:
    """Where the real data is: `MMALIGN_DATA`, by default `../shared/data` beside the repository."""
    return Path(os.environ.get("MMALIGN_DATA", ROOT.parent / "shared" / "data")).resolve()


def prepare(name: str, out: Path, *, timm_model: str = "resnet10t") -> Prepared:
    """Unpack a data set under `out` and write its tables and model configuration."""
    folder = out / name
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    size = {"eurosat": 64, "emoji": 72}[name]
    rows = {"eurosat": _eurosat, "emoji": _emoji}[name](data_folder(), pictures)
    train = [row for row in rows if row.split == "train"]
    _write(folder / "train.tsv", train)
    held_out = tuple(row for row in rows if row.split == "validation")
    return Prepared(
        name, folder / "train.tsv", held_out, model_config(folder / "model", size, timm_model), size, len(train)
    )


def _eurosat(data: Path, pictures: Path) -> list[Row]:
    """The data set's own split; the caption is the class in words."""
    base = data / "eurosat_rgb"
    _unpack(base / "eurosat_rgb_3200.tar", pictures)
    return [
        Row(_picture(pictures, row["file"]), row["text"], row["class"], row["split"])
        for row in _read(base / "labels.tsv")
    ]


def _emoji(data: Path, pictures: Path) -> list[Row]:
    """A fifth of the base emoji (first code point) is held out, chosen by a hash of the code point."""
    base = data / "noto_emoji"
    _unpack(base / "png72.tar", pictures)
    rows = []
    for row in _read(base / "names.tsv"):
        group = row["codepoints"].split("-")[0]
        held_out = int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5 == 0
        split = "validation" if held_out else "train"
        rows.append(Row(_picture(pictures, row["file"]), row["name"], group, split))
    return rows


def _unpack(archive: Path, pictures: Path) -> None:
    """JPEG bytes stay as they are; PNG is laid on white, because open_clip's transform drops alpha."""
    with tarfile.open(archive) as tar:
        for member in tar:
            handle = tar.extractfile(member) if member.isfile() else None
            if handle is None:
                continue
            target = Path(_picture(pictures, member.name))
            payload = handle.read()
            if target.suffix == ".png":
                picture = Image.open(io.BytesIO(payload)).convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                Image.alpha_composite(white, picture).convert("RGB").save(target)
            else:
                target.write_bytes(payload)


def _picture(pictures: Path, name: str) -> str:
    return str(pictures / Path(name).name)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t")
        writer.writerow(FIELDS)
        writer.writerows([getattr(row, field) for field in FIELDS] for row in rows)


def model_config(folder: Path, size: int, timm_model: str) -> Path:
    """The towers: a timm model from scratch with a linear projection, and a two-layer text transformer."""
    folder.mkdir()
    config = {
        "embed_dim": 128,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": timm_model,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": size,
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}, indent=2))
    return folder
