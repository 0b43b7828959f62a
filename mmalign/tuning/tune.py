"""`mmalign.tune`: learnt prompts of a frozen bundle, and how they compare with templates and a linear probe."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import opened
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Bools
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, prompt_towers
from mmalign.model import Aligner
from mmalign.selection import model_of, pair_of
from mmalign.tuning.comparison import (
    HAND,
    LEARNT,
    PROBE,
    PROTOCOL,
    accuracy_table,
    bare_texts,
    correct_probe,
    correct_prompts,
    labelled,
    templates_of,
)
from mmalign.tuning.learn import TuningConfig, learn, prompted


@dataclass(frozen=True)
class Tuned:
    """A tuned model and its comparison.

    Args:
        model: The model with the learnt prompts.
        result: Accuracy of learnt prompts, hand-written templates and linear probe; `show()` prints it.
        folder: The bundle, if it was written.
    """

    model: Aligner
    result: EvalResult
    folder: Path | None = None


def tune(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    *,
    shots: int,
    out: str | Path | None = None,
    prompts: Prompts | str | Path | None = None,
    pair: Sequence[str] = (),
    context: int = 4,
    start: str = "random",
    experts: int = 1,
    text_weight: float | None = None,
    epochs: int | None = None,
    lr: float = 0.002,
    batch_size: int = 32,
    split: str = "validation",
    new_classes: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> Tuned:
    """Learn prompts for a frozen bundle from a few labelled samples (CoOp, arXiv 2109.01134).

    The samples are embedded once; each step runs the text tower on the class texts with the context vectors before
    them. Only the context is learnt: the bundle's other weights are equal to the bit. The tuned model is a model: its
    prompts are the class texts alone, without templates.

    Args:
        model: A model, or the path of a bundle or run; not changed.
        data: The configuration of the data, or data that are open; the splits train and `split` are read here.
        shots: Training records per class.
        out: Folder of the tuned bundle; None = it is not written.
        prompts: Hand-written templates and class texts, or their YAML file; default: the names of the classes.
        pair: The two towers; default: the only pair that the model was trained on.
        context: Number of context vectors.
        start: `random`, words that the context starts from, or `templates`, the words before `{}`.
        experts: Number of contexts, see `TuningConfig`.
        text_weight: Weight of the loss that keeps prompts near the templates, see `TuningConfig`.
        epochs: Passes over the shots, see `TuningConfig`.
        lr: Learning rate.
        batch_size: Samples per step.
        split: Split to evaluate.
        new_classes: Also fit to the first half of the classes alone, and report base classes, new classes and their
            harmonic mean.
        bootstrap: Number of bootstrap resamples; 0: no intervals.
        seed: Seed of the shots, the start, the order and the resampling.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        UserError: the encoder of the text tower has no token embeddings, the pair's score reads more than vectors,
            there are fewer than two classes, or a class has no training record.

    Example:
        >>> import mmalign
        >>> tuned = mmalign.tune("runs/first", mmalign.DataConfig("digits"), shots=4)  # doctest: +SKIP
        >>> tuned.result.show()  # doctest: +SKIP
    """
    config = TuningConfig(context, start, experts, text_weight, epochs, lr, batch_size, seed)
    if shots < 1:
        raise UserError(f"--shots: expected at least 1, got {shots}")
    loaded = model_of(model, device)
    towers = prompt_towers(loaded, pair_of(loaded, pair), "tune")
    if not loaded.scores_vectors_only(*towers):
        raise UserError(
            f"tune: the score of {towers[0]!r} and {towers[1]!r} reads more than vectors; prompts are learnt for "
            "scores of vectors, such as those of clip and siglip"
        )
    prompt_set = Prompts.load(prompts) if isinstance(prompts, str | Path) else prompts or Prompts()
    tuned = prompted(loaded, towers[1], config, prompt_set.templates)  # refuses before the data are read
    read = opened(loaded, data, towers[:1], "train").read(split)
    names = prompt_set.names([label for record in read.records for label in record.labels])
    if len(names) < 2:
        raise UserError(f"tune needs at least two classes, got {len(names)}; name the column with --data.columns.label")
    few = labelled(loaded, read, towers[0], "train", names, shots=shots, seed=seed)
    held = labelled(loaded, read, towers[0], split, names)
    losses: dict[str, list[float]] = {}
    correct: dict[str, dict[str, Bools]] = {HAND: {}, LEARNT: {}, PROBE: {}}

    def compare(part: str, classes: range, fitted: Aligner, probe: bool) -> None:
        samples, chosen = held.of(classes), names[classes.start : classes.stop]
        correct[HAND][part] = correct_prompts(loaded, towers, samples, templates_of(prompt_set, chosen))
        correct[LEARNT][part] = correct_prompts(fitted, towers, samples, bare_texts(prompt_set, chosen))
        if probe:
            correct[PROBE][part] = correct_probe(few.of(classes), samples, len(chosen))

    def fit(fresh: Aligner, classes: range) -> list[float]:
        chosen, samples = names[classes.start : classes.stop], few.of(classes)
        return learn(fresh, loaded, towers, samples.vectors, samples.labels, config, prompt_set, chosen)

    every, half = range(len(names)), (len(names) + 1) // 2
    losses["all"] = fit(tuned, every)
    compare("all", every, tuned, True)
    if new_classes and len(names) > 2:
        of_base = prompted(loaded, towers[1], config, prompt_set.templates)
        losses["base"] = fit(of_base, range(half))
        compare("base", range(half), of_base, True)
        compare("new", range(half, len(names)), of_base, False)
    groups = groups_of(read.split(split).records, held.record_indices)
    scores: dict[str, Any] = {"shots": shots, "training_samples": len(few.labels)}
    scores |= {"n": len(held.labels), "classes": len(names), "base_classes": half}
    scores["accuracy"] = accuracy_table(
        correct, held.labels.numpy(), half, groups, resamples=bootstrap, seed=seed
    )  # fmt: skip
    settings = EvalSettings(split=split, bootstrap=bootstrap, seed=seed)
    origin = settings.provenance(loaded, read, PROTOCOL | _described(config), prompts_hash=prompt_set.hash)
    details = {"losses": losses, "classes": names, "correct": correct, "labels": held.labels.numpy()}
    result = EvalResult("tune", scores, origin, details)
    if out is None:
        return Tuned(tuned, result)
    how = {"bundle": origin["bundle_hash"], "shots": shots, **asdict(config), "prompts": prompt_set.hash}
    return Tuned(tuned, result, bundle.save(tuned, out, provenance={**loaded.provenance, "tuned": how}))


def _described(config: TuningConfig) -> dict[str, str]:
    return {name: str(value) for name, value in asdict(config).items() if name != "seed"}
