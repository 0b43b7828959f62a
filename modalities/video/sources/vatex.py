"""The source `vatex`: VATEX, 41,000 clips of ten seconds with ten captions a language (Wang et al., ICCV 2019)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.reading.json_file import read_json
from modalities.common.sources.published_dataset import check_options
from modalities.video.sources.captioned import SPAN, Captioned, CaptionedVideos, annotation_files, captions

FILES = {
    "vatex_training_v1.0.json": "train",
    "vatex_validation_v1.0.json": "validation",
    "vatex_public_test_english_v1.1.json": "test",
}
LANGUAGES = {"en": "enCap", "zh": "chCap"}

_NAME = re.compile(r"(.+)_(\d{1,6})_(\d{1,6})")


class VatexSource(CaptionedVideos):
    """VATEX, or a file in its format: `--data.manifest FILE.json` or FOLDER, `--data.files FOLDER` with the videos.

    A file has a list of `videoID`, the source video's name, start and end in seconds (`ID_000010_000020`), and `enCap`,
    a list of captions, all of them alternatives of its text. The video is the file of that whole name; where there is
    none, that part of the file `ID`.

    Columns: `video` (a file, or a part of it), `text`, `id`, `group` (the source video), `split`.

    Options: `language` (en; or zh, the captions in `chCap`).

    Raises:
        UserError: a file is missing or not as described, or an option is unknown.
    """

    kind = "VATEX"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ("language",))
        language = str(config.options.get("language", "en"))
        if language not in LANGUAGES:
            raise UserError(f"--data.options.language: expected en or zh, got {language!r}")
        folder, files = annotation_files(config, FILES)
        rows = [row for path, split in files for row in _rows(path, split, LANGUAGES[language])]
        super().__init__(config, folder, rows)


def _rows(path: Path, split: str | None, column: str) -> Iterator[Captioned]:
    value = read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: expected a list of videos, got a {type(value).__name__}")
    for index, row in enumerate(value):
        location = f"{path.name}[{index}]"
        name = row.get("videoID") if isinstance(row, Mapping) else None
        if not isinstance(name, str) or not name:
            yield Captioned(location, location, (), (), split, problem="expected a videoID, got none")
            continue
        parts = _NAME.fullmatch(name)
        group = parts[1] if parts else name
        within = [f"{group}{SPAN}{int(parts[2])},{int(parts[3])}"] if parts and int(parts[2]) < int(parts[3]) else []
        yield Captioned(name, location, (name, *within), captions(row.get(column)), split, group)
