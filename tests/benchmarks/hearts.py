"""Simulated hearts: from an ECG to its echo, and to the ejection fraction by sentences alone, recipe by recipe.

    python tests/benchmarks/hearts.py --rows "start alone" clip pcmepp --seeds 0 1 2

2,000 hearts to train on and 500 others to measure; each seed draws other hearts and starts the weights anew. The rank
is that of the right one among 500 echoes (or ECGs), ties in the middle. Balanced accuracy: below or above an ejection
fraction of 40 %, the prediction as it is. Halves: uncertainty below and above the median, by the spread of the
values that make a prediction and, where the objective has one, by the ECG's variance. The row `ridge` sees the ejection
fractions of the training hearts, of which sentences give words or a rounded number; penalty by five folds.
Intervals are 95 %, over seeds and hearts. Runs that exist are not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.evaluation.metrics.selective_prediction import variance_of
from mmalign.evaluation.run_task import evaluate

Floats = NDArray[np.float64]
CLIP, THRESHOLD = "ecg-echo-text/clip", 40.0
NETWORKS = [
    "--model.cca_init=null", "--model.optimizer.lr=2e-3", "--model.optimizer.weight_decay=0.1", "--data.batch_size=64",
    "--trainer.max_epochs=20", "--model.towers.ecg.encoder=resnet", "--model.towers.ecg.args={width: 16}",
    "--model.towers.ecg.transform={steps: [{step: bandpass}, {step: resample, rate: 100}, {step: crop, seconds: 10}, "
    "{step: normalise, by: fixed, scale: 0.25}], noise: 0.05, lead_dropout: 0.1}",
    "--model.towers.echo.encoder=frames", "--model.towers.echo.args={width: 8}",
    "--model.towers.echo.transform={size: 32, rate: 8, frames: 12, shift: 0.05, gain: 0.1}",
]  # fmt: skip
FROM_RANDOM = ["--model.cca_init=null", "--model.optimizer.lr=1e-3", "--trainer.max_epochs=20"]
ROWS: dict[str, tuple[str, list[str]]] = {
    "ridge": ("", []),
    "networks, random start": (CLIP, NETWORKS),
    "clip, random start": (CLIP, FROM_RANDOM),
    "start alone": (CLIP, ["--trainer.max_epochs=0"]),
    "clip": (CLIP, []),
    "pcmepp": ("ecg-echo-text/pcmepp", []),
}


def hearts(seed: int, batch_size: int = 256) -> DataConfig:
    """The hearts of a seed."""
    return DataConfig("hearts", options={"seed": seed}, positives="content", batch_size=batch_size)


def run(out: Path, row: str, seed: int) -> dict[str, Any]:
    """Train and measure, unless that was done before."""
    recipe, flags = ROWS[row]
    folder = out / row.replace(" ", "_").replace(",", "") / str(seed)
    kept = folder / "figures.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    if not recipe:
        figures = ridge(out / "start_alone" / str(seed), seed)
    else:
        command = [
            sys.executable, "-m", "mmalign", "train", recipe, *flags, f"--seed_everything={seed}",
            f"--data.options.seed={seed}", "--overwrite", f"--out={folder}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        figures = measure(folder, seed)
    kept.write_text(json.dumps(figures | {"seconds": time.perf_counter() - begun}) + "\n")
    return dict(json.loads(kept.read_text()))


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Ranks, predictions and uncertainty estimates of the 500 hearts."""
    model, data = mmalign.load(folder), hearts(seed)
    ranks = evaluate(
        model, data, "retrieval", split="test", pair=("ecg", "echo"), ties="middle", bootstrap=0
    ).details  # fmt: skip
    prompts = recipes.folder() / "ecg-echo-text" / "prompts" / "ejection_fraction.yaml"
    found = evaluate(
        model, data, "regression", split="test", pair=("ecg", "text"), target="ejection_fraction", prompts=prompts,
        bootstrap=0,
    ).details  # fmt: skip
    said = found["predicted"]
    uncertainties = {"spread": said.spread, **variance_of(found["embedding"])}
    return {
        "ecg to echo": ranks["ecg_to_echo"].best.tolist(), "echo to ecg": ranks["echo_to_ecg"].best.tolist(),
        "truth": found["truth"].tolist(), "said": said.values.tolist(),
        "uncertainty": {name: estimate.tolist() for name, estimate in uncertainties.items()},
    }  # fmt: skip


def ridge(folder: Path, seed: int) -> dict[str, Any]:
    """Ridge regression from the measures of the ECG to the ejection fraction; the bundle gives the transform."""
    model = mmalign.load(folder)
    modalities = {name: model.modalities[name] for name in ("ecg", "echo", "text")}
    data = Dataset.open(hearts(seed), modalities, splits=["train", "test"])
    transform, sets = model.transforms["ecg"], {}
    for split in ("train", "test"):
        inputs = transform.collate([transform.item(sample) for sample in data.split(split).samples("ecg")])
        numbers = np.array([record.targets["ejection_fraction"] for record in data.split(split).records])
        sets[split] = inputs["measures"].double().numpy(), numbers
    fitted = RidgeCV(np.logspace(-3, 2, 11), cv=5).fit(*sets["train"])
    return {"truth": sets["test"][1].tolist(), "said": fitted.predict(sets["test"][0]).tolist(), "uncertainty": {}}


def balanced(truth: Floats, said: Floats) -> float:
    """Balanced accuracy at the threshold."""
    low = truth < THRESHOLD
    return float((np.mean(said[low] < THRESHOLD) + np.mean(said[~low] >= THRESHOLD)) / 2)


def gap(name: str) -> Callable[[dict[str, Any]], float]:
    """Balanced accuracy of the low-uncertainty half less that of the high-uncertainty half."""

    def figure(found: dict[str, Any]) -> float:
        uncertainty, truth, said = found["uncertainty"][name], found["truth"], found["said"]
        sure = uncertainty <= np.median(uncertainty)
        return balanced(truth[sure], said[sure]) - balanced(truth[~sure], said[~sure])

    return figure


FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], float], str]] = {
    "ECG to echo, median rank": ("ecg to echo", lambda found: float(np.median(found["ecg to echo"])) + 1, ".1f"),
    "echo to ECG, median rank": ("echo to ecg", lambda found: float(np.median(found["echo to ecg"])) + 1, ".1f"),
    "EF, mean absolute error": ("said", lambda found: float(np.abs(found["said"] - found["truth"]).mean()), ".2f"),
    "balanced accuracy at 40 %": ("said", lambda found: balanced(found["truth"], found["said"]), ".3f"),
    "low- less high-uncertainty half, spread": ("spread", gap("spread"), "+.3f"),
    "low- less high-uncertainty half, variance": ("variance", gap("variance"), "+.3f"),
}


def drawn(found: dict[str, Any], rows: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """As arrays, and some of the hearts."""
    chosen = slice(None) if rows is None else rows
    arrays = {name: np.asarray(values)[chosen] for name, values in found.items() if isinstance(values, list)}
    return arrays | {"uncertainty": {name: np.asarray(values)[chosen] for name, values in found["uncertainty"].items()}}


def cell(several: list[dict[str, Any]], name: str, draws: int = 1000) -> str:
    """Mean over seeds, and its interval: seeds and hearts are both drawn."""
    needs, figure, layout = FIGURES[name]
    if needs not in several[0] and needs not in several[0]["uncertainty"]:
        return ""
    rng, values = np.random.default_rng(0), []
    for _ in range(draws):
        picked = [several[place] for place in rng.integers(0, len(several), len(several))]
        values.append(np.mean([figure(drawn(one, rng.integers(0, 500, 500))) for one in picked]))
    low, high = np.percentile(values, (2.5, 97.5))
    centre = np.mean([figure(drawn(one)) for one in several])
    return f"{centre:{layout}} [{low:{layout}}, {high:{layout}}]"


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/hearts"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    wanted = sorted(given.rows, key=lambda row: row == "ridge")  # it needs the transform of another row
    rows = {row: [run(given.out, row, seed) for seed in given.seeds] for row in wanted}
    print(f"| recipe | {' | '.join(FIGURES)} | s |\n| --- | {'--- | ' * len(FIGURES)}--- |")
    for row in given.rows:
        seconds = np.median([one["seconds"] for one in rows[row]])
        print(f"| {row} | {' | '.join(cell(rows[row], name) for name in FIGURES)} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
