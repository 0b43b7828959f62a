"""Learnt prompts: context vectors before the tokens of every text, through another text encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Encoder, Transform
from mmalign.types import Features, Inputs, Tokens
from modalities.text.transform import TextTransform

NAME = "prompted"
STD = 0.02
"""Standard deviation of context vectors that start from no words, as in CoOp's released code."""
MAX_EXPERTS = 64


@runtime_checkable
class TokenTable(Protocol):
    """A text encoder with an embedding of each token."""

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""


class PromptedText(Encoder):
    """Learnt context vectors before the tokens of each text, through another encoder (CoOp, arXiv 2109.01134).

    The vectors stand after the start token, in the place of token embeddings: `[start] e_1 ... e_M text [end]`. Without
    context the encoder is the inner one, to the bit. Several experts (MoCoOp, arXiv 2409.12011) are several contexts;
    the features are the mean of theirs, without MoCoOp's router, which depends on the sample that is classified: a
    class stays one vector. `mmalign tune` learns the vectors.

    Args:
        transform: The transform of the inner encoder.
        encoder: Name of the inner encoder, which must have token embeddings; "" = the default one.
        args: Arguments of the inner encoder.
        context: Number of vectors.
        experts: Number of contexts.

    Shape:
        As the inner encoder, with `context` more tokens. A text that is then longer than the maximum length loses its
        last tokens.

    Raises:
        UserError: the inner encoder has no token embeddings, such as tfidf, or no room is left for a text.
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        encoder: str = "",
        args: Mapping[str, Any] | None = None,
        context: int = 4,
        experts: int = 1,
    ) -> None:
        modality = registry.load("modalities", "text")
        encoder, args = encoder or next(iter(modality.encoders)), dict(args or {})
        if encoder == NAME:
            raise UserError("encoder 'prompted': expected another encoder inside, got 'prompted'")
        if getattr(transform, "sealed", True) and args.get("pretrained"):
            raise UserError("encoder 'prompted': a bundle describes its model and brings the weights")
        inner: Encoder = modality.encoder(encoder, transform, **args)
        require_token_table(encoder, inner)
        super().__init__(inner.width, inner.token_width, inner.part_width)
        spans = transform.tokenizer.pieces("a").spans
        words = [index for index, span in enumerate(spans) if span is not None] or [len(spans)]
        self._start, self._end = words[0], len(spans) - words[-1] - 1
        self._pad, self._fixed, self._longest = transform.tokenizer.pad, transform.fixed, transform.settings.max_length
        most = self._longest - self._start - self._end - 1
        if not 0 <= context <= most:
            raise UserError(f"encoder 'prompted': expected context from 0 to {most} vectors, got {context}")
        if not 1 <= experts <= MAX_EXPERTS:
            raise UserError(f"encoder 'prompted': expected 1 to {MAX_EXPERTS} experts, got {experts}")
        self.arguments = {"encoder": encoder, "args": inner.config(), "context": context, "experts": experts}
        self.inner = inner
        self.context = nn.Parameter(STD * torch.randn(experts, context, self._table().embedding_dim))

    def forward(self, inputs: Inputs) -> Features:
        """Encode; `inputs["expert"]`, if it is there, chooses one expert."""
        rest = {name: value for name, value in inputs.items() if name != "expert"}
        if not self.arguments["context"]:
            features: Features = self.inner(rest)
            return features
        chosen = self.context if "expert" not in inputs else self.context[inputs["expert"]][None]
        longer = self._with_room(rest)
        every = [self._through(longer, context) for context in chosen]
        return every[0] if len(every) == 1 else _mean(every)

    @torch.no_grad()
    def start_from(self, expert: int, ids: Sequence[int]) -> None:
        """Start the context of one expert from the embeddings of some tokens, the first where there are too many.

        Vectors for which there is no token are unchanged.
        """
        words = torch.tensor(list(ids)[: self.arguments["context"]], dtype=torch.long)
        table = self._table().weight
        self.context[expert, : len(words)] = table[words.to(table.device)]

    def _table(self) -> nn.Embedding:
        return cast(TokenTable, self.inner).token_table()

    def _through(self, inputs: Inputs, context: Tensor) -> Features:
        """The inner encoder with these vectors, `(context, width)`, in the place of the repeated token's embeddings."""
        place = slice(self._start, self._start + len(context))

        def replaced(module: nn.Module, given: object, values: Tensor) -> Tensor:
            rows = context.to(values.dtype).expand(values.shape[0], -1, -1)
            return torch.cat([values[:, : place.start], rows, values[:, place.stop :]], dim=1)

        hook = self._table().register_forward_hook(replaced)
        try:
            features: Features = self.inner(inputs)
        finally:
            hook.remove()
        return features

    def _with_room(self, inputs: Inputs) -> Inputs:
        """Collated texts with the first token of each repeated where the context goes."""
        mask = inputs["mask"]
        count, length = self.arguments["context"], mask.shape[1]
        longer = length if self._fixed else min(length + count, self._longest)
        columns = torch.arange(longer, device=mask.device).expand(mask.shape[0], -1)
        real = mask.sum(1, keepdim=True)
        total = (real + count).clamp(max=longer)
        source = torch.where(columns < self._start, columns, (columns - count).clamp(min=self._start))
        source = torch.where(columns >= total - self._end, columns - total + real, source)  # the end token stays
        kept = columns < total
        source = source.clamp(0, length - 1)
        spread = {"tokens": self._pad, "phrase": -1}
        moved = {
            name: inputs[name].gather(1, source).masked_fill(~kept, value)
            for name, value in spread.items()
            if name in inputs
        }
        if "phrase" in moved:
            here = (columns >= self._start) & (columns < self._start + count)
            moved["phrase"] = moved["phrase"].masked_fill(here, -1)
        return {**inputs, **moved, "mask": kept}


def prompted_encoder(
    name: str, encoder: Encoder, transform: Transform, *, context: int, starts: Sequence[str]
) -> PromptedText:
    """A trained encoder behind context vectors; its weights are shared, not copied.

    Args:
        name: Registered name of the encoder.
        encoder: The encoder.
        transform: Its transform.
        context: Number of vectors.
        starts: For each expert, words from whose embeddings the vectors start; "" = random.
    """
    require_token_table(name, encoder)
    assert isinstance(transform, TextTransform)
    arguments: dict[str, Any] = {"encoder": name, "args": encoder.config()}
    prompted = PromptedText(transform, **arguments, context=context, experts=len(starts))
    prompted.inner = encoder
    for expert, words in enumerate(starts):
        if words.strip():
            pieces = transform.tokenizer.pieces(words)
            ids = [one for one, span in zip(pieces.ids, pieces.spans, strict=True) if span is not None]
            prompted.start_from(expert, ids)
    return prompted


def require_token_table(name: str, encoder: Encoder) -> None:
    """Raise a `UserError` if an encoder has no token embeddings."""
    if not isinstance(encoder, TokenTable):
        raise UserError(
            f"encoder {name!r} has no token embeddings, so it cannot have a learnt context; encoders that have some: "
            "transformer, open_clip, huggingface, huggingface_dual, sentence_transformers"
        )


def _mean(every: Sequence[Features]) -> Features:
    """Mean of the features of several experts, position by position."""

    def level(name: str) -> Tokens | None:
        sets = [one for features in every if (one := getattr(features, name)) is not None]
        if not sets:
            return None
        return Tokens(torch.stack([one.values for one in sets]).mean(0), sets[0].mask)

    return Features(torch.stack([one.vector for one in every]).mean(0), level("tokens"), level("parts"))
