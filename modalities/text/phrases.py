"""Phrases, the middle level of a text: found by rules on its characters, pooled from its tokens."""

import re
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.types import Inputs, Tokens

MOST_WORDS = 8
"""No phrase has more words."""

NAME_LETTERS, LONG_LETTERS = 12, 20
"""A word is a chemical name from so many characters on: with a digit or bracket inside, and in any case."""

OPENERS = frozenset((
    "and", "or", "but", "that", "which", "who", "with", "without", "as", "of", "by", "in", "on", "at", "to", "into",
    "from", "for", "via", "than", "is", "are", "was", "were", "has", "have", "had", "having", "it", "its", "they",
    "this", "these", "derives", "derived", "obtained", "formed", "resulting", "carrying", "bearing", "containing",
    "comprising", "consisting", "used", "found", "produced", "isolated",
))  # fmt: skip
"""Words that begin a phrase."""

ARTICLES = frozenset(("a", "an", "the"))

TAILS = frozenset((
    "acid", "acids", "ester", "esters", "ether", "anion", "cation", "ion", "salt", "group", "groups", "residue",
    "residues",
))  # fmt: skip
"""Words that stay with the chemical name before them."""

_WORD = re.compile(r"\S+")
_MARK = re.compile(r"[0-9()\[\]{}]")
_CLAUSE, _CLOSING = ".;:,!?", ")]}"


def pool_phrases(values: Tensor, mask: Tensor, phrases: Tensor, most: int | None = None) -> Tokens:
    r"""The mean of the tokens of each phrase.

    .. math:: p_k = \frac{1}{|T_k|} \sum_{t \in T_k} v_t, \qquad T_k = \{t : \mathrm{phrase}(t) = k, t\ \text{real}\}

    Args:
        values: Tokens `(batch, length, width)`; half precision is raised to float32.
        mask: True = real, `(batch, length)`.
        phrases: The phrase of each token in its row, from 0; -1 = in none, `(batch, length)` int64.
        most: Places for phrases in the result; None = as many as the batch needs on a CPU, `length` on a GPU, which
            would have to be waited for.

    Returns:
        `(batch, most, width)`; the mask is True where a phrase has a real token, values are zero elsewhere.

    Example:
        >>> values = torch.tensor([[[9.0], [1.0], [3.0], [5.0]]])
        >>> found = pool_phrases(values, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[-1, 0, 0, 1]]))
        >>> found.values.flatten(), found.mask
        (tensor([2., 5.]), tensor([[True, True]]))
    """
    batch, length, width = values.shape
    if most is None:
        # At least one place, so that a row of no phrase is masked rather than of no shape.
        most = max(int(phrases.max()) + 1, 1) if phrases.device.type == "cpu" and phrases.numel() else max(length, 1)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    real = mask & (phrases >= 0) & (phrases < most)
    rows = torch.arange(batch, device=values.device).unsqueeze(1) * (most + 1)
    place = (rows + phrases.where(real, most)).flatten()  # the last place of a row takes what is in no phrase
    total = values.new_zeros(batch * (most + 1), width).index_add(0, place, values.reshape(-1, width))
    count = values.new_zeros(batch * (most + 1)).index_add(0, place, torch.ones_like(values[..., 0]).flatten())
    total, count = total.view(batch, most + 1, width)[:, :most], count.view(batch, most + 1)[:, :most]
    return Tokens(total / count.clamp(min=1).unsqueeze(-1), count > 0)


def phrase_ends(text: str) -> list[int]:
    """Where the phrases of a text end, in characters; each takes the blanks before it.

    A phrase ends after a word with a clause mark (`. ; : , ! ?`) or with a bracket that the word does not open, and
    before a word with a bracket that it does not close; so `(2R,3S)-2,3-dihydroxy` stays whole. It ends before a word
    of `OPENERS` and before a chemical name, unless it holds nothing but openers and articles so far; after a chemical
    name and its `TAILS`; and at `MOST_WORDS`. A text without a word has no phrase.

    Example:
        >>> text = "It is a member of phenols, and derives from a (2R)-2-aminobutanoic acid."
        >>> starts = [0, *phrase_ends(text)]
        >>> [text[a:b].strip() for a, b in zip(starts, starts[1:])]
        ['It is a member', 'of phenols,', 'and derives from a (2R)-2-aminobutanoic acid.']
    """
    ends: list[int] = []
    words, content, over, name = 0, False, True, False  # of the phrase so far; is it over; is it a chemical name
    for found in _WORD.finditer(text):
        word = found.group()
        core = word.rstrip(_CLAUSE)
        bare = core.strip("()[]{}").lower()
        mark = not core.strip(_CLOSING)
        is_name = len(bare) >= LONG_LETTERS or (len(bare) >= NAME_LETTERS and _MARK.search(core) is not None)
        balance = _balance(core)
        begins = over or words >= MOST_WORDS or balance > 0 or (name and bare not in TAILS)
        begins = begins or (content and (is_name or bare in OPENERS))
        if mark and ends:
            begins = False  # a mark standing alone belongs to what it ends
        if begins or not ends:
            ends.append(found.end())
            words, content, name = 0, False, False
        ends[-1] = found.end()
        words += bool(bare)
        name = is_name or (name and bare in TAILS)
        content = content or not (bare in OPENERS or bare in ARTICLES or not bare)
        over = core != word or balance < 0
    return ends


def phrase_of_each_piece(ends: Sequence[int], phrase_ends: Sequence[int]) -> list[int]:
    """The phrase of each piece of a text, counted over the phrases that have one.

    Class and special tokens belong to no phrase; where a text has nothing else, they are its one phrase.

    Args:
        ends: Where each piece ends, in characters; -1 for special tokens.
        phrase_ends: Where each phrase ends.

    Example:
        >>> phrase_of_each_piece([-1, 3, 5, 9, 14], [5, 12, 14])
        [-1, 0, 0, 1, 2]
        >>> phrase_of_each_piece([-1, -1], [])
        [0, 0]
    """
    phrases: list[int] = []
    last, number = -1, -1
    final = max(len(phrase_ends) - 1, 0)
    for end in ends:
        if end < 0:
            phrases.append(-1)
            continue
        found = min(bisect_left(phrase_ends, end), final)
        if found != last:
            last, number = found, number + 1
        phrases.append(number)
    return phrases if number >= 0 else [0] * len(phrases)


def phrase_tokens(values: Tensor, inputs: Inputs) -> Tokens:
    """What an encoder gives as parts: `pool_phrases` of its tokens by what `TextTransform.collate` made."""
    return pool_phrases(values, inputs["mask"], inputs["phrase"], inputs["phrase_mask"].shape[1])


def _balance(word: str) -> int:
    """1 for a word with a bracket that it does not close, -1 for one with a bracket that it does not open, else 0."""
    depth = lowest = 0
    for letter in word:
        depth += (letter in "([{") - (letter in _CLOSING)
        lowest = min(lowest, depth)
    return 1 if depth > lowest else -1 if lowest < 0 else 0
