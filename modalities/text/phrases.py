"""Phrases, the middle level of a text: segmented by rules on characters, pooled from tokens."""

import re
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.types import Inputs, Tokens

MOST_WORDS = 8
"""Maximum number of words of a phrase."""

NAME_LETTERS, LONG_LETTERS = 12, 20
"""Minimum length of a chemical name: of words with a digit or bracket inside, and of all words."""

OPENERS = frozenset((
    "and", "or", "but", "that", "which", "who", "with", "without", "as", "of", "by", "in", "on", "at", "to", "into",
    "from", "for", "via", "than", "is", "are", "was", "were", "has", "have", "had", "having", "it", "its", "they",
    "this", "these", "derives", "derived", "obtained", "formed", "resulting", "carrying", "bearing", "containing",
    "comprising", "consisting", "used", "found", "produced", "isolated",
))  # fmt: skip
"""Words that start a phrase."""

ARTICLES = frozenset(("a", "an", "the"))

TAILS = frozenset((
    "acid", "acids", "ester", "esters", "ether", "anion", "cation", "ion", "salt", "group", "groups", "residue",
    "residues",
))  # fmt: skip
"""Words that belong to the chemical name before them."""

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
        most: Number of phrases in the result; None = as many as the batch needs on a CPU, `length` on a GPU, to avoid a
            synchronisation.

    Returns:
        `(batch, most, width)`; the mask is True where a phrase has a real token, values are zero elsewhere.

    Example:
        >>> values = torch.tensor([[[9.0], [1.0], [3.0], [5.0]]])
        >>> result = pool_phrases(values, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[-1, 0, 0, 1]]))
        >>> result.values.flatten(), result.mask
        (tensor([2., 5.]), tensor([[True, True]]))
    """
    batch, length, width = values.shape
    if most is None:
        # At least one, so that a row without phrases is masked rather than empty.
        most = max(int(phrases.max()) + 1, 1) if phrases.device.type == "cpu" and phrases.numel() else max(length, 1)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    real = mask & (phrases >= 0) & (phrases < most)
    rows = torch.arange(batch, device=values.device).unsqueeze(1) * (most + 1)
    index = (rows + phrases.where(real, most)).flatten()  # the last index of a row is for tokens in no phrase
    total = values.new_zeros(batch * (most + 1), width).index_add(0, index, values.reshape(-1, width))
    count = values.new_zeros(batch * (most + 1)).index_add(0, index, torch.ones_like(values[..., 0]).flatten())
    total, count = total.view(batch, most + 1, width)[:, :most], count.view(batch, most + 1)[:, :most]
    return Tokens(total / count.clamp(min=1).unsqueeze(-1), count > 0)


def phrase_ends(text: str) -> list[int]:
    """End offsets of the phrases of a text, in characters; each includes the blanks before it.

    A phrase ends after a word with a clause mark (`. ; : , ! ?`) or with a bracket that the word does not open, and
    before a word with a bracket that it does not close; so `(2R,3S)-2,3-dihydroxy` stays whole. It ends before a word
    of `OPENERS` and before a chemical name, unless it has only openers and articles so far; after a chemical name and
    its `TAILS`; and at `MOST_WORDS`. A text without a word has no phrase.

    Example:
        >>> text = "It is a member of phenols, and derives from a (2R)-2-aminobutanoic acid."
        >>> starts = [0, *phrase_ends(text)]
        >>> [text[a:b].strip() for a, b in zip(starts, starts[1:])]
        ['It is a member', 'of phenols,', 'and derives from a (2R)-2-aminobutanoic acid.']
    """
    ends: list[int] = []
    words, content, over, name = 0, False, True, False  # of the current phrase
    for match in _WORD.finditer(text):
        word = match.group()
        core = word.rstrip(_CLAUSE)
        bare = core.strip("()[]{}").lower()
        mark = not core.strip(_CLOSING)
        is_name = len(bare) >= LONG_LETTERS or (len(bare) >= NAME_LETTERS and _MARK.search(core) is not None)
        balance = _balance(core)
        begins = over or words >= MOST_WORDS or balance > 0 or (name and bare not in TAILS)
        begins = begins or (content and (is_name or bare in OPENERS))
        if mark and ends:
            begins = False  # a separate punctuation mark belongs to the phrase before it
        if begins or not ends:
            ends.append(match.end())
            words, content, name = 0, False, False
        ends[-1] = match.end()
        words += bool(bare)
        name = is_name or (name and bare in TAILS)
        content = content or not (bare in OPENERS or bare in ARTICLES or not bare)
        over = core != word or balance < 0
    return ends


def phrase_of_each_piece(ends: Sequence[int], phrase_ends: Sequence[int]) -> list[int]:
    """Phrase index of each piece of a text, numbered over phrases with at least one piece.

    Class and special tokens belong to no phrase, unless a text has only these: then they are one phrase.

    Args:
        ends: End offset of each piece, in characters; -1 for special tokens.
        phrase_ends: End offset of each phrase.

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
        phrase = min(bisect_left(phrase_ends, end), final)
        if phrase != last:
            last, number = phrase, number + 1
        phrases.append(number)
    return phrases if number >= 0 else [0] * len(phrases)


def phrase_tokens(values: Tensor, inputs: Inputs) -> Tokens:
    """Parts of an encoder: `pool_phrases` of its tokens, by the phrase indices of `TextTransform.collate`."""
    return pool_phrases(values, inputs["mask"], inputs["phrase"], inputs["phrase_mask"].shape[1])


def _balance(word: str) -> int:
    """1 for a word with a bracket that it does not close, -1 for one with a bracket that it does not open, else 0."""
    depth = lowest = 0
    for letter in word:
        depth += (letter in "([{") - (letter in _CLOSING)
        lowest = min(lowest, depth)
    return 1 if depth > lowest else -1 if lowest < 0 else 0
