"""Two views of a text without pairs: crops, dropout, neither. Half of a ChEBI-20 description retrieves the other half.

The encoder is trained from scratch on whole descriptions, which are not those of the queries. BM25 is the line to beat.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from idea import Figures, Idea, train
from ideas_rows._halves import halves

HELD, TRAINED, EPOCHS = 500, 2000, 10
MODEL = [
    "--data.source=manifest", "--data.columns={text: text, split: split}", "--data.positives=record",
    "--model.towers.text.args={width: 96, depth: 1, heads: 4, dropout: 0.1}", "--model.dim=96",
    f"--trainer.max_epochs={EPOCHS}",
]  # fmt: skip


class Row(NamedTuple):
    """A recipe and its changes; no recipe: BM25."""

    recipe: str = ""
    flags: tuple[str, ...] = ()


def run(row: Row, seed: int, folder: Path) -> Figures:
    """Train on whole descriptions; rank the first halves of the held-out ones for each second half."""
    pairs = halves(HELD + TRAINED)
    answers, queries = ([pair[which] for pair in pairs[:HELD]] for which in (0, 1))
    seconds = 0.0
    if row.recipe:
        import mmalign

        table = folder / "texts.tsv"
        lines = [f"{' '.join(' '.join(pair).split())}\ttrain" for pair in pairs[HELD:]]
        table.write_text("text\tsplit\n" + "\n".join(lines) + "\n", encoding="utf-8")
        seconds = train(row.recipe, [f"--data.manifest={table}", *MODEL, *row.flags], seed, folder / "model")
        model = mmalign.load(folder / "model")
        scores = (model.encode("text", queries).vector @ model.encode("text", answers).vector.T).numpy()
    else:
        from mmalign.evaluation.ranking.bm25 import BM25

        scores = BM25(answers).scores(queries).numpy()
    ranks = (scores >= scores.diagonal()[:, None]).sum(1) - 1
    outcomes = {"MRR": 1 / (1 + ranks), "hit@1": ranks < 1, "hit@10": ranks < 10}
    return {"outcomes": {name: np.asarray(v, float).tolist() for name, v in outcomes.items()}, "step_s": seconds}


SAME = ("--data.views=null", "--model.towers.text.transform={word_dropout: 0, random_crop: [1, 1]}")
ROWS = {
    "dropout alone": Row("text/crops", SAME),
    "one crop for both views": Row("text/crops", ("--data.views=null",)),
    "two crops": Row("text/crops"),
    "random weights": Row("text/crops", ("--trainer.max_epochs=0",)),
    "BM25": Row(),
}

IDEA = Idea(
    f"ChEBI-20, a small text transformer from scratch on {TRAINED} descriptions, {EPOCHS} epochs of text/crops; {HELD} "
    "held-out descriptions, the second half retrieves the first",
    ROWS,
    ("MRR", "hit@1", "hit@10"),
    run,
)
