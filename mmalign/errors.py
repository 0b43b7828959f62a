"""The errors for users: each states what was expected, what was found, and what to do."""

from mmalign.safe_io.printable import printable

MAX_MESSAGE = 4000
"""Maximum number of characters of a message; names in files may be very long."""


def _bounded(message: str) -> str:
    if len(message) <= MAX_MESSAGE:
        return message
    half = MAX_MESSAGE // 2
    return f"{message[:half]} ... ({len(message) - 2 * half} more characters) ... {message[-half:]}"


class UserError(ValueError):
    """An error that the user can correct: a flag, a file, a name. The CLI prints it as one line, exit code 2."""

    def __str__(self) -> str:
        return _bounded(printable(super().__str__()))


class BadSample(ValueError):
    """A sample that cannot be read.

    Args:
        source: Its origin in the user's terms: a path, `archive.tar!member.png`, `names.tsv:17`.
        expected: Description of a valid sample.
        came: Description of what was found.
    """

    def __init__(self, source: object, expected: str, came: str) -> None:
        self.source, self.expected, self.came = str(source), expected, came
        super().__init__(_bounded(printable(f"{self.source}: expected {expected}, got {came}")))

    def __reduce__(self) -> tuple[type["BadSample"], tuple[str, str, str]]:
        """Pickle all arguments: by default the constructor would get the message only."""
        return type(self), (self.source, self.expected, self.came)


class MissingFile(BadSample):
    """A file that a record names and that does not exist; the arguments are those of `BadSample`."""


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message, at most 300 characters; its type where it has no message.

    Example:
        >>> first_line(RuntimeError("no such device\nhint")), first_line(AssertionError())
        ('no such device', 'AssertionError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
