"""One call from a model and data to a result, by the task's name."""

from collections.abc import Mapping
from pathlib import Path

from mmalign.data.module import PairedData
from mmalign.errors import UserError
from mmalign.evaluation.prompts import Prompts
from mmalign.evaluation.results import EvalResult
from mmalign.evaluation.retrieval import evaluate_retrieval
from mmalign.evaluation.zero_shot import evaluate_zero_shot
from mmalign.modality import Modality
from mmalign.model import Aligner
from mmalign.registry import nearest

TASKS = ("retrieval", "zero-shot")


def evaluate(
    model: Aligner,
    data: PairedData,
    task: str,
    *,
    sides: tuple[str, str],
    split: str = "validation",
    credit: str = "pair",
    prompts: str | Path | None = None,
    batch_size: int = 256,
    bootstrap: int = 1000,
    seed: int = 0,
    mode: str = "",
) -> EvalResult:
    """Measure a model on data, which is prepared here.

    Args:
        model: What to measure.
        data: Where the rows come from; need not be prepared.
        task: retrieval or zero-shot.
        sides: The two towers. Zero-shot classifies the one that the data has by prompts through the other: the
            tower whose samples are strings.
        split: train, validation, test or all.
        credit: Which answers count as right in retrieval: pair, content or group.
        prompts: YAML file of prompts; default: the class names as they are.
        batch_size: Samples a forward pass.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resampling.
        mode: Another score that the pair's objective offers, for instance mean under pcmepp; "" = as trained.

    Raises:
        UserError: unknown task, a side that the data lacks, a split without rows.
    """
    if task not in TASKS:
        raise UserError(f"no task called {task!r}{nearest(task, TASKS)}")
    if task == "retrieval":
        prepare(model, data, sides, split)
        return evaluate_retrieval(
            model,
            data,
            a=sides[0],
            b=sides[1],
            split=split,
            credit=credit,
            batch_size=batch_size,
            bootstrap=bootstrap,
            seed=seed,
            mode=mode,
        )
    class_side, side = _class_side(model.modalities, sides)
    prepare(model, data, (side,), split)
    return evaluate_zero_shot(
        model,
        data,
        side=side,
        class_side=class_side,
        split=split,
        prompts=Prompts.load(prompts) if prompts else None,
        batch_size=batch_size,
        bootstrap=bootstrap,
        seed=seed,
        mode=mode,
    )


def prepare(model: Aligner, data: PairedData, sides: tuple[str, ...], split: str) -> None:
    """Decode what is measured, and give each side the model's own transform.

    Raises:
        UserError: the data has no column for a side.
    """
    for side in sides:
        if side not in data.sides:
            raise UserError(
                f"the data has no column for the tower {side!r}; name it with --data.columns.{side} COLUMN"
                f" (named: {', '.join(data.sides) or 'none'})"
            )
    data.prepare({side: model.modalities[side] for side in sides}, splits=None if split == "all" else [split])
    data.attach({side: model.transforms[side] for side in sides})


def _class_side(modalities: Mapping[str, Modality], sides: tuple[str, str]) -> tuple[str, str]:
    inline = [side for side in sides if modalities[side].inline]
    if not inline:
        raise UserError(f"zero-shot needs a tower that reads strings, to embed class names; {sides} read none")
    class_side = inline[-1]
    return class_side, sides[0] if class_side == sides[1] else sides[1]
