"""Text of files, made safe to print: a terminal obeys escape sequences, and a line break forges a line."""

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: escape sequences, line breaks
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, invisible letters
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of letters, invisible tags
)


def printable(text: object) -> str:
    r"""The text with every character escaped that a terminal would obey or hide; used by all that prints.

    Letters of all scripts, spaces and emoji are unchanged.

    Example:
        >>> printable("a\x1b[2J\nmmalign: all good \u202egnp.exe")
        'a\\x1b[2J\\nmmalign: all good \\u202egnp.exe'
        >>> printable("\u00e9\u4e2d") == "\u00e9\u4e2d"
        True
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))
