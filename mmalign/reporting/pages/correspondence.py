"""Correspondence of tokens: which words of one sample correspond to which atoms, patches or beats of the other."""

from collections.abc import Sequence

import numpy as np

from mmalign.errors import BadSample, UserError
from mmalign.explanation import explain_samples
from mmalign.pictures.correspondence import MAX_WORDS
from mmalign.reporting.blocks import Block, Gallery, Text
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

PAIRS = 3


def correspondence_page(context: Context) -> Sequence[Block]:
    """Some pairs of the split, evenly spaced; nothing for models that compare whole samples."""
    if len(context.pair) != 2:
        return []
    a, b = context.pair
    rows = [row for row, record in enumerate(context.part.records) if a in record.values and b in record.values]
    blocks: list[Block] = []
    for step in range(min(PAIRS, len(rows))):
        row = rows[step * len(rows) // PAIRS]
        try:
            shown = explain_samples(
                context.model, (a, b), [context.sample(row, a), context.sample(row, b)], most=MAX_WORDS
            )
        except (UserError, BadSample):
            return blocks
        if not blocks:
            how = "the words with the most information, each with a drawing of the other sample"
            blocks.append(Text(f"The correspondence of the term {shown.term}, as mmalign explain draws it: {how}."))
        total = np.zeros(len(shown.query.units.labels))
        for one in shown.attributions:
            total[list(one.units)] += one.information
        if shown.query.units.spelled:
            title = f"{context.label(row)}: words by their information"
            query, weights = shown.query, np.maximum(total, 0.0)
            cell = context.weighted_cell(query.tower, query.sample, query.units, weights, title=title)
            blocks.append(Gallery([[cell]]))
        words = ", ".join(one.word for one in shown.attributions)
        blocks.append(
            picture(shown.figure(), f"Drawings of {shown.drawn.tower} for the words: {words}.", context.label(row))
        )
    return blocks
