"""Errors in loss functions, their gradients and the solvers."""

# ruff: noqa: E501 - lines of code are quoted as they are

from tests.mutants.mutant import Mutant

F = "mmalign/objectives/functional"
T = "tests/objectives/functional"
CONTRASTIVE = (f"{T}/test_contrastive.py",)
PROBABILISTIC = (f"{T}/test_probabilistic.py",)
CODEBOOK = (f"{T}/test_sparse_codebook.py",)
SINKHORN = (f"{T}/transport/test_sinkhorn.py",)
LATE = (f"{T}/test_late_interaction.py",)

MUTANTS = (
    Mutant("clip: the mean of rows and columns is their sum", f"{F}/contrastive.py",
           "(column_loss - by_column) / count_columns) / 2", "(column_loss - by_column) / count_columns)", CONTRASTIVE),
    Mutant("clip: a row's positives are summed, not averaged", f"{F}/contrastive.py",
           "by_row = (positives.dots / positives.of_rows[rows].clamp(min=1)).sum()",
           "by_row = positives.dots.sum()", CONTRASTIVE),
    Mutant("clip: rows without a positive count in the mean", f"{F}/contrastive.py",
           "count_rows = (positives.of_rows > 0).sum().clamp(min=1)",
           "count_rows = (positives.of_rows >= 0).sum().clamp(min=1)", CONTRASTIVE),
    Mutant("clip: gradient of rows off by 0.1 %", f"{F}/computing/tiled_logsumexp.py",
           "factor_rows = grad_rows * (ctx.shift - lse_rows).exp()",
           "factor_rows = 1.001 * grad_rows * (ctx.shift - lse_rows).exp()", CONTRASTIVE),
    Mutant("siglip: gradient off by 0.1 %", f"{F}/computing/tiled_logsumexp.py",
           "grad * saved if saved is not None and needed else None",
           "1.001 * grad * saved if saved is not None and needed else None", CONTRASTIVE),
    Mutant("siglip: the mean is over columns", f"{F}/contrastive.py",
           "max(len(x) if count is None else count, 1)", "max(len(b) if count is None else count, 1)", CONTRASTIVE),
    Mutant("siglip: the bias of positives is left out", f"{F}/contrastive.py",
           "positive_pairs.dots.sum() + bias.sum() * positive_pairs.of_rows[rows].sum()",
           "positive_pairs.dots.sum()", CONTRASTIVE),
    Mutant("softplus without its upper branch's limit", f"{F}/computing/tiled_logsumexp.py",
           "softplus.out(tile, 1, 40, out=second)", "softplus.out(tile, 1, 4, out=second)", CONTRASTIVE),
    Mutant("similarity cross-entropy: columns use the forth table", f"{F}/computing/similarity_cross_entropy.py",
           "lse_columns = back.logsumexp(0)", "lse_columns = forth.logsumexp(0)",
           (f"{T}/computing/test_similarity_cross_entropy.py",)),
    Mutant("pcmepp: pseudo-positives need a higher score", f"{F}/probabilistic.py",
           "return (logits >= least).to(labels.dtype)", "return (logits > least).to(labels.dtype)", PROBABILISTIC),
    Mutant("pcmepp: pseudo-positives of rows only", f"{F}/probabilistic.py",
           "_pseudo(logits.T, labels.T, soft=soft).T", "_pseudo(logits, labels, soft=soft)", PROBABILISTIC),
    Mutant("pcmepp: soft pseudo-positives miss ties", f"{F}/probabilistic.py",
           "logits.contiguous(), right=True) - 1", "logits.contiguous())", PROBABILISTIC),
    Mutant("prolip: whole variances instead of halves", f"{F}/probabilistic.py",
           "half = -spread(log_variance)[:, None] / 2", "half = -spread(log_variance)[:, None]", PROBABILISTIC),
    Mutant("clamped log-variances have no gradient", f"{F}/gaussians.py",
           "        return x.clamp(*BORDERS)\n\n    @staticmethod\n    def backward(ctx: Any, grad: Tensor) -> Tensor:\n        return grad",
           "        return x.clamp(*BORDERS)\n\n    @staticmethod\n    def backward(ctx: Any, grad: Tensor) -> Tensor:\n        return grad * 1.001",
           PROBABILISTIC),
    Mutant("sparsemax: gradient off by 0.1 %", f"{F}/sparse_codebook.py",
           "return grad.sub_(grad.sum(-1, keepdim=True) / size)", "return grad.sub_(1.001 * grad.sum(-1, keepdim=True) / size)",
           CODEBOOK),
    Mutant("sparsemax: the support has one code too many", f"{F}/sparse_codebook.py",
           "(1 + rank * ordered > total)", "(2 + rank * ordered > total)", CODEBOOK),
    Mutant("late interaction: gradient of b off by 0.1 %", f"{F}/late_interaction.py",
           "grad_b[columns] += (flat.T @ here_a.flatten(0, 1))", "grad_b[columns] += (1.001 * flat.T @ here_a.flatten(0, 1))", LATE),
    Mutant("late interaction: tokens count where there are none", f"{F}/late_interaction.py",
           "return mask.to(dtype) / mask.sum(1, keepdim=True).clamp(min=1)",
           "return mask.to(dtype) / mask.shape[1]", LATE),
    Mutant("transport: implicit gradient off by 0.1 %", f"{F}/transport/gradients.py",
           "torch.bmm(from_rows.mT, from_columns) * keep[:, :, None]",
           "1.001 * torch.bmm(from_rows.mT, from_columns) * keep[:, :, None]", SINKHORN),
    Mutant("transport: the value lacks the mass of the product", f"{F}/transport/gradients.py",
           "(rows + columns - moved + mass * problems.b.sum(1))", "(rows + columns - moved)", SINKHORN),
    Mutant("autocast-safe products: gradient of y off by 0.1 %", f"{F}/computing/matmul.py",
           "grad.mT @ x if ctx.needs_input_grad[1] else None", "1.001 * grad.mT @ x if ctx.needs_input_grad[1] else None",
           ("tests/objectives/test_local.py", "tests/objectives/test_paired_score.py", "tests/contract/test_objectives_numbers.py")),
)  # fmt: skip
