"""Nested sizes (Matryoshka) on ChEBI-20: vectors trained at several sizes, against truncation and PCA of plain ones."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from families import data_folder
from idea import Figures, Idea, train
from torch import Tensor
from torch.nn.functional import normalize

RECIPE = "molecule-text/floor"
EPOCHS = 15
SIZES = (128, 64, 32, 16)
DATA = {"source": "chebi20", "manifest": str(data_folder() / "chebi20"), "options": {"split": "own", "held": 500}}
PAIR = "--model.pairs=[{{a: molecule, b: text, objective: clip, dims: {sizes}}}]"


class Row(NamedTuple):
    """How the vectors were trained, and how they become shorter."""

    sizes: tuple[int, ...]
    size: int
    pca: bool = False


def model_of(sizes: tuple[int, ...], seed: int, out: Path) -> tuple[Path, float]:
    """A trained model, which several rows share, and the seconds of a step."""
    folder = out / f"model-{'nested' if sizes else 'plain'}-{seed}"
    clock = folder / "step_s"
    if not clock.exists():
        data = [
            f"--data.manifest={DATA['manifest']}", "--data.options={split: own, held: 500}",
            f"--data.cache={out / 'cache'}", f"--trainer.max_epochs={EPOCHS}",
        ]  # fmt: skip
        seconds = train(RECIPE, [*data, PAIR.format(sizes=list(sizes))], seed, folder)
        clock.write_text(str(seconds))
    return folder, float(clock.read_text())


def vectors(folder: Path, split: str, cache: Path) -> tuple[Tensor, Tensor]:
    """Vectors of the molecules and texts of a split, row by row; stored beside the model."""
    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.embedding.loop import embed_split, opened

    file = folder / f"{split}.pt"
    if not file.exists():
        model, towers = mmalign.load(folder), ("molecule", "text")
        data = opened(model, DataConfig(**DATA, cache=str(cache)), towers, split)
        torch.save([embed_split(model, data, tower, split, batch_size=256).embedding.vector for tower in towers], file)
    molecules, texts = torch.load(file, weights_only=True)
    return molecules, texts


def run(row: Row, seed: int, folder: Path) -> Figures:
    """Train unless another row did, make the held-out vectors shorter, and retrieve in both directions."""
    trained, seconds = model_of(row.sizes, seed, folder.parent)
    pair = [one.double() for one in vectors(trained, "validation", folder.parent / "cache")]
    if row.pca:  # principal directions of the training vectors of both towers, which share the space
        fit = torch.cat(vectors(trained, "train", folder.parent / "cache")).double()
        directions = torch.linalg.eigh(fit.T @ fit).eigenvectors.flip(1)
        pair = [one @ directions for one in pair]
    molecules, texts = (normalize(one[:, : row.size], dim=1) for one in pair)
    scores = (texts @ molecules.T).numpy()
    right = scores.diagonal()
    forth, back = ((scores >= right[:, None]).sum(1) - 1, (scores >= right).sum(0) - 1)
    outcomes = {
        "MRR": (1 / (1 + forth) + 1 / (1 + back)) / 2,
        "text to molecule hit@1": forth < 1,
        "molecule to text hit@1": back < 1,
    }
    return {"outcomes": {name: np.asarray(v, float).tolist() for name, v in outcomes.items()}, "step_s": seconds}


ROWS = {"256, plain": Row((), 256), "256, trained": Row(SIZES, 256)}
for width in SIZES:
    ROWS |= {
        f"{width}, truncated": Row((), width),
        f"{width}, PCA": Row((), width, pca=True),
        f"{width}, trained": Row(SIZES, width),
    }

IDEA = Idea(
    f"ChEBI-20, 2,801 training pairs, 500 held-out pairs, {EPOCHS} epochs of molecule-text/floor, dims {list(SIZES)}",
    ROWS,
    ("MRR", "text to molecule hit@1", "molecule to text hit@1"),
    run,
    against={f"{width}, {how}": f"{width}, truncated" for width in SIZES for how in ("PCA", "trained")},
)
