"""The point transformer of OpenShape, which loads its released weights."""

from typing import Any

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.transformer import Transformer
from modalities.pointcloud.encoders.groups import demand_groups, group_points
from modalities.pointcloud.encoders.released_weights import OPENSHAPE_LAYERS, load_released
from modalities.pointcloud.transform import PointCloudTransform

SIZE = "width 512, depth 12, hidden 64, inner 256, mlp 1536, project 1280, and transform.colours"


class OpenShape(Encoder):
    """Balls of points -> a perceptron and a maximum each -> transformer with a class token -> linear map.

    OpenShape's PointBERT-like encoder (Liu et al. 2023, arXiv 2305.10764; `ppat` in its release). Positions enter once,
    as the centre beside the features of each ball. A ball holds the first points in the pseudo-random order of the
    transform, as in the release. The published size is `{groups: 384, group_size: 64, radius: 0.2, width: 512, depth:
    12, heads: 8, hidden: 64, inner: 256, mlp: 1536}`, with `project: 1280` for OpenCLIP ViT-bigG-14, 10,000 points and
    colours; z is up in the inputs.

    Args:
        transform: The transform; gives the channels of a point.
        groups: Balls of each cloud: the number of tokens.
        group_size: Points of each ball.
        radius: Radius of a ball, of clouds within the unit sphere.
        width: Size of a token.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        hidden: First two layers of the perceptron of a ball.
        inner: Its last layer.
        mlp: Hidden size of the perceptron of a layer.
        project: Size of the vector, a linear map of the class token; null = the class token itself.
        weights: A local file of released weights, `.safetensors` or `.pth` of tensors alone; "" = from scratch.

    Shape:
        `points (batch, n, 3)`, `mask (batch, n)` -> vector `(batch, project or width)`, tokens
        `(batch, groups, width)`.

    Raises:
        UserError: an argument does not fit, or the weights do not.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> MODALITY.encoder("openshape", MODALITY.transform("openshape", {}), width=32, depth=1, project=8).width
        8
    """

    def __init__(
        self,
        transform: PointCloudTransform,
        *,
        groups: int = 32,
        group_size: int = 32,
        radius: float = 0.4,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 32,
        inner: int = 64,
        mlp: int = 192,
        project: int | None = None,
        weights: str = "",
    ) -> None:
        super().__init__(project or width, token_width=width)
        self.arguments: dict[str, Any] = {
            "groups": groups, "group_size": group_size, "radius": radius, "width": width, "depth": depth,
            "heads": heads, "hidden": hidden, "inner": inner, "mlp": mlp, "project": project,
        }  # fmt: skip
        wrong = {name: value for name, value in self.arguments.items() if name != "project" and not value > 0}
        if wrong or (project is not None and project < 1):
            raise UserError(f"pointcloud openshape: expected positive numbers, got {wrong or {'project': project}}")
        demand_groups("openshape", groups, group_size)
        self.groups, self.group_size, self.radius = groups, group_size, radius
        layers: list[nn.Module] = []
        channels = 3 + transform.channels  # relative coordinates, then coordinates and what a point carries
        for size in (hidden, hidden, inner):
            layers += [nn.Linear(channels, size), nn.BatchNorm1d(size), nn.ReLU()]
            channels = size
        self.patches = nn.Sequential(*layers)
        self.lift = nn.Sequential(nn.Linear(3 + inner, width), nn.LayerNorm(width))
        self.class_token = nn.Parameter(torch.randn(width))
        ratio = (mlp + 0.5) / width  # half a unit more, so that rounding down gives `mlp`
        self.layers = Transformer(width, depth=depth, heads=heads, mlp_ratio=ratio, final_norm=False)
        self.project = nn.Linear(width, project) if project else nn.Identity()
        if weights:
            if transform.sealed:
                raise UserError("pointcloud openshape: a bundle brings its own weights, it cannot name others")
            load_released(self, weights, SIZE, layers=OPENSHAPE_LAYERS)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["points"]`."""
        groups = group_points(inputs, self.groups, self.group_size, radius=self.radius, nearest=False)
        mask, real = groups.mask, groups.patches[groups.mask]  # (real groups, size, channels)
        relative, attributes = real[..., :3], real[..., 3:]
        points = torch.cat([relative, relative + groups.centres[mask][:, None], attributes], dim=2)
        local = self.patches(points.flatten(0, 1)).unflatten(0, points.shape[:2]).amax(1)
        tokens: Tensor = local.new_zeros(*mask.shape, self.token_width)
        tokens[mask] = self.lift(torch.cat([groups.centres[mask], local], dim=1)).to(tokens.dtype)
        first = self.class_token.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        values = self.layers(torch.cat([first, tokens], dim=1), nn.functional.pad(mask, (1, 0), value=True))
        return Features(self.project(values[:, 0]), Tokens(values[:, 1:], mask))
