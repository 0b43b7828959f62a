"""Two samples at the level of their tokens: embeddings that an objective's correspondence can read, and labels."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmalign.capabilities import Explaining, TokenLabels
from mmalign.heads import HeadSet
from mmalign.inference import inputs_to
from mmalign.modality import Encoder
from mmalign.model import Aligner
from mmalign.objectives.functional.token_correspondence import code_shares
from mmalign.objectives.parts.correspondence import Coded
from mmalign.types import Embedding, Tokens


@dataclass(frozen=True)
class LabelledSample:
    """One sample of the pair: its tower, the sample as read, and the labels of its tokens."""

    tower: str
    sample: Any
    units: TokenLabels

    @property
    def shown(self) -> Any:
        """The drawn sample."""
        return self.sample if self.units.shown is None else self.units.shown


def embed_tokens(model: Aligner, tower: str, sample: Any) -> Embedding:
    """Embed one sample on the model's device, `(1, …)`; with codes, also the codes of each token.

    Args:
        model: The model, in eval mode.
        tower: Name of the tower.
        sample: As `Modality.read` returns it.
    """
    transform, heads = model.transforms[tower], model.heads[tower]
    inputs = inputs_to(transform.collate([transform.item(sample)]), model.device)
    assert isinstance(heads, HeadSet)
    if heads.queries is None or model.codebook is None:
        return model.embed(tower, inputs)
    outputs: list[Tokens] = []
    last = heads.queries if heads.query_reducer is None else heads.query_reducer
    hook = last.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        embedding = model.embed(tower, inputs)
    finally:
        hook.remove()
    assert embedding.codes is not None
    queries = outputs[0]
    shares = code_shares(queries.values[0], queries.mask[0], model.codebook.codes, embedding.codes[0])
    fields = {field.name: getattr(embedding, field.name) for field in dataclasses.fields(Embedding)}
    return Coded(**fields, token_codes=Tokens(shares[None], queries.mask, origin=queries.origin))


def label_tokens(model: Aligner, tower: str, sample: Any, level: str, count: int) -> tuple[LabelledSample, bool]:
    """A sample with the labels of its tokens, and whether it can be drawn with weights."""
    modality, encoder = model.modalities[tower], model.encoders[tower]
    assert isinstance(encoder, Encoder)
    if isinstance(modality, Explaining):
        labels = modality.token_labels(sample, model.transforms[tower], encoder, level, count)
        if labels is not None:
            return LabelledSample(tower, sample, labels), True
    numbered = TokenLabels([f"{level[:-1]} {index + 1}" for index in range(count)], np.eye(count))
    return LabelledSample(tower, sample, numbered), False
