"""`mmalign demo`: train and measure on the real handwritten digits that scikit-learn brings, then draw."""

import json
import time
from pathlib import Path

from mmalign import bundle, recipes
from mmalign.data.config import DataConfig
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.run_task import evaluate

RECIPE = "image-text/demo"
PROMPTS = "image-text/prompts/digits.yaml"


def demo(out: Path, *, json_path: Path | None = None, seed: int = 0) -> dict[str, EvalResult]:
    """Train by the demo recipe, classify held-out digits by sentences, retrieve both ways, draw the similarities.

    Args:
        out: Run folder; replaced when it exists.
        json_path: Where to write the scores.
        seed: Seed of weights, order and augmentation.

    Returns:
        The results by task.
    """
    from mmalign.training.run import train

    started = time.perf_counter()
    train(RECIPE, ["--out", str(out), "--overwrite", "--seed_everything", str(seed)])
    print(f"trained in {time.perf_counter() - started:.0f} s")
    model = bundle.load(out)
    results = {}
    for task in ("zero-shot", "retrieval"):
        data = DataConfig(source="digits", validation=0.2)
        options = {"prompts": recipes.folder() / PROMPTS} if task == "zero-shot" else {"relevance": "content"}
        results[task] = evaluate(model, data, task, pair=("image", "text"), seed=seed, **options)
        results[task].show()
        results[task].append_to(bundle.find(out) / "results.json")
    for task, result in results.items():
        picture = out / f"{task}.png"
        result.draw(picture)
        print(f"drawn: {picture}")
    if json_path:
        document = {task: result.to_json() for task, result in results.items()}
        json_path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(f"written: {json_path}")
    return results
