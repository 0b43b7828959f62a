"""One function per command: parse the flags, call one function of `mmalign`, print and write what it returns."""

from pathlib import Path
from typing import Any

import mmalign
from mmalign.cli.flags import (
    BundleFlags,
    CheckFlags,
    ClassifyFlags,
    CompareFlags,
    DemoFlags,
    EvaluateFlags,
    ExplainFlags,
    ExportFlags,
    ReportFlags,
)
from mmalign.cli.help import asked_for
from mmalign.cli.parsing import Parsed, given_settings, long_name, parse, parse_with_data, parse_with_data_of_each
from mmalign.cli.targets import negatives_target, picture_target, rows_path, rows_target, target, write_json
from mmalign.cli.training_flags import MineFlags, TuneFlags, VarianceFlags
from mmalign.recipes import names as recipe_names


def train_command(arguments: list[str]) -> int:
    """Mmalign train RECIPE [overrides]."""
    wanted = asked_for(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mmalign train RECIPE [flags]\n\nTrain a model by a recipe.\n")
        print("recipes:", ", ".join(recipe_names()), "or a .yaml file\n")
        print("`mmalign train RECIPE --help` prints the flags of a recipe.")
        return 0
    if "--resume" in arguments and arguments[0].startswith("-"):  # the run knows its recipe
        arguments = ["", *arguments]
    elif arguments[0].startswith("-"):
        raise mmalign.UserError(f"expected a recipe first, got {arguments[0]!r} (known: {', '.join(recipe_names())})")
    if wanted:
        from mmalign.cli.train_help import show_train_help

        show_train_help(arguments[0], whole=wanted == "all")
        return 0
    mmalign.train(arguments[0], arguments[1:])
    return 0


def evaluate_command(arguments: list[str]) -> int:
    """Mmalign evaluate BUNDLE --task TASK [--data.*]."""
    flags, data = parse_with_data("evaluate", EvaluateFlags, arguments)
    if flags.task == "all":
        return _evaluate_all(flags, data, given_settings(flags, arguments))
    json_file, rows_file, picture = target(flags.json), rows_target(flags.rows, flags.task), target(flags.picture)
    settings = given_settings(flags, arguments)
    result = mmalign.evaluate(flags.bundle, data, flags.task, pair=flags.pair, device=flags.device, **settings)
    result.show()
    if json_file:
        write_json(json_file, result.to_json())
        print(f"written: {json_file}")
    if rows_file:
        result.write_rows(rows_file)
        print(f"written: {rows_file}")
    if picture:
        result.draw(picture)
        print(f"drawn: {picture}")
    result.append_to(flags.bundle)
    return 0


def _evaluate_all(flags: Parsed, data: mmalign.DataConfig, settings: dict[str, Any]) -> int:
    """Every task that the data allow; files of rows and pictures carry the task in their names."""
    json_file = target(flags.json)
    rows = rows_path(flags.rows)
    picture = picture_target(flags.picture)
    evaluations = mmalign.evaluate_all(flags.bundle, data, pair=flags.pair, device=flags.device, **settings)
    evaluations.show()
    if json_file:
        write_json(json_file, evaluations.to_json())
        print(f"written: {json_file}")
    for task, result in evaluations.results.items():
        if rows is not None and result.rows:
            result.write_rows(target(str(file := rows.with_stem(f"{rows.stem}-{task}"))))
            print(f"written: {file}")
        if picture is not None:
            file = picture.with_stem(f"{picture.stem}-{task}")
            try:
                result.draw(file)
                print(f"drawn: {file}")
            except mmalign.UserError as error:
                print(error)
    evaluations.append_to(flags.bundle)
    return 0


def compare_command(arguments: list[str]) -> int:
    """Mmalign compare BUNDLE BUNDLE [...] --task TASK [--data.*]."""
    flags, data = parse_with_data_of_each("compare", CompareFlags, arguments)
    json_file, picture = target(flags.json), picture_target(flags.picture)
    options = {"metrics": flags.metrics or (), "pairs": flags.pairs, "pair": flags.pair, "device": flags.device}
    comparison = mmalign.compare(flags.models, data, flags.task, **options, **given_settings(flags, arguments))
    comparison.show()
    if json_file:
        write_json(json_file, comparison.to_json())
        print(f"written: {json_file}")
    if picture:
        comparison.draw(picture)
        print(f"drawn: {picture}")
    return 0


def report_command(arguments: list[str]) -> int:
    """Mmalign report BUNDLE -o report.html [--tasks] [--pages] [--data.*]."""
    arguments = [*map(long_name, arguments)]
    flags, data = parse_with_data("report", ReportFlags, arguments)
    out = target(flags.out)
    if not data.towers:
        raise mmalign.UserError("no configuration of a run, so name the data with --data.*")
    file = mmalign.report(
        flags.bundle, out, data, tasks=flags.tasks or (), pages=flags.pages or (), pair=flags.pair,
        device=flags.device, **given_settings(flags, arguments),
    )  # fmt: skip
    print(f"written: {file} ({file.stat().st_size / 1e6:.1f} MB); open it in a browser")
    return 0


def mine_command(arguments: list[str]) -> int:
    """Mmalign mine BUNDLE -o negatives.parquet [--data.*]."""
    arguments = [*map(long_name, arguments)]
    flags, data = parse_with_data("mine", MineFlags, arguments)
    out, json_file = negatives_target(flags.out), target(flags.json)
    mined = mmalign.mine(
        flags.bundle, data, pair=flags.pair, split=flags.split, negatives=flags.negatives, skip=flags.skip,
        depth=flags.depth, absolute_margin=flags.absolute_margin, relative_margin=flags.relative_margin,
        min_score=flags.min_score, max_score=flags.max_score, surface=flags.surface, sampling=flags.sampling,
        rerank=flags.rerank, reranker=flags.reranker, batch_size=flags.batch_size, seed=flags.seed,
        device=flags.device,
    )  # fmt: skip
    mined.show()
    mined.write(out)
    print(f"written: {out}; next: mmalign train RECIPE --data.neighbours {out}")
    if json_file:
        write_json(json_file, mined.to_json())
        print(f"written: {json_file}")
    return 0


def tune_command(arguments: list[str]) -> int:
    """Mmalign tune BUNDLE --shots N -o TUNED [--data.*]."""
    arguments = [*map(long_name, arguments)]
    flags, data = parse_with_data("tune", TuneFlags, arguments)
    json_file = target(flags.json)
    tuned = mmalign.tune(
        flags.bundle, data, shots=flags.shots, out=flags.out, prompts=flags.prompts, pair=flags.pair,
        context=flags.context, start=flags.start, experts=flags.experts, text_weight=flags.text_weight,
        epochs=flags.epochs, lr=flags.lr, batch_size=flags.batch_size, split=flags.split,
        new_classes=flags.new_classes, bootstrap=flags.bootstrap, seed=flags.seed, device=flags.device,
    )  # fmt: skip
    tuned.result.show()
    if tuned.folder:
        print(f"saved {tuned.folder}, a bundle: for mmalign evaluate --task zero-shot, classify and others")
    if json_file:
        write_json(json_file, tuned.result.to_json())
        print(f"written: {json_file}")
    return 0


def variance_command(arguments: list[str]) -> int:
    """Mmalign variance BUNDLE TOWER -o FITTED [--perturbations ...] [--data.*]."""
    arguments = [*map(long_name, arguments)]
    flags, data = parse_with_data("variance", VarianceFlags, arguments)
    json_file = target(flags.json)
    fit = mmalign.fit_variance(
        flags.bundle, data, tower=flags.tower, out=flags.out, perturbations=flags.perturbations, seed=flags.seed,
        copies=flags.copies, samples=flags.samples, ridge=flags.ridge, split=flags.split, device=flags.device,
    )  # fmt: skip
    fit.show()
    if fit.folder:
        print(f"saved {fit.folder}, a bundle: for mmalign embed, and mmalign evaluate with --uncertainty true")
    if json_file:
        write_json(json_file, fit.to_json())
    return 0


def export_command(arguments: list[str]) -> int:
    """Mmalign export BUNDLE -o FOLDER [--formats onnx torch] [--int8] [--data.*]; exit code 1 if one fails."""
    arguments = [*map(long_name, arguments)]
    flags, data = parse_with_data("export", ExportFlags, arguments)
    json_file = target(flags.json)
    report = mmalign.export(
        flags.bundle, flags.out, data if data.towers else None, towers=flags.towers or (),
        formats=flags.formats or ("onnx",), int8=flags.int8, split=flags.split, device=flags.device,
    )  # fmt: skip
    report.show()
    print(f"written: {flags.out}")
    if json_file:
        write_json(json_file, report.to_json())
    return int(any(file.reason for file in report.files))


def check_command(arguments: list[str]) -> int:
    """Mmalign check --data.* ; exit code 1 when rows are bad."""
    flags, data = parse_with_data("check", CheckFlags, arguments)
    sheet, json_file = target(flags.sheet), target(flags.json)
    report = mmalign.check(data, towers=flags.towers, reject_warnings=flags.reject_warnings, sheet=sheet)
    report.show()
    if json_file:
        write_json(json_file, report.to_json())
    return 1 if report.bad else 0


def bundle_command(arguments: list[str]) -> int:
    """Mmalign bundle CHECKPOINT OUT."""
    flags = parse("bundle", BundleFlags, arguments)
    print(f"saved {mmalign.bundle_from_checkpoint(flags.checkpoint, flags.out)}; next: mmalign evaluate {flags.out}")
    return 0


def classify_command(arguments: list[str]) -> int:
    """Mmalign classify BUNDLE FILE [FILE ...] --classes A B | --prompts FILE ; exit code 1 when files are bad."""
    flags = parse("classify", ClassifyFlags, arguments)
    out = target(flags.out)
    result = mmalign.classify(
        flags.bundle, flags.samples, flags.classes or (),
        prompts=flags.prompts, pair=flags.pair, score=flags.score, batch_size=flags.batch_size, device=flags.device,
    )  # fmt: skip
    result.show()
    if out:
        result.write(out)
        print(f"written: {out}")
    return 1 if result.problems else 0


def explain_command(arguments: list[str]) -> int:
    """Mmalign explain BUNDLE SAMPLE_A SAMPLE_B OUT.png [--pair "[a, b]"]."""
    flags = parse("explain", ExplainFlags, arguments)
    out = picture_target(flags.out)
    explanation = mmalign.explain(
        flags.bundle, flags.sample_a, flags.sample_b,
        pair=flags.pair, term=flags.term, most=flags.most, device=flags.device,
    )  # fmt: skip
    explanation.show()
    explanation.draw(out)
    print(f"drawn: {out}")
    return 0


def demo_command(arguments: list[str]) -> int:
    """Mmalign demo [--json out.json]."""
    flags = parse("demo", DemoFlags, arguments)
    from mmalign.cli.demo import demo

    json_file = target(flags.json)
    results = demo(Path(flags.out), seed=flags.seed)
    if json_file:
        write_json(json_file, {task: result.to_json() for task, result in results.items()})
        print(f"written: {json_file}")
    return 0
