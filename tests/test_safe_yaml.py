"""YAML that is small and expands, nests, repeats itself, or never ends."""

import os
import time
from pathlib import Path

import pytest

from mmalign import recipes
from mmalign.cli import main
from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts
from mmalign.safe_io.safe_yaml import MAX_NODES, parse_yaml, read_yaml


def bomb(levels: int, last: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join([*lines, last.format(f"*a{levels - 1}")]) + "\n"


@pytest.mark.parametrize(
    "last", ["classes: {{dog: {}}}", "templates: {}", "data: {}", "<<: {}", "dog: {{positive: {}}}"]
)
def test_aliases_that_expand_are_refused_at_once(last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(bomb(30, last))
    started = time.perf_counter()
    for read in (Prompts.load, ClassPrompts.load, lambda path: read_yaml(path, str(path))):
        with pytest.raises(UserError, match="aliases that expand to more"):
            read(file)
    assert main(["train", str(file)]) == 2
    assert main(["train", str(file), "--help"]) == 2
    assert capsys.readouterr().err.count("aliases that expand to more") == 2
    assert time.perf_counter() - started < 5


def test_the_limit_counts_expanded_values() -> None:
    row = ", ".join("x" * 99)
    assert len(parse_yaml(f"a: &a [{row}]\nb: [{', '.join(['*a'] * 900)}]", "x")["b"]) == 900
    with pytest.raises(UserError, match=f"at most {MAX_NODES} values"):
        parse_yaml(f"a: &a [{row}]\nb: [{', '.join(['*a'] * 1001)}]", "x")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "&a {b: *a}",
        "[" * 5000,
        "a: " + "[" * 400 + "]" * 400,
        f"n: {'9' * 5000}",
        "d: 2026-99-99",
        "{[1]: 2}",
        "a: *b",
        "\x00",
        "a: !!python/object/apply:os.system [ls]",
        "a: 1\n---\nb: 2",
    ],
)
def test_odd_yaml_is_a_user_error_or_a_value(text: str) -> None:
    message = ""
    try:
        parse_yaml(text, "odd.yaml")
    except UserError as error:
        message = str(error)
    assert message.startswith("odd.yaml: ") or text.startswith("a: [[")
    assert "\n" not in message


def test_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="a device or pipe"):
        Prompts.load(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="a folder"):
        Prompts.load(tmp_path)
    with pytest.raises(UserError):
        recipes.find(str(tmp_path / "pipe.yaml"))


def test_anchors_in_a_recipe_work(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &b {x: 1}\nother:\n  <<: *b\n  y: 2\n")
    assert read_yaml(tmp_path / "a.yaml", "a.yaml") == {"base": {"x": 1}, "other": {"x": 1, "y": 2}}
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml", "empty.yaml") is None
