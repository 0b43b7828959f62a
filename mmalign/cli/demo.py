"""`mmalign demo`: train and evaluate on the handwritten digits that scikit-learn contains, then draw."""

import time
from pathlib import Path
from typing import Any

import mmalign
from mmalign import recipes

RECIPE = "image-text/demo"
PROMPTS = "image-text/prompts/digits.yaml"


def demo(out: Path, *, seed: int = 0) -> dict[str, mmalign.EvalResult]:
    """Train by the demo recipe, classify held-out digits by prompts, evaluate retrieval, draw the scores.

    Args:
        out: Run folder; replaced when it exists.
        seed: Seed of weights, order and augmentation.

    Returns:
        The results by task.
    """
    started = time.perf_counter()
    run = mmalign.train(RECIPE, {"seed_everything": seed}, out=out, overwrite=True)
    print(f"trained in {time.perf_counter() - started:.0f} s")
    data = mmalign.DataConfig(source="digits", validation=0.2)
    settings: dict[str, dict[str, Any]] = {
        "zero-shot": {"prompts": recipes.folder() / PROMPTS},
        "retrieval": {"relevance": "content"},
    }
    results = {}
    for task, own in settings.items():
        results[task] = mmalign.evaluate(run.model, data, task, pair=("image", "text"), seed=seed, **own)
        results[task].show()
        results[task].append_to(out)
    for task, result in results.items():
        picture = out / f"{task}.png"
        result.draw(picture)
        print(f"drawn: {picture}")
    return results
