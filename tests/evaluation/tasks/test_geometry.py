"""Geometry of known vectors: a planted offset is found and removed; records with one tower are left out."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.geometry import Geometry
from mmalign.model import Aligner

Make = Callable[..., Dataset]
PAIR = ("left", "right")


def shifted(count: int = 40) -> list[dict[str, Any]]:
    """Equal vectors of six dimensions, and a seventh that is positive on one side and negative on the other."""
    generator = torch.Generator().manual_seed(2)
    content = torch.nn.functional.normalize(torch.randn(count, 6, generator=generator), dim=1)
    rows = []
    for index, row in enumerate(content):
        sides = {
            side: torch.nn.functional.normalize(torch.cat([row, torch.tensor([height, 0.0])]), dim=0).tolist()
            for side, height in (("left", 3.0), ("right", -3.0))
        }
        rows.append({"id": f"r{index}", **sides})
    return rows


def test_a_planted_offset_is_the_gap_and_centring_removes_it(model: Aligner, paired: Make, tmp_path: Path) -> None:
    result = evaluate(model, paired(shifted()), "geometry", pair=PAIR, split="test", bootstrap=100)
    trained, centred = (result.scores["space"][row] for row in ("as trained", "centred"))
    assert trained["modality_gap"] == pytest.approx(6 / math.sqrt(10), rel=1e-5)
    assert trained["alignment"] == pytest.approx(3.6, rel=1e-5)
    assert trained["gap_share"] == pytest.approx(1, abs=1e-6)
    assert centred["modality_gap"] == pytest.approx(0, abs=1e-2)  # means of vectors that have length 1 again
    assert centred["alignment"] == pytest.approx(0, abs=1e-2)
    assert centred["left_to_right_hit@1"] == 1
    low, high = trained["alignment_ci"]
    assert low <= trained["alignment"] <= high
    assert result.scores["n"] == 40
    towers = result.scores["towers"]
    assert list(towers) == ["left, as trained", "right, as trained", "left, centred", "right, centred"]
    assert towers["left, as trained"]["isotropy"] < 0.2 < towers["left, centred"]["isotropy"]
    assert towers["left, as trained"]["effective_rank"] < 3 < towers["left, centred"]["effective_rank"]
    json.dumps(result.to_json(), allow_nan=False)
    result.show()
    result.draw(tmp_path / "space.png")
    assert (tmp_path / "space.png").stat().st_size > 10_000


def test_figures_are_those_of_the_vectors(model: Aligner, paired: Make, random_rows: Make) -> None:
    rows = random_rows(30, noise=0.8)
    result = evaluate(model, paired(rows), Geometry(neighbours=4), pair=PAIR, split="test", bootstrap=0)
    a, b = (np.array([row[side] for row in rows]) for side in PAIR)
    cosines = a @ b.T
    hits = [cosines[i, i] > max(cosines[i, j] for j in range(30) if j != i) for i in range(30)]
    assert result.scores["space"]["as trained"]["left_to_right_hit@1"] == np.mean(hits)
    assert result.scores["space"]["as trained"]["alignment"] == pytest.approx(((a - b) ** 2).sum() / 30, rel=1e-5)
    assert not any(name.endswith("_ci") for row in result.scores["space"].values() for name in row)
    assert result.scores["neighbours"] == 4
    np.testing.assert_allclose(result.details["vectors"]["left"], a, atol=1e-6)


def test_only_records_with_both_towers_count(model: Aligner, paired: Make, random_rows: Make) -> None:
    rows = random_rows(12)
    rows[3]["left"] = rows[7]["right"] = None
    result = evaluate(model, paired(rows), "geometry", pair=PAIR, split="test", bootstrap=0)
    assert result.scores["n"] == 10
    np.testing.assert_allclose(result.details["vectors"]["right"][2], rows[2]["right"], atol=1e-6)
    np.testing.assert_allclose(result.details["vectors"]["right"][3], rows[4]["right"], atol=1e-6)


def test_equal_cosines_are_no_hit(model: Aligner, paired: Make, unit: Make) -> None:
    rows = [{"left": unit(1, 0), "right": unit(1, 0)} for _ in range(4)]
    result = evaluate(model, paired(rows), "geometry", pair=PAIR, split="test", bootstrap=0)
    assert result.scores["space"]["as trained"]["left_to_right_hit@1"] == 0


def test_invalid_settings_are_named(model: Aligner, paired: Make, random_rows: Make) -> None:
    with pytest.raises(UserError, match="--neighbours: expected at least 1, got 0"):
        evaluate(model, paired(random_rows(4)), Geometry(neighbours=0), pair=PAIR, split="test")
    with pytest.raises(
        UserError, match="expected at least 3 records of split 'test' with both 'left' and 'right', got 2"
    ):
        evaluate(model, paired(random_rows(2)), "geometry", pair=PAIR, split="test")
