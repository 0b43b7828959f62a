"""The command line as a user meets it: what works, and what a mistake says. Runs in this process for speed."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

import mmalign
from mmalign import recipes
from mmalign.cli import main
from mmalign.configuration.overrides import check_flags, fold_open_dicts
from mmalign.errors import UserError
from mmalign.model_description import registered_arguments
from mmalign.training.settings.parsing import recipe_keys

TINY = [
    "--model.dim=8",
    "--model.towers.image.args.width=4",
    "--model.towers.text.args.width=16",
    "--model.towers.text.args.heads=2",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "image-text/demo", *TINY, "--out", str(out)]) == 0
    return out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_usage_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mmalign 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"]])
def test_a_closed_pipe_ends_without_a_message(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mmalign --help | head -1`: the reader closes the pipe before all is written."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(arguments) == 0
        if sys.stdout is not closed:
            sys.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            closed.close()
    assert capsys.readouterr().err == ""


def test_train_writes_configuration_checkpoint_log_and_bundle(run: Path) -> None:
    assert (run / "config.yaml").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    header, *rows = (run / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert {"train/loss", "train/image_text/scale", "train/samples_per_s", "val/loss"} <= set(header.split(","))
    assert rows
    config = json.loads((run / "bundle" / "config.json").read_text())
    assert config["provenance"]["seed"] == 0
    assert config["provenance"]["rows"]["train"] + config["provenance"]["rows"]["validation"] == 1797
    assert config["provenance"]["rejected"] == 0


def test_a_finished_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "bundle" / "model.safetensors").read_bytes()
    assert main(["train", "image-text/demo", *TINY, "--out", str(run)]) == 2
    assert "--overwrite" in one_line(capsys)
    assert (run / "bundle" / "model.safetensors").read_bytes() == before


def test_an_overwritten_run_ignores_the_old_checkpoint(run: Path, tmp_path: Path) -> None:
    """Killed before its first checkpoint, it must not go on from the run that it replaced."""
    out = tmp_path / "again"
    shutil.copytree(run, out)
    flags = [*TINY, "--out", str(out), "--overwrite", "--checkpoint_every=1000000"]
    assert main(["train", "image-text/demo", *flags]) == 0
    assert not (out / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1, "version": "0.0.9"}, "expected checkpoint format 2, got 1; it was written by mmalign 0.0.9"),
        (None, "was not written by mmalign"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused(
    run: Path, tmp_path: Path, change: dict[str, object] | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    saved["mmalign"] = None if change is None else saved["mmalign"] | change
    torch.save(saved, out / "checkpoints" / "last.ckpt")
    assert main(["train", "image-text/demo", *TINY, "--out", str(out), "--resume"]) == 2
    assert message in one_line(capsys)


def test_evaluate_retrieval(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["evaluate", str(run), "--task", "retrieval", "--bootstrap", "50", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    for direction in ("image_to_text", "text_to_image"):
        scores = result["scores"][direction]
        assert {"hit@1", "hit@5", "hit@10", "recall@1", "mrr", "median_rank", "mean_rank", "n"} <= set(scores)
        low, high = scores["hit@10_ci"]
        assert 0 <= low <= scores["hit@10"] <= high <= 1
    assert {"mmalign", "torch"} <= set(result["provenance"]["versions"])
    assert {"seed", "data_hash", "bundle_hash", "split"} <= set(result["provenance"])
    assert "image" in capsys.readouterr().out


def test_evaluate_zero_shot(run: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "confusion.png"
    flags = ["--task", "zero-shot", "--bootstrap", "50", "--json", str(out), "--picture", str(picture)]
    assert main(["evaluate", str(run), *flags]) == 0
    scores = json.loads(out.read_text())["scores"]
    assert {"top1", "top1_ci", "top5", "balanced_accuracy", "macro_auroc", "ece", "n"} <= set(scores)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_embed_and_search(run: Path, tmp_path: Path) -> None:
    table, found = tmp_path / "table.parquet", tmp_path / "found.json"
    assert main(["embed", str(run), "image", str(table)]) == 0
    query = ["search", str(run), str(table), "text", "a handwritten seven", "the digit one"]
    picture = tmp_path / "found.png"
    assert main([*query, "--k", "3", "--json", str(found), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")  # the digits are no strings: they come from the run's own data
    answers = json.loads(found.read_text())
    assert [len(answer["answers"]) for answer in answers] == [3, 3]
    scores = [answer["score"] for answer in answers[0]["answers"]]
    assert scores == sorted(scores, reverse=True)


def test_the_output_path_is_checked_before_the_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--task", "retrieval", "--bootstrap", "10"]
    deep = tmp_path / "not" / "yet" / "there"
    wanted = ["--json", str(deep / "out.json"), "--picture", str(deep / "out.png")]
    assert main(["evaluate", str(run), *quick, *wanted]) == 0
    assert (deep / "out.json").is_file()
    assert (deep / "out.png").is_file()
    capsys.readouterr()
    assert main(["evaluate", str(run), *quick, "--json", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "got a folder" in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out  # nothing was measured in vain
    assert main(["evaluate", str(run), *quick, "--json", str(deep / "out.json" / "below.json")]) == 2
    assert "out.json" in one_line(capsys)


def test_a_bundle_ignores_other_files_in_its_parent_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    (tmp_path / "config.yaml").write_text("- no\n- run\n")
    config = tmp_path / "bundle" / "config.json"
    described = json.loads(config.read_text())
    config.write_text(json.dumps({**described, "provenance": {"split": {"validation": 0.2, "manifest": "secret.csv"}}}))
    flags = ["--task", "retrieval", "--bootstrap", "10"]
    assert main(["evaluate", str(tmp_path / "bundle"), *flags, "--data.source", "digits"]) == 0
    config.write_text(json.dumps({**described, "provenance": ["no", "table"]}))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "bundle"), *flags]) == 2
    assert "--data.columns.image" in one_line(capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nearest: image", "data.nearest: no such key"),
        ("validaton: 0.2", "data.validaton: no such key; did you mean data.validation?"),
        ("workers: many", "data.workers: expected a whole number, got 'many'"),
    ],
)
def test_a_data_key_of_another_version_is_named(
    run: Path, tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    saved = tmp_path / "bundle" / "config.json"
    saved.write_text(json.dumps(json.loads(saved.read_text()) | {"mmalign": "0.0.9"}))
    (tmp_path / "config.yaml").write_text(f"data:\n  source: digits\n  {line}\n")
    writer = f"; mmalign 0.0.9 wrote this file, this is {mmalign.__version__}"
    assert main(["evaluate", str(tmp_path), "--bootstrap", "10"]) == 2
    printed = one_line(capsys)
    assert f"{tmp_path / 'config.yaml'}: {message}" in printed
    assert printed.endswith(writer)
    with pytest.raises(UserError, match="data.*mmalign 0.0.9 wrote this file"):
        mmalign.Run(tmp_path).evaluate(bootstrap=0)
    other = ["--data.source", "digits", "--data.validation", "0.2"]
    assert main(["evaluate", str(tmp_path), "--bootstrap", "10", *other]) == 0, "other data are named: no key is read"


def test_a_run_without_configuration_cannot_be_evaluated_on_its_data(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    with pytest.raises(UserError, match=r"config\.yaml: expected the configuration of a run"):
        mmalign.Run(tmp_path).evaluate(bootstrap=0)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "convnet" in found["modalities"]["image"]["encoders"]
    assert "image-text/clip" in found["recipes"]
    assert main(["list"]) == 0
    assert "mmalign list image.convnet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image", ["image.convnet", "image.vit"]),
        ("image.convnet", ["width int", "Channels of the stem", "(default: 24)", "depths list of int"]),
        ("objective.clip", ["learn_scale true|false", "(default: true)"]),
        ("objective", ["objective.clip", "objective.siglip"]),
        ("source.manifest", ["max_file_mb"]),
    ],
)
def test_list_describes_one_name(name: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", name]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert [text for text in expected if text not in printed] == []
    assert "arguments: transform" not in printed, "mmalign passes it, a recipe does not"


def test_list_describes_one_name_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "image.convnet", "--json"]) == 0
    width = json.loads(capsys.readouterr().out)["arguments"]["width"]
    assert (width["type"], width["default"]) == ("int", 24)
    assert width["about"].startswith("Channels of the stem")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["--versoin"], "no such flag; did you mean '--version'"),
        (["list", "imge"], "did you mean 'image'"),
        (["list", "image.convnte"], "did you mean 'convnet'"),
        (["list", "objective.clp"], "did you mean 'clip'"),
        (["list", "transport"], "run: mmalign list objective.transport"),
        (["list", "--jsn"], "no such flag"),
        (["train", "image-txt"], "did you mean 'image-text/"),
        (["train", "nowhere.yaml"], "no such file"),
        (["train", "--out", "x"], "expected a recipe first"),
        (["train", "image-text", "--resume", "--out", "nowhere"], "no checkpoint at"),
        (["evaluate", "nowhere"], "no bundle at nowhere"),
        (["search", "nowhere", "x", "text", "y"], "no bundle at nowhere"),
        (["index", "nowhere.parquet"], "from mmalign embed: got no such file"),
    ],
)
def test_user_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.towers.image.encoder", "convnte"], "did you mean 'convnet'"),
        (
            ["--model.towers.image.args.widht", "3"],
            "args.widht: no such key; did you mean --model.towers.image.args.width?",
        ),
        (["--model.optimizer.lrr", "3"], "--model.optimizer.lrr: no such key; did you mean --model.optimizer.lr?"),
        (
            ["--model.towers.image.encodr", "vit"],
            "--model.towers.image.encodr: no such key; did you mean --model.towers.image.encoder?",
        ),
        (
            ["--model.pairs.0.objectiv", "clip"],
            "objectiv: no such key; did you mean --model.pairs.0.objective?",
        ),
        (["--model.pairs.0.args.learnscale", "true"], "did you mean --model.pairs.0.args.learn_scale?"),
        (["--otu", "x"], "--otu: no such key; did you mean --out?"),
        (["--seed_everything", "[1]"], "--seed_everything: expected true or false or a whole number, got [1]"),
        (["--trainer.max_epochs", "two"], "--trainer.max_epochs: expected a whole number or null, got 'two'"),
        (["--model.dim", "two"], "--model.dim: expected a whole number or null, got 'two'"),
        (["--model.towers.image.transform.sise", "3"], "did you mean 'size'"),
        (["--data.source", "digit"], "did you mean 'digits'"),
        (["--data.batch_size", "0"], "batch_size"),
        (["--ema", "1.5"], "--ema: expected a decay"),
        (["--loggers", "[tensorbord]"], "did you mean 'tensorboard'"),
        (["--data.source", "manifest", "--data.manifest", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_errors_in_a_recipe_are_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "image-text/demo", "--out", str(tmp_path / "run"), *flags]) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [
        (["--model.dmi", "3"], "--model.dim"),
        (["--data.batchsize", "3"], "--data.batch_size"),
        (["--model.towers.image.encodr", "vit"], "encoder"),
        (["--model.towers.imag.freeze", "true"], "tower 'imag': no modality called 'imag'; did you mean 'image'"),
        (["--trainer.max_epoch", "3"], "--trainer.max_epochs"),
    ],
)
def test_misspelt_flag_error_suggests_the_nearest(
    flags: list[str], nearest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "image-text/demo", "--out", str(tmp_path / "run"), *flags]) == 2
    assert nearest in one_line(capsys)


def test_print_config_shows_the_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "image-text", "--model.towers.image.args.width=7", "--print_config"])
    assert stopped.value.code == 0
    assert "width: 7" in capsys.readouterr().out


def test_a_wrong_key_of_a_recipe_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {towers: {text: {args: {}}}, pairs: [{a: text, b: text, wieght: 1}]}\n")
    assert main(["train", str(recipe)]) == 2
    assert f"{recipe}: model.pairs.0.wieght: no such key; did you mean model.pairs.0.weight?" in one_line(capsys)


def test_an_index_overrides_one_pair() -> None:
    base = {"model": {"pairs": [{"a": "x", "b": "y"}, {"a": "y", "b": "z"}]}}
    folded = fold_open_dicts(["--model.pairs.1.objective", "siglip", "--model.pairs.1.args.k=2"], base)
    expected = [{"a": "x", "b": "y"}, {"a": "y", "b": "z", "objective": "siglip", "args": {"k": 2}}]
    assert folded == ["--model.pairs=" + json.dumps(expected)]
    assert base["model"]["pairs"][1] == {"a": "y", "b": "z"}, "the recipe is not changed"
    with pytest.raises(UserError, match=r"--model.pairs.2: expected an index of 0 to 1, as the recipe has 2"):
        fold_open_dicts(["--model.pairs.2.objective", "siglip"], base)


@pytest.mark.parametrize("name", recipes.names())
def test_keys_of_every_recipe_are_known(name: str) -> None:
    keys = recipe_keys()
    check_flags([], keys, yaml.safe_load(recipes.find(name).read_text()), name, registered_arguments)


def test_flags_of_open_dicts_are_merged_into_the_recipe() -> None:
    base = {"model": {"towers": {"x": {"args": {"depth": 2, "deep": {"a": 1}}}}}}
    folded = fold_open_dicts(
        ["--model.towers.x.args.width", "3", "--model.towers.x.args.deep.b=[1, 2]", "--model.dim", "4"], base
    )
    assert folded[:2] == ["--model.dim", "4"]
    key, _, value = folded[2].partition("=")
    assert key == "--model.towers.x.args"
    assert json.loads(value) == {"depth": 2, "deep": {"a": 1, "b": [1, 2]}, "width": 3}
    assert base["model"]["towers"]["x"]["args"]["deep"] == {"a": 1}, "the recipe is not changed"
    with pytest.raises(UserError, match="needs a value"):
        fold_open_dicts(["--model.towers.x.args.width"], {})


def test_another_encoder_leaves_the_recipes_arguments_behind() -> None:
    tower = {"encoder": "convnet", "args": {"width": 24}, "transform": {"size": 64}}
    base = {"model": {"towers": {"image": tower, "text": {"args": {"width": 64}}}}}
    flags = ["--model.towers.image.encoder", "timm", "--model.towers.image.args.model", "resnet10t"]
    folded = fold_open_dicts(flags, base)
    assert "--model.towers.image.args=" + json.dumps({"model": "resnet10t"}) in folded
    assert "--model.towers.image.transform={}" in folded
    assert not any("text" in flag for flag in folded)
    whole = [
        "--model.towers.image.encoder=timm",
        '--model.towers.image.args={"model": "x"}',
        "--model.towers.image.args.a=1",
    ]
    assert "--model.towers.image.args=" + json.dumps({"model": "x", "a": 1}) in fold_open_dicts(whole, base)
    with pytest.raises(UserError, match="expected a dictionary"):
        fold_open_dicts(["--model.towers.image.args", "3"], base)
    same = fold_open_dicts(["--model.towers.image.encoder=convnet", "--model.towers.image.args.width=8"], base)
    assert "--model.towers.image.args=" + json.dumps({"width": 8}) in same
    assert not any("transform" in flag for flag in same)


def test_another_encoder_trains(tmp_path: Path) -> None:
    flags = [*TINY[:1], *TINY[2:], "--model.towers.image.encoder=vit", "--model.towers.image.transform.size=16"]
    small = ["--model.towers.image.args.width=16", "--model.towers.image.args.depth=1"]
    assert main(["train", "image-text/demo", *flags, *small, "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "bundle" / "config.json").read_text())
    assert config["model"]["towers"]["image"]["encoder"] == "vit"
    assert config["model"]["towers"]["image"]["args"]["width"] == 16
    transform = json.loads((tmp_path / "run" / "bundle" / "transforms" / "image.json").read_text())
    assert transform["size"] == 16
    assert transform["random_crop"] == 1.0, "the demo's crop was for its own encoder"
