"""Evaluate a model on a data set: one call per task."""

from typing import Any

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import opened
from mmalign.evaluation.registry import configure
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import Pair, Task
from mmalign.model import Aligner
from mmalign.objectives.shared_space import emergent_note


def evaluate(model: Aligner, data: DataConfig | Dataset, task: str | Task, *, pair: Pair, **options: Any) -> EvalResult:
    """Evaluate a model on data, whose samples are read here.

    Args:
        model: The model.
        data: The configuration of the data, or data that are open.
        task: Name of a task, or a task with its settings.
        pair: The two towers. Zero-shot tasks classify samples of one tower by prompts of the other: the one whose
            samples are strings.
        options: Fields of `EvalSettings` and, where `task` is a name, of the task.

    Raises:
        UserError: unknown task, an option that the task does not take, a tower that the data lacks, an empty split.
    """
    chosen, settings = configure(task, options)
    towers = chosen.towers(model, pair)
    config = data if isinstance(data, DataConfig) else data.config
    read = opened(model, data, chosen.towers_read(towers, config.towers), settings.split)
    result = chosen.run(model, read, towers, settings)
    if len(towers) == 2 and (path := model.emergent_path(*towers)):
        result.provenance["protocol"]["similarity"] = emergent_note(path)
    return result
