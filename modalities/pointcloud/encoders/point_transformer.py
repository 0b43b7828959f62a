"""A transformer over local groups of points, in the shape of Point-BERT and Point-MAE."""

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.masking import hidden_tokens
from modalities.common.encoders.transformer import Transformer, masked_mean
from modalities.pointcloud.encoders.groups import Groups, demand_groups, group_points
from modalities.pointcloud.encoders.masked_decoder import MaskedDecoder, position_layers
from modalities.pointcloud.encoders.patch_encoder import NORMS, PatchEncoder
from modalities.pointcloud.encoders.released_weights import load_released
from modalities.pointcloud.transform import PointCloudTransform

POOLS = ("mean_max", "class_max")


class PointTransformer(Encoder):
    """Groups of points -> a small PointNet each -> transformer -> pool (Point-MAE, arXiv 2203.06604, section 3).

    The place of a group is added before every layer, as released. The defaults are small enough for a processor;
    Point-MAE is `width: 384, depth: 12, heads: 6, hidden: 128, norm: batch, pool: class_max, drop_path: 0.1`.

    Args:
        transform: The transform; gives the channels of a point.
        groups: Groups of each cloud: the number of tokens.
        group_size: Points of each group.
        width: Size of a token; the vector is twice as wide.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        hidden: First layer of the PointNet of a group.
        inner: Size of a group before a linear layer brings it to `width`, as Point-BERT has it (256); null = none.
        norm: layer or batch, of that PointNet.
        pool: mean_max (mean and maximum of the tokens, side by side) or class_max (class token and maximum).
        drop_path: Probability that the last layer is skipped in training, less for those before it (stochastic depth).
        decoder_depth: Layers of the decoder that masked pretraining builds.
        weights: A file of weights as Point-MAE, Point-BERT or ULIP release them, `.safetensors` or `.pth` of tensors
            alone; "" = from scratch. What they have no tensor for starts anew.

    Shape:
        `points (batch, n, 3)`, `mask (batch, n)` -> vector `(batch, 2 * width)`, tokens `(batch, groups, width)`.

    Raises:
        UserError: an argument does not fit, or the weights do not.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> args = {"groups": 8, "group_size": 4, "width": 16, "depth": 1, "heads": 2}
        >>> MODALITY.encoder("point_transformer", MODALITY.transform("point_transformer", args), **args).width
        32
    """

    def __init__(
        self,
        transform: PointCloudTransform,
        *,
        groups: int = 32,
        group_size: int = 32,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 32,
        inner: int | None = None,
        norm: str = "layer",
        pool: str = "mean_max",
        drop_path: float = 0.0,
        decoder_depth: int = 2,
        weights: str = "",
    ) -> None:
        super().__init__(2 * width, token_width=width)
        for name, value in {"groups": groups, "group_size": group_size, "depth": depth, "hidden": hidden}.items():
            if value < 1:
                raise UserError(f"pointcloud point_transformer: expected {name} of at least 1, got {value}")
        if decoder_depth < 0:
            raise UserError(f"pointcloud point_transformer: expected decoder_depth of at least 0, got {decoder_depth}")
        demand_groups("point_transformer", groups, group_size)
        if norm not in NORMS or pool not in POOLS:
            raise UserError(
                f"pointcloud point_transformer: expected norm {' or '.join(NORMS)} and pool {' or '.join(POOLS)}, "
                f"got {norm!r} and {pool!r}"
            )
        if not 0 <= drop_path < 1:
            raise UserError(f"pointcloud point_transformer: expected drop_path in 0..1, got {drop_path}")
        self.arguments: dict[str, Any] = {
            "groups": groups, "group_size": group_size, "width": width, "depth": depth, "heads": heads,
            "hidden": hidden, "inner": inner, "norm": norm, "pool": pool, "drop_path": drop_path,
            "decoder_depth": decoder_depth,
        }  # fmt: skip
        self.groups, self.group_size, self.target_width = groups, group_size, 3 * group_size
        self.patches = PatchEncoder(transform.channels, width, hidden=hidden, inner=inner, norm=norm)
        self.positions = position_layers(width)
        self.layers = Transformer(width, depth=depth, heads=heads, drop_path=drop_path)
        self.class_token = self.class_position = None
        if pool == "class_max":
            self.class_token = nn.Parameter(torch.randn(width) * 0.02)
            self.class_position = nn.Parameter(torch.randn(width) * 0.02)
        if weights:
            if transform.sealed:
                raise UserError("pointcloud point_transformer: a bundle brings its own weights, it cannot name others")
            size = "width 384, depth 12, hidden 128, norm batch, and Point-BERT's inner 256"
            # A pretrained Point-MAE has no class token: it comes with fine-tuning.
            load_released(self, weights, size, anew=("class_token", "class_position"))

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["points"]`, or the groups that `mask_inputs` left to see."""
        if "hidden" not in inputs:
            groups = group_points(inputs, self.groups, self.group_size)
            values = self._encode(groups)
            return Features(self._pool(values, groups.mask), Tokens(self._tokens(values), groups.mask))
        groups, hidden = Groups(inputs["centres"], inputs["patches"], inputs["mask"]), inputs["hidden"]
        # Masked groups are left out altogether: the visible ones of each cloud, then what fills up the batch.
        visible = groups.mask & ~hidden
        order = (~visible).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(visible.sum(1).max())]
        seen = replace(groups.take(order), mask=visible.gather(1, order))
        values = self._encode(seen)
        tokens = self._tokens(values).masked_fill(~seen.mask[:, :, None], 0.0)
        spread = tokens.new_zeros(*hidden.shape, tokens.shape[2])
        spread = spread.scatter(1, order[:, :, None].expand(-1, -1, tokens.shape[2]), tokens)
        return Features(self._pool(values, seen.mask), Tokens(spread, visible))

    def mask_inputs(
        self, inputs: Inputs, mask_ratio: float, generator: Generator | None = None
    ) -> tuple[Inputs, Tokens]:
        """Hide random groups; the targets are their points, relative to the centre (Point-MAE, section 3.2)."""
        groups = group_points(inputs, self.groups, self.group_size)
        hidden = hidden_tokens(groups.mask, mask_ratio, generator)
        masked = {"centres": groups.centres, "patches": groups.patches, "mask": groups.mask, "hidden": hidden}
        return masked, Tokens(groups.patches[..., :3].flatten(2), hidden)

    def decoder(self) -> nn.Module:
        """What reconstructs masked groups from the visible ones."""
        width, depth, heads = (self.arguments[name] for name in ("width", "decoder_depth", "heads"))
        return MaskedDecoder(width, self.target_width, depth=depth, heads=heads)

    def _encode(self, groups: Groups) -> Tensor:
        """Run the layers, the class token first where there is one."""
        mask = groups.mask
        tokens = self.patches(groups.patches[mask])  # real groups alone, so that padding enters no batch statistics
        values = tokens.new_zeros(*mask.shape, tokens.shape[1])
        values[mask] = tokens
        positions = self.positions(groups.centres)
        if self.class_token is not None and self.class_position is not None:
            values = torch.cat([self.class_token.to(values.dtype).expand(values.shape[0], 1, -1), values], dim=1)
            positions = torch.cat(
                [self.class_position.to(values.dtype).expand(values.shape[0], 1, -1), positions], dim=1
            )
            mask = torch.nn.functional.pad(mask, (1, 0), value=True)
        return self.layers(values, mask, positions)  # type: ignore[no-any-return]

    def _tokens(self, values: Tensor) -> Tensor:
        return values if self.class_token is None else values[:, 1:]

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        tokens = self._tokens(values)
        first = masked_mean(tokens, mask) if self.class_token is None else values[:, 0]
        low = torch.finfo(tokens.dtype).min
        largest = tokens.masked_fill(~mask[:, :, None], low).amax(1) if tokens.shape[1] else torch.zeros_like(first)
        return torch.cat([first, largest.masked_fill(~mask.any(1, keepdim=True), 0.0)], dim=1)
