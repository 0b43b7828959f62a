"""Several captions per image: `one_to_k` and `clip` on COCO's five captions, against one caption drawn per step."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from idea import Figures, Idea, train
from ideas_rows._coco import FOLDS, manifest

EPOCHS = 60
RECIPE = "image-text/features"
MODEL = [
    "--model.dim=64",
    "--model.towers.image={encoder: features, args: {width: 256}, transform: {size: 64}, head: linear}",
    "--model.towers.text={encoder: tfidf, args: {width: 256}, transform: {min_count: 1, words: [1, 1], share: 0.5}, "
    "head: linear}",
    "--model.cca_init=null", "--keep=last", "--patience=0", "--data.batch_size=32", "--data.positives=record",
]  # fmt: skip


class Row(NamedTuple):
    """The objective, the captions per image and step (0 = all), and the epochs."""

    objective: str = "clip"
    captions: int = 1
    epochs: int = EPOCHS


def run(row: Row, seed: int, folder: Path) -> Figures:
    """Train on three folds, retrieve in the fourth; every photograph is held out once."""
    mrr, hit, spread, photographs, seconds = [], [], [], [], []
    for fold in range(FOLDS):
        data = manifest(fold, folder / f"fold{fold}.jsonl")
        flags = [
            f"--model.pairs=[{{a: image, b: text, objective: {row.objective}}}]",
            f"--data.draw={{text: {row.captions}}}",
            f"--trainer.max_epochs={row.epochs}",
        ]
        trained = folder / f"fold{fold}"
        seconds.append(train(RECIPE, [*data, *MODEL, *flags], seed, trained))
        scores, owner = _scores(trained)
        own = scores[owner, np.arange(len(owner))]  # of each caption with its image
        back = (scores >= own).sum(0) - 1.0  # rank of a caption's image, 0 = first
        forth = [  # rank of an image's first caption in the gallery of all captions
            (scores[image] >= scores[image, owner == image].max()).sum() - 1.0 for image in range(len(scores))
        ]
        for image, rank in enumerate(forth):
            captions = back[owner == image]
            mrr.append((1 / (1 + rank) + (1 / (1 + captions)).mean()) / 2)
            hit.append((captions < 5).mean())
            spread.append(captions.std())
            photographs.append(len(photographs))
    outcomes = {"MRR": mrr, "text to image hit@5": hit, "rank_sd": spread}
    named = {name: np.asarray(values, float).tolist() for name, values in outcomes.items()}
    return {"outcomes": named, "clusters": photographs, "step_s": float(np.median(seconds))}


def _scores(trained: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores of held-out images and captions, and the image of each caption."""
    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.embedding.loop import embed_split, opened
    from mmalign.run_folder import data_settings

    model = mmalign.load(trained)
    data = opened(model, DataConfig(**(data_settings(trained) or {})), ("image", "text"), "test")
    images, captions = (embed_split(model, data, tower, "test") for tower in ("image", "text"))
    with torch.no_grad():
        scores = model.similarity(images.embedding, captions.embedding)
    return scores.numpy(), captions.record_indices.numpy()


ROWS = {
    "clip, 1 caption": Row(),
    "clip, 1 caption, 5 times the steps": Row(epochs=5 * EPOCHS),
    "clip, 2 captions": Row(captions=2),
    "clip, 5 captions": Row(captions=0),
    "one_to_k, 2 captions": Row("one_to_k", 2),
    "one_to_k, 5 captions": Row("one_to_k", 0),
}

IDEA = Idea(
    f"COCO, 148 photographs with 5 captions, each held out once in {FOLDS} folds, linear towers on image "
    f"features and n-grams, {EPOCHS} epochs",
    ROWS,
    ("MRR", "text to image hit@5", "rank_sd"),
    run,
)
