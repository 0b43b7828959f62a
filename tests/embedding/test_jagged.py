"""Tokens without padding: what goes in comes out, and scores do not know the difference."""

import pytest
import torch
from torch.nn import functional as F

from mmalign.embedding.jagged import TILE, JaggedTokens, keep, pack, tiles_of
from mmalign.embedding.scoring import score_blocks
from mmalign.objectives.late_interaction import LateInteractionObjective
from mmalign.types import Embedding, Tokens


def side(count: int, longest: int, seed: int, *, dim: int = 4) -> Embedding:
    """Samples of 1 to `longest` tokens, with rubbish where the mask is False."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=draw)
    values = F.normalize(torch.randn(count, longest, dim, generator=draw), dim=2)
    mask = torch.arange(longest) < lengths[:, None]
    values[~mask] = 99.0
    return Embedding(F.normalize(values.sum(1), dim=1), tokens=Tokens(values, mask), tower="x")


def cut(whole: Embedding, size: int) -> list[Embedding]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@pytest.mark.parametrize("size", [1, 3, 20])
def test_rows_of_jagged_tokens_equal_the_padded_originals(size: int) -> None:
    whole = side(20, 5, 0)
    packed = pack(cut(whole, size))
    assert isinstance(packed.tokens, JaggedTokens)
    assert whole.tokens is not None
    for rows in (slice(3, 9), torch.tensor([7, 2, 2]), slice(0, 0), slice(None)):
        got, expected = packed[rows], whole[rows]
        assert got.tokens is not None
        assert expected.tokens is not None
        length = got.tokens.mask.shape[1]
        torch.testing.assert_close(got.tokens.mask, expected.tokens.mask[:, :length])
        assert not expected.tokens.mask[:, length:].any()
        real = expected.tokens.mask[:, :length, None]
        torch.testing.assert_close(got.tokens.values, torch.where(real, expected.tokens.values[:, :length], 0.0))
        torch.testing.assert_close(got.vector, expected.vector)
    assert packed.tokens.values.shape == (int(whole.tokens.mask.sum()), 4)  # no padding is held


def test_selected_rows_stay_jagged() -> None:
    whole = side(9, 4, 1)
    rows = torch.tensor([True, False, True, True, False, False, True, False, True])
    kept = keep(pack([whole]), rows)
    assert isinstance(kept.tokens, JaggedTokens)
    for got, expected in zip(kept[:].tokens.values, pack([whole[rows]])[:].tokens.values, strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(kept.vector, whole.vector[rows])


def test_parts_and_holes_in_the_mask() -> None:
    tokens = Tokens(torch.arange(6.0).view(1, 3, 2), torch.tensor([[True, False, True]]))
    packed = pack([Embedding(torch.zeros(1, 2), parts=tokens)])
    assert packed.tokens is None
    assert packed[:].parts.values.tolist() == [[[0, 1], [4, 5]]]  # type: ignore[union-attr]


def test_vectors_only() -> None:
    whole = side(5, 3, 2)
    packed = pack(cut(whole, 2), vectors_only=True)
    assert (packed.tokens, packed.tower) == (None, "x")
    torch.testing.assert_close(packed.vector, whole.vector)


def test_scores_of_a_packed_gallery() -> None:
    """More samples than one tile, walked in the order of their lengths: every score is where it belongs."""
    queries, gallery = side(11, 6, 3), side(2 * TILE + 40, 7, 4)
    score = LateInteractionObjective().similarity
    expected = score(queries, gallery)
    for pairs in (40, 700, 2**20):
        packed = score_blocks(pack([queries]), pack(cut(gallery, 100)), score=score, pairs=pairs)
        torch.testing.assert_close(torch.cat([block for _, block in packed]), expected)


def test_a_tile_is_never_wider_than_asked() -> None:
    gallery = pack([side(TILE + 5, 3, 5)])
    for most in (1, 7, 10_000):
        tiles = tiles_of(gallery, most)
        assert max(len(gallery[tile]) for tile in tiles) <= min(most, TILE)
        assert sorted(row for tile in tiles for row in tile.tolist()) == list(range(TILE + 5))
