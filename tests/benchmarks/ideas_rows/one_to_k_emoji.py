"""Emoji with their name and keywords as alternatives: one drawn per step, or several with `clip` and `one_to_k`."""

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from families import data_folder
from idea import Figures, Idea, train
from ideas_rows.one_to_k import MODEL, RECIPE

EPOCHS = 40


class Row(NamedTuple):
    """The objective, the texts per emoji and step (0 = all), and whether keywords are among them."""

    objective: str = "clip"
    texts: int = 1
    keywords: bool = True


def table(path: Path, *, keywords: bool) -> None:
    """Name and keywords of each emoji; a fifth of the base emoji (first code point) is the test split."""
    with (data_folder() / "noto_emoji" / "names.tsv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = []
    for row in rows:
        base = row["codepoints"].split("-")[0]
        held = int(hashlib.sha256(base.encode()).hexdigest(), 16) % 5 == 0
        more = [word.strip() for word in row["keywords"].split("|") if word.strip()] if keywords else []
        texts = list(dict.fromkeys([row["name"], *more]))
        lines.append({"file": row["file"], "text": texts, "group": base, "split": "test" if held else "train"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def run(row: Row, seed: int, folder: Path) -> Figures:
    """Train, then retrieve held-out emoji by their names and names by their emoji."""
    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.embedding.loop import embed_split, opened
    from mmalign.run_folder import data_settings

    table(folder / "emoji.jsonl", keywords=row.keywords)
    data = [
        "--data.source=manifest", f"--data.manifest={folder / 'emoji.jsonl'}",
        f"--data.files={data_folder() / 'noto_emoji' / 'png72.tar'}",
        "--data.columns={image: file, text: text, group: group, split: split}",
    ]  # fmt: skip
    flags = [
        f"--model.pairs=[{{a: image, b: text, objective: {row.objective}}}]",
        f"--data.draw={{text: {row.texts}}}",
        f"--trainer.max_epochs={EPOCHS}",
        "--data.batch_size=128",
    ]
    seconds = train(RECIPE, [*data, *MODEL, *flags], seed, folder / "model")
    model = mmalign.load(folder / "model")
    held = opened(model, DataConfig(**(data_settings(folder / "model") or {})), ("image", "text"), "test")
    images, texts = (embed_split(model, held, tower, "test") for tower in ("image", "text"))
    names = texts.keep(texts.alternative_indices == 0)
    with torch.no_grad():
        scores = model.similarity(images.embedding, names.embedding).numpy()
    right = scores.diagonal()
    forth, back = (scores >= right[:, None]).sum(1) - 1, (scores >= right).sum(0) - 1
    outcomes = {"MRR": (1 / (1 + forth) + 1 / (1 + back)) / 2, "hit@10": ((forth < 10) * 1.0 + (back < 10)) / 2}
    _, clusters = np.unique([record.group for record in held.split("test").records], return_inverse=True)
    named = {name: np.asarray(values, float).tolist() for name, values in outcomes.items()}
    return {"outcomes": named, "clusters": clusters.tolist(), "step_s": seconds}


ROWS = {
    "clip, 1 text": Row(),
    "clip, the name alone": Row(keywords=False),
    "clip, 3 texts": Row(texts=3),
    "one_to_k, 3 texts": Row("one_to_k", 3),
    "clip, all texts": Row(texts=0),
    "one_to_k, all texts": Row("one_to_k", 0),
}

IDEA = Idea(
    "emoji, 1,188 for training and 217 held out, names and keywords, linear towers on image features and n-grams, "
    f"{EPOCHS} epochs",
    ROWS,
    ("MRR", "hit@10"),
    run,
)
