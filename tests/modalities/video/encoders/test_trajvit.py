"""Trajectory tokens; each property here fails in the released TrajViT code or guards a rewrite of it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmalign.errors import UserError
from modalities.image import MODALITY as IMAGE
from modalities.video.encoders.codes import coordinate_code, time_code
from modalities.video.encoders.segments import segment_rows
from modalities.video.encoders.trajvit import TrajViT

from .video_inputs import longer, reordered, rows, video_inputs

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "cnn_width": 4, "cnn_depths": [1, 1]}


def encoder(size: int = 32, **args: Any) -> TrajViT:
    torch.manual_seed(0)
    return TrajViT(IMAGE.transform("vit", {}, size=size), **(SMALL | args)).eval()


def test_one_token_for_each_trajectory_whatever_the_frames() -> None:
    model = encoder()
    for frames in (1, 3, 16, 40):
        features = model(video_inputs(frames=frames, tracks=7))
        assert features.parts.values.shape == (2, 7, 16)
        assert features.tokens.values.shape == (2, frames, 16)
        assert features.parts.mask.all()
        assert features.vector.isfinite().all()


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_a_clip_does_not_depend_on_its_batch(pool: str) -> None:
    """The longest clip of a batch adds padded trajectories and masked frames to the others."""
    inputs, model = video_inputs(batch=3, size=64, real=[8, 5, 1], tracks=300), encoder(64, pool=pool)
    inputs["segments"][1:] = inputs["segments"][1:] % 4  # few trajectories, up to 300 in the first clip
    every = model(inputs)
    count = len(inputs["segments"][0].unique()) - 1
    assert count > 290
    assert every.parts.mask.sum(1).tolist() == [count, 4, 4]
    for row in range(3):
        alone = model(rows(inputs, row))
        torch.testing.assert_close(alone.vector, every.vector[row : row + 1], rtol=0, atol=1e-6)
        mine = (part.values[at][part.mask[at]] for part, at in ((alone.parts, 0), (every.parts, row)))
        torch.testing.assert_close(*mine, rtol=0, atol=2e-6)
    torch.testing.assert_close(model(longer(inputs, 4)).vector, every.vector, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_padded_trajectories_are_not_read(pool: str) -> None:
    """The released attention ignores the padding mask: perturbing a padded token would move the embedding."""
    layers = encoder(pool=pool).layers
    values, mask = torch.randn(2, 6, 16), torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    changed = torch.where(mask[..., None], values, torch.randn(2, 6, 16) * 100)
    torch.testing.assert_close(layers(changed, mask)[0], layers(values, mask)[0], rtol=0, atol=1e-6)
    moved = values + torch.randn_like(values) * mask[..., None]
    assert (layers(moved, mask)[0] - layers(values, mask)[0]).abs().max() > 1e-3


def test_absent_frames_of_a_trajectory_are_not_read() -> None:
    inputs, model = video_inputs(tracks=3), encoder()
    inputs["segments"][:, ::2][inputs["segments"][:, ::2] == 1] = -1
    pooled = segment_rows([torch.randn(16, 8, 8, 16)], inputs["segments"], inputs["mask"])
    assert not pooled.mask.all()
    noisy = copy.copy(pooled)
    absent = ~pooled.mask[..., None]
    object.__setattr__(noisy, "values", pooled.values.masked_fill(absent, 1e3))
    object.__setattr__(noisy, "coordinates", pooled.coordinates.masked_fill(absent, 0.9))
    tokens = model.trajectories
    torch.testing.assert_close(tokens(noisy, inputs["times"]), tokens(pooled, inputs["times"]), rtol=0, atol=1e-6)


def test_the_order_of_trajectories_does_not_matter() -> None:
    inputs, model = video_inputs(tracks=9), encoder()
    order = torch.randperm(9)
    renamed = {**inputs, "segments": torch.where(inputs["segments"] < 0, -1, order[inputs["segments"].clamp(min=0)])}
    before, after = model(inputs), model(renamed)
    torch.testing.assert_close(after.vector, before.vector, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.parts.values[:, order], before.parts.values, rtol=1e-5, atol=1e-6)


def test_clips_without_trajectories() -> None:
    inputs = video_inputs(tracks=3)
    inputs["segments"][0] = -1
    for pool in ("class", "mean"):
        model = encoder(pool=pool)
        features = model(inputs)
        assert features.parts.mask.sum(1).tolist() == [0, 3]
        assert features.vector.isfinite().all()
        assert features.parts.values[features.parts.mask].isfinite().all()
        none = model({**inputs, "segments": torch.full_like(inputs["segments"], -1)})
        torch.testing.assert_close(none.vector[:1], features.vector[:1], rtol=1e-5, atol=1e-6)
        features.vector.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_each_layer_runs_once() -> None:
    """The released wrapper feeds the output of the encoder to the encoder again."""
    model, calls = encoder(depth=3), []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    model(video_inputs())
    for block in [*model.layers.layers.blocks, *model.trajectories.appearances.layers, *model.cells.network.blocks]:
        assert calls.count(block) == 1


def test_both_coordinates_move_the_code_equally() -> None:
    """Released: 3.70 for x from 0 to 1, 0.038 for y."""
    start = torch.tensor([0.2, 0.2])
    for step in (0.01, 0.1, 0.3):
        x, y = start + torch.tensor([step, 0.0]), start + torch.tensor([0.0, step])
        moved_x, moved_y = ((coordinate_code(point) - coordinate_code(start)).norm() for point in (x, y))
        torch.testing.assert_close(moved_x, moved_y)
        assert moved_x > 0.3


def test_coordinate_and_time_codes_by_hand() -> None:
    code = coordinate_code(torch.tensor([0.5, 0.25]), 2)  # pi / 2, pi, pi / 4, pi / 2
    half = 0.5**0.5
    torch.testing.assert_close(code, torch.tensor([1.0, 0.0, 0.0, -1.0, half, 1.0, half, 0.0]), rtol=0, atol=1e-6)
    found = time_code(torch.tensor(0.0625), 4)  # periods 0.25 s and 1024 s
    angle = torch.tensor(2 * torch.pi * 0.0625 / 1024)
    torch.testing.assert_close(found, torch.stack([torch.tensor(1.0), angle.sin(), torch.tensor(0.0), angle.cos()]))


@pytest.mark.parametrize("place", ["centroid", "box"])
def test_transposed_clips_equal_exchanged_axes(place: str) -> None:
    """Transposed clips have the embedding of the same network with x and y exchanged in its weights."""
    inputs, model = video_inputs(), encoder(place=place)
    swapped = copy.deepcopy(model)
    for module in swapped.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.transpose(2, 3).contiguous()
    columns = swapped.trajectories.position.weight.data.unflatten(1, (-1, 2, 18))  # ..., (x, y), code
    swapped.trajectories.position.weight.data = columns.flip(2).flatten(1)
    axes = swapped.trajectories.velocity.weight.data.unflatten(1, (-1, 2))
    swapped.trajectories.velocity.weight.data = axes.flip(2).flatten(1)
    turned = {**inputs, "frames": inputs["frames"].transpose(3, 4), "segments": inputs["segments"].transpose(2, 3)}
    torch.testing.assert_close(swapped(turned).vector, model(inputs).vector, rtol=1e-4, atol=1e-5)
    assert (model(turned).vector - model(inputs).vector).abs().max() > 1e-3


def test_the_order_of_frames_matters() -> None:
    inputs, model = video_inputs(), encoder()
    backwards = reordered(inputs, [7, 6, 5, 4, 3, 2, 1, 0])
    assert (model(backwards).vector - model(inputs).vector).abs().max() > 1e-3


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.most = max(self.most, *(one.numel() for one in (made if isinstance(made, tuple) else (made,)) if
                                     isinstance(one, torch.Tensor)), 0)  # fmt: skip
        return made


def test_pooling_needs_memory_of_the_cells_alone() -> None:
    """The released one-hot of (batch, time, segments, cells) is 300 times as large as the map of segments."""
    segments = torch.randint(0, 300, (2, 8, 28, 28))
    features = torch.randn(16, 28, 28, 8, requires_grad=True)
    with LargestTensor() as largest:
        pooled = segment_rows([features], segments, torch.ones(2, 8, dtype=torch.bool))
        pooled.values.square().sum().backward()
    assert features.numel() <= largest.most <= 2 * features.numel()


def test_frames_are_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine frames in windows of two: the same features, and the network never sees more than a window."""
    inputs, model, seen = video_inputs(frames=9, real=[9, 6]), encoder(), []
    whole = model(inputs)
    model.cells.register_forward_hook(lambda _, given, made: seen.append(len(given[0])))
    monkeypatch.setattr("modalities.video.encoders.trajvit.WINDOW", 2 * 32 * 32)
    found = model(inputs)
    assert seen == [2] * 7 + [1]
    torch.testing.assert_close(found.vector, whole.vector, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.tokens.values, whole.tokens.values, rtol=0, atol=1e-6)
    model.train()(inputs)
    assert seen[8:] == [15]


@pytest.mark.parametrize("cnn", ["small", "resnet18"])
def test_every_parameter_is_trained(cnn: str) -> None:
    model = encoder(cnn=cnn).train()
    features = model(video_inputs())
    (features.vector.square().sum() + features.parts.values.square().sum()).backward()
    lacking = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert lacking == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"cnn": "resnet"}, "cnn must be one of small, resnet18"),
        ({"cnn_depths": []}, "cnn_depths"),
        ({"cnn_width": 1}, "cnn_width"),
        ({"width": 15}, "even width"),
        ({"heads": 3}, "heads"),
        ({"resampler_depth": 0}, "resampler_depth"),
        ({"place": "middle"}, "place"),
        ({"frequencies": 0}, "frequencies"),
        ({"pool": "max"}, "pool"),
    ],
)
def test_invalid_arguments_are_errors(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        encoder(**args)


def test_inputs_without_trajectories_name_the_setting() -> None:
    inputs = {name: value for name, value in video_inputs().items() if name != "segments"}
    with pytest.raises(UserError, match="tracks"):
        encoder()(inputs)


def test_config_rebuilds_the_encoder() -> None:
    model = encoder(pool="mean", place="box", frequencies=4)
    again = TrajViT(IMAGE.transform("vit", {}, size=32), **model.config()).eval()
    again.load_state_dict(model.state_dict())
    inputs = video_inputs()
    torch.testing.assert_close(again(inputs).vector, model(inputs).vector, rtol=0, atol=0)
