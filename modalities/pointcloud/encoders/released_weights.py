"""Weights of Point-MAE, Point-BERT and ULIP's Point-BERT, by their released names."""

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmalign.errors import UserError
from modalities.common.encoders.safe_weights import read_weights

if TYPE_CHECKING:
    from modalities.pointcloud.encoders.point_transformer import PointTransformer

PREFIXES = ("MAE_encoder.", "ACT_encoder.", "transformer_q.", "point_encoder.", "base_model.", "module.")
LAYERS = {
    r"encoder\.first_conv\.(\d)": r"patches.first.\1",
    r"encoder\.second_conv\.(\d)": r"patches.second.\1",
    r"reduce_dim": r"patches.reduce",
    r"pos_embed\.(\d)": r"positions.\1",
    r"blocks\.blocks\.(\d+)\.attn\.qkv": r"layers.blocks.\1.attention.qkv",
    r"blocks\.blocks\.(\d+)\.attn\.proj": r"layers.blocks.\1.attention.out",
    r"blocks\.blocks\.(\d+)\.norm1": r"layers.blocks.\1.norm_attention",
    r"blocks\.blocks\.(\d+)\.norm2": r"layers.blocks.\1.norm_mlp",
    r"blocks\.blocks\.(\d+)\.mlp\.fc1": r"layers.blocks.\1.mlp.0",
    r"blocks\.blocks\.(\d+)\.mlp\.fc2": r"layers.blocks.\1.mlp.2",
    r"norm": r"layers.norm",
}


def translate(state: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """Rename released tensors; what belongs to no encoder (decoders, heads) is left out.

    Convolutions of size one become linear layers, and attention without a bias gets one of zeros: the same function.

    Args:
        state: Released names and tensors.
        width: Size of a token.
    """
    named = {}
    for name, tensor in state.items():
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        named[name] = tensor.squeeze(2) if tensor.ndim == 3 and tensor.shape[2] == 1 else tensor
    found: dict[str, Tensor] = {}
    for name, tensor in named.items():
        layer, _, last = name.rpartition(".")
        for pattern, ours in LAYERS.items():
            if re.fullmatch(pattern, layer):
                found[f"{re.sub(pattern, ours, layer)}.{last}"] = tensor
    for name, ours in (("cls_token", "class_token"), ("cls_pos", "class_position")):
        if name in named:
            found[ours] = named[name].reshape(-1)
    for name in [name for name in found if name.endswith("attention.qkv.weight")]:
        found.setdefault(name.replace("weight", "bias"), torch.zeros(3 * width))
    return found


def load_released(encoder: "PointTransformer", path: str) -> None:
    """Fill an encoder with released weights.

    Raises:
        UserError: no such file, or it lacks a tensor or has one of another size; the arguments that would fit are told.
    """
    state = read_weights(path)
    found = translate(state, int(encoder.token_width or 0))
    wanted = encoder.state_dict()
    anew = {"class_token", "class_position"}  # a pretrained Point-MAE has none: they come with fine-tuning
    wrong = [
        f"{name} {tuple(tensor.shape)}, got {tuple(found[name].shape) if name in found else 'none'}"
        for name, tensor in wanted.items()
        if name not in anew and (name not in found or found[name].shape != tensor.shape)
    ]
    if wrong:
        raise UserError(
            f"pointcloud point_transformer: the weights in {path} do not fit; expected {'; '.join(wrong[:3])}"
            f"{' ...' if len(wrong) > 3 else ''}; "
            "released ones need width 384, depth 12, hidden 128, norm batch, and Point-BERT's inner 256"
        )
    encoder.load_state_dict({name: found.get(name, tensor) for name, tensor in wanted.items()})
