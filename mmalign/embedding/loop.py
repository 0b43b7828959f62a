"""Embedding of one tower of a split."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mmalign.data.config import DataConfig
from mmalign.data.contents import warn_changed
from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import keep, pack
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Embedding

AVERAGE = "of {}: a record is one item, the mean of its alternatives"


@dataclass(frozen=True)
class EmbeddedSplit:
    """Every item of one tower of a split.

    Args:
        embedding: Embeddings, on the CPU, float32.
        record_indices: Index of each item's record in the split, `(items,)`; the items of one record are consecutive.
        alternatives: Index of each item among the alternatives of its record, where some are absent; None = all are
            there, in order.
    """

    embedding: Embedding
    record_indices: Tensor
    alternatives: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def alternative_indices(self) -> Tensor:
        """The index of each item among the alternatives of its record, from 0, `(items,)`."""
        if self.alternatives is not None:
            return self.alternatives
        indices = torch.zeros_like(self.record_indices)
        seen: dict[int, int] = {}
        for item, record in enumerate(self.record_indices.tolist()):
            indices[item] = seen[record] = seen.get(record, -1) + 1
        return indices

    def keep(self, rows: Tensor) -> "EmbeddedSplit":
        """The items where `rows (items,)` is True; jagged tokens stay jagged."""
        return EmbeddedSplit(keep(self.embedding, rows), self.record_indices[rows], self.alternative_indices[rows])


def opened(
    model: Aligner, data: DataConfig | Dataset, towers: Collection[str], split: str, *, keep_samples: bool = False
) -> Dataset:
    """The data with the samples of one split, decoded as some towers of the model decode them.

    Args:
        model: The model, whose modalities decode the samples.
        data: The configuration of the data, or data that are open: these are read further where the modalities match.
        towers: The towers.
        split: train, validation, test or all.
        keep_samples: Keep decoded samples in memory; otherwise features replace them.

    Raises:
        UserError: the data has no column for a tower, or no such split.
    """
    config = data if isinstance(data, DataConfig) else data.config
    for tower in towers:
        if tower not in config.towers:
            raise UserError(
                f"the data has no column for the tower {tower!r}; name it with --data.columns.{tower} COLUMN"
                f" (named: {', '.join(config.towers) or 'none'})"
            )
    modalities = {tower: model.modalities[tower] for tower in towers}
    if isinstance(data, Dataset) and modalities == data.modalities:
        read = data.read(split)
    else:
        # Of towers whose values are files, the names decide the split of a record without group.
        files = {tower: one for tower, one in model.modalities.items() if not one.value_is_sample}
        others = {tower: one for tower, one in files.items() if tower in config.towers and tower not in towers}
        transforms = {} if keep_samples else {tower: model.transforms[tower] for tower in towers}
        read = Dataset.open(config, modalities, splits=[split], others=others, transforms=transforms)
    read.store.keep_samples = keep_samples
    warn_changed(read, getattr(model, "provenance", None) or {}, split)
    return read


def embed_split(
    model: Aligner,
    data: Dataset,
    tower: str,
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
        data: Opened with the model's modalities, and the split read.
        tower: The tower.
        split: Name of the split.
        batch_size: Items a forward pass.
        packed: Keep tokens and parts without padding, see `JaggedTokens`; any rows of the embedding come padded.
        vectors_only: Keep only the vectors.
        average: Towers in which a record's alternatives, such as the clips of a study, become one item.

    Raises:
        UserError: no record of the split has that tower, or `average` names a tower that has more than vectors.
    """
    batches = data.split(split).batches(tower, model.transforms[tower], batch_size=batch_size)
    join = partial(pack, vectors_only=vectors_only) if packed or vectors_only else None
    embeddings = model.embed_batches(tower, batches, join)
    if embeddings is None:
        raise UserError(f"no record of split {split!r} has a {tower!r}; see mmalign check for what each split holds")
    embedded = EmbeddedSplit(*embeddings)
    return averaged(embedded) if tower in average else embedded


def averaged(embedded: EmbeddedSplit) -> EmbeddedSplit:
    """One item per record: the normalised mean of its alternatives' unit vectors.

    The variance is the mean of the alternatives' variances, without the variance between them.

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
    records, owner, counts = torch.unique(embedded.record_indices, return_inverse=True, return_counts=True)

    def mean(values: Tensor) -> Tensor:
        zero = torch.zeros(len(records), values.shape[1], dtype=values.dtype)
        means: Tensor = zero.index_add(0, owner, values) / counts[:, None]
        return means

    vector = torch.nn.functional.normalize(mean(one.vector), dim=1)
    log_variance = None if one.log_variance is None else mean(one.log_variance.exp()).log()
    return EmbeddedSplit(replace(one, vector=vector, log_variance=log_variance), records)
