"""A recipe is checked before anything is built."""

from pathlib import Path

import pytest

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train
from tests.training.small_run import SMALL


def test_an_unknown_key_of_a_recipe_is_refused_even_if_its_value_is_empty(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {dim: 3, towers: {a: {modality: vector}}, pairs: [{a: a, b: a}], cca_int: {}}\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: model\.cca_int: no such key; did you mean model\.cca_init"):
        train(str(recipe), [])


def test_the_card_states_licence_and_citation_and_few_held_out_rows_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"data.licence": "CC-BY-4.0", "data.citation": "A. Author,\nTitle, 2026"}
    monkeypatch.setattr("mmalign.training.run.FEW_VALIDATION", 400)
    run = mmalign.train("image-text/demo", {**SMALL, "trainer.max_epochs": 1, **data}, out=tmp_path / "run")
    assert "held out: val/loss and val/*hit@1 say little" in capsys.readouterr().out
    card = (run.bundle / "README.md").read_text(encoding="utf-8")
    assert "- Licence of the data: CC-BY-4.0\n- Please cite the data as: A. Author, Title, 2026\n" in card
    assert run.model.provenance["licence"] == "CC-BY-4.0"
    assert run.model.provenance["contents"]["rows"] == 1797
    assert "- contents:" not in card
    with pytest.raises(UserError, match="--data.citation: expected at most 2000 characters, got 2001"):
        mmalign.DataConfig("digits", citation="x" * 2001)
