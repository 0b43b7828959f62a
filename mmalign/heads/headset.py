"""The heads of one tower: those that its objectives need."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.capabilities import Decoding, Masking, capability
from mmalign.errors import UserError
from mmalign.heads.codebook import Codebook, QueryHead
from mmalign.heads.gaussian import GaussianConfig, GaussianHead, bag_log_variance
from mmalign.heads.group_whitening import ShuffledGroupWhitening
from mmalign.heads.projection import ProjectionHead
from mmalign.heads.reducer import TokenReducer
from mmalign.heads.tokens import TokenHead
from mmalign.modality import Encoder
from mmalign.objectives.functional.nested_sizes import truncate_vectors
from mmalign.types import Embedding, Features, Inputs, Tokens

FIELDS = ("vector", "log_variance", "tokens", "parts", "codes", "reconstructed", "decoded")
PRETRAINING = {"reconstructed", "decoded"}
"""Fields of masked pretraining: outputs of a decoder of the tokens."""


class HeadSet(nn.Module):
    """Maps an encoder's features to the fields of an `Embedding` that the objectives read.

    `vector` is always set: by its own projection where an objective reads it; otherwise it is the grounded vector of
    the codes, or the normalised mean of the tokens or parts. The vector of an encoder without tokens is its only token.

    Args:
        encoder: The encoder, whose features are the input.
        dim: Size of the shared space.
        needs: Fields of `Embedding` that some objective reads, among vector, log_variance, tokens, parts, codes,
            reconstructed, decoded.
        kind: How vectors and tokens are projected: linear, affine, mlp, or identity (the encoder's width must then be
            `dim`).
        gaussian: Configuration of the `log_variance` head.
        reduce: Number of tokens to which a `TokenReducer` reduces those that objectives read; 0 = all are kept.
        whitening: Number of groups of `ShuffledGroupWhitening` before the projection of the vector; 0 = none.

    Attributes:
        size: Number of leading dimensions of the vectors to keep, renormalised (Matryoshka); None = all.

    Raises:
        UserError: `needs` has an unknown field or none that yields a vector, the encoder does not return needed parts,
            pool is bag and the encoder has no tokens or tokens of another width than its vector, or there are no tokens
            to reduce.
    """

    def __init__(
        self,
        encoder: Encoder,
        dim: int,
        needs: Iterable[str],
        kind: str = "linear",
        gaussian: GaussianConfig | None = None,
        reduce: int = 0,
        whitening: int = 0,
    ) -> None:
        super().__init__()
        self.needs, self.dim, gaussian = frozenset(needs), dim, gaussian or GaussianConfig()
        self.size: int | None = None
        self.width = encoder.width
        if unknown := self.needs - set(FIELDS):
            raise UserError(f"no head returns {sorted(unknown)}; objectives may need: {', '.join(FIELDS)}")
        if not self.needs - {"log_variance"}:
            raise UserError(f"a tower needs a vector, tokens, parts or codes, got {sorted(self.needs) or 'no needs'}")
        if "parts" in self.needs and encoder.part_width is None:
            raise UserError(
                f"an objective needs parts (phrases, motifs, beats), which encoder {type(encoder).__name__} does not "
                "return; choose another encoder, or the objective's level tokens"
            )
        self.own = self.needs <= PRETRAINING
        if self.own and encoder.width != dim:
            raise UserError(
                f"the objectives reconstruct and train no vector, so the embedding is the encoder's own: expected "
                f"model.dim {encoder.width}, its width, got {dim}; or add a term that trains a vector, such as views"
            )
        width = encoder.token_width or encoder.width
        bag = "log_variance" in self.needs and gaussian.pool == "bag"
        self.vector = ProjectionHead(encoder.width, dim, kind) if "vector" in self.needs else None
        # A bag's variance is computed in the shared space, so its members use the projection of the vector.
        if bag and (self.vector is None or encoder.token_width != encoder.width):
            came = f"{encoder.token_width or 'no tokens'} and {encoder.width}" if self.vector else "no vector is needed"
            raise UserError(f"gaussian.pool bag needs tokens as wide as the vector, got {came}; choose another pool")
        self.gives_tokens = encoder.token_width is not None
        self.log_variance = GaussianHead(width, dim, gaussian) if "log_variance" in self.needs and not bag else None
        self.bag = bag
        self.tokens = TokenHead(width, dim, kind) if "tokens" in self.needs else None
        self.parts = TokenHead(encoder.part_width or width, dim, kind) if "parts" in self.needs else None
        self.decoder = _decoder(encoder, width) if self.needs & PRETRAINING else None
        self.queries = QueryHead(width, dim) if "codes" in self.needs else None
        if reduce < 0 or (reduce and not self.needs & {"tokens", "codes"}):
            raise UserError(
                "reduce: expected a number of tokens, of a tower whose tokens some objective reads, got "
                f"{reduce} and objectives that read {', '.join(sorted(self.needs))}"
            )
        if whitening and self.vector is None:
            raise UserError("group_whitening: expected a tower whose vectors some objective reads")
        self.whitening = ShuffledGroupWhitening(encoder.width, whitening) if whitening else None
        self.token_reducer = TokenReducer(dim, reduce) if reduce and self.tokens is not None else None
        self.query_reducer = TokenReducer(dim, reduce, unit=False) if reduce and self.queries is not None else None

    def forward(
        self,
        features: Features,
        tower: str = "",
        codebook: Codebook | None = None,
        masked: tuple[Inputs, Tokens] | None = None,
    ) -> Embedding:
        """Compute the embedding's fields; `codebook` is the model's, `masked` the output of `Masking.mask_inputs`."""
        embedding = Embedding(features.vector, tower=tower)
        tokens = features.tokens
        if tokens is None and self.gives_tokens and self.needs & {"log_variance", "tokens", "codes"}:
            raise UserError("an objective needs tokens, and the encoder (with a token_width) returned none")
        if tokens is None:
            lone = torch.ones(features.vector.shape[0], 1, dtype=torch.bool, device=features.vector.device)
            tokens = Tokens(features.vector[:, None], lone)
        if self.log_variance is not None:
            embedding = replace(embedding, log_variance=self.log_variance(tokens))
        elif self.bag and self.vector is not None:
            members = self.vector(tokens.values.masked_fill(~tokens.mask[:, :, None], 0.0))
            embedding = replace(embedding, log_variance=bag_log_variance(Tokens(members, tokens.mask)))
        if self.tokens is not None:
            embedding = replace(embedding, tokens=_reduced(self.token_reducer, self.tokens(tokens)))
        if self.parts is not None:
            if features.parts is None:
                raise UserError("an objective needs parts, and the encoder returned none for this batch")
            embedding = replace(embedding, parts=self.parts(features.parts))
        if self.decoder is not None and masked is not None:
            inputs, target = masked
            decoded, predicted = self.decoder(tokens, inputs)
            embedding = replace(
                embedding,
                reconstructed=Tokens(predicted, target.mask),
                original=target,
                decoded=Tokens(decoded, target.mask),
            )
        if self.queries is not None:
            if codebook is None:
                raise UserError("an objective needs codes: expected the model's codebook, got None")
            codes, grounded = codebook(_reduced(self.query_reducer, self.queries(tokens)))
            embedding = replace(embedding, codes=codes, grounded=grounded)
        vector = self._vector(features.vector, embedding)
        return replace(embedding, vector=vector if self.size is None else truncate_vectors(vector, self.size))

    def empty(
        self, device: torch.device, tower: str, codebook: Codebook | None, encoder: nn.Module | None = None
    ) -> Embedding:
        """An embedding without rows, with the same fields as one with rows.

        With `encoder` it has a graph to all parameters of the tower, as with rows: all processes must communicate in
        the same order in backward, first the gradients of gathered rows, then those of the weights.
        """
        dtype = next((torch.promote_types(p.dtype, torch.float32) for p in self.parameters()), torch.float32)
        none, level = torch.zeros(0, self.dim, dtype=dtype, device=device), None
        if self.tokens is not None or self.parts is not None:
            level = Tokens(none.view(0, 0, self.dim), torch.zeros(0, 0, dtype=torch.bool, device=device))
        codes = none.new_zeros(0, codebook.config.codes) if self.queries is not None and codebook is not None else None
        embedding = Embedding(
            none[:, : self.size],
            log_variance=none if "log_variance" in self.needs else None,
            tokens=level if self.tokens is not None else None,
            parts=level if self.parts is not None else None,
            codes=codes,
            **(self._empty_pretraining(none) if self.decoder is not None else {}),
            grounded=None if codes is None else none,
            tower=tower,
        )
        parts = [encoder, self, codebook if codes is not None else None] if encoder is not None else []
        linked = [0.0 * p.sum() for part in parts if part is not None for p in part.parameters() if p.requires_grad]
        embedding = embedding.map(lambda value: value + torch.stack(linked).sum()) if linked else embedding
        if self.whitening is None or encoder is None or self.vector is None:
            return embedding
        # Processes with rows gather their statistics, forward and backward; so does this one.
        features = none.new_zeros(0, self.width) + (torch.stack(linked).sum() if linked else 0.0)
        return replace(embedding, vector=self._vector(features, embedding)[:, : self.size])

    def _empty_pretraining(self, none: Tensor) -> dict[str, Tokens]:
        level = Tokens(none.new_zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.bool, device=none.device))
        return dict.fromkeys(("reconstructed", "original", "decoded"), level)

    def _vector(self, features: Tensor, embedding: Embedding) -> Tensor:
        if self.vector is not None:
            whitened = features if self.whitening is None else self.whitening(features)
            return self.vector(whitened)  # type: ignore[no-any-return]
        if embedding.grounded is not None:
            return embedding.grounded
        if self.own:
            return F.normalize(features, dim=1, eps=1e-8)
        level = embedding.tokens or embedding.parts
        assert level is not None
        return F.normalize(level.values.sum(1), dim=1, eps=1e-8)  # padding is zero


def _reduced(reducer: TokenReducer | None, tokens: Tokens) -> Tokens:
    return tokens if reducer is None else reducer(tokens)


class LinearDecoder(nn.Linear):
    """Linear decoder of each token, for encoders that keep masked tokens as blanks."""

    def forward(self, tokens: Tokens, inputs: Inputs) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The tokens themselves as features, and the predicted values."""
        return tokens.values, super().forward(tokens.values)


def _decoder(encoder: Encoder, width: int) -> nn.Module:
    target_width = capability(encoder, Masking, "masked pretraining").target_width
    return encoder.decoder() if isinstance(encoder, Decoding) else LinearDecoder(width, target_width)
