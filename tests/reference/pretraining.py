"""Self-supervised losses as their papers write them: loops over rows in Python's floats."""

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def views(a: Matrix, b: Matrix, predicted_a: Matrix, predicted_b: Matrix) -> float:
    """SimSiam, equation 4, mean over rows."""
    total = 0.0
    for row in range(len(a)):
        total -= cosine(predicted_a[row], b[row]) / 2 + cosine(predicted_b[row], a[row]) / 2
    return total / len(a)


def feature_std(vectors: Matrix) -> list[float]:
    found = []
    for d in range(len(vectors[0])):
        column = [row[d] for row in vectors]
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        found.append(math.sqrt(len(vectors[0]) * variance))
    return found


def hinge(vectors: Matrix) -> float:
    """VICReg, equation 1, with the target 1 / sqrt(dim) of unit vectors."""
    found = feature_std(vectors)
    return sum(max(0.0, 1 - one) for one in found) / len(found)


def hidden_error(told: Sequence[Matrix], meant: Sequence[Matrix], hidden: Sequence[Sequence[bool]]) -> list[float]:
    """Of each sample, the mean squared error over hidden tokens and their values."""
    errors = []
    for row, chosen in enumerate(hidden):
        squares = [
            (x - y) ** 2
            for token, is_hidden in enumerate(chosen)
            if is_hidden
            for x, y in zip(told[row][token], meant[row][token], strict=True)
        ]
        errors.append(sum(squares) / len(squares) if squares else 0.0)
    return errors
