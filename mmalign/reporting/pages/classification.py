"""Zero-shot classification: confusion matrix, recall by class, and examples of the most frequent confusions."""

from collections import Counter
from collections.abc import Sequence

from mmalign.pictures import confusion
from mmalign.reporting.blocks import Block, Gallery, Table, number
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

CONFUSIONS, EXAMPLES, MOST_CLASSES = 4, 4, 60


def classification_page(context: Context) -> Sequence[Block]:
    """Nothing unless each record has at most one label."""
    result = context.evaluations.results.get("zero-shot")
    if result is None or "confusion" not in result.details:
        return []
    details, scores = result.details, result.scores
    blocks: list[Block] = []
    if len(details["classes"]) <= MOST_CLASSES:
        title = f"Zero-shot, {context.split} split: {scores['top1']:.1%} right of {scores['n']}"
        drawn = confusion(details["confusion"], details["classes"], title=title)
        blocks.append(picture(drawn, "Confusion matrix: rows are true classes, columns predicted ones."))
    recall = [[name, number(value)] for name, value in scores["per_class_recall"].items() if value is not None]
    blocks.append(Table(["class", "recall"], sorted(recall, key=lambda row: row[1])[:MOST_CLASSES], "Recall by class"))
    wrong = [
        (truth, said, row)
        for truth, said, row in zip(result.rows["truth"], result.rows["prediction"], result.rows["id"], strict=True)
        if truth != said
    ]
    index_of = {record.id: row for row, record in enumerate(context.part.records)}
    tower = next((name for name in context.pair if not context.model.modalities[name].value_is_sample), context.pair[0])
    rows = []
    for (truth, said), count in Counter((truth, said) for truth, said, _ in wrong).most_common(CONFUSIONS):
        examples = [index_of[row] for one, other, row in wrong if (one, other) == (truth, said) and row in index_of]
        rows.append(
            [
                context.cell(row, tower, title=f"{truth} → {said} ({count})", caption=f"#{row}", mark="wrong")
                for row in examples[:EXAMPLES]
            ]
        )
    if rows := [row for row in rows if row]:
        blocks.append(Gallery(rows, "Most frequent confusions", "True class → predicted class (number of records)."))
    return blocks
