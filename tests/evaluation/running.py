"""Each task by keyword arguments, on data that are prepared."""

from functools import partial
from typing import Any

from mmalign.data.dataset import Dataset
from mmalign.evaluation.registry import configure
from mmalign.evaluation.report.result import EvalResult
from mmalign.model import Aligner


def run(name: str, model: Aligner, data: Dataset, **options: Any) -> EvalResult:
    """Run a task on towers `a` and `b`, or `side` and `class_side`."""
    named = [options.pop(key, None) for key in ("a", "b", "side", "class_side")]
    towers = tuple(tower for tower in named if tower is not None)
    if name == "zero-shot" and len(towers) == 1:
        towers = (*towers, "words")
    task, settings = configure(name, {"batch_size": 64, **options})
    return task.run(model, data, towers, settings)


evaluate_retrieval = partial(run, "retrieval")
evaluate_zero_shot = partial(run, "zero-shot")
evaluate_multi_label = partial(run, "multi-label")
evaluate_regression = partial(run, "regression")
evaluate_probe = partial(run, "probe")
evaluate_few_shot = partial(run, "few-shot")
