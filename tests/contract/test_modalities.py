"""One walk over every registered modality and encoder: a new one gets these tests by being registered.

An encoder runs with its defaults unless `SMALL` names cheaper arguments. `<fixture>` stands for that fixture's value.
"""

import copy
import json
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmalign import registry
from mmalign.errors import BadSample, UserError
from mmalign.lora import LoraConfig, add_lora, layers_without_gradient, merged_state
from mmalign.modality import Encoder, Modality, Transform
from mmalign.types import Features, Inputs, Tokens
from tests.bfloat16 import bfloat16_where_torch_has_it

SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("image", "convnet"): {"width": 4, "depths": [1, 2], "size": 16},
    ("image", "vit"): {"width": 16, "depth": 2, "heads": 2, "patch": 4, "size": 16, "pool": "attention"},
    ("image", "timm"): {
        "model": "vit_tiny_patch16_224",
        "args": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    },
    ("image", "open_clip"): {"model": "<tiny_clip>"},
    ("image", "huggingface_dual"): {"model": "<tiny_dual>"},
    ("image", "features"): {"width": 16, "network": 4},
    ("text", "transformer"): {"width": 16, "depth": 2, "heads": 2, "phrases": True},
    ("text", "tfidf"): {"width": 16, "depth": 1, "heads": 2, "phrases": True},
    ("text", "open_clip"): {"model": "<tiny_clip>"},
    ("text", "huggingface"): {"model": "<tiny_bert>"},
    ("text", "huggingface_dual"): {"model": "<tiny_dual>"},
    ("text", "sentence_transformers"): {"model": "<tiny_sentence>"},
    ("text", "prompted"): {"args": {"width": 16, "depth": 2, "heads": 2, "phrases": True}, "context": 2, "experts": 2},
    ("vector", "mlp"): {"hidden": 16},
    ("molecule", "gine"): {"width": 16, "depth": 2, "fingerprint": 2048},
    ("molecule", "hierarchical"): {"width": 16, "depth": 2, "atom_depth": 1},
    ("molecule", "pyg"): {"model": "GAT", "width": 16, "depth": 2, "args": {"heads": 2}},
    ("molecule", "fingerprints"): {"width": 16, "graph": 1, "fingerprint": 2048},
    ("graph", "pyg"): {"model": "PNA", "width": 16, "depth": 2},
    ("ecg", "resnet"): {"width": 8, "depths": [1, 1, 1], "beats": True},
    ("ecg", "patches"): {"width": 16, "depth": 2, "heads": 2, "patch": 64, "pool": "attention", "beats": True},
    ("ecg", "features"): {"width": 16},
    ("echo", "frames"): {"width": 4, "depths": [1, 1]},
    ("echo", "r2plus1d"): {"width": 4, "depths": [1, 1, 1]},
    ("pointcloud", "point_transformer"): {
        "groups": 8,
        "group_size": 6,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "hidden": 8,
        "pool": "class_max",
    },
    ("pointcloud", "pointnet2"): {"width": 8, "groups": [16, 4], "sizes": [6, 4]},
    ("pointcloud", "pointnet"): {"width": 16, "hidden": 16},
    ("pointcloud", "features"): {"width": 16},
    ("video", "frames"): {"tower": "vit", "args": {"width": 16, "depth": 1, "heads": 2}, "layers": 1, "heads": 2},
    ("video", "trajvit"): {"width": 16, "depth": 1, "heads": 2, "cnn_width": 4},
    ("video", "trajtok"): {"width": 16, "depth": 1, "heads": 2, "cnn_width": 4, "queries": 6},
    ("video", "vit3d"): {"width": 16, "depth": 1, "heads": 2, "tubelet": [2, 8]},
    ("echo", "image"): {"tower": "vit", "args": {"width": 16, "depth": 1, "heads": 2}, "layers": 1, "heads": 2},
}
LIVELY: dict[str, dict[str, Any]] = {  # all that training may change about a sample
    "image": {"random_crop": 0.5, "flip_horizontal": True, "flip_vertical": True, "quarter_turns": True, "jitter": 0.3},
    "text": {"word_dropout": 0.3, "random_crop": [0.3, 0.9]},
    "vector": {"noise": 0.1},
    "molecule": {"atom_dropout": 0.3},
    "graph": {"node_dropout": 0.3},
    "ecg": {"lead_dropout": 0.3, "noise": 0.1, "scaling": 0.2},
    "pointcloud": {
        "points": 64,
        "colours": True,
        "rotation": 180.0,
        "jitter": 0.01,
        "scaling": 0.2,
        "point_dropout": 0.5,
        "colour_dropout": 0.5,
    },
    "video": {"frames": 15, "size": 32, "random_crop": 0.5, "flip": True, "colour": 0.3},
    "echo": {"size": 32, "jitter": 0.5, "shift": 0.1, "rotation": 10.0, "gain": 0.2},
}
FIXED = {("pointcloud", "features")}
"""Encoders whose transform takes no augmentation."""

CASES = [
    (modality, encoder)
    for modality in registry.names("modalities")
    for encoder in registry.load("modalities", modality).encoders
]
LABELS = (0, 3, 7, 5, 9)


@dataclass
class Case:
    """A modality with one of its encoders, fitted on samples of its own."""

    modality: Modality
    name: str
    transform: Transform
    encoder: Encoder
    samples: list[Any]

    def inputs(self, transform: Transform | None = None) -> Inputs:
        transform = transform or self.transform
        return transform.collate([transform.item(sample) for sample in self.samples])


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def built(request: pytest.FixtureRequest) -> Case:
    """What all tests of one encoder start from."""
    torch.manual_seed(0)
    name, encoder = request.param
    args = {
        key: request.getfixturevalue(value[1:-1]) if isinstance(value, str) and value.startswith("<") else value
        for key, value in SMALL.get((name, encoder), {}).items()
    }
    modality = registry.load("modalities", name)
    rng = np.random.default_rng(0)
    samples = [modality.toy_sample(label, rng) for label in LABELS]
    lively = {} if (name, encoder) in FIXED else LIVELY.get(name, {})
    transform = modality.transform(encoder, args, **lively)
    transform.fit(samples if transform.fit_before_featurise else map(transform.featurise, samples))
    return Case(modality, encoder, transform, modality.encoder(encoder, transform, **args).eval(), samples)


@pytest.fixture
def case(built: Case) -> Case:
    """With an encoder that a test may train."""
    return replace(built, encoder=copy.deepcopy(built.encoder))


def every(features: Features) -> dict[str, Tokens]:
    return {name: value for name in ("tokens", "parts") if (value := getattr(features, name)) is not None}


def test_shapes_and_masks(case: Case) -> None:
    features = case.encoder(case.inputs())
    assert features.vector.shape == (len(LABELS), case.encoder.width)
    assert features.vector.dtype == torch.float32
    for name, width in (("tokens", case.encoder.token_width), ("parts", case.encoder.part_width)):
        levels = getattr(features, name)
        assert (levels is None) == (width is None), f"{name}: the declared width and what comes out disagree"
        if levels is not None:
            assert levels.values.shape == (*levels.mask.shape, width)
            assert levels.mask.dtype == torch.bool
            assert levels.mask.any(1).all(), f"a sample without a real one of {name}"
            assert levels.values[levels.mask].isfinite().all()


def test_gradient_reaches_every_parameter(case: Case) -> None:
    vector = case.encoder.train()(case.inputs()).vector
    (vector * torch.randn_like(vector)).sum().backward() if vector.requires_grad else None
    lost = [
        name for name, parameter in case.encoder.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]  # fmt: skip
    assert not lost, f"a loss of the vector alone does not train: {lost}"


def test_low_precision_is_finite(case: Case) -> None:
    inputs = case.inputs()
    with bfloat16_where_torch_has_it(), torch.autocast("cpu", torch.bfloat16):
        features = case.encoder(inputs)
    assert features.vector.isfinite().all()
    torch.testing.assert_close(features.vector.float(), case.encoder(inputs).vector, atol=0.1, rtol=0.1)


def test_restored_from_json_without_network(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    saved = json.loads(json.dumps([case.transform.config(), case.encoder.config()], allow_nan=False))
    transform = case.modality.restore_transform(saved[0])
    encoder = case.modality.encoder(case.name, transform, **saved[1]).eval()
    encoder.load_state_dict(case.encoder.state_dict())
    before, after = case.encoder(case.inputs()), encoder(case.inputs(transform))
    torch.testing.assert_close(after.vector, before.vector, atol=0, rtol=0)
    for name, levels in every(before).items():
        torch.testing.assert_close(getattr(after, name).values, levels.values, atol=0, rtol=0)
    assert transform.config() == case.transform.config()
    assert encoder.config() == case.encoder.config()


def test_inference_is_deterministic(case: Case) -> None:
    first, second = (case.encoder(case.inputs()).vector for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_training_transform_follows_its_generator_alone(case: Case) -> None:
    """In this process and in a worker that it was sent to."""

    def items(transform: Transform) -> bytes:
        return pickle.dumps([transform.item(s, np.random.default_rng((1, i))) for i, s in enumerate(case.samples)])

    def numbers() -> tuple[bytes, bytes]:
        return pickle.dumps(np.random.get_state()), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002

    before = numbers()
    first = items(case.transform)
    assert numbers() == before
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert items(case.transform) == first
    assert items(pickle.loads(pickle.dumps(case.transform))) == first
    assert case.transform.collate(pickle.loads(first)).keys() == case.inputs().keys()


def test_features_are_deterministic_and_leave_the_sample_unchanged(case: Case) -> None:
    """The core computes features once and uses them in every epoch."""
    for sample in case.samples:
        before = pickle.dumps(sample)
        features = case.transform.featurise(sample)
        first = pickle.dumps(features)
        assert pickle.dumps(case.transform.featurise(sample)) == first
        case.transform(features, np.random.default_rng(0))
        assert pickle.dumps(features) == first, "augmentation changed the cached features"
        assert pickle.dumps(sample) == before


def test_a_batch_equals_single_samples(case: Case) -> None:
    """Padding changes nothing, and rows do not see each other; float32 sums are in another order."""
    together = case.encoder(case.inputs())
    for row, sample in enumerate(case.samples):
        alone = case.encoder(case.transform.collate([case.transform.item(sample)]))
        torch.testing.assert_close(alone.vector[0], together.vector[row], atol=5e-5, rtol=1e-4)
        for name, levels in every(together).items():
            single = getattr(alone, name)
            real, expected = single.values[0][single.mask[0]], levels.values[row][levels.mask[row]]
            torch.testing.assert_close(real, expected, atol=5e-5, rtol=1e-4)


def test_samples_are_read_pickled_and_drawn(case: Case) -> None:
    for sample in case.samples:
        again = pickle.loads(pickle.dumps(case.modality.read(sample)))
        np.testing.assert_array_equal(again, sample)
        axes = Figure(figsize=(1, 1)).subplots()
        case.modality.picture(sample, axes)
        axes.figure.canvas.draw()
        assert axes.has_data() or axes.texts
    drawn = case.modality.toy_sample(2, np.random.default_rng(5))
    np.testing.assert_array_equal(drawn, case.modality.toy_sample(2, np.random.default_rng(5)))


@pytest.mark.parametrize("junk", [None, object(), 3, float("nan"), {}, b"", [], np.array([["a"]], dtype=object)])
def test_random_bytes_are_a_bad_sample(built: Case, junk: object) -> None:
    with pytest.raises(BadSample) as caught:
        built.modality.read(junk)
    assert caught.value.expected
    assert caught.value.came
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda case: case.modality.encoder("no-such", case.transform),
        lambda case: case.modality.encoder(case.name, case.transform, **case.encoder.config(), no_such_argument=1),
        lambda case: case.modality.transform("", {}, no_such_setting=1),
    ],
    ids=["encoder", "argument", "setting"],
)
def test_unknown_arguments_are_named(built: Case, call: Callable[[Case], object]) -> None:
    with pytest.raises(UserError, match=r"no.such") as caught:
        call(built)
    assert "\n" not in str(caught.value)


def test_lora_starts_without_effect_and_merges(case: Case) -> None:
    """Adapters of every encoder: no change at first, then trained alone, and merged weights compute the same."""
    pytest.importorskip("peft")
    if not any(isinstance(module, torch.nn.Linear | torch.nn.MultiheadAttention) for module in case.encoder.modules()):
        with pytest.raises(UserError, match="has no linear layer"):
            add_lora("x", LoraConfig(), case.encoder)
        return
    inputs, adapted = case.inputs(), copy.deepcopy(case.encoder)
    with torch.no_grad():
        before = adapted(inputs).vector
        add_lora("x", LoraConfig(rank=2, alpha=4.0), adapted)
        torch.testing.assert_close(adapted(inputs).vector, before)
    trained = {key: value for key, value in adapted.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in key for key in trained)
    with torch.no_grad():
        for key, value in trained.items():
            if "lora_B" in key:
                value.normal_(std=0.2)
    adapted(inputs).vector.square().sum().backward()
    unused, total = layers_without_gradient(adapted)
    assert len(unused) < total
    plain = copy.deepcopy(case.encoder)
    with torch.no_grad():
        after = adapted(inputs).vector
        plain.load_state_dict({k: v for k, v in merged_state(adapted).items() if not _of(unused, k)}, strict=False)
        torch.testing.assert_close(plain(inputs).vector, after, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(after, before)


def _of(layers: list[str], key: str) -> bool:
    return any(key.startswith(f"{layer}.") for layer in layers)
