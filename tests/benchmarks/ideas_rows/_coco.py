"""COCO's photographs with five captions each, in folds, as manifests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from families import data_folder

FOLDS = 4


def records() -> list[dict[str, Any]]:
    """The 148 photographs, in an order that the folds do not depend on."""
    lines = (data_folder() / "coco_captions" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def manifest(fold: int, path: Path) -> list[str]:
    """Write the table of a fold; returns the flags of the data. The columns are file, text (a list), split."""
    rows = records()
    folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    lines = [
        {"file": row["file"], "text": row["captions"], "split": "test" if of == fold else "train"}
        for row, of in zip(rows, folds.tolist(), strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return [
        "--data.source=manifest",
        f"--data.manifest={path}",
        f"--data.files={data_folder() / 'coco_captions' / 'images_free.tar'}",
        "--data.columns={image: file, text: text, split: split}",
    ]
