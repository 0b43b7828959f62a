"""The report: one file without scripts and requests, every string escaped, every thumbnail drawn by its modality."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import mmalign
from mmalign.cli import main
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.reporting.blocks import Cell, Gallery, Page, Table, Text, Word
from mmalign.reporting.report import PAGES, render

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x.png onerror=alert(2)> & \"'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Document(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write_run(folder: Path, model: Aligner, columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> Path:
    """A run folder: bundle, recipe, log, rejected records and table."""
    mmalign.save(model, folder / "bundle", provenance={"recipe": "a/recipe", "command": f"mmalign train {HOSTILE}"})
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "rows.parquet")
    data = {"manifest": str(folder / "rows.parquet"), "columns": columns, "positives": "record"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    (folder / "logs" / "version_0").mkdir(parents=True)
    (folder / "logs" / "version_0" / "metrics.csv").write_text("step,epoch,train/loss\n1,0,2.0\n2,1,1.5\n")
    rejected = {"kind": "bad sample", "location": "rows:3", "tower": "left", "reason": HOSTILE}
    (folder / "rejected.jsonl").write_text(json.dumps(rejected) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(model: Aligner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors and captions of two classes; captions and one class are HTML."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("report")
    rows = [
        {"id": f"secret-{k}", "left": rng.standard_normal(8).tolist(), "words": f"{HOSTILE} {k}",
         "label": ("two cats", HOSTILE)[k % 2], "split": ("train", "validation")[k % 2 if k < 20 else 1]}
        for k in range(40)
    ]  # fmt: skip
    return write_run(folder, model, {"left": "left", "words": "words"}, rows)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    file = mmalign.report(run, run / "report.html", pair=("left", "words"), bootstrap=20)
    return file.read_text(encoding="utf-8")


def test_report_has_every_applicable_page(page: str) -> None:
    sections = [attrs["id"] for tag, attrs in Document(page).tags if tag == "section"]
    assert sections == [name for name in PAGES if name not in ("codes", "correspondence")]
    for said in ("Logged values by step", "bad sample", "mrr", "chance", "modality gap", "mmalign train"):
        assert said in page


def test_foreign_text_is_escaped_and_nothing_is_requested(page: str) -> None:
    document = Document(page)
    allowed = """html head meta title style body header h1 h2 h3 p nav ul li a main section div table caption thead
        tbody tr th td pre code figure figcaption img details summary span"""
    assert {tag for tag, _ in document.tags} <= set(allowed.split())
    for tag, attrs in document.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert str(attrs.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,"), tag
        assert str(attrs.get("href", "#")).startswith("#")
    assert HOSTILE in document.text  # as text
    policy = [attrs["content"] for tag, attrs in document.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_report_does_not_contain_record_ids(page: str) -> None:
    assert "secret-" not in page.partition('<section id="retrieval">')[2]


def test_figures_have_an_alternative_text(page: str) -> None:
    images = [attrs for tag, attrs in Document(page).tags if tag == "img"]
    assert len(images) > 20
    assert all(attrs["alt"] for attrs in images)


def test_hits_and_misses_have_symbols_besides_colours(page: str) -> None:
    retrieval = page.partition('<section id="retrieval">')[2].partition("</section>")[0]
    assert retrieval.count('class="cell right"') == retrieval.count("✓</span>") > 0
    assert retrieval.count('class="cell wrong"') == retrieval.count("✗</span>") > 0


def test_pages_and_tasks_are_chosen(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run / "short.html"
    flags = ["--pages", "overview", "results", "--tasks", "retrieval", "--pair", "[left, words]", "--bootstrap", "0"]
    assert main(["report", str(run), "-o", str(out), *flags]) == 0
    assert f"written: {out}" in capsys.readouterr().out
    text = out.read_text()
    assert [attrs["id"] for tag, attrs in Document(text).tags if tag == "section"] == ["overview", "results"]
    assert "top1" not in text
    for wrong, message in ((["--pages", "reslts"], "did you mean 'results'"), (["--tasks", "probee"], "'probe'")):
        assert main(["report", str(run), "-o", str(out), *wrong]) == 2
        assert message in capsys.readouterr().err


def test_a_bundle_without_a_run_needs_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = shutil.copytree(run / "bundle", tmp_path / "alone")
    assert main(["report", str(bundle), "-o", str(tmp_path / "x.html")]) == 2
    assert "name the data with --data" in capsys.readouterr().err
    with pytest.raises(mmalign.UserError, match="name the data with --data"):
        mmalign.report(bundle, tmp_path / "x.html")
    data = mmalign.DataConfig(manifest=str(run / "rows.parquet"), columns={"left": "left", "words": "words"})
    options = {"pages": ["training", "data"], "tasks": ["geometry"], "pair": ("left", "words")}
    file = mmalign.report(bundle, tmp_path / "x.html", data, **options)
    assert [attrs["id"] for tag, attrs in Document(file.read_text()).tags if tag == "section"] == ["data"]


def test_blocks_are_escaped_everywhere() -> None:
    cell = Cell(text=HOSTILE, title=HOSTILE, caption=HOSTILE, mark="wrong")
    words = Cell(words=[Word(HOSTILE, 0.7)])
    blocks = [Text(HOSTILE), Text(HOSTILE, kind="small"), Table([HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE),
              Gallery([[cell, words]], HOSTILE, HOSTILE)]  # fmt: skip
    document = Document(render([Page("a", HOSTILE, blocks)], HOSTILE))
    assert "script" not in {tag for tag, _ in document.tags}
    assert document.text.count(HOSTILE) == 16


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two text towers with a codebook, so that words have codes."""
    torch.manual_seed(0)
    text = TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2})
    towers = {"left": text, "right": text}
    rows = [
        {"left": f"a {colour} disc", "right": f"the disc is {colour}", "split": "validation"}
        for colour in ("red", "blue", "green", "black") * 3
    ]
    sentences = {name: [row[name] for row in rows] * 5 for name in towers}
    model = Aligner(towers, [PairConfig("left", "right", "fdt")], 8, fit_transforms(towers, sentences))
    return write_run(tmp_path_factory.mktemp("coded"), model, {"left": "left", "right": "right"}, rows)


def test_pages_of_codes_and_correspondence_weigh_their_words(coded: Path) -> None:
    pages = ["codes", "correspondence"]
    file = mmalign.report(coded, coded / "report.html", pages=pages, tasks=["retrieval"], bootstrap=0)
    text = file.read_text(encoding="utf-8")
    document = Document(text)
    assert [attrs["id"] for tag, attrs in document.tags if tag == "section"] == ["codes", "correspondence"]
    weights = [str(attrs["style"]) for tag, attrs in document.tags if tag == "span" and "style" in attrs]
    assert "--w:1.00" in weights  # the word with the largest contribution
    assert len(set(weights)) >= 3


def chromium(url: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *flags, url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder, check=False)


def hosts(log: Path) -> set[str]:
    """Addresses in Chromium's log of the network."""
    text = log.read_text(errors="replace")
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the log of a process that has not closed it
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    params = [event.get("params") for event in events]
    return {str(one["url"]) for one in params if isinstance(one, dict) and "url" in one}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_browser_shows_and_prints_the_page_without_a_request(page: str, run: Path, tmp_path: Path) -> None:
    from PIL import Image

    for width in (1280, 390):
        shot, log = tmp_path / f"{width}.png", tmp_path / f"{width}.json"
        chromium(
            (run / "report.html").as_uri(), tmp_path, f"--window-size={width},3000", f"--screenshot={shot}",
            f"--log-net-log={log}",
        )  # fmt: skip
        with Image.open(shot) as image:
            assert image.width == width
            assert len(set(image.convert("L").resize((50, 100)).tobytes())) > 10  # not a blank page
        # Chromium's own requests go to Google.
        assert not [url for url in hosts(log) if not url.startswith(("file:", "data:")) and ".google" not in url]
    printed = tmp_path / "report.pdf"
    chromium((run / "report.html").as_uri(), tmp_path, f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF")
    # The log does show a request: of a page that has one.
    control, log = tmp_path / "control.html", tmp_path / "control.json"
    control.write_text("<img src='http://evil.example/x.png'>")
    chromium(control.as_uri(), tmp_path, f"--screenshot={tmp_path / 'control.png'}", f"--log-net-log={log}")
    assert any("evil.example" in url for url in hosts(log))
