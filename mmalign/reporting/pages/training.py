"""Training curves of a run, and its recipe."""

from collections.abc import Sequence

from mmalign.errors import UserError
from mmalign.pictures import training_curves
from mmalign.reporting.blocks import Block, Code, Text
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

MAX_RECIPE = 200_000


def training_page(context: Context) -> Sequence[Block]:
    """Curves of the last log, and config.yaml; nothing for a bundle without its run."""
    if context.run is None:
        return []
    logs = sorted(context.run.glob("logs/version_*/metrics.csv"), key=lambda file: file.parent.name)
    logs.sort(key=lambda file: int(file.parent.name[8:]) if file.parent.name[8:].isdigit() else -1)
    blocks: list[Block] = []
    if logs:
        try:
            figure = training_curves(logs[-1])
            blocks.append(
                picture(figure, "Every logged value over the steps of the training.", "Logged values by step")
            )
        except UserError as error:
            blocks.append(Text(f"No curves: {error}"))
    recipe = context.run / "config.yaml"
    if recipe.is_file() and recipe.stat().st_size <= MAX_RECIPE:
        blocks += [
            Text("The recipe with all overrides (config.yaml):"),
            Code(recipe.read_text(encoding="utf-8", errors="replace"), kind="long"),
        ]
    return blocks
