"""Everything that is fuzzed, found by the registry."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mmalign import registry
from tests.fuzz.case import Case, Target
from tests.fuzz.seeds import sources as source_seeds
from tests.fuzz.seeds import tables as table_seeds
from tests.fuzz.seeds.fixed import fixed_clock
from tests.fuzz.targets.models import model_targets
from tests.fuzz.targets.readers import reader_target, seed_module
from tests.fuzz.targets.sources import source_target, use_folder, use_store, use_table
from tests.fuzz.targets.written import written_targets


def missing_seeds() -> list[str]:
    """Registered readers, sources and formats of tables without seeds of their own."""
    readers = [f"reader {name}" for name in registry.names("modalities") if seed_module(name) is None]
    sources = [f"source {name}" for name in registry.names("sources") if name not in source_seeds.SOURCES]
    tables = [f"table {name}" for name in registry.names("tables") if name not in table_seeds.REGISTERED]
    return [*readers, *sources, *tables]


def targets(only: Sequence[str] = ()) -> list[Target]:
    """All targets with their seeds.

    Args:
        only: Parts of names; default: all.
    """
    made: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="seeds") as name, fixed_clock():
        count = 0

        def folder() -> Path:
            nonlocal count
            count += 1
            path = Path(name, str(count))
            path.mkdir()
            return path

        for modality in registry.names("modalities"):
            if _wanted(f"reader {modality}", only):
                made.append(reader_target(modality, folder()))
        for source in registry.names("sources"):
            if _wanted(f"source {source}", only) and source in source_seeds.SOURCES:
                made.append(source_target(source, source_seeds.SOURCES[source], folder()))
        shared: list[Callable[[], Target]] = [
            lambda: Target("tables", table_seeds.tables(folder()), use_table),
            lambda: Target("folders", table_seeds.folders(), use_folder),
            lambda: Target("stores", table_seeds.stores(), use_store),
        ]
        for title, make in zip(("tables", "folders", "stores"), shared, strict=True):
            if _wanted(title, only):
                made.append(make())
        if not only or any(part in kind or kind in part for part in only for kind in ("index", "rows")):
            made += [target for target in written_targets(folder) if _wanted(target.name, only)]
        if _wanted_models(only):
            made += [target for target in model_targets(folder) if _wanted(target.name, only)]
    return made


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _wanted_models(only: Sequence[str]) -> bool:
    kinds = ("recipe", "recipe keys", "prompts", "checkpoint", "embedded table", "cache", "bundle")
    return not only or any(part in kind or kind in part for part in only for kind in kinds)


def foreign_files(targets: Sequence[Target]) -> list[bytes]:
    """Small files of other formats, for every reader."""
    files: list[bytes] = []
    for target in targets:
        for case in target.seeds.values():
            files += [case.files[case.entry]] if case.entry in case.files else []
    return [data for data in files if len(data) < 1 << 16]


def seeds_of(target: Target) -> list[Case]:
    """The seeds in order of their names."""
    return [target.seeds[name] for name in sorted(target.seeds)]
