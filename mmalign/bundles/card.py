"""The model card of a bundle, written from its configuration, provenance, preprocessing and results."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from mmalign.bundles.headline import headlines
from mmalign.errors import UserError
from mmalign.registry import load
from mmalign.safe_io.printable import printable

GENERATED = "<!-- Written by mmalign and updated by mmalign evaluate. Remove this line to edit the card by hand. -->"
MAX_RESULTS = 20
_LONGEST = 80  # characters of a setting


def model_card(
    config: Mapping[str, Any],
    transforms: Mapping[str, Mapping[str, Any]] | None = None,
    results: Sequence[Any] = (),
) -> str:
    """The card of a bundle, Markdown with YAML front matter as model hubs read it.

    Args:
        config: Content of its config.json.
        transforms: Tower -> configuration of its transform.
        results: Content of its results.json, newest last; of each task, split and pair the newest is listed.
    """
    model, provenance = config["model"], config["provenance"]
    newest = _newest(results)
    name = _name(model, provenance)
    parts = [
        _front_matter(name, model, provenance, newest),
        f"# {_text(name)}",
        GENERATED,
        _intended_use(model),
        _towers(model, config.get("parameters") or {}),
        _preprocessing(transforms or {}),
        _loading(model),
        _data(provenance),
        _results(newest),
        _limits(model, provenance, newest),
        _training(config, provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _name(model: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("recipe") or "-".join(model["towers"]))


def _front_matter(
    name: str, model: Mapping[str, Any], provenance: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> str:
    modalities = dict.fromkeys(tower["modality"] for tower in model["towers"].values())
    objectives = dict.fromkeys(pair["objective"] for pair in model["pairs"])
    known: dict[str, Any] = {
        "library_name": "mmalign",
        "pipeline_tag": "feature-extraction",
        "tags": [printable(tag) for tag in dict.fromkeys(["multimodal", *modalities, *objectives])],
    }
    if source := provenance.get("source"):
        known["datasets"] = [printable(source)]
    index = [_index_entry(result, str(source or "unknown")) for result in results]
    if index := [one for one in index if one["metrics"]]:
        known["model-index"] = [{"name": printable(name), "results": index}]
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _index_entry(result: Mapping[str, Any], source: str) -> dict[str, Any]:
    task, origin = printable(result["task"]), result["provenance"]
    return {
        "task": {"type": task, "name": task},
        "dataset": {"type": printable(source), "name": printable(source), "split": printable(origin.get("split"))},
        "metrics": [
            {"type": one.name.rpartition(" ")[2], "name": one.name, "value": round(one.value, 6)}
            for one in headlines(result)
        ],
    }


def _intended_use(model: Mapping[str, Any]) -> str:
    towers = " and ".join(f"`{_text(name)}`" for name in model["towers"])
    pairs = dict.fromkeys((_text(pair["a"]), _text(pair["b"])) for pair in model["pairs"] if pair["a"] != pair["b"])
    joined, dim = "; ".join(f"{a} and {b}" for a, b in pairs), int(model["dim"])
    uses = (
        f"The model embeds {towers} in one space of {dim} dimensions. Use it for retrieval between towers, for "
        f"zero-shot classification by prompts, and for features of probes. Trained pairs: {joined}."
        if joined
        else f"The model embeds {towers} in {dim} dimensions. Use it for features of probes and for search."
    )
    return (
        f"## Intended use\n\n{uses}\n\nIt is a research model. It is not validated for decisions about people, such as "
        "diagnosis or treatment, and not on data other than those listed under Results."
    )


def _towers(model: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    rows = [
        f"| {_text(name)} | {_text(tower['modality'])} | {_text(tower['encoder'])} | {_text(tower['head'])} | "
        f"{f'{parameters[name]:,}' if isinstance(parameters.get(name), int) else ''} |"
        for name, tower in model["towers"].items()
    ]
    pairs = "\n".join(
        f"- {_text(pair['a'])}-{_text(pair['b'])} ({_text(pair['objective'])}{_sizes(pair)})" for pair in model["pairs"]
    )
    table = "\n".join(["| tower | modality | encoder | head | weights |", "| --- | --- | --- | --- | --- |", *rows])
    return f"## Model\n\n{table}\n\nTerms of the loss:\n\n{pairs}"


def _preprocessing(transforms: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, config in transforms.items():
        settings = ", ".join(f"{key} {value}" for key, value in _settings(config))
        lines.append(f"- **{_text(name)}**: {_text(settings) or 'no settings'}")
    return "## Preprocessing\n\nSaved in `transforms/` and applied by `encode`.\n\n" + "\n".join(lines) if lines else ""


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings that are short; vocabularies and statistics are left out."""
    for key, value in config.items():
        if isinstance(value, Mapping) and len(value) <= 20 and prefix.count(".") < 2:
            yield from _settings(value, f"{prefix}{key}.")
        elif not isinstance(value, Mapping) and len(shown := json.dumps(value, ensure_ascii=False)) <= _LONGEST:
            yield f"{prefix}{key}", shown


def _loading(model: Mapping[str, Any]) -> str:
    lines = ["import mmalign", "", 'model = mmalign.load("this/folder")']
    for name, tower in model["towers"].items():
        reads = _reads(str(tower["modality"]))
        lines.append(
            f"{_identifier(name)} = model.encode({json.dumps(str(name))}, [...])" + (f"  # {reads}" * bool(reads))
        )
    if len(model["towers"]) > 1:
        a, b = (_identifier(name) for name in list(model["towers"])[:2])
        lines.append(f"scores = model.similarity({a}, {b})")
    code = "\n".join(lines)
    return f"## How to load\n\n```python\n{code}\n```"


def _reads(modality: str) -> str:
    try:
        return str(load("modalities", modality).description)
    except (UserError, AttributeError):  # its extra, or its package, is not installed
        return ""


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in str(name))


def _data(provenance: Mapping[str, Any]) -> str:
    lines = []
    if "source" in provenance:
        lines.append(f"- source: {_text(provenance['source'])}")
    if isinstance(rows := provenance.get("rows"), Mapping):
        lines.append("- records: " + ", ".join(f"{_text(split)} {_text(count)}" for split, count in rows.items()))
    for key, what in (("rejected", "rejected records"), ("incomplete", "records left out for want of a tower")):
        if key in provenance:
            lines.append(f"- {what}: {_text(provenance[key])}")
    if isinstance(split := provenance.get("split"), Mapping):
        lines.append("- split: " + ", ".join(f"{_text(key)} {_text(value)}" for key, value in split.items()))
    for tower, count in (provenance.get("truncated") or {}).items():
        if isinstance(count, Mapping) and count.get("samples"):
            lines.append(
                f"- truncated {_text(tower)}: {_text(count['samples'])} of {_text(count.get('total'))}, "
                f"at {_text(count.get('limit'))}"
            )
    if "data" in provenance:
        lines.append(f"- hash: {_text(provenance['data'])}")
    lines.append(f"- Licence of the data: {_text(provenance.get('licence') or 'not declared')}")
    if "citation" in provenance:
        lines.append(f"- Please cite the data as: {_text(provenance['citation'])}")
    return "## Training data\n\n" + "\n".join(lines)


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        origin = result["provenance"]
        for one in headlines(result):
            interval = f" [{one.interval[0]:.3f}, {one.interval[1]:.3f}]" if one.interval else ""
            base = "" if one.baseline is None else f"{one.baseline:.3f} ({one.baseline_name})"
            rows.append(
                f"| {_text(result['task'])} | {_text(origin.get('split'))} | {_text(one.name)} | "
                f"{one.value:.3f}{interval} | {base} |"
            )
    if not rows:
        return "## Results\n\nNot yet evaluated: `mmalign evaluate` adds its results here and to `results.json`."
    head = ["| task | split | metric | value [95 % interval] | baseline |", "| --- | --- | --- | --- | --- |"]
    return "## Results\n\n" + "\n".join([*head, *rows]) + "\n\nAll results, with their protocol: `results.json`."


def _limits(model: Mapping[str, Any], provenance: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    if isinstance(rows := provenance.get("rows"), Mapping) and isinstance(rows.get("train"), int):
        lines.append(f"- Trained on {rows['train']:,} records of one source; results on other sources can be lower.")
    if "seed" in provenance:
        lines.append("- One training run: intervals do not describe the choice of seeds.")
    if not results:
        lines.append("- Not evaluated: nothing is known about its errors.")
    elif not any(result["provenance"].get("split") == "test" for result in results):
        lines.append("- Not evaluated on a test split: results are optimistic if settings were chosen on their split.")
    if provenance.get("selected"):
        lines.append("- The epoch was chosen on the validation split, whose results are therefore optimistic.")
    lines.append("- Scores are similarities, not probabilities, and are comparable only within this model.")
    return "## Limits\n\n" + "\n".join(lines)


def _training(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    known = {
        "source", "rows", "rejected", "incomplete", "truncated", "split", "data", "contents", "licence", "citation",
        "mmalign",
    }  # fmt: skip
    lines = [f"- {_text(key)}: {_text(value)}" for key, value in provenance.items() if key not in known]
    written = f"- written by mmalign {_text(config.get('mmalign'))}, torch {_text(config.get('torch'))}, "
    return "## Training\n\n" + "\n".join([*lines, written + f"on {_text(config.get('created'))}"])


def _sizes(pair: Mapping[str, Any]) -> str:
    """The nested sizes that a term was trained on, besides the full one."""
    sizes = pair.get("dims") or []
    return f"; also trained on the first {', '.join(map(str, sorted(sizes)))} numbers" if sizes else ""


def _newest(results: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The newest result of each task, split, prompts, gallery and pair of towers."""
    newest: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for result in results:
        if not isinstance(result, Mapping) or not isinstance(result.get("provenance"), Mapping) or "task" not in result:
            continue
        origin, scores, protocol = result["provenance"], result.get("scores"), result["provenance"].get("protocol")
        gallery = protocol.get("gallery", "") if isinstance(protocol, Mapping) else ""
        directions = sorted(scores) if result.get("task") == "retrieval" and isinstance(scores, Mapping) else []
        key = (result.get("task"), origin.get("split"), origin.get("prompts_hash"), str(gallery)[:40], directions)
        newest[tuple(map(str, key))] = result
    return [*newest.values()][-MAX_RESULTS:]


def _text(value: Any) -> str:
    """Text in one line, without HTML and without marks of a table."""
    shown = printable(" ".join(str(value).split()))
    return html.escape(shown, quote=False).replace("|", "\\|")
