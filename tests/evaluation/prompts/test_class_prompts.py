"""The prompts file: what it may hold, its hash, what it says when it is wrong."""

from pathlib import Path

import pytest

from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.safe_io.safe_yaml import MAX_BYTES


def load(tmp_path: Path, text: str | bytes) -> Prompts:
    path = tmp_path / "prompts.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Prompts.load(path)


GOOD = """
templates: ["a photo of a {}.", "{}, seen by {}"]
classes:
  dog: [dog, puppy]
  cat: cat
"""


def test_texts_are_templates_by_classes(tmp_path: Path) -> None:
    prompts = load(tmp_path, GOOD)
    assert prompts.texts("dog") == [
        "a photo of a dog.",
        "a photo of a puppy.",
        "dog, seen by dog",
        "puppy, seen by puppy",
    ]
    assert prompts.texts("cat") == ["a photo of a cat.", "cat, seen by cat"]
    assert prompts.names(["cat"]) == ["dog", "cat"]


def test_without_a_file_a_class_is_its_own_text() -> None:
    assert Prompts().names(["b", "a", "b"]) == ["a", "b"]
    assert Prompts().texts("a {odd} {0.__class__} name") == ["a {odd} {0.__class__} name"]


def test_templates_alone_and_classes_alone(tmp_path: Path) -> None:
    assert load(tmp_path, "templates: 'a {}'").texts("b") == ["a b"]
    assert load(tmp_path, "classes: {b: bee}").texts("b") == ["bee"]


def test_hash_is_of_the_content(tmp_path: Path) -> None:
    first = load(tmp_path, GOOD).hash
    assert load(tmp_path, "# a comment\n" + GOOD.replace("cat: cat", "cat: ['cat']")).hash == first
    assert load(tmp_path, GOOD.replace("puppy", "pup")).hash != first
    swapped = Prompts(classes={"b": ("x",), "a": ("y",)}), Prompts(classes={"a": ("y",), "b": ("x",)})
    assert swapped[0].hash != swapped[1].hash  # the order of classes decides ties' columns and pictures
    assert len(first) == 64


def test_a_class_missing_from_the_prompt_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="class 'dgo' that is not in the file; did you mean 'dog'"):
        load(tmp_path, GOOD).names(["cat", "dgo"])


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(24)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: ['a dog']", "expected {} in every template"),
        ("templates: []", "at least one template"),
        ("templates: {a: b}", "templates: expected text, got a dict"),
        ("templates: [[a]]", "templates: expected text, got a list"),
        ("classes: [a, b]", "expected classes as"),
        ("classes: {no: nothing}", "quote no, yes and numbers"),
        ("classes: {a: 3}", "class 'a': expected text, got a int"),
        ("classes: {a: []}", "class 'a' has no text"),
        ("classes: {a: ' '}", "class 'a' has no text"),
        ("template: ['{}']", "unknown key 'template'; did you mean 'templates'"),
        ("- a\n- b", "got a list"),
        ("", "got a NoneType"),
        ("a: [", "not a YAML file"),
        ("!!python/object/apply:os.system ['true']", "not a YAML file"),
        (b"\xff\xfe\x00", "not a YAML file"),
        ("[" * 20_000, "not a YAML file"),
        ("x" * (MAX_BYTES + 1), "at most"),
        (BOMB + "\ntemplates: *y\n", "aliases that expand to more"),
        ("classes: {a: &a ['{}', *a]}", "aliases that expand to more"),
    ],
)  # fmt: skip
def test_problems_are_reported_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "prompts" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        Prompts.load(tmp_path / "none.yaml")
