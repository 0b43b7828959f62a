"""`mmalign.mine`: hard negatives of each record, found by a trained model, for training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmalign.bundles import bundle
from mmalign.capabilities import SurfaceFeatures, capability
from mmalign.data.batching.batches import related_groups
from mmalign.data.batching.hard_negatives import FirstSamples
from mmalign.data.batching.negatives_file import COLUMNS
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.truncation import warn_truncated
from mmalign.embedding.loop import opened
from mmalign.embedding.scoring import inner_product
from mmalign.mining.candidates import candidates, embedded_pairs, rescored
from mmalign.mining.result import MinedNegatives
from mmalign.mining.selection import Counts, Selection, choose
from mmalign.model import Aligner
from mmalign.selection import model_of, pair_of


def mine(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    *,
    pair: Sequence[str] = (),
    split: str = "train",
    negatives: int = 4,
    skip: int = 0,
    depth: int = 50,
    absolute_margin: float | None = None,
    relative_margin: float | None = 0.05,
    min_score: float | None = None,
    max_score: float | None = None,
    surface: str = "",
    sampling: str = "top",
    rerank: bool = False,
    reranker: Aligner | str | Path | None = None,
    batch_size: int = 256,
    seed: int = 0,
    device: str = "auto",
) -> MinedNegatives:
    """Hard negatives: for each record the records of other content whose sample scores high with its own.

    Record i has the candidates j that share neither content nor a group with it, directly or through other records,
    ranked by the score `s_ij` of its first sample in one tower and j's first sample in the other. The ranks from `skip`
    to `skip + depth` are kept where `s_ij` is at most `s_ii - absolute_margin` and `s_ii - relative_margin |s_ii|`: a
    candidate that scores as high as the record's own pair is likely a false negative (0.05 = the 95 % of NV-Retriever,
    arXiv 2407.15831).

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open; the samples of `split` are read here.
        pair: Tower of the queries and tower of the candidates; default: the only pair that the model was trained on.
        split: Records to mine among.
        negatives: Maximum number of negatives of each record.
        skip: Number of first ranks that are skipped.
        depth: Number of further ranks that are candidates.
        absolute_margin: Absolute distance of a negative from the score of the record's own pair; None = no bound.
        relative_margin: The same as a fraction of that score; None = no bound.
        min_score: Lower bound of a negative's score.
        max_score: Upper bound of a negative's score.
        surface: Tower by whose surface similarity candidates are ranked instead (the capability `SurfaceFeatures`, such
            as text): negatives of similar form and other meaning, see `mmalign.mining.selection.choose`.
        sampling: top or random.
        rerank: Rank by the cosine of vectors, and score only the candidates by the model's full score, for scores of
            tokens.
        reranker: Another model, or its bundle, that scores the candidates and the records' own pairs.
        batch_size: Samples per forward pass.
        seed: Seed of the random sampling.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Returns:
        Negatives with ranks and scores, and the counts of what was left out; `write` stores them for
        `--data.neighbours`.

    Raises:
        UserError: a setting is out of its range, the data lack a tower, or a modality has no surface features.

    Example:
        >>> import mmalign
        >>> mined = mmalign.mine("runs/first", mmalign.DataConfig("digits"))  # doctest: +SKIP
        >>> mined.write("negatives.parquet")  # doctest: +SKIP
    """
    settings = Selection(
        negatives, skip, depth, absolute_margin, relative_margin, min_score, max_score, sampling, seed
    )  # fmt: skip
    loaded = model_of(model, device)
    towers = pair_of(loaded, pair)
    read = opened(loaded, data, dict.fromkeys((*towers, *([surface] if surface else []))), split)
    records = read.split(split)
    warn_truncated([records], {tower: loaded.transforms[tower] for tower in towers})
    sources = [(loaded, read)]
    if reranker is not None:
        other = model_of(reranker, device)
        sources.append((other, opened(other, data, dict.fromkeys(towers), split)))
    pairs, present = embedded_pairs(sources, towers, split, batch_size)
    features = None
    if surface:
        modality = capability(loaded.modalities[surface], SurfaceFeatures, "--surface")
        records.require(surface)
        features = modality.surface_features(FirstSamples(records, present.tolist(), surface))
    groups, counts = torch.from_numpy(related_groups(records.records)[present]), Counts()
    rough = rerank or reranker is not None
    found = candidates(
        pairs[0], inner_product if rough else loaded.similarity, groups, skip + depth, counts,
        features=features, device=loaded.device,
    )  # fmt: skip
    if rough:
        judge = sources[-1][0]
        found = rescored(found, pairs[-1], judge.similarity_pairwise, judge.device)
    ids = [records.records[row].id for row in present]
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row, one in enumerate(found):
        for rank in choose(one, settings, int(present[row]), counts).tolist():
            surfaces = None if one.surfaces is None else float(one.surfaces[rank])
            cells = (ids[row], ids[one.columns[rank]], rank, float(one.scores[rank]), one.positive, surfaces)
            for name, cell in zip(COLUMNS, cells, strict=True):
                columns[name].append(cell)
    totals = {"records": len(present), "without_a_tower": len(records) - len(present), **counts.to_json()}
    return MinedNegatives(columns, totals, towers, bundle.fingerprint(loaded.path) if loaded.path else "")
