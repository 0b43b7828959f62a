"""Mined negatives: by hand on a circle, never positives, and read by training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.embedding import scoring
from mmalign.errors import UserError
from mmalign.mining import candidates
from mmalign.model import Aligner
from mmalign.training.data_module import TrainingData

PAIR = ("left", "right")
Rows = list[dict[str, Any]]


def on_circle(unit: Callable[..., list[float]], *degrees: float, turn: float = 0.0) -> Rows:
    """One record per angle; its two vectors are `turn` degrees apart."""

    def at(angle: float) -> list[float]:
        return unit(math.cos(math.radians(angle)), math.sin(math.radians(angle)))

    return [{"id": f"{angle:g}", "left": at(angle), "right": at(angle + turn)} for angle in degrees]


def mined(model: Aligner, data: Dataset, **settings: Any) -> dict[str, list[tuple[str, int]]]:
    """Record -> its negatives with their ranks."""
    settings = {"pair": PAIR, "split": "test", "relative_margin": None} | settings
    columns = mmalign.mine(model, data, **settings).columns
    found: dict[str, list[tuple[str, int]]] = {}
    for record, negative, rank in zip(columns["id"], columns["negative"], columns["rank"], strict=True):
        found.setdefault(record, []).append((negative, rank))
    return found


def test_mined_negatives_of_four_points_by_hand(
    model: Aligner, paired: Callable[..., Dataset], unit: Callable[..., list[float]]
) -> None:
    data = paired(on_circle(unit, 0, 30, 90, 180, turn=5))
    assert mined(model, data, negatives=2) == {
        "0": [("30", 0), ("90", 1)],
        "30": [("0", 0), ("90", 1)],
        "90": [("30", 0), ("0", 1)],
        "180": [("90", 0), ("30", 1)],
    }
    # Query 30 and the item of record 0 are 25 degrees apart, those of 0 and 30 35 degrees; own pairs 5 degrees.
    result = mmalign.mine(model, data, pair=PAIR, split="test", negatives=1, relative_margin=0.1)
    assert result.columns["id"] == ["0", "30", "90", "180"]
    assert result.columns["negative"] == ["30", "90", "30", "90"]
    assert result.columns["score"][0] == pytest.approx(math.cos(math.radians(35)))
    assert result.columns["positive_score"][0] == pytest.approx(math.cos(math.radians(5)))
    assert result.counts["above_margin"] == 1
    assert result.counts["records"] == 4
    assert mined(model, data, skip=1, depth=1) == {
        "0": [("90", 1)], "30": [("90", 1)], "90": [("0", 1)], "180": [("30", 1)],
    }  # fmt: skip


def test_records_of_one_content_or_group_are_never_negatives(
    model: Aligner, paired: Callable[..., Dataset], unit: Callable[..., list[float]]
) -> None:
    rows = on_circle(unit, 0, 1, 2, 3, 90, turn=1)
    rows[3]["left"] = rows[0]["left"]  # the same content
    for row, group in zip(rows, ("p", "p", "q", "r", "s"), strict=True):
        row["group"] = group
    data = paired(rows)  # right of record 0 is left of record 1: other towers, other content
    result = mined(model, data, negatives=5)
    assert {record: {name for name, _ in of} for record, of in result.items()} == {
        "0": {"2", "90"}, "1": {"2", "90"}, "3": {"2", "90"}, "2": {"0", "1", "3", "90"}, "90": {"0", "1", "2", "3"},
    }  # fmt: skip
    counts = mmalign.mine(model, data, pair=PAIR, split="test").counts
    assert counts["related"] == 6


def test_tiles_change_nothing(
    model: Aligner, paired: Callable[..., Dataset], random_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paired(random_rows(40))
    settings: dict[str, Any] = {"sampling": "random", "relative_margin": 0.05, "depth": 10}
    whole = mmalign.mine(model, data, pair=PAIR, split="test", **settings)
    again = mmalign.mine(model, data, pair=PAIR, split="test", **settings)
    assert whole.columns == again.columns
    shapes: list[tuple[int, ...]] = []

    def small(*sets: Any, **options: Any) -> Any:
        for start, tile in scoring.score_blocks(*sets, pairs=130, **options):
            shapes.append(tuple(tile.shape))
            yield start, tile

    monkeypatch.setattr(candidates, "score_blocks", small)
    tiled = mmalign.mine(model, data, pair=PAIR, split="test", **settings)
    assert set(shapes) == {(3, 40), (1, 40)}
    assert tiled.counts == whole.counts
    assert tiled.columns["negative"] == whole.columns["negative"]


def test_the_first_sample_of_a_record_counts(model: Aligner, tmp_path: Path, unit: Callable[..., list[float]]) -> None:
    lines = ["id,a,b", "0,red|black,red", "1,blue,blue", "2,black,black|red"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    towers = {name: mmalign.TowerConfig(modality="text", args={"width": 8, "depth": 1, "heads": 2}) for name in "ab"}
    transforms = mmalign.fit_transforms(towers, {name: ["red", "blue", "black"] for name in "ab"})
    text = Aligner(towers, [mmalign.PairConfig("a", "b")], 4, transforms)
    config = mmalign.DataConfig(
        manifest=str(tmp_path / "rows.csv"), columns={"a": "a", "b": "b"}, separator="|", validation=0.0
    )
    result = mmalign.mine(text, config, relative_margin=None)
    pairs = {*zip(result.columns["id"], result.columns["negative"], strict=True)}
    assert pairs == {("0", "1"), ("1", "0"), ("1", "2"), ("2", "1")}  # 0 and 2 share contents
    scores = text.similarity(text.encode("a", ["red", "blue", "black"]), text.encode("b", ["red", "blue", "black"]))
    for record, negative, score in zip(*(result.columns[name] for name in ("id", "negative", "score")), strict=True):
        assert score == pytest.approx(float(scores[int(record), int(negative)]), abs=1e-6)


def test_a_reranker_scores_the_candidates(
    model: Aligner, paired: Callable[..., Dataset], unit: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paired(on_circle(unit, 0, 20, 40, 180))
    objective, _ = model.objective.between(*PAIR)
    monkeypatch.setattr(objective, "similarity_pairwise", lambda a, b, *more: -(a.vector * b.vector).sum(1))
    assert mined(model, data, depth=2, rerank=True)["0"] == [("40", 0), ("20", 1)]
    assert mined(model, data, depth=2, reranker=model)["0"] == [("40", 0), ("20", 1)]
    assert mined(model, data, depth=2)["0"] == [("20", 0), ("40", 1)]


def test_scores_of_tokens_are_those_of_the_model(tmp_path: Path) -> None:
    """Re-ranking as many candidates as there are gives the same negatives as the full score of all pairs."""
    texts = ["red", "a blue disc", "two black cats sit", "white", "a green square of glass"]
    rows = [f"{n},{text},{text} here" for n, text in enumerate(texts)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,a,b", *rows]) + "\n")
    towers = {name: mmalign.TowerConfig(modality="text", args={"width": 8, "depth": 1, "heads": 2}) for name in "ab"}
    transforms = mmalign.fit_transforms(towers, dict.fromkeys("ab", texts))
    model = Aligner(towers, [mmalign.PairConfig("a", "b", "late_interaction")], 4, transforms)
    config = mmalign.DataConfig(manifest=str(tmp_path / "rows.csv"), columns={"a": "a", "b": "b"}, validation=0.0)
    settings: dict[str, Any] = {"relative_margin": None, "negatives": 4}
    whole, reranked = (mmalign.mine(model, config, rerank=rerank, **settings) for rerank in (False, True))
    assert whole.columns["negative"] == reranked.columns["negative"]
    assert whole.columns["score"] == pytest.approx(reranked.columns["score"], abs=1e-6)
    scores = model.similarity(model.encode("a", texts), model.encode("b", [f"{text} here" for text in texts]))
    for record, negative, score in zip(*(whole.columns[name] for name in ("id", "negative", "score")), strict=True):
        assert score == pytest.approx(float(scores[int(record), int(negative)]), abs=1e-6)


def test_surface_similarity_ranks_texts(model: Aligner, tmp_path: Path) -> None:
    texts = ["a red disc moves left", "a red disc moves right", "two cats", "the picture of a disc"]
    (tmp_path / "rows.csv").write_text("id,words,left\n" + "".join(f"{n},{t},v{n}.npy\n" for n, t in enumerate(texts)))
    for number in range(4):
        np.save(tmp_path / f"v{number}.npy", torch.nn.functional.normalize(torch.randn(8), dim=0).numpy())
    config = mmalign.DataConfig(
        manifest=str(tmp_path / "rows.csv"), columns={"left": "left", "words": "words"}, validation=0.0
    )
    result = mmalign.mine(model, config, pair=("left", "words"), surface="words", depth=1, relative_margin=None)
    assert result.columns["negative"][:2] == ["1", "0"]
    assert result.columns["surface"][0] > 0.5
    with pytest.raises(UserError, match="--surface: modality 'vector' does not support SurfaceFeatures"):
        mmalign.mine(model, config, pair=("left", "words"), surface="left")


def test_a_mined_file_is_read_by_training(
    model: Aligner, paired: Callable[..., Dataset], random_rows: Callable[..., Rows], tmp_path: Path
) -> None:
    """From the command line to the batches: each record that leads is followed by its hardest negative."""
    rows = [row | {"split": "train"} for row in random_rows(30)]
    data = paired(rows)
    bundle = mmalign.save(model, tmp_path / "bundle")
    flags = [f"--data.manifest={data.config.manifest}", "--data.columns={left: left, right: right}"]
    for name in ("found.csv", "found.parquet"):
        out = tmp_path / name
        assert (
            main(["mine", str(bundle), "-o", str(out), "--pair=[left, right]", "--relative_margin=null", *flags]) == 0
        )
        config = mmalign.DataConfig(
            manifest=data.config.manifest, columns={"left": "left", "right": "right"}, neighbours=str(out),
            hard_negative_fraction=1.0, hard_negative_group_size=2, batch_size=2,
        )  # fmt: skip
        read = Dataset.open(config, {name: model.modalities[name] for name in PAIR})
        loaders = TrainingData(read, {name: model.transforms[name] for name in PAIR})
        batches = [batch.ids.tolist() for batch in loaders.train_dataloader()]
        table = loaders._train.neighbours.table  # type: ignore[union-attr]
        scores = model.similarity(
            *(model.encode(name, [row[name] for row in rows]) for name in PAIR)  # type: ignore[arg-type]
        ).fill_diagonal_(-2)
        torch.testing.assert_close(torch.from_numpy(table[:, :4]), scores.topk(4, dim=1).indices)
        assert sorted(index for batch in batches for index in batch) == list(range(30))
        assert sum(second in table[first] for first, second in batches) > 10
