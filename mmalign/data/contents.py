"""What a data set contains, as a hash of each part: compared when a run is evaluated, embedded or resumed."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from mmalign import distributed
from mmalign.data.batching.batches import content_key
from mmalign.data.dataset import Dataset

_LOG = logging.getLogger("mmalign")
_WARNED: set[str] = set()

_PARTS = {"ids": "ids", "labels": "labels", "groups": "groups", "targets": "targets", "splits": "division into splits"}


def contents(data: Dataset) -> dict[str, Any]:
    """Hashes of the parts of a data set, as JSON values; they do not depend on where the data are.

    Example:
        >>> import mmalign
        >>> from mmalign.data.config import DataConfig
        >>> text = mmalign.modality_of("text", mmalign.TowerConfig())
        >>> data = Dataset.open(DataConfig("digits"), {"text": text}, splits=[])
        >>> sorted(contents(data))
        ['groups', 'ids', 'labels', 'name', 'rows', 'source', 'splits', 'targets', 'values']
    """
    config, records = data.config, data.records
    name = [config.source, *(PurePath(path or "").name for path in (config.manifest, config.files))]
    return {
        "name": _hash([*name, json.dumps(config.options or {}, sort_keys=True, default=str)]),
        "rows": len(records),
        "ids": _hash(record.id for record in records),
        "labels": _hash(record.labels for record in records),
        "groups": _hash(record.group for record in records),
        "targets": _hash(sorted(record.targets.items()) for record in records),
        "splits": _hash(data.splits),
        "values": {
            tower: _hash([content_key(value) for value in record.values.get(tower, ())] for record in records)
            for tower in data.towers
        },
        "source": data.fingerprint(),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the contents of two data sets, in words; the values of towers that both have.

    Example:
        >>> differences({"rows": 3, "ids": "1"}, {"rows": 2, "ids": "2"})
        ['2 rows (were 3)', 'other ids']
    """
    found = [f"{now['rows']} rows (were {before['rows']})"] if before.get("rows") != now.get("rows") else []
    found += [f"other {words}" for part, words in _PARTS.items() if before.get(part) != now.get(part)]
    old, new = before.get("values") or {}, now.get("values") or {}
    found += [f"other values of {tower}" for tower in new if tower in old and old[tower] != new[tower]]
    # The hash of the source depends on the towers whose files it covers.
    if not found and old.keys() == new.keys() and before.get("source") != now.get("source"):
        found = ["other content of the files, or of columns that are not used"]
    return found


def warn_changed(data: Dataset, trained: Mapping[str, Any], split: str = "") -> None:
    """Log a warning where data have the name of the training data and differ from them; once for each difference.

    Args:
        data: The data.
        trained: The provenance of a bundle; one without `contents` is an older one, and is not compared.
        split: The split that is read; "all" = the division into splits is not compared.
    """
    before = trained.get("contents")
    if not isinstance(before, Mapping) or not distributed.is_first():
        return
    now = contents(data)
    if split == "all":
        now["splits"] = before.get("splits")
    if before.get("name") != now["name"] or not (found := differences(before, now)):
        return
    line = f"the data differ from those that the model was trained on: {', '.join(found)}"
    if line not in _WARNED:
        _WARNED.add(line)
        _LOG.warning("%s", line)


def _hash(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(repr(value).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
