"""Evaluate a model on a data set: one call per task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.truncation import warn_truncated
from mmalign.embedding.loop import opened
from mmalign.embedding.truncated import truncated_vectors, truncation_note
from mmalign.errors import UserError
from mmalign.evaluation.registry import configure
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import Task
from mmalign.model import Aligner
from mmalign.objectives.parts.shared_space import emergent_note
from mmalign.selection import model_of, pair_of


def evaluate(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    task: str | Task = "retrieval",
    *,
    pair: Sequence[str] = (),
    device: str = "auto",
    **settings: Any,
) -> EvalResult:
    """Evaluate a model on a data set.

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open; the samples of `split` are read here.
        task: retrieval, zero-shot, multi-label, regression, probe, few-shot, robustness, geometry or
            grounding; or a task with its settings, such as `Retrieval(gallery="corpus")`.
        pair: The two towers; default: the only pair that the model was trained on. Zero-shot tasks classify samples of
            one tower by prompts of the other: the one whose samples are strings.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.
        settings: Fields of `EvalSettings` (split, batch_size, bootstrap, seed, dims) and of the task given by name.

    Returns:
        Scores with intervals and provenance; `show()` prints them, `to_json()` returns them.

    Raises:
        UserError: unknown task or option, a tower that the model or the data lacks, or an empty split.
    """
    loaded = model_of(model, device)
    chosen, common = configure(task, settings)
    towers = chosen.towers(loaded, pair_of(loaded, pair))
    if common.dims is not None and getattr(chosen, "ensemble", None):
        raise UserError("--dims: the models of an ensemble have vectors of their own sizes; leave --ensemble out")
    read = opened_for(chosen, loaded, data, towers, common.split)
    transforms = {tower: loaded.transforms[tower] for tower in towers}
    truncated = warn_truncated([read.split(common.split)], transforms)
    with truncated_vectors(loaded, common.dims, towers):
        result = chosen.run(loaded, read, towers, common)
    result.provenance["truncated"] = truncated
    if common.dims is not None:
        result.provenance["protocol"]["dims"] = truncation_note(loaded, common.dims, towers)
    if len(towers) == 2 and (path := loaded.emergent_path(*towers)):
        result.provenance["protocol"]["similarity"] = emergent_note(path)
    return result


def opened_for(task: Task, model: Aligner, data: DataConfig | Dataset, towers: tuple[str, ...], split: str) -> Dataset:
    """The data with what a task reads: the samples of one split, of some towers.

    Args:
        task: The task.
        model: The model, whose modalities decode the samples.
        data: The configuration of the data, or data that are open.
        towers: The towers, as `Task.towers` returns them.
        split: The split.
    """
    config = data if isinstance(data, DataConfig) else data.config
    wanted = task.towers_read(towers, config.towers)
    return opened(model, data, wanted, split, keep_samples=task.reads_samples)
