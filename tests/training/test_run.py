"""A recipe is checked before anything is built."""

from pathlib import Path

import pytest

from mmalign.errors import UserError
from mmalign.training.run import train


def test_an_unknown_key_of_a_recipe_is_refused_even_if_its_value_is_empty(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {dim: 3, towers: {a: {modality: vector}}, pairs: [{a: a, b: a}], cca_int: {}}\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: model\.cca_int: no such key; did you mean model\.cca_init"):
        train(str(recipe), [])
