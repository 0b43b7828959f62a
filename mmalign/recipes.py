"""Recipes: commented YAML files, found by name in the package or by path."""

from importlib.resources import files
from pathlib import Path

import yaml

from mmalign.errors import UserError
from mmalign.registry import nearest

DEFAULT = "clip"


def folder() -> Path:
    """Where the recipes are: inside the installed package, or beside it in a checkout."""
    installed = Path(str(files("mmalign"))) / "recipes"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[1] / "recipes"


def names() -> list[str]:
    """All recipes, as `pair/objective`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder().glob("*/*.yaml"))


def between(a: str, b: str) -> dict[str, set[str]]:
    """Recipes of two modalities -> the names of their objectives.

    Example:
        >>> between("text", "image")["image-text/siglip"]
        {'siglip'}
    """
    found = {}
    for name in names():
        if sorted(name.split("/")[0].split("-")) == sorted((a, b)):
            recipe = yaml.safe_load((folder() / f"{name}.yaml").read_text(encoding="utf-8"))
            found[name] = {pair["objective"] for pair in recipe["model"]["pairs"]}
    return found


def find(name: str) -> Path:
    """The file of a recipe: `image-text` (its `clip` recipe), `image-text/siglip`, or a path that ends in .yaml.

    Raises:
        UserError: there is no such recipe.

    Example:
        >>> find("image-text").name
        'clip.yaml'
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"recipe {name}: no such file; recipes that come with mmalign: {', '.join(names())}")
        return path
    full = name if "/" in name else f"{name}/{DEFAULT}"
    if full not in names():
        raise UserError(f"no recipe called {name!r}{nearest(full, names())}")
    return folder() / f"{full}.yaml"
