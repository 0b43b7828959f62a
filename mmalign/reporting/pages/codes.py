"""Codebook: how often codes are used, and which samples, words and parts use the codes that both towers share."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.errors import BadSample, UserError
from mmalign.explanation import code_contributions
from mmalign.pictures.code_usage import code_usage
from mmalign.reporting.blocks import Block, Cell, Gallery, Text
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

CODES, SAMPLES = 6, 2


def codes_page(context: Context) -> Sequence[Block]:
    """Nothing unless both towers have codes."""
    embeddings = context.embeddings
    if embeddings is None or any(one.embedding.codes is None for one in embeddings.values()):
        return []
    firsts = {tower: _first(one.alternative_indices.numpy()) for tower, one in embeddings.items()}
    codes: dict[str, NDArray[np.float64]] = {}
    rows: dict[str, NDArray[np.int64]] = {}
    for tower, one in embeddings.items():
        assert one.embedding.codes is not None
        codes[tower] = one.embedding.codes[torch.from_numpy(firsts[tower])].double().numpy()
        rows[tower] = one.record_indices.numpy()[firsts[tower]]
    a, b = context.pair
    both, of_a, of_b = np.intersect1d(rows[a], rows[b], return_indices=True)
    used = {tower: (one > 0).mean(axis=0) for tower, one in codes.items()}
    live = [int((one > 0).sum()) for one in used.values()]
    usage = f"Of the {context.split} split, {a} uses {live[0]:,} and {b} {live[1]:,}."
    blocks: list[Block] = [
        Text(f"The codebook has {codes[a].shape[1]:,} codes. {usage}"),
        picture(code_usage(used), "Fraction of samples that use each code, by tower, in descending order."),
    ]
    shared = codes[a][of_a] * codes[b][of_b]
    covariance = shared.mean(axis=0) - codes[a][of_a].mean(axis=0) * codes[b][of_b].mean(axis=0)
    chosen = _different(covariance, codes[a][of_a].argmax(axis=0))
    gallery = []
    for code in chosen:
        line: list[Cell] = []
        for tower, order in ((a, np.argsort(-codes[a][of_a][:, code])), (b, np.argsort(-codes[b][of_b][:, code]))):
            top = [index for index in order[:SAMPLES] if (codes[tower][of_a if tower == a else of_b][index, code]) > 0]
            line += [_coded_cell(context, tower, int(both[index]), code) for index in top]
        gallery.append(line)
    if gallery:
        note = (
            "Each row: a code whose weights agree most between the towers (covariance over records), and the samples "
        )
        note += "with the largest weight; darker = more of the code's weight."
        blocks.append(Gallery(gallery, "Samples of codes that both towers share", note))
    return blocks


def _different(covariance: NDArray[np.float64], tops: NDArray[np.int64]) -> list[int]:
    """Codes in descending order of covariance, those first whose top samples differ from those of earlier ones."""
    order = [int(code) for code in np.argsort(-covariance, kind="stable") if covariance[code] > 0]
    first = list({int(tops[code]): code for code in reversed(order)}.values())[::-1]
    rest = [code for code in order if code not in set(first)]
    return sorted([*first, *rest][:CODES], key=order.index)


def _coded_cell(context: Context, tower: str, row: int, code: int) -> Cell:
    """A sample with its units shaded by their contribution to a code; the sample as it is where they have no labels."""
    title = f"code {code}, {tower}"
    sample = context.sample(row, tower)
    try:
        labels, weights = code_contributions(context.model, tower, sample, code)
    except (UserError, BadSample):
        return context.cell(row, tower, title=title, caption=context.label(row))
    return context.weighted_cell(tower, sample, labels, weights, title=title, caption=context.label(row))


def _first(alternatives: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(alternatives == 0)
