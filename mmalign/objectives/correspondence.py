"""What an objective says of one pair of samples: which tokens answer to which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.token_correspondence import alike
from mmalign.objectives.levels import Level
from mmalign.registry import nearest
from mmalign.types import Embedding, Tokens

if TYPE_CHECKING:
    from mmalign.objectives.objective import Objective
    from mmalign.objectives.pairs import PairConfig


class Correspondence(NamedTuple):
    """How the tokens of two samples answer to each other.

    Args:
        weights: `(tokens_a, tokens_b)`, not negative, 0 beside pads; larger = belong together more.
        level_a: What the rows are: tokens or parts.
        level_b: What the columns are.
        term: The label of the term that says so, for instance `molecule_text_transport`.
    """

    weights: Tensor
    level_a: Level
    level_b: Level
    term: str

    def swapped(self) -> "Correspondence":
        """The same with b for a."""
        return Correspondence(self.weights.T, self.level_b, self.level_a, self.term)


@dataclass(frozen=True)
class Coded(Embedding):
    """An embedding that also knows what each token brought to its codes.

    Args:
        token_codes: `functional.correspondence.code_shares`, values `(batch, tokens, codes)`.
    """

    token_codes: Tokens | None = None


def correspond(
    terms: Sequence[tuple["PairConfig", "Objective", str]], a: Embedding, b: Embedding, name: str = ""
) -> Correspondence:
    """See `PairSum.correspondence`; `terms` are all of a model, each with its label."""
    from mmalign.objectives.objective import Objective

    joined = [term for term in terms if {term[0].a, term[0].b} == {a.tower, b.tower}]
    named = [term for term in joined if name in ("", term[0].objective, term[2])]
    if not named:
        known = sorted({term[2] for term in joined} | {term[0].objective for term in joined})
        raise UserError(f"no term {name!r} between {a.tower!r} and {b.tower!r}{nearest(name, known)}")
    able = [term for term in named if type(term[1]).correspondence is not Objective.correspondence]
    pair, objective, label = (able or named)[0]  # one that cannot says so itself
    turned = (pair.a, pair.b) != (a.tower, b.tower)
    weights = objective.correspondence(b, a) if turned else objective.correspondence(a, b)
    found = Correspondence(weights, _level(objective.side_needs("a")), _level(objective.side_needs("b")), label)
    return found.swapped() if turned else found


def one_pair(a: Tokens, b: Tokens) -> tuple[Tensor, Tensor]:
    """Dot products of the tokens of one sample with those of another, and which of them are between real tokens.

    Raises:
        UserError: not exactly one sample a side.
    """
    if len(a.mask) != 1 or len(b.mask) != 1:
        raise UserError(f"expected one sample a side, got {len(a.mask)} and {len(b.mask)}; take rows with [i : i + 1]")
    return alike(a.values[0], a.mask[0], b.values[0], b.mask[0])


def _level(needs: frozenset[str]) -> Level:
    return "parts" if "parts" in needs else "tokens"
