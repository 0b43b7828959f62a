"""The two errors that a user is meant to read: each says what was expected, what came, and what to do."""


class UserError(ValueError):
    """Something that the user can put right: a flag, a file, a name. The CLI prints it as one line, exit code 2."""


class BadSample(ValueError):
    """One sample that cannot be used.

    Args:
        source: Where it came from, as the user knows it: a path, `archive.tar!member.png`, `names.tsv:17`.
        expected: What a good sample looks like.
        came: What was found instead.
    """

    def __init__(self, source: object, expected: str, came: str) -> None:
        self.source, self.expected, self.came = str(source), expected, came
        super().__init__(f"{self.source}: expected {expected}, got {came}")

    def __reduce__(self) -> tuple[type["BadSample"], tuple[str, str, str]]:
        """Cross process borders whole: the default would call the constructor with the message alone."""
        return type(self), (self.source, self.expected, self.came)
