"""Does a variance find noisy recordings and errors? PCME++'s learnt variance beside `mmalign variance`, on known noise.

    python tests/benchmarks/uncertainty.py --data hearts ptbxl --seeds 0 1 2

hearts: `ecg-text` on 2,000 simulated hearts, 500 others measured; each seed draws other hearts, whose noise is known.
The ejection fraction is predicted by prompts; the metric is the balanced accuracy at 40 %. ptbxl: `ecg-text` on folds
1 to 8, fold 9 measured; macro balanced accuracy of the five superclasses by prompts. `natural` are the recordings as
they are, `ladder` all recordings at each level of added white noise (`robustness`: 0, 0.02, 0.05, 0.1, 0.2 mV).

Gap: the metric on the half of lower uncertainty less that on the other half. `noise level` orders by the true noise:
what an estimate that knows the noise and nothing else would reach. Shuffled captions: 30 % of the measured recordings
get the text of another; AUROC of detection by the recording's variance, and by the distance of the pair. Intervals are
95 %, over seeds and records together; a record is drawn with all its levels. The perturbations of the fit were chosen
on validation hearts of seed 100. Runs that exist are not trained again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from figures import table
from numpy.typing import NDArray

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import embed_split, opened
from mmalign.evaluation.metrics.labels import labels_of
from mmalign.evaluation.metrics.regression import predict
from mmalign.evaluation.metrics.selective_prediction import detection_uncertainties
from mmalign.evaluation.metrics.weighted import auroc, spearman
from mmalign.evaluation.perturbed_split import perturbed_batches
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.zero_shot_multilabel import detection_scores
from mmalign.model import Aligner
from mmalign.types import Embedding
from modalities.ecg.perturb import PERTURBATIONS
from modalities.heart.simulator.heart import draw_heart

Floats = NDArray[np.float64]
LEVELS = (0.0, *PERTURBATIONS["noise"])
FITTED = ("noise", "wander", "dropped_leads")
OURS = "clip, fitted variance"
MODELS = ("pcmepp", OURS)
THRESHOLD, SHUFFLED = 40.0, 0.3


class Hearts:
    """Simulated hearts: noise is known, the metric is that of the ejection fraction."""

    split = "test"
    epochs: ClassVar = {"pcmepp": ["--trainer.max_epochs=10"], "clip": ["--trainer.max_epochs=4"]}  # as ecg-echo-text

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.flags = [
            "--data.source=hearts", f"--data.options.seed={seed}", f"--seed_everything={seed}", "--data.batch_size=256",
            "--model.dim=64", "--model.towers.ecg.args={width: 64}", "--model.towers.text.args={width: 64}",
            "--model.cca_init.ridge={ecg: 1.0, text: 1.0}", "--model.optimizer.lr=1e-4",
        ]  # fmt: skip
        self.config = DataConfig("hearts", options={"seed": seed}, columns={"ecg": "ecg", "text": "text"})

    def noise(self, data: Dataset) -> Floats | None:
        """The noise of each recording in mV."""
        return np.array([draw_heart(self.seed, int(record.id)).noise for record in data.split(self.split).records])

    def scorer(self, model: Aligner, data: Dataset) -> Callable[[Embedding], dict[str, Any]]:
        """Embedded recordings -> `wrong`-free outcomes: truth and prediction, and the estimates of prompts."""
        prompts = ValuePrompts.load(recipes.folder() / "ecg-echo-text" / "prompts" / "ejection_fraction.yaml")
        sentences = PromptEmbeddings(model, "text", prompts.sentences())
        truth = [record.targets["ejection_fraction"] >= THRESHOLD for record in data.split(self.split).records]

        def score(samples: Embedding) -> dict[str, Any]:
            scores = sentences.scores(samples, prompts.sentences()).double().numpy()
            shape = (len(scores), len(prompts.values), len(prompts.templates))
            found = predict(scores.reshape(shape), prompts.values, temperature=1 / model.logit_scale("ecg", "text"))
            return {
                "truth": np.array(truth)[:, None], "said": (found.values >= THRESHOLD)[:, None],
                "spread": found.spread, "entropy": found.entropy,
            }  # fmt: skip

        return score


class PtbXl:
    """PTB-XL: real recordings, whose own noise is not known; the metric is that of the superclasses."""

    split = "validation"
    epochs: ClassVar = {"pcmepp": [], "clip": []}

    def __init__(self, seed: int) -> None:
        self.flags = [f"--seed_everything={seed}"]
        self.config = DataConfig("ptbxl", columns={"ecg": "ecg", "text": "text"})

    def noise(self, data: Dataset) -> Floats | None:
        """Not known."""
        return None

    def scorer(self, model: Aligner, data: Dataset) -> Callable[[Embedding], dict[str, Any]]:
        """As `Hearts.scorer`; the entropy is the mean over classes."""
        prompts = ClassPrompts.load(recipes.folder() / "ecg-text" / "prompts" / "ptbxl.yaml")
        sentences = PromptEmbeddings(model, "text", prompts.sentences())
        records = data.split(self.split).records
        truth = labels_of(records, torch.arange(len(records)), prompts.names)

        def score(samples: Embedding) -> dict[str, Any]:
            margins = detection_scores(sentences, samples, prompts)
            entropy = detection_uncertainties(margins * model.logit_scale("ecg", "text"))["entropy"]
            return {"truth": truth, "said": margins > 0, "entropy": entropy}

        return score


SETS: dict[str, type[Hearts] | type[PtbXl]] = {"hearts": Hearts, "ptbxl": PtbXl}


def run(out: Path, name: str, seed: int) -> dict[str, Any]:
    """Train both models, fit the variance, and measure, unless that was done before."""
    folder = out / name / str(seed)
    kept = folder / "figures.json"
    if not kept.exists():
        task = SETS[name](seed)
        for model in ("pcmepp", "clip"):
            if not (folder / model / "bundle" / "config.json").exists():
                flags = [*task.flags, *task.epochs[model], "--overwrite", f"--out={folder / model}"]
                _command("train", f"ecg-text/{model}", *flags)
        fit = mmalign.fit_variance(folder / "clip", task.config, tower="ecg", perturbations=FITTED, seed=seed)
        found = measure({"pcmepp": mmalign.load(folder / "pcmepp"), OURS: fit.model}, task)
        found["fit"] = dict(fit.scores)
        kept.write_text(json.dumps(found, default=_plain) + "\n")
    return dict(json.loads(kept.read_text()))


def _command(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "mmalign", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stderr[-2000:]}")


def _plain(value: Any) -> Any:
    return value.tolist()


def measure(models: Mapping[str, Aligner], task: Hearts | PtbXl) -> dict[str, Any]:
    """Of each model, outcomes and uncertainty estimates of each recording, natural and at each level of the ladder."""
    first, *others = models.values()
    assert all(one.transforms["ecg"].config() == first.transforms["ecg"].config() for one in others)
    data = opened(first, task.config, ["ecg", "text"], task.split, keep_samples=True)
    found: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        ranks = evaluate(model, data, "retrieval", split=task.split, pair=("ecg", "text"), ties="middle", bootstrap=0)
        retrieval = {name: ranks.details[name].best.tolist() for name in ("ecg_to_text", "text_to_ecg")}
        found[name] = {"levels": [], "noise": task.noise(data), "retrieval": retrieval}
    scorers = {name: task.scorer(model, data) for name, model in models.items()}
    for level in LEVELS:
        ladder = perturbed_batches(first, data, "ecg", task.split, name="noise", level=level, seed=0, batch_size=64)
        batches = list(ladder)
        for name, model in models.items():
            embedded = model.embed_batches("ecg", batches)
            assert embedded is not None
            found[name]["levels"].append(scorers[name](embedded[0]) | _variance(embedded[0]))
            if level == 0:
                texts = embed_split(model, data, "text", task.split).embedding
                found[name]["shuffled"] = _shuffled(model, embedded[0], texts)
    return found


def _variance(samples: Embedding) -> dict[str, Any]:
    return {} if samples.log_variance is None else {"variance": samples.uncertainty.double().numpy()}


def _shuffled(model: Aligner, samples: Embedding, texts: Embedding) -> dict[str, Any]:
    """Estimates for pairs of which some have the text of another record, equal texts being no exchange."""
    rng, count = np.random.default_rng(0), len(samples)
    order = np.arange(count)
    chosen = rng.permutation(count)[: round(SHUFFLED * count)]
    order[chosen] = np.roll(chosen, 1)
    vectors = texts.vector[torch.from_numpy(order)]
    wrong = ~torch.isclose(vectors, texts.vector).all(1).numpy()
    distance = (samples.vector - vectors).square().sum(1).double().numpy()
    return {"wrong": wrong, "distance": distance} | _variance(samples)


def balanced(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Balanced accuracy, the mean over classes that have both outcomes."""
    values = []
    for known, given in zip(truth.T, said.T, strict=True):
        if known.any() and not known.all():
            values.append((given[known].mean() + (~given[~known]).mean()) / 2)
    return float(np.mean(values)) if values else float("nan")


def figures(found: Mapping[str, Any], rows: NDArray[np.int64]) -> dict[str, float]:
    """All figures of one model on some records, each with all its levels."""
    natural = {name: np.asarray(values)[rows] for name, values in found["levels"][0].items()}
    ladder = {name: np.concatenate([np.asarray(level[name])[rows] for level in found["levels"]]) for name in natural}
    ladder["noise level"] = np.repeat(np.array(LEVELS), len(rows))
    if found["noise"] is not None:
        natural["noise level"] = np.asarray(found["noise"])[rows]
    result = {"accuracy natural": balanced(natural["truth"], natural["said"])}
    result["accuracy ladder"] = balanced(ladder["truth"], ladder["said"])
    for part, values in (("natural", natural), ("ladder", ladder)):
        for name in ("variance", "spread", "entropy", "noise level"):
            if name in values:
                # Ties, as of the levels of a ladder, in random order.
                order = np.lexsort((np.random.default_rng(0).random(len(values[name])), values[name]))
                sure = np.zeros(len(order), np.bool_)
                sure[order[: len(order) // 2]] = True
                result[f"gap {part}, {name}"] = balanced(values["truth"][sure], values["said"][sure]) - balanced(
                    values["truth"][~sure], values["said"][~sure]
                )
        for name in ("variance", "spread", "entropy"):
            if name in values and "noise level" in values:
                result[f"rank correlation {part}, {name}"] = float(spearman(values[name], values["noise level"])[0])
    shuffled = {name: np.asarray(values)[rows] for name, values in found["shuffled"].items()}
    for name in ("variance", "distance"):
        if name in shuffled:
            result[f"shuffled captions, {name}"] = float(auroc(shuffled["wrong"], shuffled[name])[0])
    result |= {
        f"median rank {name}": float(np.median(np.asarray(v)[rows])) + 1 for name, v in found["retrieval"].items()
    }
    return result


def cells(several: list[Mapping[str, Any]], draws: int = 200) -> dict[str, str]:
    """Mean over seeds of every figure, and its interval: seeds and records are both drawn."""
    rng, count = np.random.default_rng(0), len(several[0]["levels"][0]["truth"])
    centre = [figures(one, np.arange(count)) for one in several]
    values: dict[str, list[float]] = {name: [] for name in centre[0]}
    for _ in range(draws):
        one = [figures(several[k], rng.integers(0, count, count)) for k in rng.integers(0, len(several), len(several))]
        for name, column in values.items():
            column.append(float(np.mean([each[name] for each in one])))
    shown = {}
    for name, column in values.items():
        low, high = np.nanpercentile(column, (2.5, 97.5))
        layout = ".1f" if name.startswith("median") else ".3f" if name.startswith(("acc", "shuf")) else "+.3f"
        shown[name] = f"{np.mean([one[name] for one in centre]):{layout}} [{low:{layout}}, {high:{layout}}]"
    return shown


def main() -> None:
    """Train what is missing, and print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/uncertainty"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.data:
        runs = [run(given.out, name, seed) for seed in given.seeds]
        columns = {model: cells([one[model] for one in runs]) for model in MODELS}
        rows = list(dict.fromkeys(row for column in columns.values() for row in column))
        print(f"\n{name}\n")
        print(table([{name: row, **{model: column.get(row, "") for model, column in columns.items()}} for row in rows]))


if __name__ == "__main__":
    main()
