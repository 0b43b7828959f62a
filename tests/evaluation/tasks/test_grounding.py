"""Grounding of words in molecules: figures equal loops over explanations, deletion and gradients are exact."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import mmalign
from mmalign.cli import main
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.token_pairs import embed_tokens
from mmalign.errors import UserError
from mmalign.evaluation.ablation import changed, gradient_times_input, score_without
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.grounding import Grounding
from mmalign.explanation import explain
from mmalign.heads import CodebookConfig
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Tokens

pytest.importorskip("rdkit")

ROWS = [
    ("Oc1ccc(O)cc1CCC(=O)OC", "a phenol and a methyl ester of an acid"),
    ("CCOC(C)=O", "the ester of ethanol, a liquid"),
    ("CCO", "an alcohol with a smell of a ketone"),  # there is no ketone
    ("OO", "two hydroxy groups"),  # they are the whole molecule
    ("CCN", "nothing is named here"),
]
PAIR = ("molecule", "text")


@pytest.fixture(scope="module")
def model() -> Aligner:
    torch.manual_seed(0)
    towers = {
        "molecule": TowerConfig(encoder="hierarchical", args={"width": 16, "depth": 1, "atom_depth": 1}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    transforms = fit_transforms(towers, {"molecule": [], "text": [text for _, text in ROWS] * 9})
    pairs = [PairConfig(*PAIR, "transport"), PairConfig(*PAIR, "fdt")]
    return Aligner(towers, pairs, 8, transforms, codebook=CodebookConfig(codes=32, temperature=32.0))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    table = [{"molecule": smiles, "text": text, "split": "test"} for smiles, text in ROWS]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "rows.parquet")
    return DataConfig(manifest=str(tmp_path / "rows.parquet"), columns={tower: tower for tower in PAIR})


@pytest.mark.parametrize("term", ["transport", "fdt"])
def test_figures_equal_loops_over_explanations(
    model: Aligner, config: DataConfig, term: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(model, config, "grounding", split="test", term=term, bootstrap=20)
    found = {(word.record, word.word): word for word in result.details["rows"]}
    assert {key: word.region for key, word in found.items()} == {
        (0, "phenol"): "phenol",
        (0, "methyl"): "methyl",
        (0, "ester"): "ester",
        (1, "ester"): "ester",
        (2, "alcohol"): "alcohol",
    }
    inside = [False, False, True, True, False, True]  # C(=O)O and the carbon of the alcohol, of CCOC(C)=O
    inside[1] = True
    explained = explain(model, *ROWS[1], pair=PAIR, term=term)
    weights = explained.drawn.units.members @ explained.weights.double().numpy() @ explained.query.units.members.T
    names = list(explained.query.units.labels)
    own = weights[:, names.index("ester")]
    best = [index for index in range(6) if own[index] >= own.max() * (1 - 1e-6)]
    expected = sum(inside[index] for index in best) / len(best) if own.max() > 0 else 0
    assert found[1, "ester"].own[0] == pytest.approx(expected)
    wins = [(own[i] > own[j]) + (own[i] == own[j]) / 2 for i in range(6) for j in range(6) if inside[i] > inside[j]]
    assert found[1, "ester"].own[1] == pytest.approx(sum(wins) / len(wins))
    assert found[1, "ester"].chance == 4 / 6
    scores = result.scores
    without = evaluate(model, config, "grounding", split="test", term=term, bootstrap=0).scores["words"]["named word"]
    assert without == {name: value for name, value in scores["words"]["named word"].items() if not name.endswith("_ci")}
    assert scores["n"] == 5
    assert scores["records"] == 3
    means = [word.own[1] for word in found.values()]
    assert scores["words"]["named word"]["auroc"] == pytest.approx(sum(means) / 5)
    gaps = [word.own[0] - word.chance for word in found.values()]
    assert scores["differences"]["named word - chance"]["pointing"] == pytest.approx(sum(gaps) / 5)
    assert scores["regions"]["ester"]["n"] == 2
    assert list(scores["deletion"]) == ["named region", "random units"]
    json.dumps(result.to_json(), allow_nan=False)
    result.show()
    assert "95 % interval of 20 resamples" in " ".join(capsys.readouterr().out.split())


def test_masking_nothing_changes_nothing_and_the_gradient_is_that_of_scaled_tokens(model: Aligner) -> None:
    exact = model.double().eval()
    try:
        molecule = exact.modalities["molecule"].read(ROWS[0][0])
        with torch.no_grad():
            text = embed_tokens(exact, "text", ROWS[0][1])
            score = float(exact.similarity(embed_tokens(exact, "molecule", molecule), text))
            same = score_without(exact, "molecule", molecule, text, "tokens", np.zeros(14, dtype=np.bool_))
            fewer = score_without(exact, "molecule", molecule, text, "tokens", np.arange(14) == 3)
        assert same == score
        assert fewer != score
        gradient = gradient_times_input(exact, "molecule", molecule, text, "tokens")
        assert gradient.shape == (14,)
        for atom in (0, 5):

            def scaled(factor: float, atom: int = atom) -> float:
                def change(tokens: Tokens) -> Tokens:
                    values = tokens.values.clone()
                    values[:, atom] *= factor
                    return dataclasses.replace(tokens, values=values)

                with torch.no_grad(), changed(exact, "molecule", "tokens", change):
                    return float(exact.similarity(embed_tokens(exact, "molecule", molecule), text))

            slope = (scaled(1 + 1e-5) - scaled(1 - 1e-5)) / 2e-5
            assert gradient[atom] == pytest.approx(abs(slope), rel=1e-4, abs=1e-7)
    finally:
        model.float()


def test_data_and_models_without_grounding_are_errors(model: Aligner, config: DataConfig, tmp_path: Path) -> None:
    few = pq.read_table(config.manifest).slice(3)
    pq.write_table(few, tmp_path / "few.parquet")
    nothing = dataclasses.replace(config, manifest=str(tmp_path / "few.parquet"))
    with pytest.raises(UserError, match="no word of 'text' in split 'test' names a region of its 'molecule'"):
        evaluate(model, nothing, Grounding(), split="test")
    data = Dataset.open(config, model.modalities, splits=["test"])
    with pytest.raises(UserError, match="no term 'fdd' between 'molecule' and 'text'; did you mean 'fdt'"):
        evaluate(model, data, Grounding(term="fdd"), split="test")


def test_a_pair_without_named_regions_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    towers = {
        "image": TowerConfig(encoder="convnet", args={"width": 4}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    transforms = fit_transforms(towers, {"image": [], "text": ["a red disc"] * 20})
    mmalign.save(Aligner(towers, [PairConfig("image", "text")], 8, transforms), tmp_path / "bundle")
    assert main(["evaluate", str(tmp_path / "bundle"), "--task", "grounding", "--data.source", "digits"]) == 2
    assert "grounding needs a modality with named regions of its samples" in capsys.readouterr().err
