"""Short labels that tell samples apart: without a common beginning, and with the end of long words."""

from collections import Counter
from collections.abc import Sequence

SHORTEST = 8
"""Minimum number of characters of a common beginning that is removed."""


def distinct_labels(texts: Sequence[str], names: Sequence[str], *, width: int = 26) -> tuple[list[str], str]:
    """Labels of at most `width` characters, and the common beginning that they lack.

    A beginning that all texts share is replaced by an ellipsis. A long text of one word, such as a SMILES, keeps its
    beginning and its end. Texts whose labels would still be equal are labelled by their names instead.

    Args:
        texts: The samples as strings.
        names: Ids of the samples, for texts that cannot be told apart.
        width: Maximum length of a label.

    Example:
        >>> distinct_labels(["The molecule is an acid", "The molecule is an ester of methanol with a long name"], "ab")
        (['… acid', '… ester of methanol with …'], 'The molecule is an')
        >>> distinct_labels(["C" * 40 + "O", "C" * 40 + "N"], "ab", width=9)[0]
        ['CCCC…CCCO', 'CCCC…CCCN']
    """
    flat = [" ".join(text.split()) for text in texts]
    common = _common_words(flat)
    rest = [f"… {text[len(common) :].lstrip()}" if common else text for text in flat]
    labels = [shorten(text, width) for text in rest]
    counts, different = Counter(labels), {label: set[str]() for label in labels}
    for label, text in zip(labels, flat, strict=True):
        different[label].add(text)
    chosen = [
        shorten(name, width) if counts[label] > 1 and len(different[label]) > 1 else label
        for label, name in zip(labels, names, strict=True)
    ]
    return chosen, common


def shorten(text: str, width: int) -> str:
    """The text in at most `width` characters: cut after a word, or in the middle of a single long word.

    Example:
        >>> shorten("two cats on a mat", 12), shorten("CC(=O)OC1=CC=CC=C1C(=O)O", 12)
        ('two cats …', 'CC(=O…C(=O)O')
    """
    if len(text) <= width:
        return text
    cut = text[: width - 1].rpartition(" ")[0]  # room for a space and the ellipsis
    if len(cut) > width // 2:
        return f"{cut} …"
    half = (width - 1) // 2
    return f"{text[:half]}…{text[len(text) - (width - 1 - half) :]}"


def _common_words(texts: Sequence[str]) -> str:
    """The beginning that all texts share, up to a space; empty if it is short, or nothing would be left."""
    if len(set(texts)) < 2:
        return ""
    first, last = min(texts), max(texts)  # what these two share, all share
    length = next((i for i, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), len(first))
    common = first[:length].rpartition(" ")[0]
    return common if len(common) >= SHORTEST else ""
