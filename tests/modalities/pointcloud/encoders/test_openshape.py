"""OpenShape's encoder: order and padding, and released weights against the published equations in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import UserError
from mmalign.types import Inputs
from modalities.pointcloud import MODALITY
from modalities.pointcloud.encoders.openshape import OpenShape

WIDTH, DEPTH, HEADS, RADIUS, SIZE = 16, 2, 2, 0.35, 6
ARGS: dict[str, Any] = {
    "groups": 8, "group_size": SIZE, "radius": RADIUS, "width": WIDTH, "depth": DEPTH, "heads": HEADS, "hidden": 8,
    "inner": 12, "mlp": 24, "project": 10,
}  # fmt: skip


def build(**more: Any) -> OpenShape:
    torch.manual_seed(0)
    encoder = MODALITY.encoder("openshape", MODALITY.transform("openshape", {}, colours=True), **{**ARGS, **more})
    assert isinstance(encoder, OpenShape)
    return encoder.double().eval()


def clouds(*counts: int) -> Inputs:
    generator, length = torch.Generator().manual_seed(1), max(counts)
    points, colours = torch.rand(2, len(counts), length, 3, generator=generator, dtype=torch.float64)
    return {"points": points, "colours": colours, "mask": torch.arange(length) < torch.tensor(counts)[:, None]}


def released() -> dict[str, Tensor]:
    """A state dict with the names and shapes of OpenShape's release."""
    torch.manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "ppat.lift.0.weight": (WIDTH, 15, 1), "ppat.lift.0.bias": (WIDTH,), "ppat.lift.2.weight": (WIDTH,),
        "ppat.lift.2.bias": (WIDTH,), "ppat.cls_token": (WIDTH,), "proj.weight": (10, WIDTH), "proj.bias": (10,),
    }  # fmt: skip
    for layer, (channels, size) in enumerate(((9, 8), (8, 8), (8, 12))):
        shapes |= {f"ppat.sa.mlp_convs.{layer}.weight": (size, channels, 1, 1)}
        shapes |= {f"ppat.sa.mlp_convs.{layer}.bias": (size,)}
        shapes |= {f"ppat.sa.mlp_bns.{layer}.{name}": (size,) for name in ("weight", "bias", "running_mean")}
    for layer in range(DEPTH):
        shapes |= {
            f"ppat.transformer.layers.{layer}.{name}": shape
            for name, shape in {
                "0.norm.weight": (WIDTH,), "0.norm.bias": (WIDTH,), "1.norm.weight": (WIDTH,), "1.norm.bias": (WIDTH,),
                "0.fn.to_qkv.weight": (3 * WIDTH, WIDTH), "0.fn.to_out.0.weight": (WIDTH, WIDTH),
                "0.fn.to_out.0.bias": (WIDTH,), "1.fn.net.0.weight": (24, WIDTH), "1.fn.net.0.bias": (24,),
                "1.fn.net.3.weight": (WIDTH, 24), "1.fn.net.3.bias": (WIDTH,),
            }.items()
        }  # fmt: skip
    state = {f"module.{name}": torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    for layer, size in enumerate((8, 8, 12)):
        state[f"module.ppat.sa.mlp_bns.{layer}.running_var"] = 1 + torch.rand(size)
        state[f"module.ppat.sa.mlp_bns.{layer}.num_batches_tracked"] = torch.tensor(7)
    return state


def published(state: dict[str, Tensor], points: Tensor, colours: Tensor) -> Tensor:
    """The vector of one cloud by the equations of the release, balls in loops."""
    s = {name.removeprefix("module.").removeprefix("ppat."): value.double() for name, value in state.items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ s[f"{name}.weight"].flatten(1).T + s.get(f"{name}.bias", torch.tensor(0.0))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"])

    chosen = [int((points - points.mean(0)).norm(dim=1).argmax())]
    while len(chosen) < 8:
        nearest = (points[:, None] - points[chosen][None]).norm(dim=2).amin(1)
        chosen.append(int(nearest.argmax()))
    tokens = [s["cls_token"]]
    for index in chosen:
        inside = [i for i in range(len(points)) if (points[i] - points[index]).norm() <= RADIUS][:SIZE]
        x = torch.cat([points[inside] - points[index], points[inside], colours[inside]], dim=1)
        for layer in range(3):
            x = linear(x, f"sa.mlp_convs.{layer}")
            name = f"sa.mlp_bns.{layer}"
            x = (x - s[f"{name}.running_mean"]) / (s[f"{name}.running_var"] + 1e-5).sqrt()
            x = (x * s[f"{name}.weight"] + s[f"{name}.bias"]).clamp(min=0)
        tokens.append(norm(linear(torch.cat([points[index], x.amax(0)]), "lift.0"), "lift.2"))
    x = torch.stack(tokens)
    for layer in range(DEPTH):
        at = f"transformer.layers.{layer}"
        q, k, v = linear(norm(x, f"{at}.0.norm"), f"{at}.0.fn.to_qkv").chunk(3, dim=1)
        heads = []
        for part in torch.arange(WIDTH).chunk(HEADS):
            weights = (q[:, part] @ k[:, part].T / len(part) ** 0.5).softmax(1)
            heads.append(weights @ v[:, part])
        x = x + linear(torch.cat(heads, dim=1), f"{at}.0.fn.to_out.0")
        x = x + linear(F.gelu(linear(norm(x, f"{at}.1.norm"), f"{at}.1.fn.net.0")), f"{at}.1.fn.net.3")
    return linear(x[0], "proj")


def test_released_weights_give_the_published_features(tmp_path: Path) -> None:
    state = released()
    torch.save({"state_dict": state}, tmp_path / "model.pt")
    encoder, inputs = build(weights=str(tmp_path / "model.pt")), clouds(60, 40)
    vectors = encoder(inputs).vector
    for row, count in enumerate((60, 40)):
        expected = published(state, inputs["points"][row, :count], inputs["colours"][row, :count])
        assert_close(vectors[row], expected, rtol=1e-6, atol=1e-6)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"expected .*got .*; released ones need width 512"):
        build(weights=str(tmp_path / "model.pt"), width=32)
    state = released()
    del state["module.proj.weight"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"project.weight \(10, 16\), got none"):
        build(weights=str(tmp_path / "model.pt"))


def test_padding_is_never_read() -> None:
    encoder, inputs = build(), clouds(60, 17, 5)
    for name in ("points", "colours"):
        inputs[name] = inputs[name].masked_fill(~inputs["mask"][:, :, None], torch.nan)
    together = encoder(inputs)
    for row, count in enumerate((60, 17, 5)):
        alone = encoder({name: value[row : row + 1, :count] for name, value in inputs.items()})
        assert_close(together.vector[row : row + 1], alone.vector, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient() -> None:
    encoder = build().train()
    encoder(clouds(60, 40)).vector.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_published_size() -> None:
    size = {"width": 512, "depth": 1, "heads": 8, "hidden": 64, "inner": 256, "mlp": 1536, "project": 1280}
    shapes = {name: tuple(value.shape) for name, value in build(**size).state_dict().items()}
    assert shapes["layers.blocks.0.mlp.0.weight"] == (1536, 512)
    assert shapes["patches.6.weight"] == (256, 64)
    assert shapes["project.weight"] == (1280, 512)


def test_arguments_must_be_positive() -> None:
    with pytest.raises(UserError, match="expected positive numbers, got {'radius': 0}"):
        build(radius=0)
