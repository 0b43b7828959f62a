"""Figure of search results: one row per query, its results in descending order of score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.model import Aligner
from mmalign.pictures import retrieval_grid
from mmalign.searching.nearest import Hit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def search_figure(
    model: Aligner,
    queries: Sequence[Any],
    found: Sequence[Sequence[Hit]],
    *,
    tower: str,
    gallery: str,
    data: DataConfig | None = None,
) -> "Figure":
    """Draw queries and results, each result with its id and score.

    Args:
        model: The model, whose modalities read and draw.
        queries: The queries: paths, arrays or strings.
        found: Results of `search` for each query.
        tower: The queries' tower.
        gallery: The results' tower.
        data: The data set of the results; not needed where a string is itself a sample, such as a SMILES.

    Raises:
        BadSample: a result cannot be read.
        UserError: the data is needed and does not have the record, or there is too much to draw.
    """
    if not found or not found[0]:
        raise UserError("nothing was found, so there is nothing to draw")
    modality = model.modalities[gallery]
    index_of: dict[str, int] = {}
    opened: Dataset | None = None
    if not modality.value_is_sample:
        if data is None:
            raise UserError(f"a {gallery} is no string: the data that was embedded is needed to draw answers")
        opened = Dataset.open(data, {gallery: modality}, splits=[])
        index_of = {record.id: index for index, record in enumerate(opened.records)}
    return retrieval_grid(
        [model.modalities[tower].read(query) for query in queries],
        [[_sample(modality, gallery, hit, opened, index_of) for hit in one] for one in found],
        scores=torch.tensor([[hit.score for hit in one] for one in found]),
        right=None,
        names=[[hit.id for hit in one] for one in found],
        draw_query=model.modalities[tower].picture,
        draw_answer=modality.picture,
        title=f"{tower} to {gallery}: the nearest, each with its score and id",
    )


def _sample(modality: Modality, gallery: str, hit: Hit, data: Dataset | None, index_of: dict[str, int]) -> Any:
    if modality.value_is_sample and hit.value is not None:
        return modality.read(hit.value)
    index = index_of.get(hit.id)
    if data is None or index is None or gallery not in data.records[index].values:
        raise UserError(
            f"the data has no {gallery} of record {hit.id!r}: name the data that was embedded with --data.source or "
            "--data.manifest"
        )
    values = enumerate(data.records[index].values[gallery])
    alternative = next((at for at, value in values if isinstance(value, str) and value == hit.value), 0)
    return data.store.get(index, gallery, alternative)
