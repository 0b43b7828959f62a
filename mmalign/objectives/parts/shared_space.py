"""Similarity of towers that were never paired: the space that other towers connect (emergent alignment).

Where images were trained with texts and point clouds with texts, images and point clouds lie in one space without ever
having been paired (Girdhar et al. 2023, arXiv 2305.05665, section 3.2). Their similarity is the cosine of vectors.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor

from mmalign.types import Embedding


def path_between(pairs: Iterable[tuple[str, str]], a: str, b: str) -> list[str] | None:
    """The shortest chain of paired towers from `a` to `b`, both included; None if there is none.

    Args:
        pairs: The trained pairs.
        a: One tower.
        b: Another, or the same one.

    Example:
        >>> path_between([("image", "text"), ("pointcloud", "text")], "image", "pointcloud")
        ['image', 'text', 'pointcloud']
    """
    neighbours: dict[str, list[str]] = {}
    for one, other in pairs:
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    paths, seen = [[a]] if a in neighbours else [], {a}
    while paths:
        path = paths.pop(0)
        if path[-1] == b:
            return path
        following = [tower for tower in dict.fromkeys(neighbours[path[-1]]) if tower not in seen]
        seen.update(following)
        paths += [[*path, tower] for tower in following]
    return None


def cosine(a: Embedding, b: Embedding, *, pairwise: bool = False) -> Tensor:
    """Cosine similarity of vectors, which have length 1: `(n, m)`, or `(n,)` of aligned rows."""
    return (a.vector * b.vector).sum(1) if pairwise else a.vector @ b.vector.T


def emergent_note(path: Sequence[str]) -> str:
    """What a similarity of towers that were never paired is, for results and messages.

    Example:
        >>> emergent_note(["image", "text", "pointcloud"])
        'cosine; image and pointcloud were never paired, the space is shared through text'
    """
    through = " and ".join(path[1:-1])
    return f"cosine; {path[0]} and {path[-1]} were never paired, the space is shared through {through}"
