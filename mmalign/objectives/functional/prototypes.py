"""Prototype alignment (MGCA): swapped prediction of prototype assignments between the samples of a pair."""

import math

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows
from mmalign.objectives.functional.transport.sinkhorn import sinkhorn


def prototype_codes(scores: Tensor, epsilon: float = 0.05) -> Tensor:
    """Balanced soft assignment of samples to prototypes.

    `n` times the plan that `sinkhorn` finds between n samples of mass 1/n and P prototypes of mass 1/P, at a cost of
    minus the score (Caron et al. 2020, SwAV, arXiv 2006.09882, equation 3). The balance prevents the assignment of all
    samples to one prototype. SwAV and MGCA stop after 3 iterations; here they run until convergence.

    Args:
        scores: `(n, prototypes)`, usually cosines.
        epsilon: Entropic regularisation: lower = closer to one prototype per sample.

    Returns:
        `(n, prototypes)`, rows that sum to 1, columns to about n / prototypes; without a gradient. In float32 (float64
        where the scores are).

    Raises:
        UserError: shapes do not fit, epsilon is not above 0, or (on the CPU) got NaN or infinity.

    Example:
        >>> prototype_codes(torch.tensor([[1.0, 0.0], [0.9, 0.5]])).round(decimals=2)  # the second gives way
        tensor([[1., 0.],
                [0., 1.]])
    """
    warn_own_rows("prototype_codes", "the objective prototypes")
    return balanced_codes(scores, epsilon)


def balanced_codes(scores: Tensor, epsilon: float) -> Tensor:
    """`prototype_codes`, of rows that were gathered."""
    if scores.ndim != 2:
        raise UserError(f"expected scores (rows, prototypes), got shape {tuple(scores.shape)}")
    return sinkhorn(-scores.detach()[None], epsilon, gradient="envelope").plan[0] * len(scores)


def prototype_loss(
    scores_a: Tensor, scores_b: Tensor, *, codes_a: Tensor, codes_b: Tensor, temperature: float = 0.2
) -> Tensor:
    """Swapped prediction: cross-entropy of one tower's prototype probabilities to the other tower's codes.

        loss = - 1/(2 n) sum_i sum_p (codes_b_ip log softmax_p(scores_a_i / temperature)
                                    + codes_a_ip log softmax_p(scores_b_i / temperature))

    (Wang et al. 2022, MGCA, arXiv 2210.06044, its prototype alignment; the swapped prediction of SwAV, arXiv
    2006.09882, between two modalities instead of two views.) Its minimum is the mean entropy of the codes.

    Args:
        scores_a: `(n, prototypes)`, usually cosines.
        scores_b: `(n, prototypes)`.
        codes_a: `(n, prototypes)`, as from `prototype_codes`; no gradient reaches them.
        codes_b: `(n, prototypes)`.
        temperature: Divides the scores.

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where there is no row.

    Raises:
        UserError: shapes do not fit, the temperature is not above 0, or (on the CPU) got NaN or infinity.

    Example:
        >>> scores, codes = torch.zeros(3, 4), torch.full((3, 4), 0.25)
        >>> prototype_loss(scores, scores, codes_a=codes, codes_b=codes)  # log 4
        tensor(1.3863)
    """
    tensors = (scores_a, scores_b, codes_a, codes_b)
    if scores_a.ndim != 2 or any(tensor.shape != scores_a.shape for tensor in tensors):
        came = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise UserError(f"expected scores and codes of one shape (rows, prototypes), got {came}")
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature: expected a number above 0, got {temperature}")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    a, b, of_a, of_b = (tensor.to(dtype) for tensor in (scores_a, scores_b, codes_a.detach(), codes_b.detach()))
    total = (of_b * (a / temperature).log_softmax(1)).sum() + (of_a * (b / temperature).log_softmax(1)).sum()
    if total.device.type == "cpu" and not bool(total.isfinite()):
        raise UserError("prototype_loss expected finite scores and codes, and got NaN or infinity")
    return -total / (2 * max(len(a), 1))
