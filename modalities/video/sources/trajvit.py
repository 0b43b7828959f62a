"""The source `trajvit`: TrajViT's list of videos, or pictures, and captions."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.reading.json_file import read_json
from modalities.common.sources.published_dataset import check_options
from modalities.video.sources.captioned import Captioned, CaptionedVideos, annotation_files, captions

KEYS = ("video", "image")


class TrajvitSource(CaptionedVideos):
    """A list in the format of TrajViT's code: `--data.manifest FILE.json`, `--data.files FOLDER` (default: the list's).

    Each row has `video` or `image`, a file, and `caption`, a string or a list of alternatives.

    Columns: `video` (a file), `text`, `id` (the position in the list, from 0), `group` (the file).

    Raises:
        UserError: the file is missing or no such list, or an option is given.
    """

    kind = "TrajViT's list"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ())
        folder, files = annotation_files(config, {})
        super().__init__(config, folder, [row for path, _ in files for row in _rows(path)])


def _rows(path: Path) -> Iterator[Captioned]:
    value = read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: expected a list of videos and captions, got a {type(value).__name__}")
    for index, row in enumerate(value):
        location = f"{path.name}[{index}]"
        name = next((row[key] for key in KEYS if row.get(key)), None) if isinstance(row, Mapping) else None
        if isinstance(name, str):
            yield Captioned(str(index), location, (name,), captions(row.get("caption")), group=name)
        else:
            problem = "expected a video or an image and a caption, got other values"
            yield Captioned(str(index), location, (), (), problem=problem)
