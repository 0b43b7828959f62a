"""Every page is executed as its reader would: blocks in order, in an empty folder, by the installed commands.

The commands `python` and `mmalign` are forked; `pip` is the real one. A `text` block right after an `sh` block is its
output, of which `...` stands for other lines; numbers may differ.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNS = {"python", "sh"}
OUTPUT = re.compile(r"^```sh\n((?:(?!```).*\n)*)```\n\s*```text\n((?:(?!```).*\n)*)```$", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
SCORE = re.compile(r"(?:top1|hit@\d+)\W+(\d\.\d+)")
SPREAD = 0.2
"""Difference of a score between machines that compute with other instructions."""
TRANSCRIPTS = ["start", "molecules", "your-data"]


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, title, code) of every fenced block."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def program(page: Path) -> str:
    """The page as one shell script: titled blocks are files, python blocks (each standing alone) and sh blocks run."""
    lines = ["set -euo pipefail"]
    for number, (language, title, code) in enumerate(blocks(page)):
        if title:
            lines.append(f"mkdir -p {Path(title).parent}\ncat > {title} <<'END_OF_FILE'\n{code}END_OF_FILE")
        elif language == "python":
            lines.append(f"cat > block{number}.py <<'END_OF_FILE'\n{code}END_OF_FILE\npython block{number}.py")
        elif language == "sh":
            lines.append(f"{code}\necho {mark(code)}")
    return "\n".join(lines)


def mark(code: str) -> str:
    """A line that is printed after the output of a block."""
    return f"end-of-{hashlib.sha256(code.encode()).hexdigest()[:16]}"


def masked(line: str) -> str:
    """A line without its numbers, and with single blanks."""
    return " ".join(NUMBER.sub("#", line).split())


def misquoted(shown: str, printed: str) -> list[str]:
    """The lines that the output does not have in this order, and those whose scores differ by more than `SPREAD`."""
    wrong, rest = [], printed.splitlines()
    for line in shown.splitlines():
        if not line.strip() or line.strip() == "...":
            continue
        wanted = masked(line.removesuffix("..."))
        matches = [masked(one).startswith(wanted) if line.endswith("...") else masked(one) == wanted for one in rest]
        if not any(matches):
            wrong.append(line)
            continue
        same = rest[matches.index(True)]
        rest = rest[matches.index(True) + 1 :]
        pairs = zip(SCORE.findall(line), SCORE.findall(same), strict=False)
        wrong += [f"{line} (printed: {same})" for one, other in pairs if abs(float(one) - float(other)) > SPREAD]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, forked_python: Path, tmp_path: Path) -> None:
    if not any(language in RUNS for language, _, _ in blocks(page)):
        pytest.skip("no code on this page")
    site = tmp_path / "site"
    environment = os.environ | {
        "PATH": os.pathsep.join([str(forked_python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        # `pip install ./folder` on a page installs for that page alone, offline.
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this flag inverted: 0 means no isolation
        "PYTHONPATH": str(site),
    }
    work = tmp_path / "work"
    work.mkdir()
    ran = subprocess.run(
        ["bash", "-c", program(page)], cwd=work, env=environment, capture_output=True, text=True, timeout=280
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    outputs = OUTPUT.findall(page.read_text(encoding="utf-8"))
    assert outputs or page.stem not in TRANSCRIPTS
    for code, shown in outputs:
        before, _, _ = ran.stdout.partition(mark(code))
        printed = re.split(r"^end-of-\w+$", before, flags=re.MULTILINE)[-1]
        assert misquoted(shown, printed) == [], printed


def test_quotes_that_differ_are_found() -> None:
    printed = "12 rows\nepoch 1/2  loss 3.4  lr 1e-3\n| top1 | 0.80  [0.7, 0.9] |\n"
    assert misquoted("12 rows\n...\nepoch 2/2  loss 1.0 ...\n| top1 | 0.75 [0.6, 0.9] |\n", printed) == []
    assert misquoted("epoch 1/2\n", printed) == ["epoch 1/2"]
    assert misquoted("| top1 | 0.5 [0.7, 0.9] |\n", printed) == [
        "| top1 | 0.5 [0.7, 0.9] | (printed: | top1 | 0.80  [0.7, 0.9] |)"
    ]
    assert misquoted("| top1 | 0.8 [0.7, 0.9] |\n12 rows\n", printed) == ["12 rows"]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_first_section_has_at_most_ten_commands(name: str) -> None:
    """From the clone to a score and a picture: the page's first section."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    first = text.split("\n## ")[1]
    found = BLOCK.findall(first)
    commands = [
        line
        for language, _, code in found
        for line in code.splitlines()
        if line.startswith(("git ", "make ", "source ", "python ", "mmalign "))
    ]
    assert commands[0].startswith("git clone")
    assert len(commands) <= 10
    assert any("mmalign train" in line for line in commands)
    assert SCORE.search(first)
    assert "drawn: " in first


def test_make_targets_in_readme_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", pages, re.MULTILINE))
    assert named
    assert named <= targets


def test_every_fence_is_known() -> None:
    """A block in an unknown language would be skipped unnoticed."""
    for page in PAGES:
        opened = re.findall(r"^```(\S*)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {name for name in opened if name} <= RUNS | {"text", "toml", "yaml", "json"}, page


def test_links_between_pages_resolve() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_the_site_builds(tmp_path: Path) -> None:
    """Every page and every object that the API page names; a warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    # Not --quiet, which hides warnings from --strict as well.
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    assert "mmalign.bundles.bundle.load" in (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
