"""Sources, tables and stores of files: open, list, read everything, and check what comes out."""

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from mmalign import registry
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record
from mmalign.data.validation import with_names
from mmalign.errors import BadSample
from mmalign.modality import Modality
from tests.fuzz.case import Nonsense, Target
from tests.fuzz.seeds.sources import SourceSeed

MOST_SIMULATED = 50


def source_target(name: str, seed: SourceSeed, folder: Path) -> Target:
    """A registered source with data in its own layout."""
    case = seed.case(folder)
    return Target(f"source {name}", {name: case}, Opened(name, seed, case.entry), 0.7)


def _modalities(columns: Iterable[str]) -> dict[str, Modality]:
    known = registry.names("modalities")
    return {name: registry.load("modalities", name) for name in columns if name in known}


class Opened:
    """Opens a data set, reads all samples, and checks its records."""

    def __init__(self, name: str, seed: SourceSeed, entry: str) -> None:
        self.name, self.seed, self.entry = name, seed, entry

    def __call__(self, source: Any) -> None:
        if self.entry:
            options, manifest = self._options(Path(source), self.entry), str(source)
        else:
            options, manifest = source if isinstance(source, dict) else {"x": source}, None
            if self.seed.options and not _small(options):
                return  # a large number of records is what was asked for, or is the default
        config = DataConfig(self.name, manifest, columns=self.seed.columns, options=options, max_rejected=1.0)
        read_all(config)

    def _options(self, source: Path, entry: str) -> dict[str, Any]:
        folder = source
        for _ in PurePosixPath(entry).parts:
            folder = folder.parent
        return {
            key: value.replace("{folder}", str(folder)) if isinstance(value, str) else value
            for key, value in self.seed.options.items()
        }


def _small(options: dict[Any, Any]) -> bool:
    sizes = [options.get(name, 1 + MOST_SIMULATED) for name in ("train", "validation", "test")]
    return all(not isinstance(size, int | float) or size <= MOST_SIMULATED for size in sizes)


def read_all(config: DataConfig) -> None:
    """Open a data set, decode every sample, and check records, corpus and fingerprint.

    Raises:
        Nonsense: a record has a name without text or a number that is not finite, or two usable records have one id.
        UserError: as `Dataset.open`.
    """
    data = Dataset.open(config, _modalities(config.named_columns), accept_all=True)
    if len(data.fingerprint()) < 16:
        raise Nonsense("a fingerprint of few characters")
    records = data.split("all").records
    if len({record.id for record in records}) < len(records):
        raise Nonsense("two records of one id")
    for record in records:
        check_record(record)
    for tower in data.towers:
        for sample in data.split("all").samples(tower):
            if sample is None:
                raise Nonsense(f"None as a sample of {tower}")
        for record in map(with_names, data.source.corpus(tower) or ()):
            if record.problem is None:
                check_record(record)


def check_record(record: Record) -> None:
    """Names are texts with something in them, and numbers are finite."""
    names = [record.id, record.location, *record.labels, *filter(None, (record.group, record.split))]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise Nonsense(f"a name that is {name!r}")
    for name, number in record.targets.items():
        if not isinstance(number, float) or not math.isfinite(number):
            raise Nonsense(f"target {name} is {number!r}")


def use_table(path: Any) -> None:
    """A table of texts and vectors, or of molecules and texts, by its suffix."""
    columns = {"molecule": "molecule", "text": "NAME"} if Path(path).suffix == ".sdf" else {"vector": "v", "text": "t"}
    options = {} if "molecule" in columns else {"targets": ["age"]}
    read_all(DataConfig("manifest", str(path), columns=columns, options=options, max_rejected=1.0))


def use_folder(path: Any) -> None:
    """A folder of pictures beside texts."""
    read_all(DataConfig("manifest", str(path), columns={"image": "file", "text": "text"}, max_rejected=1.0))


def use_store(path: Any) -> None:
    """A folder, tar or zip: every name stays inside, and every file can be fetched or is refused."""
    store = open_store(path, max_bytes=1 << 24)
    names = store.names()
    for name in names[:200]:
        parts = PurePosixPath(name).parts
        if not name or name.startswith("/") or ".." in parts or "\0" in name:
            raise Nonsense(f"the name {name!r} leaves the store")
        try:
            content = store.fetch(name)
        except BadSample:
            continue
        if isinstance(content, Path) and not content.resolve().is_relative_to(Path(path).resolve()):
            raise Nonsense(f"{name!r} is a file outside of the store")
    store.fingerprint(names)
    for name in ("../x", "/etc/hostname", "", "a\0b", "x" * 5000):
        try:
            store.fetch(name)
        except BadSample:
            continue
        raise Nonsense(f"{name[:20]!r} was fetched")
