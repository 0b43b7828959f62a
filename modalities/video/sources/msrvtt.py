"""The source `msrvtt`: MSR-VTT, 10,000 clips with 20 captions each (Xu et al., CVPR 2016)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.reading.json_file import read_json
from modalities.common.sources.published_dataset import check_options, rows
from modalities.video.sources.captioned import Captioned, CaptionedVideos, annotation_files, captions

FILES = ("MSRVTT_data.json", "train_val_videodatainfo.json", "test_videodatainfo.json")
SPLITS = {"train": "train", "validate": "validation", "test": "test"}


class MsrvttSource(CaptionedVideos):
    """MSR-VTT: `--data.manifest FILE.json` or a folder with it, `--data.files FOLDER` with `video0.mp4` and so on.

    The file has `sentences`, a list of `video_id` and `caption`, and maybe `videos`, a list of `video_id` and `split`
    (train, validate, test). All captions of a video are alternatives of its text.

    Columns: `video` (a file), `text`, `id` (the video), `split`.

    Options: `split`, a CSV table with the columns `video_id` and, for one caption a video, `sentence`, such as the 1k-A
    test set: its videos are the test split, and all others are for training (9,000 of the whole data set).

    Raises:
        UserError: a file is missing or not as described, or an option is unknown.
    """

    kind = "MSR-VTT"

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ("split",))
        folder, files = annotation_files(config, dict.fromkeys(FILES, ""))
        table = config.options.get("split")
        test = None if table is None else _listed(Path(str(table)).expanduser())
        texts: dict[str, list[str]] = {}
        splits: dict[str, str] = {}
        faults: list[Captioned] = []
        for path, _ in files:
            value = read_json(path)
            if not isinstance(value, dict) or not isinstance(value.get("sentences"), list):
                raise UserError(f"{path}: expected MSR-VTT's object with a list of sentences, got another value")
            faults += _gather(path.name, value["sentences"], texts)
            splits |= _splits(value.get("videos"))
        super().__init__(config, folder, [*_videos(files[0][0].name, texts, splits, test), *faults])


def _gather(file: str, sentences: list[Any], texts: dict[str, list[str]]) -> Iterator[Captioned]:
    """Add each sentence to its video; the rows that cannot be used."""
    for index, row in enumerate(sentences):
        name = row.get("video_id") if isinstance(row, Mapping) else None
        texts_of_row = captions(row.get("caption")) if isinstance(row, Mapping) else ()
        if isinstance(name, str) and name and texts_of_row:
            texts.setdefault(name, []).extend(texts_of_row)
        else:
            location = f"{file}:sentences[{index}]"
            yield Captioned(location, location, (), (), problem="expected a video_id and a caption, got other values")


def _splits(videos: Any) -> dict[str, str]:
    rows = videos if isinstance(videos, list) else []
    good = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("video_id"), str)]
    return {row["video_id"]: SPLITS.get(str(row.get("split")), "") for row in good}


def _videos(
    file: str, texts: Mapping[str, list[str]], splits: Mapping[str, str], test: Mapping[str, str] | None
) -> Iterator[Captioned]:
    for name, sentences in texts.items():
        split = splits.get(name) if test is None else "test" if name in test else "train"
        chosen = (test[name],) if test and test.get(name) else tuple(sentences)
        yield Captioned(name, f"{file}:{name}", (name,), chosen, split)
    for name in test or {}:
        if name not in texts:
            yield Captioned(name, f"split:{name}", (name,), (), "test", problem="expected captions, got none")


def _listed(path: Path) -> dict[str, str]:
    """Video -> its sentence, "" where the table has none."""
    return {cells["video_id"]: cells.get("sentence", "") for _, cells in rows(path, ("video_id",), ("sentence",))}
