"""An encoder's argument that its transform also sets, and that must agree with it."""

from mmalign.errors import UserError


def agreed(argument: int | None, setting: int, what: str) -> int:
    """The transform's value, checked against the encoder's argument.

    Args:
        argument: The encoder's argument; None = whatever the transform has.
        setting: The transform's value.
        what: Description of the inputs with `{}` in place of the value.

    Raises:
        UserError: they differ.

    Example:
        >>> agreed(None, 64, "texts of length {}")
        64
        >>> agreed(8, 64, "texts of length {}")
        Traceback (most recent call last):
        mmalign.errors.UserError: the encoder takes texts of length 8, its transform makes 64
    """
    if argument is not None and argument != setting:
        raise UserError(f"the encoder takes {what.format(argument)}, its transform makes {setting}")
    return setting
