"""The shared space: figures of its geometry, and maps on its first two principal components."""

from collections.abc import Sequence

from mmalign.evaluation.report.figures import figure
from mmalign.pictures.label_map import MOST_LABELS, label_map
from mmalign.pictures.spaces import plane
from mmalign.reporting.blocks import Block, Text
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture
from mmalign.reporting.pages.results import inner_table


def space_page(context: Context) -> Sequence[Block]:
    """The task geometry: tables, its map of pairs, and a map of classes where there are few."""
    result = context.evaluations.results.get("geometry")
    if result is None:
        return []
    blocks: list[Block] = [
        picture(figure(result), "Map of both towers: points are records, lines join pairs.",
                "First two principal components; lines join the towers of one record."),
    ]  # fmt: skip
    embeddings = context.embeddings
    if embeddings is not None:
        records = context.part.records
        labels = {
            tower: [
                records[row].labels[0] if len(records[row].labels) == 1 else "" for row in each.record_indices.tolist()
            ]
            for tower, each in embeddings.items()
        }
        if 1 < len({label for several in labels.values() for label in several} - {""}) <= MOST_LABELS:
            a, b = (embeddings[tower].embedding.vector.double().numpy() for tower in context.pair)
            points = dict(zip(context.pair, plane(a, b), strict=True))
            drawn = label_map(points, labels)
            blocks.append(
                picture(drawn, "Map of both towers by class.", "Classes by colour and marker, one panel per tower")
            )
    blocks += [inner_table(f"geometry: {name}", result.scores[name]) for name in ("space", "towers")]
    protocol = "; ".join(f"{name}: {value}" for name, value in result.provenance["protocol"].items())
    blocks.append(Text(f"Definitions: {protocol}", kind="small"))
    return blocks
