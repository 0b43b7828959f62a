"""A start in closed form: linear maps of two towers by regularised canonical correlation, before any step is taken."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse, vstack  # type: ignore[import-untyped]
from torch import Tensor

from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.modality import Encoder
from mmalign.model import Aligner, inference

if TYPE_CHECKING:
    from mmalign.data.module import PairedData

Rows = Any
"""A float64 array, or a SciPy sparse one, a row a sample."""

EXACT, STRONGEST = 4096, 2048
"""Up to so many rows all directions are kept; of more rows, the strongest so many."""


@dataclass
class CanonicalConfig:
    """How two towers start.

    Args:
        pair: The two towers; default: those of the only pair.
        ridge: Tower -> how strongly its directions are held back, in rows' worth: a direction that the training rows
            fill as this many rows of typical length would is halved in variance. Default 1 for each. More for the
            side with more noise; choose by held-out rows.
        power: Weight of each pair of directions: its correlation to this power.
    """

    pair: list[str] = field(default_factory=list)
    ridge: dict[str, float] = field(default_factory=dict)
    power: float = 1.0


def canonical_maps(
    a: Any, b: Any, dim: int, *, ridge: tuple[float, float] = (1.0, 1.0), power: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    r"""Linear maps under which the rows of two sides agree: canonical correlation with a ridge on each side.

    .. math:: U S V^\top = (X^\top X + \lambda_a I)^{-1/2} X^\top Y (Y^\top Y + \lambda_b I)^{-1/2}, \quad
              W_a = (X^\top X + \lambda_a I)^{-1/2} U S^p, \quad W_b = (Y^\top Y + \lambda_b I)^{-1/2} V S^p

    (Hotelling 1936; the ridge is that of Vinod 1976.) Rows are first divided by the root of their mean squared
    length; they are not centred. The work is in the rows' inner products, so features may be many and sparse.

    Args:
        a: Features of one side, `(n, f)`: an array, a tensor, or a SciPy sparse array.
        b: Features of the other side, `(n, g)`, row by row the partners.
        dim: Most directions.
        ridge: Lambda of each side, at least 0.
        power: p; 0 = all directions count alike.
        seed: Of the random projections behind the strongest directions of more than `EXACT` rows.

    Returns:
        `(f, k)` and `(g, k)` float32, k = dim or what the rows allow. The cosine of mapped rows is the score.

    Raises:
        UserError: fewer than two rows, unequal numbers of rows, a NaN, or nothing but zeros.

    Example:
        >>> x = torch.eye(3)
        >>> left, right = canonical_maps(x, x[:, [2, 0, 1]], 3)
        >>> ((x @ left) @ (x[:, [2, 0, 1]] @ right).T).argmax(1)
        tensor([0, 1, 2])
    """
    x, y = _rows(a, "the first side"), _rows(b, "the second side")
    if x.shape[0] != y.shape[0] or x.shape[0] < 2:
        raise UserError(f"canonical start: expected two or more pairs of rows, got {x.shape[0]} and {y.shape[0]}")
    if min(ridge) < 0:
        raise UserError(f"canonical start: ridge must be at least 0, got {ridge}")
    (u, s, v), (p, t, q) = _directions(x, seed), _directions(y, seed)
    shrink_a, shrink_b = (s**2 + ridge[0]) ** -0.5, (t**2 + ridge[1]) ** -0.5
    left, strength, right = np.linalg.svd((shrink_a * s)[:, None] * (u.T @ p) * (t * shrink_b)[None])
    k = min(dim, len(strength))
    weights = strength[:k] ** power
    maps = v @ (shrink_a[:, None] * left[:, :k] * weights), q @ (shrink_b[:, None] * right[:k].T * weights)
    return torch.from_numpy(maps[0]).float(), torch.from_numpy(maps[1]).float()


def canonical_start(model: Aligner, data: "PairedData", config: CanonicalConfig, *, batch_size: int = 256) -> None:
    """Set the maps of two towers by `canonical_maps` of their features of the training rows.

    An encoder with `linear_features` has its own map set, and its head passes that on; of any other encoder, as it is
    now, the head behind its vector is set. Rows that lack a side are left out; of several alternatives the first
    counts.

    Args:
        model: Built, not yet trained.
        data: Prepared, with the model's transforms attached.
        config: What to set.
        batch_size: Samples a forward pass.

    Raises:
        UserError: no or several pairs of towers, a head that is not linear, or no training rows with both sides.
    """
    a, b = _pair(model, config)
    unknown = set(config.ridge) - {a, b}
    if unknown:
        raise UserError(f"model.start.ridge: expected {a} and {b}, got {', '.join(sorted(unknown))}")
    room = min(_room(model, a), _room(model, b))
    features = [_features(model, data, name, batch_size) for name in (a, b)]
    both = sorted(set(features[0][1]) & set(features[1][1]))
    if len(both) < 2:
        raise UserError(f"model.start: {len(both)} training rows have both {a} and {b}; expected two or more")
    rows = [values[[places[record] for record in both]] for values, places in features]
    ridge = config.ridge.get(a, 1.0), config.ridge.get(b, 1.0)
    maps = canonical_maps(rows[0], rows[1], room, ridge=ridge, power=config.power)
    for name, weight in zip((a, b), maps, strict=True):
        _set(model, name, weight)


def _pair(model: Aligner, config: CanonicalConfig) -> tuple[str, str]:
    pairs = {(pair.a, pair.b) for pair in model.objective.pairs}
    if config.pair:
        if len(config.pair) != 2 or not {tuple(config.pair), tuple(config.pair[::-1])} & pairs:
            raise UserError(f"model.start.pair: expected two towers that are trained as a pair, got {config.pair}")
        return config.pair[0], config.pair[1]
    if len(pairs) != 1:
        raise UserError(f"model.start: several pairs of towers are trained ({sorted(pairs)}); name one with start.pair")
    return next(iter(pairs))


def _features(model: Aligner, data: "PairedData", name: str, batch_size: int) -> tuple[Rows, dict[int, int]]:
    """Features of the training rows' first alternatives, and where each record's stand."""
    encoder, blocks, owners = model.encoders[name], [], []
    assert isinstance(encoder, Encoder)
    with inference(model):
        for inputs, records in data.item_loader(name, "train", batch_size=batch_size):
            moved = {key: value.to(model.device) for key, value in inputs.items()}
            found = encoder.linear_features(moved)
            blocks.append(_plain(encoder(moved).vector if found is None else found))
            owners.extend(records.tolist())
    if not blocks:
        raise UserError(f"model.start: no training row has the side {name!r}")
    first = {record: place for place, record in reversed(list(enumerate(owners)))}
    return (vstack(blocks).tocsr() if issparse(blocks[0]) else np.concatenate(blocks)), first


def _plain(found: Tensor) -> Rows:
    if found.is_sparse:
        found = found.coalesce().cpu()
        return csr_array((found.values().double().numpy(), found.indices().numpy()), shape=tuple(found.shape))
    return found.double().cpu().numpy()


def _head(model: Aligner, name: str) -> Any:
    head = model.heads[name]
    assert isinstance(head, HeadSet)
    if head.vector is None:
        raise UserError(f"model.start: no objective reads the vector of {name!r}, so there is no map to set")
    layers = head.vector.layers
    if not isinstance(layers, torch.nn.Linear | torch.nn.Identity):
        raise UserError(f"model.start: towers.{name}.head must be linear or identity, not mlp")
    return layers


def _own(encoder: Encoder) -> bool:
    return type(encoder).linear_features is not Encoder.linear_features


def _room(model: Aligner, name: str) -> int:
    """How many directions the tower's map can hold."""
    encoder, layers = model.encoders[name], _head(model, name)
    assert isinstance(encoder, Encoder)
    if not _own(encoder) and not isinstance(layers, torch.nn.Linear):
        raise UserError(f"model.start: towers.{name} has no linear map: set its head to linear")
    return min(model.dim, encoder.width) if _own(encoder) else model.dim


def _set(model: Aligner, name: str, weight: Tensor) -> None:
    encoder, layers = model.encoders[name], _head(model, name)
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        if _own(encoder):
            encoder.set_linear(torch.nn.functional.pad(weight, (0, encoder.width - weight.shape[1])))
            if isinstance(layers, torch.nn.Linear):
                torch.nn.init.eye_(layers.weight)
        else:
            layers.weight.zero_()
            layers.weight[: weight.shape[1]] = weight.T


def _rows(values: Any, where: str) -> Rows:
    rows: Rows = values.double().numpy() if isinstance(values, Tensor) else values
    rows = csr_array(rows, dtype=np.float64) if issparse(rows) else np.asarray(rows, np.float64)
    held = rows.data if issparse(rows) else rows
    if not np.isfinite(held).all():
        raise UserError(f"canonical start: {where} has features that are NaN or infinite")
    size = float((held**2).sum()) / max(1, rows.shape[0])
    if not size > 0:
        raise UserError(f"canonical start: {where} has no features but zeros")
    return rows / size**0.5


def _directions(rows: Rows, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular vectors and values `(n, r)`, `(r,)`, `(f, r)` of the rows."""
    if rows.shape[0] <= EXACT:
        gram = rows @ rows.T
        squares, u = np.linalg.eigh(gram.toarray() if issparse(gram) else gram)
        kept = squares > 1e-9 * squares[-1]
        s, u = np.sqrt(squares[kept]), u[:, kept]
        return u, s, (rows.T @ u) / s
    from sklearn.utils.extmath import randomized_svd

    u, s, vt = randomized_svd(rows, min(STRONGEST, *rows.shape), n_iter=2, random_state=seed)
    kept = s > 3e-5 * s[0]
    return u[:, kept], s[kept], vt[kept].T
