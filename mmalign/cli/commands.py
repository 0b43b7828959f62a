"""What each command does with its flags. Functions here parse, call one library function, print."""

import json
from pathlib import Path
from typing import Any

from mmalign import bundle, recipes, registry
from mmalign.api import pair_of
from mmalign.cli.flags import BundleFlags, CheckFlags, DemoFlags, EmbedFlags, EvaluateFlags, ExplainFlags, SearchFlags
from mmalign.cli.help import asked_for
from mmalign.cli.parsing import parse, parse_with_data
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, modality_of


def train_command(arguments: list[str]) -> int:
    """Mmalign train RECIPE [overrides]."""
    wanted = asked_for(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mmalign train RECIPE [flags]\n\nTrain a model by a recipe.\n")
        print("recipes:", ", ".join(recipes.names()), "or a .yaml file\n")
        print("`mmalign train RECIPE --help` prints the flags of a recipe.")
        return 0
    if "--resume" in arguments and arguments[0].startswith("-"):  # the run knows its recipe
        arguments = ["", *arguments]
    elif arguments[0].startswith("-"):
        raise UserError(f"expected a recipe first, got {arguments[0]!r} (known: {', '.join(recipes.names())})")
    if wanted:
        from mmalign.cli.train_help import show_train_help

        show_train_help(arguments[0], whole=wanted == "all")
        return 0
    from mmalign.training.run import train

    train(arguments[0], arguments[1:])
    return 0


def evaluate_command(arguments: list[str]) -> int:
    """Mmalign evaluate BUNDLE --task TASK [--data.*]."""
    parsed, data = parse_with_data("evaluate", EvaluateFlags, arguments)
    from mmalign.evaluation.registry import flags
    from mmalign.evaluation.run_task import evaluate

    json_path, picture = _target(parsed.json), _target(parsed.picture)
    model = bundle.load(parsed.bundle, device=parsed.device)
    # Only what the user gives: a task refuses a setting of another task, also where it equals the default.
    given = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")}
    options = {name: parsed[name] for name in flags() if name in given}
    result = evaluate(model, data, parsed.task, pair=pair_of(model, parsed.pair), **options)
    _report(result, json_path, picture)
    result.append_to(bundle.find(parsed.bundle) / "results.json")
    return 0


def check_command(arguments: list[str]) -> int:
    """Mmalign check --data.* ; exit code 1 when rows are bad."""
    parsed, data = parse_with_data("check", CheckFlags, arguments)
    from mmalign.data.checking import check

    sheet, json_path = _target(parsed.sheet), _target(parsed.json)
    known = registry.names("modalities")
    modalities = {}
    for tower in data.towers:
        name = parsed.towers.get(tower, tower)
        if name not in known:
            raise UserError(
                f"no modality for {tower!r}{registry.nearest(name, known)}; name it with --towers.{tower} NAME"
            )
        modalities[tower] = modality_of(
            tower, TowerConfig(modality=name, reject_warnings=tower in parsed.reject_warnings)
        )
    report = check(data, modalities, sheet=sheet)
    report.show()
    if json_path:
        json_path.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    return 1 if report.bad else 0


def embed_command(arguments: list[str]) -> int:
    """Mmalign embed BUNDLE TOWER OUT.parquet --data.*."""
    parsed, data = parse_with_data("embed", EmbedFlags, arguments)
    from mmalign.embedding.loop import embed_split, opened
    from mmalign.searching.table import write_parquet

    out = _target(parsed.out)
    model = bundle.load(parsed.bundle, device=parsed.device)
    _known_tower(model, parsed.tower)
    read = opened(model, data, (parsed.tower,), parsed.split)
    embedded = embed_split(model, read, parsed.tower, parsed.split, batch_size=parsed.batch_size)
    write_parquet(out or parsed.out, embedded, read, split=parsed.split, bundle_hash=bundle.fingerprint(parsed.bundle))
    print(f"{len(embedded)} vectors of {model.dim} -> {parsed.out}; rejected records: {len(read.rejected)}")
    return 0


def bundle_command(arguments: list[str]) -> int:
    """Mmalign bundle CHECKPOINT OUT."""
    parsed = parse("bundle", BundleFlags, arguments)
    from mmalign.training.checkpoint_bundle import bundle_from_checkpoint

    print(f"saved {bundle_from_checkpoint(parsed.checkpoint, parsed.out)}; next: mmalign evaluate {parsed.out}")
    return 0


def search_command(arguments: list[str]) -> int:
    """Mmalign search BUNDLE INDEX.parquet TOWER QUERY [QUERY ...]."""
    parsed, data = parse_with_data("search", SearchFlags, arguments)
    from mmalign.objectives.shared_space import emergent_note
    from mmalign.pictures import save
    from mmalign.searching.figure import search_figure
    from mmalign.searching.nearest import search, show
    from mmalign.searching.table import read_parquet

    json_path, picture = _target(parsed.json), _picture_target(parsed.picture)
    model = bundle.load(parsed.bundle)
    _known_tower(model, parsed.tower)
    table = read_parquet(parsed.index)
    table.require_bundle(bundle.fingerprint(parsed.bundle))
    answers = search(model, parsed.queries, tower=parsed.tower, index=table, k=parsed.k)
    path = model.emergent_path(parsed.tower, table.embedding.tower)
    if path and len(path) > 1:
        print(f"score: {emergent_note(path)}")
    show(parsed.queries, answers)
    if json_path:
        found = [
            {"query": query, "answers": [hit._asdict() for hit in one]}
            for query, one in zip(parsed.queries, answers, strict=True)
        ]
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if picture:
        gallery = table.embedding.tower
        save(search_figure(model, parsed.queries, answers, tower=parsed.tower, gallery=gallery, data=data), picture)
        print(f"drawn: {picture}")
    return 0


def explain_command(arguments: list[str]) -> int:
    """Mmalign explain BUNDLE SAMPLE_A SAMPLE_B OUT.png [--pair "[a, b]"]."""
    parsed = parse("explain", ExplainFlags, arguments)
    from mmalign.explanation import explain

    out = _picture_target(parsed.out)
    model = bundle.load(parsed.bundle, device=parsed.device)
    sides = pair_of(model, parsed.pair)
    found = explain(model, parsed.sample_a, parsed.sample_b, sides=sides, term=parsed.term, most=parsed.most)
    found.show()
    found.draw(out or parsed.out)
    print(f"drawn: {parsed.out}")
    return 0


def demo_command(arguments: list[str]) -> int:
    """Mmalign demo [--json out.json]."""
    parsed = parse("demo", DemoFlags, arguments)
    from mmalign.cli.demo import demo

    demo(Path(parsed.out), json_path=_target(parsed.json), seed=parsed.seed)
    return 0


def _known_tower(model: Aligner, tower: str) -> None:
    if tower not in model.encoders:
        raise UserError(f"no tower called {tower!r}{registry.nearest(tower, model.towers)}")


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
