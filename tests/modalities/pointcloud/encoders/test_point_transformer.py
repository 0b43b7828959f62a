"""The point transformer: what changes its features, what must not, masked groups, and released weights."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import UserError
from mmalign.types import Inputs
from modalities.pointcloud import MODALITY
from modalities.pointcloud.encoders.groups import group_points
from modalities.pointcloud.encoders.point_transformer import PointTransformer

SMALL: dict[str, Any] = {"groups": 8, "group_size": 6, "width": 16, "depth": 2, "heads": 2, "hidden": 8}


def build(**args: Any) -> PointTransformer:
    torch.manual_seed(0)
    made = {**SMALL, **args}
    encoder = MODALITY.encoder("point_transformer", MODALITY.transform("point_transformer", made), **made)
    assert isinstance(encoder, PointTransformer)
    return encoder.double().eval()


def clouds(*counts: int, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    length = max(counts)
    points = torch.rand(len(counts), length, 3, generator=generator, dtype=torch.float64)
    mask = torch.arange(length) < torch.tensor(counts)[:, None]
    return {"points": points * mask[:, :, None], "mask": mask}


@pytest.mark.parametrize("pool", ["mean_max", "class_max"])
def test_order_of_points_does_not_change_the_features(pool: str) -> None:
    encoder, inputs = build(pool=pool), clouds(60, 60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    shuffled = {"points": inputs["points"][:, order], "mask": inputs["mask"]}
    assert_close(encoder(shuffled).vector, encoder(inputs).vector, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pool", ["mean_max", "class_max"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_does_not_change_the_features_of_a_cloud(pool: str, norm: str) -> None:
    encoder, inputs = build(pool=pool, norm=norm), clouds(60, 17, 5)
    inputs["points"] = inputs["points"].masked_fill(~inputs["mask"][:, :, None], torch.nan)  # padding is never read
    together = encoder(inputs)
    for row, count in enumerate((60, 17, 5)):
        alone = encoder({name: value[row : row + 1, :count] for name, value in inputs.items()})
        assert_close(together.vector[row : row + 1], alone.vector, rtol=0, atol=1e-12)
        assert int(together.tokens.mask[row].sum()) == min(8, count)


def test_moving_one_point_changes_the_features() -> None:
    encoder, inputs = build(), clouds(40)
    moved = {**inputs, "points": inputs["points"].clone()}
    moved["points"][0, 3] += 0.3
    assert (encoder(moved).vector - encoder(inputs).vector).abs().max() > 1e-4


def test_sixty_percent_of_64_groups_are_38() -> None:
    encoder = build(groups=64)
    _, target = encoder.mask_inputs(clouds(200, 100), 0.6, torch.Generator().manual_seed(0))
    assert target.mask.sum(1).tolist() == [38, 38]
    assert target.values.shape == (2, 64, 18)


def test_targets_are_the_points_of_a_group_relative_to_its_centre() -> None:
    encoder, inputs = build(), clouds(50)
    _, target = encoder.mask_inputs(inputs, 0.5, torch.Generator().manual_seed(0))
    groups = group_points(inputs, 8, 6)
    assert_close(target.values.unflatten(2, (6, 3)), groups.patches)
    inside = (inputs["points"][:, :, None] == groups.centres[:, None]).all(3).any(1)
    assert inside.all()  # centres are points of the cloud
    assert (target.values.unflatten(2, (6, 3))[:, :, 0] == 0).all()  # the nearest point of a centre is the centre


def test_masked_groups_reach_neither_encoder_nor_decoder() -> None:
    encoder, inputs = build(), clouds(50, 30)
    decoder = encoder.decoder().double().eval()
    masked, target = encoder.mask_inputs(inputs, 0.5, torch.Generator().manual_seed(0))
    changed = {**masked, "patches": torch.where(target.mask[:, :, None, None], torch.nan, masked["patches"])}
    for one, other in zip((encoder(masked), encoder(changed)), (encoder(changed), encoder(masked)), strict=True):
        assert_close(one.vector, other.vector, rtol=0, atol=0)
        for made, again in zip(decoder(one.tokens, masked), decoder(other.tokens, changed), strict=True):
            assert_close(made, again, rtol=0, atol=0)


def test_tokens_of_visible_groups_keep_their_index() -> None:
    encoder, inputs = build(), clouds(50)
    masked, target = encoder.mask_inputs(inputs, 0.5, torch.Generator().manual_seed(0))
    seen = encoder(masked).tokens
    assert torch.equal(seen.mask, ~target.mask)
    assert (seen.values[target.mask] == 0).all()
    # Attention over the visible groups alone, in the order in which they stand.
    visible = (~target.mask[0]).nonzero()[:, 0][None]
    groups = group_points(inputs, 8, 6).take(visible)
    assert_close(seen.values[0][~target.mask[0]], encoder._encode(groups)[0], rtol=0, atol=1e-12)


def test_a_masked_sample_is_the_same_in_a_padded_batch() -> None:
    encoder, inputs = build(), clouds(50, 5)
    masked, _ = encoder.mask_inputs(inputs, 0.5, torch.Generator().manual_seed(0))
    together = encoder(masked)
    alone = encoder({name: value[1:] for name, value in masked.items()})
    assert_close(together.vector[1:], alone.vector, rtol=0, atol=1e-12)


def test_drop_path_acts_in_training_only_and_keeps_the_mean() -> None:
    from modalities.common.encoders.transformer import DropPath

    layer, values = DropPath(0.25), torch.ones(4000, 2)
    torch.manual_seed(0)
    dropped = layer.train()(values)
    assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert layer.eval()(values) is values


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"groups": 0}, "expected groups of at least 1, got 0"),
        ({"norm": "group"}, "expected norm layer or batch"),
        ({"pool": "cls"}, "pool mean_max or class_max"),
        ({"drop_path": 1.0}, "expected drop_path in 0..1, got 1.0"),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**args)


def released(width: int, depth: int, *, bert: bool = False) -> dict[str, Tensor]:
    """A state dict with the names and shapes of Point-MAE's release, or of Point-BERT's."""
    torch.manual_seed(3)
    inner = 20 if bert else width
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.first_conv.0.weight": (128, 3, 1), "encoder.first_conv.0.bias": (128,),
        "encoder.first_conv.3.weight": (256, 128, 1), "encoder.first_conv.3.bias": (256,),
        "encoder.second_conv.0.weight": (512, 512, 1), "encoder.second_conv.0.bias": (512,),
        "encoder.second_conv.3.weight": (inner, 512, 1), "encoder.second_conv.3.bias": (inner,),
        "pos_embed.0.weight": (128, 3), "pos_embed.0.bias": (128,),
        "pos_embed.2.weight": (width, 128), "pos_embed.2.bias": (width,),
        "cls_token": (1, 1, width), "cls_pos": (1, 1, width), "norm.weight": (width,), "norm.bias": (width,),
        "cls_head_finetune.0.weight": (3, 2 * width),
    }  # fmt: skip
    if bert:
        shapes |= {"reduce_dim.weight": (width, inner), "reduce_dim.bias": (width,)}
    for layer in range(depth):
        shapes |= {
            f"blocks.blocks.{layer}.{name}": shape
            for name, shape in {
                "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
                "attn.qkv.weight": (3 * width, width), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
                "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
                "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
            }.items()
        }  # fmt: skip
    state = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    for place, size in (("first_conv.1", 128), ("second_conv.1", 512)):
        state |= {
            f"encoder.{place}.weight": 1 + torch.randn(size) * 0.1, f"encoder.{place}.bias": torch.randn(size) * 0.1,
            f"encoder.{place}.running_mean": torch.randn(size) * 0.1,
            f"encoder.{place}.running_var": 1 + torch.rand(size),
            f"encoder.{place}.num_batches_tracked": torch.tensor(7),
        }  # fmt: skip
    return state


def published(state: dict[str, Tensor], patches: Tensor, centres: Tensor, heads: int, depth: int) -> Tensor:
    """Features before the fine-tuning head, one cloud: Point-MAE's equations with its names, in float64."""
    s = {name: value.double() for name, value in state.items()}

    def conv(x: Tensor, name: str) -> Tensor:
        return x @ s[f"{name}.weight"].squeeze(-1).T + s[f"{name}.bias"]

    def batch_norm(x: Tensor, name: str) -> Tensor:
        scaled = (x - s[f"{name}.running_mean"]) / (s[f"{name}.running_var"] + 1e-5).sqrt()
        return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])

    tokens = []
    for patch in patches:
        local = conv(
            torch.relu(batch_norm(conv(patch, "encoder.first_conv.0"), "encoder.first_conv.1")), "encoder.first_conv.3"
        )
        both = torch.cat([local.amax(0, keepdim=True).expand_as(local), local], dim=1)
        deep = torch.relu(batch_norm(conv(both, "encoder.second_conv.0"), "encoder.second_conv.1"))
        tokens.append(conv(deep, "encoder.second_conv.3").amax(0))
    x = torch.stack(tokens)
    if "reduce_dim.weight" in s:
        x = conv(x, "reduce_dim")
    x = torch.cat([s["cls_token"][0], x])
    position = torch.cat([s["cls_pos"][0], conv(F.gelu(conv(centres, "pos_embed.0")), "pos_embed.2")])
    width = x.shape[1]
    for layer in range(depth):
        name = f"blocks.blocks.{layer}"
        x = x + position
        qkv = layer_norm(x, f"{name}.norm1") @ s[f"{name}.attn.qkv.weight"].T
        mixed = []
        for head in range(heads):
            q, k, v = (
                qkv[:, part * width :][:, head * width // heads : (head + 1) * width // heads] for part in range(3)
            )
            mixed.append((q @ k.T / (width // heads) ** 0.5).softmax(1) @ v)
        x = x + conv(torch.cat(mixed, dim=1), f"{name}.attn.proj")
        x = x + conv(F.gelu(conv(layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    x = layer_norm(x, "norm")
    return torch.cat([x[0], x[1:].amax(0)])


@pytest.mark.parametrize("prefix", ["", "MAE_encoder.", "module.point_encoder."])
@pytest.mark.parametrize("bert", [False, True], ids=["point-mae", "point-bert"])
def test_released_weights_give_the_published_features(prefix: str, bert: bool, tmp_path: Any) -> None:
    state = released(24, 2, bert=bert)
    torch.save({"base_model": {prefix + name: value for name, value in state.items()}}, tmp_path / "released.pth")
    args = {"width": 24, "heads": 6, "hidden": 128, "norm": "batch", "pool": "class_max", "inner": 20 if bert else None}
    encoder = build(**args, weights=str(tmp_path / "released.pth"))
    inputs = clouds(80)
    groups = group_points(inputs, 8, 6)
    expected = published(state, groups.patches[0], groups.centres[0], heads=6, depth=2)
    assert_close(encoder(inputs).vector[0], expected, rtol=0, atol=1e-10)
    assert "weights" not in encoder.config()


def test_weights_of_another_size_are_refused_by_what_differs(tmp_path: Any) -> None:
    torch.save(released(24, 2), tmp_path / "released.pth")
    with pytest.raises(UserError, match=r"do not fit; expected patches.first.0.weight \(8, 3\), got \(128, 3\)"):
        build(weights=str(tmp_path / "released.pth"))
