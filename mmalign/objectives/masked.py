"""Objectives of masked pretraining, of a tower paired with itself."""

from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines, paired_cosines
from mmalign.objectives.functional.masked import comasked_distance, masked_chamfer, masked_error
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding

DISTANCES = ("mse", "chamfer")


class _Masked(Objective):
    """A mask ratio, and the cosine of vectors as similarity."""

    def __init__(self, mask_ratio: float) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio: expected a number in (0, 1), got {mask_ratio}")
        self.mask_ratio = mask_ratio

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of each row of `a` with the same row of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)


class MaskedObjective(_Masked):
    """Masked autoencoding: reconstruct masked tokens (`functional.masked_error`, `functional.masked_chamfer`).

    Needs an encoder that can mask its inputs (`capabilities.Masking`). A linear map of each token reconstructs it, or
    the encoder's own decoder (`capabilities.Decoding`). It does not train the embedding vector; add another term, such
    as `views`, or use the encoder's own vector (`model.dim` equal to its width).

    Args:
        mask_ratio: Fraction of each sample's tokens that is masked.
        distance: mse, or chamfer where a token is a set of points.
        coordinates: Number of coordinates of a point, for chamfer.

    Example:
        >>> import torch
        >>> from mmalign.types import Tokens
        >>> mask = torch.ones(2, 3, dtype=torch.bool)
        >>> predicted, target = Tokens(torch.full((2, 3, 4), 0.5), mask), Tokens(torch.zeros(2, 3, 4), mask)
        >>> embedding = Embedding(torch.eye(2), reconstructed=predicted, original=target)
        >>> MaskedObjective()(embedding, embedding).loss
        tensor(0.2500)
    """

    needs = frozenset({"reconstructed"})

    def __init__(self, mask_ratio: float = 0.5, distance: str = "mse", coordinates: int = 3) -> None:
        super().__init__(mask_ratio)
        if distance not in DISTANCES:
            raise UserError(f"masked: expected a distance of {' or '.join(DISTANCES)}, got {distance!r}")
        self.distance, self.coordinates = distance, coordinates

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor:
        """The mean of both views' reconstruction errors, `(own rows,)`."""
        errors = []
        for view in (a, b):
            predicted, target = view.reconstructed, view.original
            if predicted is None or target is None:
                raise UserError(
                    f"masked: expected a reconstruction by tower {view.tower or 'a'}, which exists in training only"
                )
            if self.distance == "mse":
                errors.append(masked_error(predicted.values, target.values, predicted.mask))
            else:
                errors.append(masked_chamfer(predicted.values, target.values, predicted.mask, self.coordinates))
        return (errors[0] + errors[1]) / 2

    def extra_repr(self) -> str:
        return f"mask_ratio={self.mask_ratio}, distance={self.distance}"


class ComaskedObjective(_Masked):
    """Agreement of two masked views on the tokens masked in both (`functional.comasked_distance`; Point-CMAE).

    Compares the decoder's features, token by token, without negatives: a reconstruction term (`masked`) must keep them
    from becoming equal. In validation both views are one, and the loss is 0.

    Args:
        mask_ratio: Fraction of each sample's tokens that is masked, the same as that of `masked`.

    Example:
        >>> import torch
        >>> from mmalign.types import Tokens
        >>> mask = torch.ones(2, 2, dtype=torch.bool)
        >>> tokens = torch.eye(2).expand(2, 2, 2)
        >>> a, b = (Embedding(torch.eye(2), decoded=Tokens(values, mask)) for values in (tokens, tokens.flip(1)))
        >>> ComaskedObjective()(a, b).loss
        tensor(1.)
    """

    needs = frozenset({"decoded"})

    def __init__(self, mask_ratio: float = 0.6) -> None:
        super().__init__(mask_ratio)

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor:
        """The mean cosine distance of the tokens masked in both views, `(own rows,)`."""
        if a.decoded is None or b.decoded is None:
            raise UserError(
                f"comasked: expected decoder features of tower {a.tower or 'a'}, which exist in training only"
            )
        return comasked_distance(a.decoded.values, b.decoded.values, a.decoded.mask, b.decoded.mask)

    def extra_repr(self) -> str:
        return f"mask_ratio={self.mask_ratio}"
