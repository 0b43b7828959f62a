"""`mmalign.compare`: models on the same queries, by the paired bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.comparison.comparable import require_comparable
from mmalign.evaluation.comparison.metrics import QueryRows, chosen, rows_by_direction
from mmalign.evaluation.comparison.paired import Draws, draw, holm
from mmalign.evaluation.comparison.result import LEVEL, Comparison, Difference
from mmalign.evaluation.metrics.weighted import Ints
from mmalign.evaluation.registry import configure
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.run_task import evaluate, opened_for
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.run_folder import data_settings
from mmalign.selection import model_of, pair_of

Model = Aligner | EvalResult | str | Path
PAIRS = {"first": "every other model with the first", "all": "every two models"}
RESAMPLES = 10_000


def compare(
    models: Mapping[str, Model] | Sequence[Model],
    data: DataConfig | Dataset | Sequence[DataConfig | None] | None = None,
    task: str = "retrieval",
    *,
    metrics: Sequence[str] = (),
    pairs: str = "first",
    pair: Sequence[str] = (),
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    device: str = "auto",
    **settings: Any,
) -> Comparison:
    """Compare models on the same queries: differences with paired bootstrap intervals and Holm's correction.

    The first model is the baseline. Whole groups (patients) are drawn, a record without group as its own group; each
    draw is the same for all models. Results are refused where data, split, queries, labels, prompts, gallery or the
    definition of the scores differ.

    Args:
        models: Two or more models: paths of bundles or runs, loaded models, results of `mmalign.evaluate`, or Parquet
            files of `mmalign evaluate --rows`. A mapping names them; default: the names of their files.
        data: The configuration of the data, or open data, for models that are not yet evaluated; or one configuration
            per model. Default: the data of each run.
        task: retrieval, zero-shot, multi-label or regression.
        metrics: Metrics to compare, such as `["mrr", "hit@1"]`; default: hit rates and mean reciprocal rank, accuracy,
            areas under curves, or errors. Holm's correction is over all differences, so fewer metrics have more power.
        pairs: `first` compares every other model with the first, `all` every two models.
        pair: The two towers; default: the only pair that the model was trained on.
        bootstrap: Number of bootstrap resamples.
        seed: Seed of the resampling.
        device: Device to load bundles on, see `mmalign.load`.
        settings: Further settings of the task, as in `mmalign.evaluate`.

    Returns:
        The differences; `show()` prints them, `to_json()` returns them, `draw(path)` draws a forest plot.

    Raises:
        UserError: fewer than two models, or results that cannot be compared; the message names the differences.
    """
    if pairs not in PAIRS:
        raise UserError(f"--pairs: expected first or all, got {pairs!r}{nearest(pairs, PAIRS)}")
    named = dict(models) if isinstance(models, Mapping) else dict(zip(_names(models), models, strict=True))
    if len(named) < 2:
        raise UserError(f"compare needs at least two models, got {len(named)}")
    if bootstrap < 100:
        raise UserError(f"--bootstrap: expected at least 100 resamples to compare, got {bootstrap}")
    of_models = _data_of(list(named.values()), data)
    results: dict[str, EvalResult] = {}
    opened: list[Dataset] = []
    for (name, model), config in zip(named.items(), of_models, strict=True):
        options: dict[str, Any] = {"pair": pair, "device": device, "seed": seed, **settings}
        results[name] = _result(model, config, task, options, opened)
    return compare_results(results, metrics=metrics, pairs=pairs, bootstrap=bootstrap, seed=seed)


def compare_results(
    results: Mapping[str, EvalResult],
    *,
    metrics: Sequence[str] = (),
    pairs: str = "first",
    bootstrap: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """As `compare`, of results by name; the first one is the baseline."""
    names = list(results)
    try:
        tables = {name: rows_by_direction(result) for name, result in results.items()}
        for name in names[1:]:
            require_comparable((names[0], name), (results[names[0]], results[name]), (tables[names[0]], tables[name]))
        baseline = tables[names[0]]
        task, origin = results[names[0]].task, results[names[0]].provenance
        drawn: dict[str, Draws] = {}
        groups: dict[str, Ints] = {}
        for direction, rows in baseline.items():
            known = {name: tables[name][direction].statistics() for name in names}
            wanted = chosen(list(known[names[0]]), metrics)
            groups[direction] = groups_of(rows, direction)
            statistics = {name: {metric: one[metric] for metric in wanted} for name, one in known.items()}
            drawn[direction] = draw(statistics, groups[direction], resamples=bootstrap, seed=seed)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        # Columns or settings of another kind.
        raise UserError(f"compare: damaged rows of a result: {error!r}; evaluate again with --rows") from error
    compared = [(two, one) for one, two in combinations(names, 2) if pairs == "all" or one == names[0]]
    rows_of = [
        (model, base, direction, metric, *draws.difference(model, base, metric))
        for model, base in compared
        for direction, draws in drawn.items()
        for metric in draws.values[base]
    ]
    adjusted = holm([row[-1] for row in rows_of])
    differences = [
        Difference(
            model, base, direction, metric, drawn[direction].values[model][metric],
            drawn[direction].values[base][metric], value, interval, p, p_holm,
        )
        for (model, base, direction, metric, value, interval, p), p_holm in zip(rows_of, adjusted, strict=True)
    ]  # fmt: skip
    scores = {
        name: {
            "path": str(result.details.get("path", "")),
            "bundle_hash": result.provenance.get("bundle_hash"),
            "scores": {
                direction or task: {
                    metric: {"value": value, "ci": draws.interval(name, metric)}
                    for metric, value in draws.values[name].items()
                }
                for direction, draws in drawn.items()
            },
        }
        for name, result in results.items()
    }
    counts = {
        direction or task: (len(rows.keys), len(np.unique(groups[direction]))) for direction, rows in baseline.items()
    }
    provenance = {key: origin.get(key) for key in ("split", "data_hash", "prompts_hash", "gallery")}
    provenance |= {
        "seed": seed,
        "resamples": bootstrap,
        "protocol": {
            "queries": "; ".join(
                f"{name.replace('_to_', ' -> ')}: {count} in {units} groups" for name, (count, units) in counts.items()
            ),
            "intervals": "95 % percentile intervals of the paired bootstrap, not corrected for multiplicity: whole "
            "groups drawn, a record without group as its own group, the same draws for all models",
            "p": "two-sided, of the percentile bootstrap",
            "p (Holm)": f"Holm's correction over all {len(differences)} differences; * = below {LEVEL}",
            "scope": "the intervals describe the choice of queries, not that of training seeds",
        },
    }
    return Comparison(task, scores, differences, provenance, _notes(results))


def groups_of(rows: QueryRows, direction: str) -> Ints:
    """Resampling unit of each row: the record's group, or the record where it has none.

    Raises:
        UserError: there is only one, so that nothing can be resampled.
    """
    owners = [key[-2] for key in rows.keys]
    units: dict[Any, int] = {}
    known = [
        units.setdefault(("group", group) if group is not None else ("record", owner), len(units))
        for group, owner in zip(rows.columns["group"].tolist(), owners, strict=True)
    ]
    if len(units) < 2:
        raise UserError(f"compare {direction}: expected queries of at least two records or groups, got {len(units)}")
    return np.array(known, dtype=np.int64)


def _result(
    model: Model, data: DataConfig | Dataset | None, task: str, options: dict[str, Any], opened: list[Dataset]
) -> EvalResult:
    """The result of one model, evaluated now unless it is a result; data of equal settings are opened once."""
    if isinstance(model, EvalResult):
        return model
    if not isinstance(model, Aligner) and Path(model).suffix.lower() in (".parquet", ".csv"):
        result = EvalResult.read_rows(model)
        result.details["path"] = str(model)
        return result
    loaded = model_of(model, options.pop("device"))
    if data is None:
        where = loaded.path.parent if loaded.path else None
        settings = data_settings(where) if where else None
        if settings is None:
            raise UserError(
                f"{where or 'a model in memory'}: no configuration of a run, so name the data with --data.*"
            )
        data = DataConfig(**settings)
    towers = options.pop("pair")
    chosen, common = configure(task, {**options, "bootstrap": 0})
    named = chosen.towers(loaded, pair_of(loaded, towers))
    known = next((one for one in opened if one.config == data), data)
    opened.append(opened_for(chosen, loaded, known, named, common.split))
    result = evaluate(loaded, opened[-1], chosen, pair=towers, **asdict(common))
    result.details["path"] = str(loaded.path or "")
    return result


def _data_of(
    models: Sequence[Model], data: DataConfig | Dataset | Sequence[DataConfig | None] | None
) -> Sequence[DataConfig | Dataset | None]:
    if data is None or isinstance(data, DataConfig | Dataset):
        return [data] * len(models)
    if len(data) != len(models):
        raise UserError(f"compare: expected one configuration of the data per model, got {len(data)} for {len(models)}")
    return list(data)


def _names(models: Sequence[Model]) -> list[str]:
    """A short name of each model: the last parts of its path that tell it apart from the others."""
    if isinstance(models, str | Path | Aligner | EvalResult):
        raise UserError("compare: expected a list of at least two models")
    paths = [None if isinstance(one, Aligner | EvalResult) else Path(one).expanduser().absolute() for one in models]
    parts = [(f"model {index + 1}",) if path is None else _parts(path) for index, path in enumerate(paths)]
    for length in range(1, 1 + max(map(len, parts), default=0)):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one[-1:])} ({index + 1})" for index, one in enumerate(parts)]


def _parts(path: Path) -> tuple[str, ...]:
    """The parts of a path without its root, a suffix and `bundle` in a run folder."""
    parts = path.with_suffix("").parts if path.suffix in (".parquet", ".csv") else path.parts
    return parts[1:-1] if parts[-1] == "bundle" and len(parts) > 2 else parts[1:]


def _notes(results: Mapping[str, EvalResult]) -> list[str]:
    hashes = {name: result.provenance.get("bundle_hash") for name, result in results.items()}
    notes = [
        f"{one} and {two} are the same model (bundle {hashes[one]})"
        for one, two in combinations(hashes, 2)
        if hashes[one] is not None and hashes[one] == hashes[two]
    ]
    for name, result in results.items():
        trained = _training_data(str(result.details.get("path", "")))
        if trained is not None and trained != result.provenance.get("data_hash"):
            notes.append(f"{name} was trained on other data (hash {trained[:12]}): it may have seen these queries")
    return notes


def _training_data(path: str) -> str | None:
    """Hash of the data that the bundle at a path was trained on; None if it is not known."""
    try:
        known = bundle.provenance(path).get("data") if path else None
    except UserError:  # a file of rows
        return None
    return known if isinstance(known, str) else None
