"""What each command does with its flags. Functions here parse, call one library function, print."""

import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import jsonargparse
import yaml

from mmalign import bundle, recipes, registry
from mmalign.api import pair_of
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.options import TASK_OPTIONS
from mmalign.flags import fold_open_dicts, parse
from mmalign.model import Aligner, TowerConfig, modality_of

Parsed = Any

SPLIT_KEYS = ("validation", "test", "split_seed", "positives")
"""What a bundle tells of the data that it was trained on: how they were split."""


def train_command(arguments: list[str]) -> int:
    """Mmalign train RECIPE [overrides]."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mmalign train RECIPE [--data.* --model.* --trainer.* --out DIR --resume]\n")
        print("recipes:", ", ".join(recipes.names()), "or a .yaml file\n")
        print("mmalign train RECIPE --help lists every flag; --print_config shows the recipe with your overrides.")
        return 0
    if arguments[0].startswith("-"):
        raise UserError(f"expected a recipe first, got {arguments[0]!r} (known: {', '.join(recipes.names())})")
    from mmalign.training.run import train

    train(arguments[0], arguments[1:])
    return 0


def evaluate_command(arguments: list[str]) -> int:
    """Mmalign evaluate BUNDLE --task retrieval|zero-shot|multi-label|regression|probe [--data.*]."""
    parser = _parser("evaluate", "Measure a bundle; prints a table, writes JSON.")
    parser.add_argument("bundle", type=str, help="Bundle or run folder.")
    parser.add_argument(
        "--task", type=str, default="retrieval", help="retrieval, zero-shot, multi-label, regression or probe."
    )
    parser.add_argument("--split", type=str, default="validation", help="Which rows: train, validation, test, all.")
    parser.add_argument("--pair", type=list[str], default=[], help="Two towers, for models with more than one pair.")
    parser.add_argument("--relevance", type=str, default="record", help="Relevant items: record, content or group.")
    parser.add_argument(
        "--score",
        type=str,
        default="",
        help="Another score of the objective: mean, codes.",
    )
    parser.add_argument("--prompts", type=str | None, default=None, help="YAML file of prompts (zero-shot).")
    parser.add_argument("--batch_size", type=int, default=256, help="Samples a forward pass.")
    parser.add_argument("--bootstrap", type=int, default=1000, help="Resamples behind each interval.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the resampling.")
    parser.add_argument("--json", type=str | None, default=None, help="Write the result here.")
    parser.add_argument("--picture", type=str | None, default=None, help="Draw the scores (or confusion) here.")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, cuda:1.")
    for name, (kind, text) in TASK_OPTIONS.items():
        several = {"type": get_args(kind)[0], "nargs": "+"} if get_origin(kind) is list else {"type": kind | None}
        parser.add_argument(f"--{name}", default=None, help=text, **several)
    parsed, data = _parse_with_data(parser, arguments)
    from mmalign.evaluation.run_task import evaluate

    json_path, picture = _target(parsed.json), _target(parsed.picture)
    model = bundle.load(parsed.bundle, device=parsed.device)
    sides = pair_of(model, parsed.pair)
    result = evaluate(
        model,
        data,
        parsed.task,
        sides=sides,
        split=parsed.split,
        relevance=parsed.relevance,
        prompts=parsed.prompts,
        batch_size=parsed.batch_size,
        bootstrap=parsed.bootstrap,
        seed=parsed.seed,
        score=parsed.score,
        **{name: parsed[name] for name in TASK_OPTIONS if parsed[name] is not None},
    )
    _report(result, json_path, picture)
    result.append_to(bundle.find(parsed.bundle) / "results.json")
    return 0


def check_command(arguments: list[str]) -> int:
    """Mmalign check --data.* ; exit code 1 when rows are bad."""
    parser = _parser("check", "Look at data before training; exit code 1 when rows are bad.")
    parser.add_argument(
        "--towers", type=dict[str, str], default={}, help="Side -> modality, where they differ: {left: image}."
    )
    parser.add_argument("--reject_warnings", type=list[str], default=[], help="Towers that reject warnings: [ecg].")
    parser.add_argument("--sheet", type=str | None, default=None, help="Draw sample rows here (PNG).")
    parser.add_argument("--json", type=str | None, default=None, help="Write the report here.")
    parsed, data = _parse_with_data(parser, arguments)
    from mmalign.data.checking import check

    sheet, json_path = _target(parsed.sheet), _target(parsed.json)
    known = registry.names("modalities")
    modalities = {}
    for side in data.towers:
        name = parsed.towers.get(side, side)
        if name not in known:
            raise UserError(
                f"no modality for the side {side!r}{registry.nearest(name, known)}; say --towers.{side} NAME"
            )
        modalities[side] = modality_of(side, TowerConfig(modality=name, reject_warnings=side in parsed.reject_warnings))
    report = check(data, modalities, sheet=sheet)
    report.show()
    if json_path:
        json_path.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    return 1 if report.bad else 0


def embed_command(arguments: list[str]) -> int:
    """Mmalign embed BUNDLE SIDE OUT.parquet --data.*."""
    parser = _parser("embed", "Embed one side of a data set into a Parquet table.")
    parser.add_argument("bundle", type=str, help="Bundle or run folder.")
    parser.add_argument("side", type=str, help="The tower.")
    parser.add_argument("out", type=str, help="Parquet file to write.")
    parser.add_argument("--split", type=str, default="all", help="Which rows: train, validation, test, all.")
    parser.add_argument("--batch_size", type=int, default=256, help="Samples a forward pass.")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, cuda:1.")
    parsed, data = _parse_with_data(parser, arguments)
    from mmalign.embedding.loop import embed_split
    from mmalign.evaluation.run_task import prepare
    from mmalign.searching.table import write_parquet

    out = _target(parsed.out)
    model = bundle.load(parsed.bundle, device=parsed.device)
    _known_side(model, parsed.side)
    prepare(model, data, (parsed.side,), parsed.split)
    embedded = embed_split(model, data, parsed.side, parsed.split, batch_size=parsed.batch_size)
    write_parquet(out or parsed.out, embedded, data, split=parsed.split, bundle_hash=bundle.fingerprint(parsed.bundle))
    print(f"{len(embedded)} vectors of {model.dim} -> {parsed.out}; rows set aside: {len(data.rejected)}")
    return 0


def search_command(arguments: list[str]) -> int:
    """Mmalign search BUNDLE INDEX.parquet SIDE QUERY [QUERY ...]."""
    parser = _parser("search", "Find the nearest rows of an embedded table.")
    parser.add_argument("bundle", type=str, help="Bundle or run folder.")
    parser.add_argument("index", type=str, help="Table written by `mmalign embed`.")
    parser.add_argument("side", type=str, help="Tower of the queries.")
    parser.add_argument("queries", type=str, nargs="+", help="Queries: sentences, or files.")
    parser.add_argument("--k", type=int, default=10, help="Answers a query.")
    parser.add_argument("--json", type=str | None, default=None, help="Write the answers here.")
    parser.add_argument("--picture", type=str | None, default=None, help="Draw queries and answers here.")
    parsed, data = _parse_with_data(parser, arguments)
    from mmalign.pictures import save
    from mmalign.searching.figure import search_figure
    from mmalign.searching.nearest import search, show
    from mmalign.searching.table import read_parquet

    json_path, picture = _target(parsed.json), _picture_target(parsed.picture)
    model = bundle.load(parsed.bundle)
    _known_side(model, parsed.side)
    table = read_parquet(parsed.index)
    table.require_bundle(bundle.fingerprint(parsed.bundle))
    answers = search(model, parsed.queries, tower=parsed.side, index=table, k=parsed.k)
    show(parsed.queries, answers)
    if json_path:
        found = [
            {"query": query, "answers": [hit._asdict() for hit in one]}
            for query, one in zip(parsed.queries, answers, strict=True)
        ]
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if picture:
        gallery = table.embedding.tower
        save(search_figure(model, parsed.queries, answers, tower=parsed.side, gallery=gallery, data=data), picture)
        print(f"drawn: {picture}")
    return 0


def explain_command(arguments: list[str]) -> int:
    """Mmalign explain BUNDLE SAMPLE_A SAMPLE_B OUT.png [--pair "[a, b]"]."""
    parser = _parser("explain", "Which words of one sample answer to which atoms, patches or beats of another.")
    parser.add_argument("bundle", type=str, help="Bundle or run folder.")
    parser.add_argument("sample_a", type=str, help="A sample of the pair's first tower: a file, or the text itself.")
    parser.add_argument("sample_b", type=str, help="A sample of the second tower.")
    parser.add_argument("out", type=str, help="Picture to write: PNG, PDF or SVG.")
    parser.add_argument("--pair", type=list[str], default=[], help="Two towers, for models with more than one pair.")
    parser.add_argument(
        "--term",
        type=str,
        default="",
        help="Term to explain by: transport, fdt, or its label.",
    )
    parser.add_argument("--most", type=int, default=6, help="Words to draw, 1 to 6.")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, cuda:1.")
    parsed = parse(parser, arguments)
    from mmalign.explanation import explain

    out = _picture_target(parsed.out)
    model = bundle.load(parsed.bundle, device=parsed.device)
    sides = pair_of(model, parsed.pair)
    found = explain(model, parsed.sample_a, parsed.sample_b, sides=sides, term=parsed.term, most=parsed.most)
    found.show()
    found.draw(out or parsed.out)
    print(f"drawn: {parsed.out}")
    return 0


def list_command(arguments: list[str]) -> int:
    """Mmalign list."""
    parser = _parser("list", "What is registered here.")
    parser.add_argument("--json", type=bool, default=False, help="JSON on standard output.")
    parsed = parse(parser, arguments)
    from mmalign.listing import collect, show

    found = collect()
    if parsed.json:
        json.dump(found, sys.stdout, indent=2)
        print()
    else:
        show(found)
    return 0


def demo_command(arguments: list[str]) -> int:
    """Mmalign demo [--json out.json]."""
    parser = _parser("demo", "Train on the embedded digits, measure, draw.")
    parser.add_argument("--out", type=str, default="runs/demo", help="Folder of the run; replaced when it exists.")
    parser.add_argument("--json", type=str | None, default=None, help="Write the result here.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of weights, order and augmentation.")
    parsed = parse(parser, arguments)
    from mmalign.demo import demo

    demo(Path(parsed.out), json_path=_target(parsed.json), seed=parsed.seed)
    return 0


def _parser(name: str, description: str) -> jsonargparse.ArgumentParser:
    return jsonargparse.ArgumentParser(
        prog=f"mmalign {name}", description=description, exit_on_error=False, allow_abbrev=False
    )


def _parse_with_data(parser: jsonargparse.ArgumentParser, arguments: list[str]) -> tuple[Parsed, Dataset]:
    """Parse with `--data.*`; where there is a bundle, its run's data is the default unless the user names other."""
    parser.add_class_arguments(Dataset, "data")
    parsed = parse(parser, fold_open_dicts(arguments, {}))
    if "bundle" in parsed:
        defaults = _run_defaults(parsed.bundle, arguments)
        parser.set_defaults({f"data.{key}": value for key, value in defaults.items()})
        parsed = parse(parser, fold_open_dicts(arguments, {"data": defaults}))
    return parsed, parser.instantiate(parsed).data


def _run_defaults(path: str, arguments: list[str]) -> dict[str, Any]:
    """The data settings to start from: the run's own, or only its way of splitting when the user names other data."""
    folder = bundle.find(path)
    split = bundle.provenance(folder).get("split")
    split = {key: split[key] for key in SPLIT_KEYS if key in split} if isinstance(split, dict) else {}
    config = folder.parent / "config.yaml"
    named = any(a.split("=")[0] in ("--data.source", "--data.manifest", "--data.files") for a in arguments)
    if named or not config.is_file():
        return split
    try:
        kept = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        return split  # a file of somebody else's beside the bundle
    return {**kept, "batch_size": 256} if isinstance(kept, dict) else split


def _known_side(model: Aligner, side: str) -> None:
    if side not in model.encoders:
        raise UserError(f"no tower called {side!r}{registry.nearest(side, model.towers)}")


def _target(path: str | None) -> Path | None:
    """A file to write, asked for before the work: a wrong name must not cost what an hour has measured."""
    if path is None:
        return None
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{path}: expected the name of a file to write, got a folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _picture_target(path: str | None) -> Path | None:
    from mmalign.pictures.figures import known_format

    return None if path is None else _target(str(known_format(path)))


def _report(result: Any, json_path: Path | None, picture: Path | None) -> None:
    result.show()
    if json_path:
        json_path.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
        print(f"written: {json_path}")
    if picture:
        result.draw(picture)
        print(f"drawn: {picture}")
