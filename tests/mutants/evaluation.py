"""Errors in metrics, ranks, intervals and relevance."""

# ruff: noqa: E501 - lines of code are quoted as they are

from tests.mutants.mutant import Mutant

M = "mmalign/evaluation/metrics"
R = "mmalign/evaluation/ranking"
WEIGHTED = ("tests/evaluation/metrics/test_weighted.py",)
BOOTSTRAP = ("tests/evaluation/metrics/test_bootstrap.py",)
RANKS = ("tests/evaluation/ranking/test_ranks.py", "tests/evaluation/ranking/test_ties.py")

MUTANTS = (
    Mutant("ranks: ties are resolved in our favour", f"{R}/ranks.py",
           "reach, own = _count(block >= bar), _count(hits >= bar)",
           "reach, own = _count(block > bar) + 1, _count(hits >= bar)", RANKS),
    Mutant("ranks: a middle rank shares with one item too few", f"{R}/ranks.py",
           "above + irrelevant.double() / (own + 1)", "above + irrelevant.double() / own", RANKS),
    Mutant("recall@k counts one item more", f"{R}/ranks.py",
           "below = irrelevant[:, k - head : k].flip(1) < bars[:, :head]",
           "below = irrelevant[:, k - head : k].flip(1) <= bars[:, :head]", RANKS),
    Mutant("relevance by group includes the record alone", f"{R}/relevance.py",
           'return [same] if record.group is None else [("group", record.group)]',
           "return [same]", ("tests/evaluation/ranking", "tests/evaluation/tasks/test_retrieval.py")),
    Mutant("auroc: half of the ties is missing", f"{M}/weighted.py",
           "(gained * (hits + before)).sum(axis=1) / 2", "(gained * before).sum(axis=1)", WEIGHTED),
    Mutant("average precision at the score before", f"{M}/weighted.py",
           "(np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1)",
           "(np.diff(hits, axis=1, append=hits[:, -1:]) * precision).sum(axis=1)", WEIGHTED),
    Mutant("calibration error is signed", f"{M}/weighted.py",
           "np.abs(gap).sum(axis=1)", "np.abs(gap.sum(axis=1))", WEIGHTED),
    Mutant("balanced accuracy is sensitivity twice", f"{M}/weighted.py",
           "specificity = _ratio(weights @ (~truth & ~predicted), weights @ ~truth)",
           "specificity = sensitivity", WEIGHTED),
    Mutant("spearman with lowest ranks for ties", f"{M}/weighted.py",
           "size.cumsum(axis=1) - size + (size + 1) / 2", "size.cumsum(axis=1) - size + 1", WEIGHTED),
    Mutant("bootstrap draws rows instead of records", f"{M}/bootstrap.py",
           "    _, cluster = np.unique(records, return_inverse=True)\n    size = np.bincount(cluster)",
           "    cluster = np.arange(len(records))\n    size = np.bincount(cluster)", BOOTSTRAP),
    Mutant("bootstrap of one record has an interval", f"{M}/bootstrap.py",
           "    if len(size) < 2 or not resamples:\n", "    if len(size) < 1 or not resamples:\n", BOOTSTRAP),
    Mutant("bootstrap draws the same resample each time", f"{M}/bootstrap.py",
           "taken = (rng.integers(0, records, records) for _ in",
           "taken = (np.random.default_rng(seed).integers(0, records, records) for _ in", BOOTSTRAP),
    Mutant("the true class wins equal scores", f"{M}/classification.py",
           "rank = (wrong >= (true - margin)[:, None]).sum(dim=1)", "rank = (wrong > (true + margin)[:, None]).sum(dim=1)",
           ("tests/evaluation/tasks/test_zero_shot_classification.py",)),
    Mutant("variance regression: the bias is penalised", "mmalign/tuning/variance_regression.py",
           "    penalty[-1] = 0.0\n", "", ("tests/tuning/test_variance_regression.py",)),
    Mutant("fitted variance: distances from another sample", "mmalign/tuning/perturbed_pairs.py",
           "first, others = place[:, :1], place[:, 1:]", "first, others = place.roll(1, 0)[:, :1], place[:, 1:]",
           ("tests/tuning/test_fit_variance.py",)),
    Mutant("fitted variance: each dimension has the whole", "mmalign/heads/fitted_variance.py",
           "return (total - math.log(self.dim))[:, None]", "return total[:, None]", ("tests/heads/test_fitted_variance.py",)),
)  # fmt: skip
