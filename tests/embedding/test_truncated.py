"""Truncated vectors in use: embed, search, evaluate; and what a bundle says of the trained sizes."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import mmalign
from mmalign.data.dataset import Dataset
from mmalign.embedding.truncated import trained_sizes, truncated_vectors
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.known_space import DIM

SIZE = 3


@pytest.fixture(scope="module")
def nested() -> Aligner:
    """Two towers that pass unit vectors through, trained at 8, 5 and 3 numbers."""
    vector = {"modality": "vector", "args": {"width": DIM}, "head": "identity"}
    towers = {name: TowerConfig(**vector) for name in ("left", "right", "tokens")}
    pairs = [
        PairConfig("left", "right", dims=[SIZE, 5]),
        PairConfig("left", "tokens", "transport"),
        PairConfig("right", "tokens", dims=[2]),
    ]
    return Aligner(towers, pairs, DIM, fit_transforms(towers, {name: [] for name in towers}))


def rows(count: int = 12) -> list[dict[str, object]]:
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(count, DIM, generator=draw)
    right = left + torch.randn(count, DIM, generator=draw)
    return [{"id": str(i), "left": left[i].tolist(), "right": right[i].tolist()} for i in range(count)]


def test_embeddings_are_the_first_numbers_renormalised(nested: Aligner) -> None:
    values = torch.randn(4, DIM)
    full = nested.encode("left", values.tolist()).vector
    with truncated_vectors(nested, SIZE, ("left", "right")):
        short = nested.encode("left", values.tolist()).vector
        assert nested.encode("left", []).vector.shape == (0, SIZE)
        with pytest.raises(RuntimeError, match="in the context"), truncated_vectors(nested, 5, ("left",)):
            raise RuntimeError("in the context")
    assert_close(short, F.normalize(full[:, :SIZE], dim=1))
    assert_close(nested.encode("left", values.tolist()).vector, full, rtol=0, atol=0)


def test_an_untrained_size_gives_a_warning(nested: Aligner, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mmalign"), truncated_vectors(nested, SIZE, ("left", "right")):
        assert not caplog.records
    with caplog.at_level(logging.WARNING, "mmalign"), truncated_vectors(nested, 4, ("left", "right")):
        assert "truncated to 4 numbers; this model was trained with 8, 5, 3" in caplog.text
    assert trained_sizes(nested, ("right",)) == [8, 5, 3, 2]


def test_sizes_that_the_vectors_or_the_score_lack_are_refused(nested: Aligner) -> None:
    for size in (0, DIM + 1):
        with pytest.raises(UserError, match="from 1 to 8"), truncated_vectors(nested, size, ("left",)):
            pass
    match = "reads more than vectors"
    with pytest.raises(UserError, match=match), truncated_vectors(nested, SIZE, ("left", "tokens")):
        pass


def test_a_table_of_short_vectors_is_searched_by_short_queries(
    nested: Aligner, paired: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = paired(rows())
    table = mmalign.embed(nested, data, "right", split="test", dims=SIZE)
    assert table.embedding.vector.shape == (12, SIZE)
    table.write(tmp_path / "short.parquet")
    query = [1.0, -2.0, 0.5, *[9.0] * 5]
    hits = mmalign.search(nested, [query], tower="left", index=tmp_path / "short.parquet", k=12).hits[0]
    expected = F.normalize(torch.tensor([query[:SIZE]]), dim=1) @ table.embedding.vector.T
    assert_close(torch.tensor([hit.score for hit in hits]), expected[0].sort(descending=True).values)


def test_evaluation_of_a_size_equals_that_of_truncated_data(nested: Aligner, paired: Callable[..., Dataset]) -> None:
    def hits(values: list[dict[str, object]], **settings: int) -> tuple[object, dict[str, object]]:
        result = mmalign.evaluate(
            nested, paired(values), "retrieval", pair=("left", "right"), split="test", bootstrap=0, **settings
        )
        return result.scores, result.provenance["protocol"]

    zeroed = [
        {**row, **{side: [*row[side][:SIZE], *[0.0] * (DIM - SIZE)] for side in ("left", "right")}} for row in rows()
    ]
    short, protocol = hits(rows(), dims=SIZE)
    assert short == hits(zeroed)[0]
    assert short != hits(rows())[0]
    assert protocol["dims"] == "3 of 8 numbers of each vector (a trained size)"
    assert hits(rows(), dims=4)[1]["dims"] == "4 of 8 numbers of each vector (trained: 8, 5, 3)"
    with pytest.raises(UserError, match="leave --ensemble out"):
        mmalign.evaluate(nested, paired(rows()), pair=("left", "right"), split="test", dims=SIZE, ensemble=[nested])


def test_a_bundle_says_which_sizes_were_trained(nested: Aligner, tmp_path: Path) -> None:
    folder = mmalign.save(nested, tmp_path / "bundle")
    assert "left-right (clip; also trained on the first 3, 5 numbers)" in (folder / "README.md").read_text()
    assert trained_sizes(mmalign.load(folder), ("left", "right")) == [8, 5, 3]
