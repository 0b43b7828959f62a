"""Mined hard negatives and a guide on ChEBI-20: a first model finds them, a second one trains with them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from families import data_folder
from idea import Figures, Idea, train

RECIPE, EPOCHS, BATCH = "molecule-text/floor", 5, 128
DATA = {"source": "chebi20", "manifest": str(data_folder() / "chebi20"), "options": {"split": "own", "held": 500}}
MINED = {"pair": ("text", "molecule"), "negatives": 8}
"""Settings of `mmalign.mine` in all rows: texts are the queries."""


class Row(NamedTuple):
    """What chooses the batches, and what leaves the loss."""

    mined: dict[str, Any] | None = None
    flags: tuple[str, ...] = ()
    guide: float | None = None


def trained(row: Row, seed: int, folder: Path, out: Path) -> float:
    """Train one model; seconds of a step."""
    cache = out / "cache"
    flags = [
        f"--data.manifest={DATA['manifest']}", "--data.options={split: own, held: 500}", f"--data.cache={cache}",
        f"--data.batch_size={BATCH}", f"--trainer.max_epochs={EPOCHS}", *row.flags,
    ]  # fmt: skip
    if row.mined is not None:
        import mmalign

        file = folder / "negatives.parquet"
        mined = mmalign.mine(
            first(seed, out), mmalign.DataConfig(**DATA, cache=str(out / "cache")), **MINED, **row.mined
        )
        mined.write(file)
        (folder / "counts.txt").write_text(str(mined.counts))
        flags.append(f"--data.neighbours={file}")
    if row.guide is not None:
        flags += [f"--model.guide.weights={first(seed, out)}", f"--model.guide.margin={row.guide}"]
    return train(RECIPE, flags, seed, folder / "run")


def first(seed: int, out: Path) -> Path:
    """The first model, with random batches, which mines and guides."""
    folder = out / f"first-{seed}"
    if not (folder / "run" / "bundle" / "config.json").exists():
        folder.mkdir(exist_ok=True)
        (folder / "step_s").write_text(str(trained(Row(), seed, folder, out)))
    return folder / "run"


def run(row: Row, seed: int, folder: Path) -> Figures:
    """Train and retrieve among the held-out pairs, in both directions."""
    import mmalign
    from mmalign.embedding.loop import embed_split, opened

    out = folder.parent
    if row == Row():
        model, seconds = mmalign.load(first(seed, out)), float((out / f"first-{seed}" / "step_s").read_text())
    else:
        seconds = trained(row, seed, folder, out)
        model = mmalign.load(folder / "run")
    towers = ("molecule", "text")
    data = opened(model, mmalign.DataConfig(**DATA, cache=str(out / "cache")), towers, "validation")
    molecules, texts = (embed_split(model, data, one, "validation").embedding.vector.double() for one in towers)
    scores = (texts @ molecules.T).numpy()
    right = scores.diagonal()
    forth, back = (scores >= right[:, None]).sum(1) - 1, (scores >= right).sum(0) - 1
    outcomes = {
        "MRR": (1 / (1 + forth) + 1 / (1 + back)) / 2,
        "text to molecule hit@1": forth < 1,
        "molecule to text hit@1": back < 1,
    }
    return {"outcomes": {name: np.asarray(v, float).tolist() for name, v in outcomes.items()}, "step_s": seconds}


IDEA = Idea(
    f"ChEBI-20, 2,801 training pairs, 500 held-out pairs, {EPOCHS} epochs of {RECIPE} in batches of {BATCH}",
    {
        "random batches": Row(),
        "similar molecules": Row(flags=("--data.hard_negatives=molecule",)),
        "mined": Row({}),
        "mined, similar texts": Row({"surface": "text"}),
        "guide, margin 0": Row(guide=0.0),
    },
    ("MRR", "text to molecule hit@1", "molecule to text hit@1"),
    run,
)
