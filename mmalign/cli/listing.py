"""What is registered here, as data and as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table

from mmalign import recipes, registry
from mmalign.errors import UserError


def collect() -> dict[str, Any]:
    """Modalities with their encoders, objectives, sources, recipes; what cannot be loaded says why.

    Example:
        >>> sorted(collect())
        ['modalities', 'objectives', 'recipes', 'sources']
    """
    found: dict[str, Any] = {"recipes": recipes.names()}
    for group in registry.GROUPS:
        found[group] = {}
        for name, point in registry.names(group).items():
            entry = {"from": point.dist.name if point.dist else "", "at": point.value}
            try:
                thing = registry.load(group, name)
            except UserError as error:
                entry["error"] = str(error)
            else:
                entry["about"] = _about(thing)
                if group == "modalities":
                    entry["encoders"] = ", ".join(thing.encoders)
            found[group][name] = entry
    return found


def show(found: dict[str, Any]) -> None:
    """Print it as tables."""
    console = Console()
    for group in registry.GROUPS:
        table = Table(title=group, title_justify="left", show_edge=False)
        columns = ("name", "encoders", "about") if group == "modalities" else ("name", "about")
        for column in columns:
            table.add_column(column)
        for name, entry in found[group].items():
            about = entry.get("error") or entry["about"]
            about += "" if entry["from"] == "mmalign" else f" [from {entry['from']}]"
            table.add_row(*([name, entry.get("encoders", ""), about] if group == "modalities" else [name, about]))
        console.print(table, "")
    console.print("[bold]recipes[/bold]", ", ".join(found["recipes"]))


def _about(thing: Any) -> str:
    text = getattr(thing, "description", None) or (thing.__doc__ or "")
    return str(text).strip().split("\n")[0]
