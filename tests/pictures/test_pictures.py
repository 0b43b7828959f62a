"""Pictures are judged by eye; these tests hold what an eye would complain about first."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmalign.errors import UserError
from mmalign.pictures import confusion, retrieval_grid, save, similarity_matrix, training_curves
from mmalign.pictures.figures import BLUE, MAX_PIXELS, VERMILION, label, new_figure
from mmalign.registry import load

LONG = "a man riding a wave on top of a surfboard in the ocean, seen from far away on a cloudy afternoon"


def assert_readable(figure: Figure) -> None:
    """No text leaves the figure, and the names along an axis do not run into each other."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.02, drawn
    assert drawn.x1 < width + 0.02, (drawn, width)
    assert drawn.y1 < height + 0.02, (drawn, height)
    for axes in figure.axes:
        boxes = sorted((t.get_window_extent() for t in axes.get_yticklabels() if t.get_text()), key=lambda b: b.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
        names = [t for t in axes.get_xticklabels() if t.get_text()]
        anchors = [axes.transData.transform((t.get_position()[0], 0))[0] for t in names]
        # Slanted names touch when they stand closer than their height.
        size = names[0].get_fontsize() * figure.dpi / 72 if names else 0
        assert all(b - a >= size * 0.9 for a, b in pairwise(anchors))


@pytest.mark.parametrize("count", [1, 3, 24, 60, 200])
def test_similarity_with_a_name_each(count: int) -> None:
    scores = torch.randn(count, count)
    figure = similarity_matrix(scores, [f"{LONG} {i}" for i in range(count)], [f"b {i}" for i in range(count)],
                               side_a="left", side_b="right", title=LONG, relevant=torch.eye(count) > 0)  # fmt: skip
    assert_readable(figure)
    axes, bar = figure.axes
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == ("left", "right", "score")
    np.testing.assert_array_equal(axes.images[0].get_array(), scores.numpy())


def test_blocks_of_one_label_have_one_name() -> None:
    names = ["eight"] * 5 + ["five"] * 3 + ["four"] * 4
    figure = similarity_matrix(torch.randn(12, 12), names, names)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["eight", "five", "four"]
    assert list(axes.get_yticks()) == [2, 6, 9.5]
    assert sorted(line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1) == [4.5, 7.5]


def test_the_best_items_are_marked() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]])
    right = torch.tensor([[1, 0], [0, 1], [0, 1]]) > 0
    axes = similarity_matrix(scores, list("xyz"), list("pq"), relevant=right).axes[0]
    marked = {str(dots.get_label()): dots.get_offsets().tolist() for dots in axes.collections}
    assert marked == {"best, right": [[0, 0], [1, 2]], "best, wrong": [[0, 1]]}


def test_similarity_errors() -> None:
    with pytest.raises(UserError, match="labels for scores of 2 x 3"):
        similarity_matrix(torch.zeros(2, 3), ["a"], ["b"])
    with pytest.raises(UserError, match="take a part"):
        similarity_matrix(torch.zeros(2001, 1), ["a"] * 2001, ["b"])
    with pytest.raises(UserError, match="take a part"):
        similarity_matrix(torch.zeros(0, 0), [], [])


@pytest.mark.parametrize("count", [2, 10, 20, 45, 130])
def test_confusion(count: int) -> None:
    counts = torch.randint(0, 4, (count, count)) + 20 * torch.eye(count, dtype=torch.long)
    counts[-1] = 0  # a class without samples
    names = [f"class {i} with a rather long name" for i in range(count)]
    figure = confusion(counts, names, title="Zero-shot")
    assert_readable(figure)
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn[:-1].sum(axis=1), 100)
    np.testing.assert_allclose(drawn[-1], 0)
    if count <= 20:
        assert f"({int(counts[0].sum())})" in figure.axes[0].get_yticklabels()[0].get_text()


def test_confusion_needs_one_name_per_class() -> None:
    with pytest.raises(UserError, match="counts of 3 x 3"):
        confusion(torch.zeros(2, 2), ["a", "b", "c"])


def test_grid_drawn_by_modalities() -> None:
    image, text = load("modalities", "image"), load("modalities", "text")
    pictures = [(np.random.default_rng(i).random((9, 12, 3)) * 255).astype(np.uint8) for i in range(3)]
    captions = ["one $5 dog", LONG, LONG * 4, "b", "c", "d"]
    figure = retrieval_grid(pictures[:2], [captions[:3], captions[3:]], scores=torch.tensor([[0.9, 0.5, -0.1]] * 2),
                            relevant=torch.tensor([[1, 0, 0], [0, 0, 1]]) > 0, draw_query=image.picture,
                            draw_answer=text.picture, title="left to right")  # fmt: skip
    assert_readable(figure)
    assert len(figure.axes) == 8
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["query", "1.  0.90  ✓", "2.  0.50  ✗"]
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes[1:3]]
    for frame, colour in zip(frames, (BLUE, VERMILION), strict=True):
        np.testing.assert_allclose(frame[:3], [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], atol=1e-6)
    for axes in figure.axes:  # words stay in their cell
        for word in axes.texts:
            box, cell = word.get_window_extent(), axes.get_window_extent()
            assert box.x0 >= cell.x0 - 1
            assert box.x1 <= cell.x1 + 1


def test_grid_errors() -> None:
    nothing = {"draw_query": lambda sample, axes: None, "draw_answer": lambda sample, axes: None}
    with pytest.raises(UserError, match="2 queries with 3 results"):
        retrieval_grid([0, 1], [[0, 1, 2], [0]], scores=torch.zeros(2, 3), relevant=torch.zeros(2, 3) > 0, **nothing)
    with pytest.raises(UserError, match="at most 400 cells"):
        retrieval_grid([0] * 50, [[0] * 9] * 50, scores=torch.zeros(50, 9), relevant=torch.zeros(50, 9) > 0, **nothing)


LOG = """epoch,step,train/loss,val/loss,train/a_b/loss,train/a_b/scale,note
0,9,3.5,,3.5,14.2,start
0,10,,3.4,,,
1,19,2.5,,2.5,nan,
"""


def test_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(LOG)
    figure = training_curves(tmp_path / "metrics.csv", title="run")
    assert_readable(figure)
    loss, scale = figure.axes
    assert (loss.get_title(), scale.get_title(), loss.get_xlabel()) == ("loss", "scale", "step")
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines}
    assert lines == {"train/loss": ([9, 19], [3.5, 2.5]), "val/loss": ([10], [3.4])}  # the pair's loss is the loss


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a column step or epoch"),
        ("a,b\n1,2\n", "a column step or epoch, got a, b"),
        ("step,loss\n", "no number to draw"),
        ("step,loss\n1,nan\n2,inf\n3,\n", "no number to draw"),
        (b"\xff\xfe\x00\x01", "expected a CSV log"),
        (None, "expected a CSV log"),
    ],
)
def test_curves_errors(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        training_curves(tmp_path / "m.csv")


def test_save_is_bounded(tmp_path: Path) -> None:
    figure = new_figure(100, 2)
    save(figure, tmp_path / "new" / "wide.png", dpi=600)
    with Image.open(tmp_path / "new" / "wide.png") as picture:
        assert max(picture.size) == MAX_PIXELS
    with pytest.raises(UserError, match=r"\.png, \.pdf, \.svg"):
        save(figure, tmp_path / "a.jpg")
    with pytest.raises(UserError, match="dpi: expected 50 to 600"):
        save(figure, tmp_path / "a.png", dpi=10_000)


def test_labels_in_any_script_are_drawn_literally(tmp_path: Path) -> None:
    """Dollars are no mathematics; letters that the font lacks are boxes, without a warning."""
    names = ["$x^2_ costs $5", "犬の写真", "\\frac{", "नमस्ते", "a\nb"]
    for ending in (".png", ".svg", ".pdf"):
        save(similarity_matrix(torch.rand(5, 5), names, names, title="$ and 犬"), tmp_path / f"a{ending}", dpi=50)
        assert (tmp_path / f"a{ending}").stat().st_size > 1000
    assert label("$5 and\n  $6") == r"\$5 and \$6"


def test_no_window_is_opened(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from mmalign.pictures import save, similarity_matrix\n"
        f"save(similarity_matrix(torch.eye(2), ['a', 'b'], ['a', 'b']), {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_grid_with_names_and_no_judgement() -> None:
    text = load("modalities", "text")
    names = [["CHEBI:1", "x" * 90]]
    figure = retrieval_grid(["a"], [["b", "c"]], scores=torch.tensor([[0.9, 0.5]]), relevant=None,
                            names=names, draw_query=text.picture, draw_answer=text.picture)  # fmt: skip
    assert_readable(figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["query", "1.  0.90\nCHEBI:1"]
    assert len(titles[2]) < 40
    with pytest.raises(UserError, match="1 queries with 2 results"):
        retrieval_grid(["a"], [["b", "c"]], scores=torch.zeros(1, 2), relevant=None, names=[["one"]],
                       draw_query=text.picture, draw_answer=text.picture)  # fmt: skip


def test_grid_of_ten_results_has_two_lines() -> None:
    text = load("modalities", "text")
    figure = retrieval_grid(["a", "b"], [list("cdefghijkl")] * 2, scores=torch.rand(2, 10), relevant=None,
                            draw_query=text.picture, draw_answer=text.picture)  # fmt: skip
    assert_readable(figure)
    shown = [axes.get_subplotspec() for axes in figure.axes]
    places = [(one.rowspan.start, one.colspan.start) for one in shown]
    assert places[:11] == [(0, 0), *((0, c) for c in range(1, 6)), *((1, c) for c in range(1, 6))]
    assert places[11] == (2, 0)
