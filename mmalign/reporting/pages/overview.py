"""Overview: the model, its principal results, and how to load and reproduce it."""

from collections.abc import Sequence

from mmalign.bundles import bundle
from mmalign.bundles.headline import headlines
from mmalign.reporting.blocks import Block, Code, Table, Text, interval, number
from mmalign.reporting.context import Context


def overview_page(context: Context) -> Sequence[Block]:
    """Towers, terms of the loss, principal results, command and recipe."""
    model, origin = context.model, bundle.provenance(context.model.path or "")
    towers = " and ".join(model.towers)
    blocks: list[Block] = [
        Text(f"The model embeds {towers} in a space of {model.dim} dimensions. It was written by mmalign "
             f"{bundle.version_of(context.model.path or '')}."),
    ]  # fmt: skip
    rows = [
        [
            name,
            tower.modality,
            tower.encoder or "default",
            tower.head or "linear",
            number(sum(p.numel() for part in (model.encoders[name], model.heads[name]) for p in part.parameters())),
        ]
        for name, tower in model.towers.items()
    ]
    blocks.append(Table(["tower", "modality", "encoder", "head", "weights"], rows))
    terms = [
        [f"{one.a} and {one.b}" if one.a != one.b else one.a, one.objective, f"{one.weight:g}"] for one in model.pairs
    ]
    blocks.append(Table(["towers", "objective", "weight"], terms, "Terms of the loss"))
    if principal := principal_results(context):
        blocks.append(principal)
    wanted = ("recipe", "seed", "epochs", "steps", "selected", "licence", "citation")
    facts = [[key, str(origin[key])] for key in wanted if key in origin]
    facts.append(["bundle", f"hash {bundle.fingerprint(context.model.path or '')}"])
    blocks.append(Table(["training", ""], facts))
    if "command" in origin:
        blocks.append(Code(str(origin["command"])))
    blocks.append(
        Code(f'import mmalign\n\nmodel = mmalign.load("RUN")\nmodel.encode("{next(iter(model.towers))}", [...])')
    )
    return blocks


def principal_results(context: Context) -> Table | None:
    """One row per principal metric of every task, with interval and baseline."""
    rows = [
        [
            f"{task}: {one.name}",
            number(one.value),
            interval(one.interval),
            "" if one.baseline is None else f"{number(one.baseline)} ({one.baseline_name})",
        ]
        for task, result in context.evaluations.results.items()
        for one in headlines(result.to_json())
    ]
    if not rows:
        return None
    return Table(["metric", "value", "95 % interval", "baseline"], rows, f"Principal results, {context.split} split")
