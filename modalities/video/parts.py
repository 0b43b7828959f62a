"""Parts of a clip, named behind a `#` in its path, so that several windows of a long video are samples of their own."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmalign.errors import BadSample

_SECONDS = re.compile(r"t=(?:npt:)?(\d+(?:\.\d+)?)?(?:,(\d+(?:\.\d+)?))?")
_WINDOW = re.compile(r"part=(\d{1,6})of(\d{1,6})")


@dataclass(frozen=True)
class Part:
    """A window in time.

    Args:
        start: In seconds, or as a fraction of the duration.
        stop: Where it ends; None = at the end of the clip.
        fractions: Whether both are fractions of the duration.
    """

    start: float = 0.0
    stop: float | None = None
    fractions: bool = False

    def bounds(self, duration: float, source: object) -> tuple[float, float]:
        """Start and stop in seconds.

        Args:
            duration: Of the whole clip, in seconds.
            source: Origin, for messages.

        Raises:
            BadSample: it begins after the end of the clip.
        """
        scale = duration if self.fractions else 1.0
        start, stop = self.start * scale, duration if self.stop is None else min(self.stop * scale, duration)
        if start >= duration:
            raise BadSample(source, f"a part that begins before {duration:g} s, the end of the clip", f"{start:g} s")
        return start, stop


def split_part(path: Path) -> tuple[Path, Part | None]:
    """The file and the part that a path names; a file whose own name has a `#` is itself.

    `clip.mp4#t=3,9.5` is from 3 s to 9.5 s (W3C media fragments), `clip.mp4#part=2of5` the second of five equal parts.

    Raises:
        BadSample: there is no such file, and the text after the `#` is no part.

    Example:
        >>> split_part(Path("clip.mp4#t=3,9.5"))[1], split_part(Path("clip.mp4#part=2of4"))[1]
        (Part(start=3.0, stop=9.5, fractions=False), Part(start=0.25, stop=0.5, fractions=True))
    """
    base, mark, fragment = path.name.rpartition("#")
    if not mark or not base or path.exists():
        return path, None
    file = path.with_name(base)
    if (match := _SECONDS.fullmatch(fragment)) and any(match.groups()):
        start, stop = (None if number is None else float(number) for number in match.groups())
        if stop is None or stop > (start or 0):
            return file, Part(start or 0.0, stop)
    elif match := _WINDOW.fullmatch(fragment):
        number, count = int(match[1]), int(match[2])
        if 1 <= number <= count:
            return file, Part((number - 1) / count, number / count, fractions=True)
    raise BadSample(path, "a part such as #t=3,9.5 or #part=2of5", f"#{fragment:.40}")
