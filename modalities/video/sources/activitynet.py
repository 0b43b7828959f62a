"""The source `activitynet`: ActivityNet Captions, 20,000 videos with timed sentences (Krishna et al., ICCV 2017)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.reading.json_file import read_json
from modalities.common.sources.published_dataset import check_options
from modalities.video.sources.captioned import SPAN, Captioned, CaptionedVideos, annotation_files, captions

FILES = {"train.json": "train", "val_1.json": "test"}


class ActivityNetSource(CaptionedVideos):
    """ActivityNet Captions: `--data.manifest FOLDER` or `FILE.json`, `--data.files FOLDER` with `v_ID.mp4` and so on.

    A file has an object: video -> `duration`, `timestamps` (start and end in seconds), `sentences`. Of a folder,
    `train.json` is for training and `val_1.json` for testing, as papers do; `val_2.json`, other sentences of
    the same videos, is read where it is named.

    Columns: `video` (a file, or a part of it), `text`, `id`, `group` (the video), `split`.

    Options: `paragraph` (false): true joins the sentences of a video, as in paragraph-to-video retrieval; otherwise
    each sentence is a row with its part of the video.

    Raises:
        UserError: a file is missing or not as described, or an option is unknown.
    """

    kind = "ActivityNet Captions"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ("paragraph",))
        paragraph = config.options.get("paragraph", False)
        if not isinstance(paragraph, bool):
            raise UserError(f"--data.options.paragraph: expected true or false, got {paragraph!r}")
        folder, files = annotation_files(config, FILES)
        super().__init__(config, folder, [row for path, split in files for row in _rows(path, split, paragraph)])


def _rows(path: Path, split: str | None, paragraph: bool) -> Iterator[Captioned]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, video -> its sentences, got a {type(value).__name__}")
    for name, entry in value.items():
        location = f"{path.name}:{name[:80]}"
        sentences = entry.get("sentences") if isinstance(entry, Mapping) else None
        if not isinstance(sentences, list):
            yield Captioned(name, location, (name,), (), split, name, "expected a list of sentences, got none")
        elif paragraph:
            yield Captioned(name, location, (name,), captions(" ".join(captions(sentences))), split, name)
        else:
            yield from _parts(name, location, sentences, entry, split)


def _parts(
    name: str, location: str, sentences: list[Any], entry: Mapping[str, Any], split: str | None
) -> Iterator[Captioned]:
    times = entry.get("timestamps")
    for index, sentence in enumerate(sentences):
        time = times[index] if isinstance(times, list) and index < len(times) else None
        span = span_of(time, entry.get("duration"))
        problem = "" if span else f"expected a start before an end, in seconds, got {str(time)[:40]}"
        yield Captioned(
            f"{name}#{index}",
            f"{location}[{index}]",
            (f"{name}{SPAN}{span}",),
            captions(sentence),
            split,
            name,
            problem,
        )


def span_of(time: Any, duration: Any) -> str:
    """Start and end in seconds as text, within the video; "" where they are no part of it.

    Example:
        >>> span_of([1.5, 20], 18.0), span_of([3, 2], 18.0), span_of(None, 18.0)
        ('1.5,18', '', '')
    """
    if not isinstance(time, list) or len(time) != 2 or not all(_is_time(value) for value in time):
        return ""
    start, end = time[0], min(time[1], duration) if _is_time(duration) and duration else time[1]
    return f"{start:.12g},{end:.12g}" if start < end else ""


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
