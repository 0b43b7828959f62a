"""Doubtful records: a warning, or, where the tower is strict, a rejection with the reason."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import mmalign
from mmalign.cli import main
from mmalign.errors import BadSample, UserError
from mmalign.model import TowerConfig, modality_of
from mmalign.training.run import train
from modalities.ecg import MODALITY

STRICT = "--model.towers.ecg.reject_warnings=true"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings, the last of which says mV and holds microvolts."""
    folder = tmp_path_factory.mktemp("recordings")
    lines = ["file,words,split"]
    for place in range(12):
        ecg = MODALITY.toy_sample(place % 4, np.random.default_rng(place))
        factor = 1000.0 if place == 11 else 1.0
        stated = {"rate": ecg.rate, "units": "mV", "leads": list(ecg.leads)}
        np.savez(folder / f"{place}.npz", signal=ecg.signal * factor, **stated)
        lines.append(f"{place}.npz,heart {place % 4},{'validation' if place < 2 else 'train'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def data(table: Path) -> list[str]:
    named = ["--data.columns.ecg=file", "--data.columns.text=words", "--data.max_rejected=0.2"]
    return ["--data.source=manifest", f"--data.manifest={table}", *named]


def run(table: Path, out: Path, *more: str) -> list[dict[str, str]]:
    """The records that a training rejected."""
    brief = ["--data.batch_size=4", "--model.dim=4", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    train("ecg-text/clip", [*data(table), *brief, f"--out={out}", *more])
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


def test_a_wrong_unit_is_kept_with_a_warning(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert run(table, tmp_path) == []
    assert "11.npz: values reach" in caplog.text
    assert "the unit looks like" in caplog.text
    assert len(mmalign.load(tmp_path).encode("ecg", table.parent / "11.npz")) == 1


def test_a_strict_tower_rejects_a_wrong_unit(table: Path, tmp_path: Path) -> None:
    (rejected,) = run(table, tmp_path, STRICT)
    assert (rejected["file"], rejected["tower"]) == ("11.npz", "ecg")
    assert "the unit looks like" in rejected["reason"]
    model = mmalign.load(tmp_path)  # the bundle is as strict
    assert len(model.encode("ecg", table.parent / "10.npz")) == 1
    with pytest.raises(BadSample, match="the unit looks like"):
        model.encode("ecg", table.parent / "11.npz")


def test_check_reject_warnings_lists_the_record(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *data(table)]) == 0
    assert main(["check", *data(table), "--reject_warnings", "[ecg]"]) == 1
    assert "the unit looks like" in " ".join(capsys.readouterr().out.split())


def test_modality_is_cached_per_reject_warnings() -> None:
    tower = TowerConfig(reject_warnings=True)
    assert modality_of("ecg", tower) is modality_of("ecg", tower) is not modality_of("ecg", TowerConfig())


@pytest.mark.parametrize("name", ["ecg", "echo"])
def test_reject_warnings_makes_the_modality_strict(name: str) -> None:
    assert modality_of(name, TowerConfig(reject_warnings=True)).strict
    assert not modality_of(name, TowerConfig()).strict


def test_a_modality_without_strict_reading_is_an_error(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="modality 'text' does not support StrictReading"):
        run(table, tmp_path, "--model.towers.text.reject_warnings=true")
