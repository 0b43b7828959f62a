"""Building networks from a user's arguments: what torch cannot build, or builds empty, becomes a `UserError`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from mmalign.errors import UserError, first_line


class EmptyLayerError(UserError):
    """A layer has a size of 0."""


@contextmanager
def no_empty_layers() -> Iterator[None]:
    """Inside this context, layers of torch without a weight are refused while they are built.

    A size of 0 in a configuration gives such a layer; torch initialises it with a warning, and it passes nothing on.

    Raises:
        EmptyLayerError: a layer has a size of 0.

    Example:
        >>> with no_empty_layers():
        ...     layer = nn.Linear(4, 0)
        Traceback (most recent call last):
        mmalign.building.EmptyLayerError: expected layers of at least one weight, got Linear with a weight of shape
        (0, 4)
    """

    def demand(module: nn.Module, name: str, parameter: Any) -> None:
        own = type(module).__module__.startswith("torch.nn.")
        if not own or parameter is None or is_lazy(parameter) or parameter.numel():
            return
        raise EmptyLayerError(
            f"expected layers of at least one weight, got {type(module).__name__} with a {name} of shape "
            f"{tuple(parameter.shape)}"
        )

    handle = register_module_parameter_registration_hook(demand)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Inside this context, sizes and numbers that a network cannot have are errors for the user.

    Args:
        what: The network and its arguments, for the message.

    Raises:
        UserError: torch refuses a size or a number, or a layer has a size of 0.

    Example:
        >>> with refusing("encoder 'mlp' with dropout=2"):
        ...     layer = nn.Dropout(2)
        Traceback (most recent call last):
        mmalign.errors.UserError: encoder 'mlp' with dropout=2 cannot be built: dropout probability has to be between 0
        and 1, but got 2
    """
    try:
        with no_empty_layers():
            yield
    except EmptyLayerError as error:
        raise UserError(f"{what}: {error}") from error
    except UserError:
        raise
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{what} cannot be built: {first_line(error)}") from error
