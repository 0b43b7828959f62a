"""The source of simulated hearts."""

import pickle
from typing import Any

import numpy as np
import pytest

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.registry import load
from modalities.ecg import MODALITY as ECG
from modalities.echo.modality import EchoModality
from modalities.echo.read import read_echo
from modalities.heart.simulator.ecg import ecg_of
from modalities.heart.simulator.echo import echo_of
from modalities.heart.sources.simulated import HeartsSource
from modalities.text import MODALITY as TEXT

FEW = {"train": 6, "validation": 2, "test": 3}


def hearts(columns: dict[str, str] | None = None, **options: Any) -> HeartsSource:
    return HeartsSource(SourceConfig(source="hearts", columns=columns or {}, options=FEW | options))


def test_records_of_simulated_hearts() -> None:
    source = hearts()
    records = source.records()
    assert [record.split for record in records] == ["train"] * 6 + ["validation"] * 2 + ["test"] * 3
    assert len({record.id for record in records}) == len({record.group for record in records}) == 11
    assert all(record.group == record.id and record.problem is None for record in records)
    for index, record in enumerate(records):
        heart = source.heart(index)
        assert record.values["ecg"] == (f"{index}.ecg.npz",)
        assert record.targets == {"ejection_fraction": heart.ejection_fraction, "heart_rate": heart.rate}
        assert record.labels == (heart.conduction, f"{heart.ejection_class} ejection fraction")


def test_by_default_there_are_2000_and_500() -> None:
    records = HeartsSource(SourceConfig(source="hearts")).records()
    assert [sum(record.split == split for record in records) for split in ("train", "validation", "test")] == [
        2000, 0, 500
    ]  # fmt: skip
    assert set(records[0].values) == {"ecg", "echo", "text"}


def test_the_modalities_read_what_is_fetched() -> None:
    source = hearts()
    for record in source.records()[:4]:
        heart = source.heart(int(record.id))
        ecg, echo = (source.fetch(record.values[side][0]) for side in ("ecg", "echo"))
        assert ECG.read(ecg) == ecg_of(heart)
        assert ECG.read(ecg).faults == ()
        assert read_echo(echo) == echo_of(heart)
        assert source.fetch(record.values["ecg"][0]) == ecg


def test_columns_are_chosen() -> None:
    source = hearts({"ecg": "ecg", "words": "text", "truth": "label"})
    record = source.records()[0]
    assert set(record.values) == {"ecg", "words", "truth"}
    assert record.values["truth"] == record.labels
    assert set(hearts({"ecg": "ecg"}).records()[0].values) == {"ecg"}
    with pytest.raises(UserError, match="did you mean 'echo'"):
        hearts({"echo": "ecko"})


def test_the_fingerprint_follows_the_options() -> None:
    prints = [source.fingerprint() for source in (hearts(), hearts(), hearts(seed=1), hearts(ecg_noise=2.0))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    "name",
    ["", "11.ecg.npz", "00.ecg.npz", "-1.ecg.npz", "1.text.npz", "../1.ecg.npz", "1.ecg.npz\n", "/etc/passwd",
     "\u0661.ecg.npz", "99999999.ecg.npz"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadSample, match="up to heart 10"):
        hearts().fetch(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trian": 5}, "did you mean 'train'"),
        ({"train": -1}, "whole number in 0..1e[+]06"),
        ({"train": 2.5}, "whole number"),
        ({"test": True}, "got True"),
        ({"seed": "x"}, "got 'x'"),
        ({"poor": 1.5}, "a number in 0..1,"),
        ({"ecg_noise": float("nan")}, "got nan"),
        ({"train": 0, "validation": 0, "test": 0}, "at least one record"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeartsSource(SourceConfig(source="hearts", options=options))


def test_source_can_be_pickled_for_a_worker() -> None:
    source = pickle.loads(pickle.dumps(hearts()))
    assert source.fetch("3.ecg.npz") == hearts().fetch("3.ecg.npz")


def test_it_is_registered_and_feeds_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("sources", "hearts") is HeartsSource
    made: list[str] = []
    fetch = HeartsSource.fetch
    monkeypatch.setattr(HeartsSource, "fetch", lambda self, name: made.append(name) or fetch(self, name))
    modalities = {"ecg": ECG, "echo": EchoModality(), "text": TEXT}
    data = Dataset.open(DataConfig("hearts", options=FEW, batch_size=3), modalities)
    assert data.rejected == []
    for place, side in ((0, "ecg"), (0, "echo"), (10, "ecg")):
        assert isinstance(data.store.get(place, side).rate, float)
    assert len(made) == 22  # made once, kept
    assert [record.targets["ejection_fraction"] for record in data.split("test").records] == [
        record.targets["ejection_fraction"] for record in hearts().records()[8:]
    ]
    assert len(data.split("validation").records) == 2
    assert np.ptp([record.targets["ejection_fraction"] for record in data.split("all").records]) > 10
