"""Weights of Point-MAE, Point-BERT, ULIP's Point-BERT and OpenShape, by their released names."""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.modality import Encoder
from modalities.common.encoders.safe_weights import read_weights

PREFIXES = ("ppat.", "MAE_encoder.", "ACT_encoder.", "transformer_q.", "point_encoder.", "base_model.", "module.")
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
OPENSHAPE_LAYERS = {
    **{rf"sa\.mlp_convs\.{place}": f"patches.{3 * place}" for place in range(3)},
    **{rf"sa\.mlp_bns\.{place}": f"patches.{3 * place + 1}" for place in range(3)},
    r"lift\.0": r"lift.0",
    r"lift\.2": r"lift.1",
    r"transformer\.layers\.(\d+)\.0\.norm": r"layers.blocks.\1.norm_attention",
    r"transformer\.layers\.(\d+)\.0\.fn\.to_qkv": r"layers.blocks.\1.attention.qkv",
    r"transformer\.layers\.(\d+)\.0\.fn\.to_out\.0": r"layers.blocks.\1.attention.out",
    r"transformer\.layers\.(\d+)\.1\.norm": r"layers.blocks.\1.norm_mlp",
    r"transformer\.layers\.(\d+)\.1\.fn\.net\.0": r"layers.blocks.\1.mlp.0",
    r"transformer\.layers\.(\d+)\.1\.fn\.net\.3": r"layers.blocks.\1.mlp.2",
    r"proj": r"project",
}


def translate(state: dict[str, Tensor], width: int, layers: Mapping[str, str] = LAYERS) -> dict[str, Tensor]:
    """Rename released tensors; what belongs to no encoder (decoders, heads) is left out.

    Convolutions of size one become linear layers, and attention without a bias gets one of zeros: the same function.

    Args:
        state: Released names and tensors.
        width: Size of a token.
        layers: Patterns of released layers, and their names here.
    """
    named = {}
    for name, tensor in state.items():
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        convolution = tensor.ndim > 2 and set(tensor.shape[2:]) == {1}
        named[name] = tensor.flatten(1) if convolution else tensor
    translated: dict[str, Tensor] = {}
    for name, tensor in named.items():
        layer, _, last = name.rpartition(".")
        for pattern, ours in layers.items():
            if re.fullmatch(pattern, layer):
                translated[f"{re.sub(pattern, ours, layer)}.{last}"] = tensor
    for name, ours in (("cls_token", "class_token"), ("cls_pos", "class_position")):
        if name in named:
            translated[ours] = named[name].reshape(-1)
    for name in [name for name in translated if name.endswith("attention.qkv.weight")]:
        translated.setdefault(name.replace("weight", "bias"), torch.zeros(3 * width))
    return translated


def load_released(
    encoder: Encoder, path: str, size: str, *, layers: Mapping[str, str] = LAYERS, anew: Collection[str] = ()
) -> None:
    """Load released weights into an encoder.

    Args:
        encoder: The encoder.
        path: A local file.
        size: The arguments that fit released weights, for the message.
        layers: As in `translate`.
        anew: Names that may be missing.

    Raises:
        UserError: no such file, or a tensor is missing or has another size.
    """
    translated, wanted = translate(read_weights(path), int(encoder.token_width or 0), layers), encoder.state_dict()
    wrong = [
        f"{name} {tuple(tensor.shape)}, got {tuple(translated[name].shape) if name in translated else 'none'}"
        for name, tensor in wanted.items()
        if name not in anew and (name not in translated or translated[name].shape != tensor.shape)
    ]
    if wrong:
        raise UserError(
            f"pointcloud: the weights in {path} do not fit; expected {'; '.join(wrong[:3])}"
            f"{' ...' if len(wrong) > 3 else ''}; released ones need {size}"
        )
    encoder.load_state_dict({name: translated.get(name, tensor) for name, tensor in wanted.items()})
