"""Numbers that files and mappings state, of any type and size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, UserError

LARGEST = 1e30
"""Bound of the numbers of a saved transform: single precision holds them, and their products with features."""


def stated_number(value: Any, expected: str, source: object) -> float:
    """One number as a float; an integer that a float cannot hold becomes infinite, which no range accepts.

    Args:
        value: A number, or an array of one.
        expected: What it is, for the message, such as "a rate in Hz".
        source: Origin of the value, for the message.

    Raises:
        BadSample: it is no single real number.

    Example:
        >>> stated_number(np.array([250]), "a rate in Hz", "ecg"), stated_number(10**400, "a rate in Hz", "ecg")
        (250.0, inf)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number | np.ndarray) or np.size(value) != 1:
        raise BadSample(source, expected, _shown(value))
    number = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
    if isinstance(number, np.generic) and number.dtype.kind not in "iuf":
        raise BadSample(source, expected, _shown(value))
    try:
        return float(number)
    except OverflowError:
        return float("inf")
    except (TypeError, ValueError) as error:  # an array of objects
        raise BadSample(source, expected, _shown(value)) from error


def stated_array(value: Any, expected: str, source: object) -> NDArray[Any]:
    """A value of a mapping as an array of any type.

    Args:
        value: An array, a tensor, or nested lists.
        expected: What it is, for the message.
        source: Origin of the value, for the message.

    Raises:
        BadSample: it cannot be an array, such as rows of unequal length.

    Example:
        >>> stated_array([[1], [2]], "points", "cloud").shape
        (2, 1)
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise BadSample(source, expected, "rows of unequal length, or no array") from error


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a {type(value).__name__}"


def stated_table(value: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    """Numbers of a saved transform as an array.

    Args:
        value: Nested lists of numbers.
        shape: The shape that they must have.
        what: What they are, for the message.

    Raises:
        UserError: they are no finite numbers of this shape.

    Example:
        >>> stated_table([[1, 2]], (1, 2), "the mean")
        array([[1., 2.]])
    """
    try:
        table = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"expected {what} as numbers of shape {shape}, got other values") from error
    if table.shape != shape or not (np.abs(table) < LARGEST).all():  # NaN is not
        raise UserError(
            f"expected {what} as finite numbers of shape {shape}, got shape {table.shape}, NaN or one above {LARGEST:g}"
        )
    return table
