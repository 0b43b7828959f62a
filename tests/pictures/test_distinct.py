"""Labels that tell samples apart."""

import numpy as np
import pytest
import torch

from mmalign.pictures import similarity_matrix
from mmalign.pictures.distinct import distinct_labels, shorten
from mmalign.pictures.figures import label
from mmalign.pictures.matrices import colour_scale
from tests.pictures.test_pictures import assert_readable

SMILES = ["CC(C)CCCCCCCCCCCCCCCCCCCCCCCC(=O)O", "CC(C)CCCCCCCCCCCCCCCCCCCCCCCC(=O)N", "C[C@H](N)C(=O)O"]
TEXTS = [f"The molecule is a member of the class of {kind}, which is a conjugate base" for kind in ("acids", "amines")]


def test_long_words_keep_their_ends() -> None:
    labels, common = distinct_labels(SMILES, ["a", "b", "c"])
    assert len(set(labels)) == 3
    assert common == ""
    assert all(len(one) <= 26 for one in labels)
    assert labels[0].startswith("CC(C)")
    assert labels[0].endswith("(=O)O")
    assert label("C" * 99).count("C") == 31


def test_a_common_beginning_is_named_once() -> None:
    labels, common = distinct_labels(TEXTS, ["a", "b"])
    assert common == "The molecule is a member of the class of"
    assert [one.split(",")[0] for one in labels] == ["… acids", "… amines"]


def test_texts_that_stay_equal_are_named_by_their_ids() -> None:
    same = ["a very long beginning " * 3 + end for end in ("one", "two")]
    assert distinct_labels([*same, "other"], ["x:1", "x:2", "x:3"])[0] == ["x:1", "x:2", "other"]
    # Equal texts have equal labels: they are the same content.
    assert distinct_labels(["a cat", "a cat", "a dog"], ["x", "y", "z"])[0] == ["a cat", "a cat", "a dog"]


@pytest.mark.parametrize("width", range(5, 40))
def test_labels_fit(width: int) -> None:
    for text in (*SMILES, *TEXTS, "a", "", "two words"):
        assert len(shorten(text, width)) <= width


def test_scores_with_a_sign_are_centred() -> None:
    scores = torch.tensor([[0.8, -0.1], [0.2, 0.4]])
    image = similarity_matrix(scores, ["a", "b"], ["a", "b"]).axes[0].images[0]
    assert image.norm(0.0) == pytest.approx(0.5)
    assert (image.norm.vmin, image.norm.vmax) == pytest.approx((-0.8, 0.8))
    assert "cmap" in colour_scale(-scores.abs())
    assert "vmin" not in colour_scale(scores.abs())
    assert "vmin" not in colour_scale(-scores.abs())


@pytest.mark.parametrize("count", [2, 24])
def test_thumbnails_stand_beside_their_rows(count: int) -> None:
    def draw(index: int) -> object:
        return lambda axes: axes.imshow(np.full((3, 3), index), vmin=0, vmax=count)

    pictures = [draw(index) for index in range(count)]
    figure = similarity_matrix(
        torch.randn(count, count), [f"id {i}" for i in range(count)], [f"b {i}" for i in range(count)],
        side_a="left", side_b="right", thumbnails_a=pictures,
    )  # fmt: skip
    assert_readable(figure)
    axes = figure.axes[0]
    insets = [one for one in axes.child_axes if one.get_label() == "thumbnail"]
    assert len(insets) == count
    matrix, boxes = axes.get_window_extent(), [one.get_window_extent() for one in insets]
    assert all(box.x1 <= matrix.x0 + 1 for box in boxes)
    for index, box in enumerate(boxes):  # beside its row
        assert axes.transData.inverted().transform((0, (box.y0 + box.y1) / 2))[1] == pytest.approx(index, abs=0.05)
    label_box = axes.yaxis.label.get_window_extent()
    assert label_box.x1 <= min(box.x0 for box in boxes) + 1
