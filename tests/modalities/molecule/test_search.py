"""Molecule-to-molecule search by the command line, with the uncertainty of queries and results."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmalign import Aligner, EmbeddingTable, PairConfig, StoredVectors, TowerConfig, UserError, fit_transforms, save
from mmalign.cli import main

pytest.importorskip("rdkit")

SMILES = ("CCO", "CCCO", "c1ccccc1O", "CC(=O)[O-]", "C" * 120)


@pytest.fixture(params=["clip", "pcmepp"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    towers = {
        "molecule": TowerConfig(encoder="gine", args={"width": 16, "depth": 2}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    transforms = fit_transforms(towers, {"molecule": [], "text": ["an alcohol", "an acid"]})
    save(Aligner(towers, [PairConfig("molecule", "text", request.param)], 8, transforms), tmp_path / request.param)
    (tmp_path / "table.csv").write_text("id,smiles\n" + "".join(f"m{i},{one}\n" for i, one in enumerate(SMILES)))
    return tmp_path / str(request.param)


def test_search_molecule_to_molecule(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, answers = bundle.parent / "index.parquet", bundle.parent / "answers.json"
    table = bundle.parent / "table.csv"
    data = [f"--data.manifest={table}", "--data.columns={molecule: smiles}"]
    assert main(["embed", str(bundle), "molecule", str(index), *data]) == 0
    command = ["search", str(bundle), str(index), "molecule", *SMILES, "--k", "3", "--json", str(answers)]
    assert main([*command, "--picture", str(bundle.parent / "found.png")]) == 0
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    found: list[dict[str, Any]] = json.loads(answers.read_text())
    for row, one in enumerate(found):
        best = one["answers"][0]
        assert (best["id"], best["value"]) == (f"m{row}", SMILES[row])
        assert best["score"] == pytest.approx(1.0, abs=1e-5)
        assert len(one["answers"]) == 3
        assert ("uncertainty" in one) == ("uncertainty" in best) == (bundle.name == "pcmepp")
        if "uncertainty" in one:
            assert best["uncertainty"] == pytest.approx(one["uncertainty"], rel=1e-4)
    assert ("uncertainty" in shown) == (bundle.name == "pcmepp")


def test_uncertainties_of_a_damaged_table_are_refused(tmp_path: Path) -> None:
    path, rows = tmp_path / "index.parquet", StoredVectors.of(torch.eye(2))
    table = EmbeddingTable(["a", "b"], [0, 0], ["1", "2"], ["C", "CC"], [(), ()], rows, "molecule")
    replace(table, uncertainties=[0.5, 1.5]).write(path)
    assert EmbeddingTable.read(path).uncertainties == [0.5, 1.5]
    table = pq.read_table(path)
    place = table.column_names.index("uncertainty")
    for column in (pa.array([0.5, None]), pa.array(["a", "b"]), pa.array([0.5, float("nan")])):
        pq.write_table(table.set_column(place, "uncertainty", column), path)
        with pytest.raises(UserError, match="a finite number in every row of column uncertainty"):
            EmbeddingTable.read(path)
