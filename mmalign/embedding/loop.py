"""One side of a split -> embeddings, in memory or in a Parquet file."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import pack
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Embedding

AVERAGE = "of {}: a record is one item, the mean of its alternatives"


@dataclass(frozen=True)
class EmbeddedSplit:
    """Every item of one side of a split.

    Args:
        embedding: On the CPU, float32.
        rows: Which record of the split each item belongs to, `(items,)`; several items of one record are neighbours.
    """

    embedding: Embedding
    rows: Tensor

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def places(self) -> Tensor:
        """Which of its record's alternatives each item is, from 0, `(items,)`."""
        places = torch.zeros_like(self.rows)
        seen: dict[int, int] = {}
        for item, row in enumerate(self.rows.tolist()):
            places[item] = seen[row] = seen.get(row, -1) + 1
        return places


def embed_side(
    model: Aligner,
    data: Dataset,
    side: str,
    split: str,
    *,
    batch_size: int = 64,
    packed: bool = False,
    vectors_only: bool = False,
    average: Collection[str] = (),
) -> EmbeddedSplit:
    """Embed every alternative of every record of a split.

    Args:
        model: What embeds them.
        data: Prepared, with the model's transforms attached.
        side: The tower.
        split: Whose records.
        batch_size: Items a forward pass.
        packed: Keep tokens and parts without padding, see `JaggedTokens`; any rows of the embedding come padded.
        vectors_only: Keep only the vectors.
        average: Sides of which a record's alternatives, the clips of one study, become one item.

    Raises:
        UserError: no record of the split has that side, or `average` names a side that has more than vectors.
    """
    batches = data.split(split).batches(side, model.transforms[side], batch_size=batch_size, workers=data.workers)
    join = partial(pack, vectors_only=vectors_only) if packed or vectors_only else None
    made = model.embed_batches(side, batches, join)
    if made is None:
        raise UserError(f"no record of split {split!r} has a {side!r}; see mmalign check for what each split holds")
    embedded = EmbeddedSplit(*made)
    return averaged(embedded) if side in average else embedded


def averaged(embedded: EmbeddedSplit) -> EmbeddedSplit:
    """One item a record: the mean of its alternatives' unit vectors, made a unit vector again.

    A variance becomes the mean of the alternatives' variances: how unsure one of them is, not how far they differ.

    Raises:
        UserError: the embedding has tokens, parts or codes, of which there is no mean.

    Example:
        >>> clips = Embedding(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        >>> averaged(EmbeddedSplit(clips, torch.tensor([0, 0, 3]))).embedding.vector
        tensor([[0.7071, 0.7071],
                [1.0000, 0.0000]])
    """
    one = embedded.embedding
    if any(it is not None for it in (one.tokens, one.parts, one.codes)):
        raise UserError(f"--average {one.tower}: its objective reads more than vectors, of which there is no mean")
    records, owner, counts = torch.unique(embedded.rows, return_inverse=True, return_counts=True)

    def mean(values: Tensor) -> Tensor:
        zero = torch.zeros(len(records), values.shape[1], dtype=values.dtype)
        found: Tensor = zero.index_add(0, owner, values) / counts[:, None]
        return found

    vector = torch.nn.functional.normalize(mean(one.vector), dim=1)
    wide = None if one.log_variance is None else mean(one.log_variance.exp()).log()
    return EmbeddedSplit(replace(one, vector=vector, log_variance=wide), records)
