"""Text of files on the terminal: no escape sequence, no forged line, in no command."""

import json
import unicodedata
from pathlib import Path

import pytest

from mmalign.cli import main
from mmalign.errors import BadSample, UserError
from mmalign.safe_io.printable import printable

EVIL = "\x1b[2J\x1b]0;OWNED\x07\nmmalign: all good\u202e"


def test_no_control_characters_are_left() -> None:
    for number in range(0x110000):
        letter = chr(number)
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(letter) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        ):  # fmt: skip
            assert printable(letter).isascii(), hex(number)
            assert printable(letter).isprintable(), hex(number)


@pytest.mark.parametrize("text", ["plain", "é ß 中文　", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "a\\nb", "\u00a0"])
def test_letters_of_all_scripts_are_unchanged(text: str) -> None:
    assert printable(text) == text


def test_errors_are_one_line_and_keep_their_parts() -> None:
    error = BadSample(EVIL, "a", EVIL)
    assert str(error).isprintable()
    assert error.source == EVIL
    assert str(UserError(EVIL)).isprintable()


def test_check_prints_no_control_characters(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Names, captions and labels; `--json` keeps them as they are."""
    rows = [{"image": f"{EVIL}.png", "text": "x", "label": EVIL}]
    rows += [{"image": f"{number}.png", "text": f"{EVIL} {number % 2}", "label": EVIL} for number in range(3)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    flags = {"source": "manifest", "manifest": tmp_path / "t.jsonl", "files": tmp_path, "columns.image": "image"}
    flags |= {"columns.text": "text", "columns.label": "label"}
    code = main(["check", *(f"--data.{key}={value}" for key, value in flags.items()), f"--json={tmp_path / 'r.json'}"])
    out, err = capfd.readouterr()
    assert code == 1, err
    assert "OWNED" in out
    assert "\\x1b[2J" in out
    assert not any(ord(letter) < 32 and letter != "\n" for letter in out + err)
    assert "\u202e" not in out + err
    assert not any(line.startswith("mmalign: all good") for line in (out + err).splitlines())
    assert EVIL in json.loads((tmp_path / "r.json").read_text())["labels"]


def test_a_command_prints_no_control_characters_of_its_arguments(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"{EVIL}/run"]) == 2
    assert main(["train", f"{EVIL}.yaml"]) == 2
    _, err = capfd.readouterr()
    assert len(err.splitlines()) == 2
    assert not any(ord(letter) < 32 and letter != "\n" for letter in err)
