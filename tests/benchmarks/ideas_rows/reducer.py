"""Token reducer (Wukong) and kept tokens (FILIP) on EuroSAT: accuracy, and time of a step."""

from pathlib import Path

from families import RECIPES, SCORES, measure, tables
from idea import Figures, Idea, train

EPOCHS = 4
TOWER = ["--model.towers.image.args={width: 24, depths: [1]}", "--model.towers.image.transform.size=32"]
"""32 pixels and one stage: 64 tokens of a tile, from a small encoder, so that the objective takes most of a step."""
TIMED = 256
"""Rows of the step that is timed: the cost of a table of tokens grows with the square of the batch."""
REDUCED = "--model.towers.image.reduce=12"


def run(settings: list[str], seed: int, folder: Path) -> Figures:
    """Train `image-text/overhead` with another objective, and classify the held-out tiles."""
    data = tables(folder.parent, "eurosat", 0.0)
    flags = [*data, *TOWER, *settings]
    train(RECIPES["eurosat"][0], [*flags, f"--trainer.max_epochs={EPOCHS}"], seed, folder)
    figures: Figures = measure(folder, data, False)
    if not seed:  # five steps of one seed
        timed = [*flags, f"--data.batch_size={TIMED}", "--trainer.max_steps=5"]
        figures["step_s"] = train(RECIPES["eurosat"][0], timed, seed, folder / "timed")
    return figures


def pairs(objective: str) -> str:
    """The recipe's pair with this objective."""
    return f"--model.pairs=[{{a: image, b: text, objective: {objective}}}]"


IDEA = Idea(
    f"EuroSAT, 2,794 training tiles of 64 tokens, 406 held-out tiles, {EPOCHS} epochs; time of a step of {TIMED} rows",
    {
        "transport": [pairs("transport")],
        "transport, reduce 12": [pairs("transport"), REDUCED],
        "late_interaction": [pairs("late_interaction")],
        "late_interaction, reduce 12": [pairs("late_interaction"), REDUCED],
        "late_interaction, keep 0.25": [pairs("late_interaction, args: {keep: 0.25}")],
        "clip": [pairs("clip")],
    },
    SCORES[:2],
    run,
    against=dict.fromkeys(("late_interaction, reduce 12", "late_interaction, keep 0.25"), "late_interaction"),
)
