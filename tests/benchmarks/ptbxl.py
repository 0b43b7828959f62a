"""PTB-XL: the five superclasses by sentences alone, beside a linear probe on random weights and a random forest.

    python tests/benchmarks/ptbxl.py
    python tests/benchmarks/ptbxl.py --seeds 1 --columns text --json ptbxl.json

Trained on folds 1 to 8, measured on fold 9 (the source's split `validation`), on which nothing was chosen. `text` are
the SCP-ECG statements in English, from which the labels are made; `report` is what was written, in three languages. The
figures are areas under the ROC curve, means over seeds; intervals draw patients, 2,000 times, the seeds staying. The
difference from the random forest draws the same patients for both. The probe and the forest see the labels.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from figures import table as markdown
from numpy.typing import NDArray
from scipy import signal as dsp
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.evaluation.metrics.weighted import auroc
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts
from mmalign.evaluation.run_task import evaluate
from mmalign.training.run import train
from modalities.ecg import MODALITY
from modalities.ecg.features.ecg_features import BANDS
from modalities.ecg.sample import LEADS
from modalities.ecg.sources.ptbxl import SUPERCLASSES

Values = NDArray[np.float64]
PROMPTS = {"text": "ptbxl.yaml", "report": "ptbxl-report.yaml"}
START_ONLY = ["--model.optimizer.lr=1e-12", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]


class Split(NamedTuple):
    """One split: recordings as filtered millivolts, truth by class, patients."""

    signals: NDArray[np.float32]
    truth: NDArray[np.bool_]
    groups: NDArray[np.str_]


def read(name: str) -> Split:
    """All recordings of a split of PTB-XL, at 100 Hz."""
    data = Dataset.open(DataConfig("ptbxl", columns={"ecg": "ecg"}), {"ecg": MODALITY}, splits=[name])
    transform = MODALITY.transform("resnet", {}, steps=MODALITY.transform("features", {}).settings.steps)
    signals = np.stack([transform.item(sample)["signal"] for sample in data.split(name).samples("ecg")])
    records = data.split(name).records
    truth = np.array([[label in record.labels for label in SUPERCLASSES] for record in records])
    return Split(signals, truth, np.array([record.group or record.id for record in records]))


def spectral(signals: NDArray[np.float32]) -> Values:
    """Log power of each lead in seven bands."""
    frequency, density = dsp.welch(signals, 100.0, nperseg=256)
    rows = [density[..., (frequency >= low) & (frequency < high)].sum(-1) for low, high in BANDS]
    return np.log(np.concatenate(rows, axis=1) + 1e-6)


def forest(known: Split, asked: Split, seed: int) -> Values:
    """A forest a class on spectral features."""
    a, b = spectral(known.signals), spectral(asked.signals)
    found = [RandomForestClassifier(500, random_state=seed).fit(a, row) for row in known.truth.T]
    return np.stack([one.predict_proba(b)[:, 1] for one in found], 1)


def probe(known: Split, asked: Split, seed: int) -> Values:
    """Logistic regression on the vector of the recipe book's ResNet with random weights; penalty by patients' folds."""
    torch.manual_seed(seed)
    transform = MODALITY.transform("resnet", {})
    encoder = MODALITY.encoder("resnet", transform).eval()

    def vectors(split: Split) -> Values:
        rows = torch.from_numpy(split.signals)
        rows = rows / rows.std(2, keepdim=True).clamp(min=0.01)  # as the encoder's own steps do
        inputs = {"lead_mask": torch.ones(64, len(LEADS), dtype=torch.bool)}
        found = []
        with torch.no_grad():
            for part in rows.split(64):
                masks = {"time_mask": torch.ones(len(part), part.shape[2], dtype=torch.bool)}
                found.append(encoder({"signal": part, "lead_mask": inputs["lead_mask"][: len(part)], **masks}).vector)
        return torch.cat(found).double().numpy()

    a, b, scores = vectors(known), vectors(asked), []
    for row in known.truth.T:
        models = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)) for c in (1e-4, 1e-3, 1e-2, 0.1)
        ]
        folds = GroupKFold(4)
        quality = [
            cross_val_score(one, a, row, groups=known.groups, cv=folds, scoring="roc_auc").mean() for one in models
        ]
        scores.append(models[int(np.argmax(quality))].fit(a, row).decision_function(b))
    return np.stack(scores, 1)


def zero_shot(recipe: str, column: str, seed: int, more: Sequence[str] = ()) -> tuple[Values, Any]:
    """Train, then score each superclass of fold 9 by sentences for and against it."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--data.columns.text={column}", f"--seed_everything={seed}", f"--out={folder}", *more]
        train(recipe, flags)
        data = DataConfig("ptbxl", columns={"ecg": "ecg"})
        prompts = recipes.folder() / "ecg-text" / "prompts" / PROMPTS[column]
        assert tuple(ClassPrompts.load(prompts).names) == SUPERCLASSES
        found = evaluate(mmalign.load(folder), data, "multi-label", pair=("ecg", "text"), prompts=prompts, bootstrap=0)
    return np.asarray(found.details["margins"]), np.asarray(found.details["truth"])


def areas(truth: NDArray[np.bool_], scores: Values, weights: Values | None = None) -> Values:
    """Area of each class, mean over seeds, `(draws, classes)`; NaN where a draw lacks an outcome."""
    by_seed = [np.stack([auroc(t, s, weights) for t, s in zip(truth.T, one.T, strict=True)], 1) for one in scores]
    return np.asarray(np.mean(by_seed, axis=0))


def draws_of_patients(groups: NDArray[np.str_], draws: int) -> Values:
    """How often each recording counts, `(draws, n)`: whole patients are drawn."""
    patients, owner = np.unique(groups, return_inverse=True)
    often = np.random.default_rng(0).multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=draws)
    return often[:, owner].astype(np.float64)


def interval(values: Values) -> list[float]:
    """95 %, percentiles."""
    return [float(value) for value in np.nanpercentile(values, (2.5, 97.5))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--columns", nargs="+", default=["text", "report"], choices=list(PROMPTS))
    parser.add_argument("--recipes", nargs="*", default=["clip"], help="of ecg-text")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    known, asked = read("train"), read("validation")
    seeds = range(arguments.seeds)
    rows = {
        "random forest, spectral features": np.stack([forest(known, asked, seed) for seed in seeds]),
        "linear probe, random ResNet": np.stack([probe(known, asked, seed) for seed in seeds]),
    }
    for column in arguments.columns:
        todo = {"closed form alone": ("clip", range(1), START_ONLY)}
        todo |= {recipe: (recipe, seeds, []) for recipe in arguments.recipes}
        for name, (recipe, several, more) in todo.items():
            found = [zero_shot(f"ecg-text/{recipe}", column, seed, more) for seed in several]
            assert all((truth == asked.truth).all() for _, truth in found)
            rows[f"zero-shot from {column}: {name}"] = np.stack([scores for scores, _ in found])
    weights = draws_of_patients(asked.groups, arguments.draws)
    lots = {name: areas(asked.truth, scores, weights) for name, scores in rows.items()}
    peer, printed, kept = lots["random forest, spectral features"], [], {}
    for name, scores in rows.items():
        by_class, several = areas(asked.truth, scores)[0], [areas(asked.truth, one[None]).mean() for one in scores]
        macro, norm = interval(lots[name].mean(1)), interval(lots[name][:, 0])
        gain = interval(lots[name].mean(1) - peer.mean(1))
        kept[name] = {
            "areas": dict(zip(SUPERCLASSES, by_class.tolist(), strict=True)), "macro": float(by_class.mean()),
            "macro_ci": macro, "norm_ci": norm, "gain_ci": gain, "macro_by_seed": [float(one) for one in several],
        }  # fmt: skip
        printed.append(
            {
                "": name,
                "macro AUROC": f"{by_class.mean():.3f} [{macro[0]:.3f}, {macro[1]:.3f}]",
                "sd (seeds)": f"{np.std(several):.3f} ({len(several)})",
                "macro less forest": f"[{gain[0]:+.3f}, {gain[1]:+.3f}]",
                "NORM": f"{by_class[0]:.3f} [{norm[0]:.3f}, {norm[1]:.3f}]",
                **{label: f"{area:.3f}" for label, area in zip(SUPERCLASSES[1:], by_class[1:], strict=True)},
            }
        )
    print(markdown(printed))
    print(f"{len(known.truth)} recordings trained on, {len(asked.truth)} of {len(set(asked.groups))} patients measured")
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
