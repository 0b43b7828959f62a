"""Whatever number stands in an argument of a registered encoder: it encodes, or is refused as a user's error."""

from typing import Any

import numpy as np
import pytest
import torch

from mmalign import registry
from mmalign.building import no_empty_layers, refusing
from mmalign.configuration.arguments import arguments_of
from mmalign.errors import UserError
from tests.contract.test_modalities import SMALL
from tests.fuzz.targets.models import encoders

HEAVY = (
    "resnet",
    "patches",
    "pyg",
    "trajvit",
    "trajtok",
    "vit3d",
    "point_transformer",
    "openshape",
    "r2plus1d",
    "prompted",
)
"""Encoders whose walk takes seconds."""


SETTINGS: dict[str, dict[str, Any]] = {"trajvit": {"size": 32, "tracks": "grid", "segments": 4}}
"""Encoder -> settings of its transform that make it cheap."""


def walk() -> list[Any]:
    """Every encoder that needs no other model; the heavy ones are marked slow."""
    return [
        pytest.param(*names, marks=[pytest.mark.slow] if names[1] in HEAVY else [], id=" ".join(names))
        for names in encoders()
    ]


def variants(default: Any, annotation: str) -> list[Any]:
    """Values of the argument's kind: none, below none, odd, and fractions beyond the range of probabilities."""
    if "int" not in annotation and "float" not in annotation:
        return []
    numbers: list[Any] = [0, -1, 3, *((-0.5, 1.5, 1e308) if "float" in annotation else ())]
    if isinstance(default, list | tuple):
        return [[], *([*default[:-1], number] for number in numbers)]
    return [] if isinstance(default, str | dict) else numbers


@pytest.mark.parametrize(("modality_name", "encoder_name"), walk())
def test_every_number_is_used_or_refused(modality_name: str, encoder_name: str) -> None:
    modality = registry.load("modalities", modality_name)
    small = SMALL.get((modality_name, encoder_name), {})
    toys = [modality.toy_sample(label, np.random.default_rng(label)) for label in range(2)]
    for name, argument in [*arguments_of(modality.encoders[encoder_name]).items()][1:]:
        for value in variants(small.get(name, argument.default), str(argument.kind)):
            args = {**small, name: value}
            torch.manual_seed(0)
            try:
                transform = modality.transform(encoder_name, args, **SETTINGS.get(encoder_name, {}))
                before = transform.fit_before_featurise
                transform.fit(toys if before else [transform.featurise(toy) for toy in toys])
                encoder = modality.encoder(encoder_name, transform, **args)
            except UserError:
                continue
            inputs = transform.collate([transform.item(toy) for toy in toys])
            for training in (True, False):
                vector = encoder.train(training)(inputs).vector
                assert vector.shape == (2, encoder.width), f"{name}={value}"
                assert bool(vector.isfinite().all()), f"{name}={value}"
            assert not (isinstance(value, int | float) and value < 0), f"{name}={value} is accepted"


def test_a_layer_of_size_zero_is_refused_and_the_check_ends_with_its_context() -> None:
    with pytest.raises(UserError, match=r"got Linear with a weight of shape \(0, 4\)"), no_empty_layers():
        torch.nn.Linear(4, 0)
    with no_empty_layers():
        torch.nn.Linear(4, 1)
    with pytest.warns(UserWarning, match="zero-element"):
        torch.nn.Linear(4, 0)


def test_the_message_names_the_encoder_and_its_arguments() -> None:
    vector = registry.load("modalities", "vector")
    transform = vector.transform("mlp", {"width": 4})
    for args, message in {
        "hidden=0": "expected layers of at least one weight",
        "hidden=-8": "cannot be built: .*negative dimension -8",
        "dropout=2.0": "cannot be built: dropout probability",
    }.items():
        name, _, value = args.partition("=")
        number = float(value) if "." in value else int(value)
        with pytest.raises(UserError, match=f"encoder 'mlp' of modality 'vector' with {args}.*{message}"):
            vector.encoder("mlp", transform, **{name: number})
    with pytest.raises(UserError, match="^a cause of its own$"), refusing("a network"):
        raise UserError("a cause of its own")
