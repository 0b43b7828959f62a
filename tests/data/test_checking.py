import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from mmalign import registry
from mmalign.data.checking import check_samples
from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.modality import Modality


def shown(report: Any) -> str:
    file = io.StringIO()
    report.show(Console(file=file, width=160, color_system=None))
    return file.getvalue()


def test_clean_data(pictures: Path, modalities: dict[str, Modality], tmp_path: Path) -> None:
    data = DataConfig(manifest=str(pictures), columns={"image": "file", "text": "text"}, validation=0.25)
    report = check_samples(data, modalities, sheet=tmp_path / "sheet.png")
    assert (report.rows, report.bad, report.kinds) == (40, 0, {})
    assert report.towers == {"image": 40, "text": 40}
    assert sum(report.splits.values()) == 40
    assert report.labels == {f"class {n}": 10 for n in range(4)}
    assert report.duplicates == report.leakage == []
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (600, 1920)  # 8 rows of two sides
        assert len(sheet.convert("L").getcolors()) > 8  # each row has a grey of its own
    assert json.loads(json.dumps(report.to_json()))["bad"] == 0


def test_problems_are_counted_and_shown(pictures: Path, modalities: dict[str, Modality], tmp_path: Path) -> None:
    (tmp_path / "5.png").write_text("not a [picture]")
    (tmp_path / "9.png").unlink()
    text = pictures.read_text().replace("11.png,picture 11,class 3", "11.png,picture 11,class 3,more")
    pictures.write_text(text.replace("13.png,picture 13,", "13.png,,"))
    report = check_samples(DataConfig(manifest=str(pictures), columns={"image": "file", "text": "text"}), modalities)
    assert report.bad == 4
    assert report.kinds == {"missing file": 1, "bad sample": 1, "missing value": 1, "bad row": 1}
    assert report.towers == {"image": 36, "text": 36}
    text = shown(report)
    for part in ("40, of which 4 cannot be used", "names.csv:7 image 5.png", "names.csv:11 image 9.png", "got 4"):
        assert part in text
    document = report.to_json()
    assert document["bad"] == 4
    assert (document["problems"][0]["file"], document["problems"][0]["kind"]) == ("5.png", "bad sample")


def test_duplicates_and_leakage_are_found_by_content(tmp_path: Path, modalities: dict[str, Modality], png: Any) -> None:
    for name, value in {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}.items():
        (tmp_path / f"{name}.png").write_bytes(png(value))
    lines = [
        "file,text,split,group",
        "a.png,1,train,g",
        "b.png,2,val,h",
        "c.png,3,train,i",
        "d.png,3,train,",
        "e.png,2,test,g",
    ]
    (tmp_path / "n.csv").write_text("\n".join(lines))
    data = DataConfig(manifest=str(tmp_path / "n.csv"), columns={"image": "file", "text": "text"})
    report = check_samples(data, modalities)
    found = {shared.of: (shared.contents, shared.rows, shared.value_is_sample) for shared in report.duplicates}
    assert found == {"image": (2, 4, False), "text": (2, 4, True)}
    leaks = {shared.of: shared.examples for shared in report.leakage}
    assert leaks == {
        "image": ["n.csv:2 (train) = n.csv:3 (validation)"],
        "text": ["n.csv:3 (validation) = n.csv:6 (test)"],
        "group": ["n.csv:2 (train) = n.csv:6 (test)"],
    }
    assert report.groups == 3
    assert "in two splits" in shown(report)


def test_vectors_and_rows_of_a_matrix(tmp_path: Path, modalities: dict[str, Modality]) -> None:
    import numpy as np

    matrix = np.array([[1, 2], [1, 2], [np.nan, 0], [5, 6]], np.float32)
    np.save(tmp_path / "m.npy", matrix)
    rows = [{"v": f"m.npy#{n}", "text": f"t{place}"} for place, n in enumerate((0, 1, 2, 3, 3, 9))] + [
        {"v": [1.0, float("nan")], "text": "x"}
    ]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = DataConfig(manifest=str(tmp_path / "n.jsonl"), columns={"v": "v", "text": "text"}, validation=0)
    report = check_samples(
        data, {"v": registry.load("modalities", "vector"), "text": modalities["text"]}, sheet=tmp_path / "s.png"
    )
    reasons = {problem.location: problem.reason for problem in report.problems}
    assert list(reasons) == ["n.jsonl:3", "n.jsonl:6", "n.jsonl:7"]
    assert "nan" in reasons["n.jsonl:3"].lower()
    assert [(shared.of, shared.contents) for shared in report.duplicates] == [("v", 1)]  # one row named twice


def test_all_rows_bad_still_reports(tmp_path: Path, modalities: dict[str, Modality]) -> None:
    (tmp_path / "n.csv").write_text("file,text\nx.png,a\ny.png,b\n")
    data = DataConfig(manifest=str(tmp_path / "n.csv"), columns={"image": "file", "text": "text"})
    report = check_samples(data, modalities, sheet=tmp_path / "s.png")
    assert (report.bad, report.sheet) == (2, None)
    assert not (tmp_path / "s.png").exists()
    shown(report)
    with pytest.raises(UserError, match="no column"):
        check_samples(
            DataConfig(manifest=str(tmp_path / "n.csv"), columns={"image": "fil", "text": "text"}), modalities
        )


def test_real_data_is_clean_and_a_damaged_copy_is_not(
    real_data: Path, modalities: dict[str, Modality], tmp_path: Path
) -> None:
    folder = real_data / "coco_captions"
    columns = {"image": "file", "text": "captions"}
    settings: dict[str, Any] = {"columns": columns, "cache_gb": 0}
    whole = DataConfig(manifest=str(folder / "captions.jsonl"), files=str(folder / "images_free.tar"), **settings)
    report = check_samples(whole, modalities)
    assert (report.rows, report.bad) == (148, 0)
    cut = tmp_path / "images.tar"
    cut.write_bytes((folder / "images_free.tar").read_bytes()[:8_000_000])
    damaged = check_samples(DataConfig(manifest=str(folder / "captions.jsonl"), files=str(cut), **settings), modalities)
    assert 0 < damaged.bad < 148
    assert "damaged" in damaged.problems[-1].reason
