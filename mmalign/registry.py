"""Registered names, from entry points: looking up a name imports nothing, loading it imports one module.

Groups: `mmalign.modalities`, `mmalign.objectives`, `mmalign.sources`, and `mmalign.tables` (suffix of a file -> what
reads it as a table). The names of mmalign itself are registered in the same way as those of other packages.
`register` adds a name for one process.
"""

import difflib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, TypeVar

from mmalign.configuration.arguments import arguments_of
from mmalign.configuration.keys import fits, shown, words
from mmalign.errors import UserError

T = TypeVar("T")

GROUPS = {"modalities": "modality", "objectives": "objective", "sources": "source", "tables": "format of a table"}
"""Entry-point group -> singular noun for messages."""


CALLBACKS = "callbacks"
"""Group that is registered by `register` alone: an installed package must not add a callback to every training."""

_REGISTERED: dict[tuple[str, str], Any] = {}
"""(group, name) -> what `register` added in this process."""


def register(group: str, name: str, thing: Any) -> None:
    """Add a name for this process only; the entry points of an installed package do the same for every process.

    Args:
        group: modalities, objectives, sources, tables or callbacks.
        name: The name in recipes and bundles. Registering it again replaces what was there.
        thing: A modality, an objective class, a source class, a function from a path to a `Table`, or a Lightning
            callback, which joins every training of this process.

    Raises:
        UserError: an unknown group, or an installed distribution has this name already.

    Example:
        >>> import mmalign
        >>> class Halved(mmalign.Objective): ...
        >>> mmalign.register("objectives", "halved", Halved)
    """
    if group not in (*GROUPS, CALLBACKS):
        raise UserError(f"register: no group called {group!r}{nearest(group, (*GROUPS, CALLBACKS))}")
    if group in GROUPS and any(point.name == name for point in _installed(group)):
        raise UserError(f"{GROUPS[group]} {name!r} is already registered by an installed package; choose another name")
    _REGISTERED[group, name] = thing
    load.cache_clear()


def unregister(group: str, name: str) -> None:
    """Remove a name that `register` added in this process; nothing happens if there is none."""
    _REGISTERED.pop((group, name), None)
    load.cache_clear()


def registered() -> dict[tuple[str, str], Any]:
    """What `register` added in this process: (group, name) -> the registered object."""
    return dict(_REGISTERED)


def callbacks() -> list[Any]:
    """The Lightning callbacks that `register` added in this process."""
    return [thing for (group, _), thing in _REGISTERED.items() if group == CALLBACKS]


def _installed(group: str) -> EntryPoints:
    return _scan(tuple(sys.path), f"mmalign.{group}")


@cache
def _scan(path: tuple[str, ...], group: str) -> EntryPoints:
    points: EntryPoints = _scan_all(path).select(group=group)
    return points


@cache  # every installed distribution is read: once is enough for all groups
def _scan_all(path: tuple[str, ...]) -> Any:  # the type differs between versions of Python
    return entry_points()


def nearest(name: str, names: Iterable[str]) -> str:
    """End of an error message: the most similar known name, and all known names."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(known) or 'none'})"


def settings(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """Build a dataclass of settings, or another class, from a mapping of its arguments.

    Args:
        kind: The class.
        values: Its arguments, some or all.
        what: Owner of these settings, for error messages.

    Raises:
        UserError: a name is unknown, and the message suggests the most similar one; or a value has another type than
            the argument, or is no finite number.

    Example:
        >>> from mmalign.training.optimizer import OptimizerConfig
        >>> settings(OptimizerConfig, {"lr": 0.1}, "optimizer").lr
        0.1
    """
    known = arguments_of(kind)
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{what} has no setting {name!r}{nearest(name, known)}")
        if not fits(value, known[name].kind, exactly=True):
            raise UserError(f"{what}: expected {words(known[name].kind)} as {name}, got {shown(value)}")
    return kind(**values)


def names(group: str) -> dict[str, EntryPoint]:
    """All registered names of a group, sorted, with where each one comes from.

    Raises:
        UserError: two distributions registered one name.

    Example:
        >>> "clip" in names("objectives")
        True
    """
    points: dict[str, EntryPoint] = {}
    for point in sorted(_installed(group), key=lambda point: point.name):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(
                f"two distributions register the {GROUPS[group]} "
                f"{point.name!r}: {_origin(other)} ({other.value}) and {_origin(point)} ({point.value}); uninstall one"
            )
    for kind, name in _REGISTERED:
        if kind == group:
            points[name] = EntryPoint(name, f"{_REGISTERED[kind, name].__module__}:{name}", f"mmalign.{group}")
    return points


@cache
def load(group: str, name: str) -> Any:
    """The object registered under a name.

    Raises:
        UserError: the name is unknown, its extra is not installed, or another distribution shadows its module.
    """
    if not isinstance(name, str):
        raise UserError(f"expected the name of a {GROUPS[group]}, got {shown(name)}")
    if (group, name) in _REGISTERED:
        return _REGISTERED[group, name]
    known = names(group)
    if name not in known:
        raise UserError(f"no {GROUPS[group]} called {name!r}{_advice(group, name, known)}")
    point = known[name]
    try:
        return point.load()
    except ModuleNotFoundError as error:
        module = point.value.split(":")[0]
        if error.name and module.startswith(error.name):
            raise UserError(
                f"{GROUPS[group]} {name!r} should be at {module}, which does not import: another distribution may have "
                f"put its own top-level {module.split('.')[0]!r} there; install mmalign in an environment of its own"
            ) from error
        raise missing_extra(error.name or "a package", name) from error
    except AttributeError as error:
        raise UserError(f"{GROUPS[group]} {name!r}: {point.value} does not exist ({error})") from error


def _advice(group: str, name: str, known: Mapping[str, EntryPoint]) -> str:
    if group == "modalities":
        return missing_modality(name, known)
    return f"{nearest(name, known)}; if it is your own, name its file with --plugin FILE, or call mmalign.load_plugin"


def missing_modality(name: str, known: Iterable[str]) -> str:
    """End of an error message about an unknown modality: a name that was mistyped, or what to do about a new modality.

    Example:
        >>> missing_modality("imagee", ["image", "text"])
        "; did you mean 'image'? (known: image, text)"
        >>> missing_modality("audio", ["text", "video"]).split(": ")[1].split(",")[0]
        'text'
    """
    # A new modality has a name as short as the known ones: only one that differs by a letter or two is a typing error.
    if difflib.get_close_matches(name, known := sorted(known), n=1, cutoff=0.75):
        return nearest(name, known)
    return (
        f" (known: {', '.join(known)}). To align embeddings that you have computed, use the modality vector. To add a "
        "modality, follow docs/write-a-modality.md, and name a file of your own with --plugin FILE"
    )


def missing_extra(package: str, extra: str) -> UserError:
    """The error to raise when an optional package is not installed."""
    return UserError(f"{package!r} is not installed; run: pip install 'mmalign[{extra}]'")


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"
