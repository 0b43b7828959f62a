"""Trajectories by learnt soft assignment of cells to queries, without masks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.image_tower import FrameTransform, image_transform
from modalities.image.transform import Normalise
from modalities.video.encoders.class_token import PooledTransformer
from modalities.video.encoders.codes import FREQUENCIES, coordinate_code, time_code
from modalities.video.encoders.frame_pyramid import FramePyramid
from modalities.video.encoders.segments import Rows, cell_centres
from modalities.video.encoders.trajectory_tokens import TrajectoryTokens
from modalities.video.encoders.trajvit import frame_tokens


class SoftAssignment(nn.Module):
    r"""Learnt queries attend to the cells of a clip; each cell is then divided among the queries (TrajTok, 2602.22779).

    .. math:: a_{pq} = \mathrm{softmax}_q \left( z_q^\top W f_p / \sqrt{D} \right)

    z are the queries after attention, f the features of the cells plus codes of place and time. Features are detached,
    as in the paper: the loss trains the assignment through a, and the network through what is pooled with it.

    Args:
        width: Size of a feature; even.
        queries: Number of queries.
        heads: Attention heads; must divide `width`.
        frequencies: Number of frequencies of each coordinate.

    Shape:
        features `(batch, time, cells, width)`, centres `(cells, 2)`, mask and times `(batch, time)` -> assignment
        `(batch, time, cells, queries)`; its sum over queries is 1 in real frames, 0 in masked ones.
    """

    def __init__(self, width: int, *, queries: int, heads: int, frequencies: int) -> None:
        super().__init__()
        self.width, self.heads, self.frequencies = width, heads, frequencies
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.times, self.position = nn.Linear(width, width), nn.Linear(4 * frequencies, width)
        self.norm_queries, self.norm_cells = nn.LayerNorm(width), nn.LayerNorm(width)
        self.key_value, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm_out, self.key = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, features: Tensor, centres: Tensor, mask: Tensor, times: Tensor) -> Tensor:
        """Assign."""
        dtype = features.dtype
        when = self.times(time_code(times, self.width).to(dtype))[:, :, None]
        where = self.position(coordinate_code(centres, self.frequencies).to(dtype))
        cells = self.norm_cells(features.detach() + when + where)
        queries = self.queries.to(dtype).expand(features.shape[0], -1, -1)
        read = mask[:, :, None].expand(-1, -1, cells.shape[2]).flatten(1)[:, None, None]
        key, value = self.key_value(cells.flatten(1, 2)).chunk(2, dim=2)
        query, key, value = (self._split(x) for x in (self.norm_queries(queries), key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=read)
        queries = self.norm_out(queries + self.out(mixed.transpose(1, 2).flatten(2)))
        scores = torch.einsum("btpw,bqw->btpq", self.key(cells), queries) * self.width**-0.5
        return scores.softmax(3) * mask[:, :, None, None]  # type: ignore[no-any-return]

    def _split(self, values: Tensor) -> Tensor:
        return torch.unflatten(values, 2, (self.heads, -1)).transpose(1, 2)


class TrajTok(Encoder):
    """Soft trajectories: each query's share of the cells of every frame, as one token (TrajTok, arXiv 2602.22779).

    It needs no masks and no segmentation. Rows of a query are means of the features and of the coordinates, weighted by
    the assignment, in each frame; resamplers over time and the transformer are those of `trajvit`. Differences from the
    paper: the assignment is trained by the alignment loss alone, without masks as targets, and it stays soft.

    Args:
        transform: The transform; gives size, mean and standard deviation.
        queries: Number of queries: the number of tokens.
        width: Size of a token; even.
        depth: Layers of the transformer over the tokens.
        heads: Attention heads, also of the resamplers; must divide `width`.
        cell: Pixels of a cell's side.
        cnn: Network per frame: small, resnet18 or resnet50 (from scratch).
        cnn_width: Channels of the first stage of the small network; each further stage has twice as many.
        cnn_depths: Residual blocks of each of its stages.
        resampler_depth: Layers of a resampler.
        frequencies: Number of frequencies of each coordinate: pi, 2 pi, 4 pi and so on.
        velocity: Also give each row of a trajectory the change of its coordinates per second; not in the paper.
        pool: class (class token) or mean.
        drop_path: Probability that the last layer is skipped in training, less for those before it.

    Shape:
        `frames (batch, time, 3, size, size)` uint8, `mask` and `times (batch, time)` -> vector `(batch, width)`, parts:
        `(batch, queries, width)`, tokens: frames `(batch, time, width)`, the mean of their cells.

    Raises:
        UserError: an argument does not fit.

    Example:
        >>> import numpy as np
        >>> from modalities.video import MODALITY
        >>> transform = MODALITY.transform("trajtok", {}, size=32)
        >>> clip = MODALITY.toy_sample(0, np.random.default_rng(0))
        >>> encoder = MODALITY.encoder("trajtok", transform, width=8, depth=1, heads=2, queries=6)
        >>> encoder(transform.collate([transform.item(clip)])).parts.values.shape
        torch.Size([1, 6, 8])
    """

    def __init__(
        self,
        transform: FrameTransform,
        *,
        queries: int = 32,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        cell: int = 4,
        cnn: str = "small",
        cnn_width: int = 16,
        cnn_depths: Sequence[int] = (1, 1, 1),
        resampler_depth: int = 2,
        frequencies: int = FREQUENCIES,
        velocity: bool = True,
        pool: str = "class",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width)
        if queries < 1 or cell < 1 or transform.settings.size < cell:
            raise UserError(
                f"video trajtok: expected at least 1 query and cells of 1 to {transform.settings.size} pixels, "
                f"got queries={queries} and cell={cell}"
            )
        self.arguments = {
            "queries": queries, "width": width, "depth": depth, "heads": heads, "cell": cell, "cnn": cnn,
            "cnn_width": cnn_width, "cnn_depths": list(cnn_depths), "resampler_depth": resampler_depth,
            "frequencies": frequencies, "velocity": velocity, "pool": pool, "drop_path": drop_path,
        }  # fmt: skip
        self.side = transform.settings.size // cell
        self.normalise = Normalise(image_transform(transform))
        self.layers = PooledTransformer(width, depth=depth, heads=heads, pool=pool, drop_path=drop_path)
        self.cells = FramePyramid(cnn, width, cnn_width, cnn_depths)
        self.trajectories = TrajectoryTokens(
            width, heads=heads, depth=resampler_depth, frequencies=frequencies, velocity=velocity
        )
        self.assignment = SoftAssignment(width, queries=queries, heads=heads, frequencies=frequencies)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]`."""
        mask = inputs["mask"]
        features = self.cells(self.normalise(inputs["frames"][mask]), self.side)  # real frames only
        rows = self._rows(features, mask, inputs["times"])
        tokens = self.trajectories(rows, inputs["times"])
        vector, parts = self.layers(rows.padded(tokens), rows.present)
        return Features(vector, frame_tokens(features.mean((1, 2)), mask), Tokens(parts, rows.present))

    def assign(self, inputs: Inputs) -> Tensor:
        """The assignment of the cells to the queries, `(batch, time, cells, cells, queries)`, for pictures."""
        mask = inputs["mask"]
        features = self.cells(self.normalise(inputs["frames"][mask]), self.side)
        every, centres = self._every(features, mask)
        return torch.unflatten(self.assignment(every, centres, mask, inputs["times"]), 2, (self.side, self.side))

    def _every(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features with zeros in masked frames, `(batch, time, cells, width)`, and the centres of the cells."""
        cells = features.flatten(1, 2)
        every = cells.new_zeros(*mask.shape, *cells.shape[1:]).masked_scatter(mask[..., None, None], cells)
        return every, cell_centres(self.side, self.side, features.device).flatten(0, 1)

    def _rows(self, features: Tensor, mask: Tensor, times: Tensor) -> Rows:
        """One row for each query and frame: means weighted by the assignment."""
        every, centres = self._every(features, mask)
        assignment = self.assignment(every, centres, mask, times)
        mass = assignment.sum(2).transpose(1, 2)  # (batch, queries, time)
        total = mass.clamp(min=1e-6)[..., None]
        values = torch.einsum("btpq,btpw->bqtw", assignment, every) / total
        coordinates = torch.einsum("btpq,pc->bqtc", assignment, centres.to(assignment.dtype)) / total
        present = mask.new_ones(mass.shape[:2])
        real = mask[:, None].expand(-1, mass.shape[1], -1)
        weights = mass / mass.amax(2, keepdim=True).clamp(min=1e-6)
        return Rows(values.flatten(0, 1), coordinates.flatten(0, 1), real.flatten(0, 1), present, weights.flatten(0, 1))
