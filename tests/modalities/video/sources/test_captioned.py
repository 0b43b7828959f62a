"""Sources of captioned videos: MSR-VTT, ActivityNet Captions, VATEX, TrajViT's list."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.common.reading import json_file
from modalities.video.sources.activitynet import ActivityNetSource
from modalities.video.sources.msrvtt import MsrvttSource
from modalities.video.sources.trajvit import TrajvitSource
from modalities.video.sources.vatex import VatexSource

SOURCES: dict[str, type[Any]] = {
    "msrvtt": MsrvttSource, "activitynet": ActivityNetSource, "vatex": VatexSource, "trajvit": TrajvitSource,
}  # fmt: skip


def write(folder: Path, files: dict[str, Any], videos: tuple[str, ...] = ()) -> Path:
    for name, value in files.items():
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    for name in videos:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def opened(source: str, manifest: Path, **options: Any) -> Source:
    found: Source = SOURCES[source](SourceConfig(source=source, manifest=str(manifest), options=options))
    return found


def good(source: Source) -> dict[str, Record]:
    return {record.id: record for record in source.records() if record.problem is None}


def reasons(source: Source) -> list[str]:
    return [str(record.problem) for record in source.records() if record.problem]


MSRVTT = {
    "videos": [{"video_id": f"video{k}", "split": split} for k, split in enumerate(("train", "validate", "test"))],
    "sentences": [
        {"caption": "a dog runs", "video_id": "video0", "sen_id": 1},
        {"caption": " a dog plays ", "video_id": "video0", "sen_id": 2},
        {"caption": "a man sings", "video_id": "video1"},
        {"caption": "a car", "video_id": "video2"},
        {"caption": "a cat", "video_id": "video9"},
        {"caption": 7, "video_id": "video2"},
    ],
}
CLIPS = ("TrainValVideo/video0.mp4", "TrainValVideo/video1.avi", "TestVideo/video2.mp4")


def test_msrvtt_joins_the_captions_of_a_video(tmp_path: Path) -> None:
    source = opened("msrvtt", write(tmp_path, {"MSRVTT_data.json": MSRVTT}, CLIPS))
    records = good(source)
    assert list(records) == ["video0", "video1", "video2"]
    assert records["video0"].values == {"video": ("TrainValVideo/video0.mp4",), "text": ("a dog runs", "a dog plays")}
    assert [record.split for record in records.values()] == ["train", "validation", "test"]
    fetched = source.fetch("TrainValVideo/video1.avi")
    assert isinstance(fetched, Path)
    assert fetched.read_bytes() == b"TrainValVideo/video1.avi"
    assert reasons(source) == [
        f"MSRVTT_data.json:video9 video: expected the video video9 in {tmp_path}, got no such file",
        "MSRVTT_data.json:sentences[5]: expected a video_id and a caption, got other values",
    ]


def test_msrvtt_takes_the_test_set_of_a_table(tmp_path: Path) -> None:
    table = "key,vid_key,video_id,sentence\nret0,msr2,video0,the one sentence\nret1,msr5,video5,lost\n"
    write(tmp_path, {"MSRVTT_data.json": MSRVTT, "1ka.csv": table}, CLIPS)
    source = opened("msrvtt", tmp_path / "MSRVTT_data.json", split=str(tmp_path / "1ka.csv"))
    records = good(source)
    assert records["video0"].values["text"] == ("the one sentence",)
    assert {name: record.split for name, record in records.items()} == {
        "video0": "test", "video1": "train", "video2": "train"
    }  # fmt: skip
    assert "split:video5: expected captions, got none" in reasons(source)


ACTIVITYNET = {
    "v_a": {
        "duration": 20.5,
        "timestamps": [[0, 4.25], [3, 99], [8, 2]],
        "sentences": [" A man jumps.", "He falls.", "x"],
    },
    "v_b": {"duration": 5, "timestamps": [], "sentences": ["late"]},
    "v_c": {"duration": 5, "timestamps": [[0, 1]], "sentences": "one text"},
    "v_d": [],
}  # fmt: skip


def test_activitynet_has_a_row_for_each_sentence(tmp_path: Path) -> None:
    files = {"train.json": ACTIVITYNET, "val_1.json": {"v_e": ACTIVITYNET["v_a"]}}
    write(tmp_path, files, ("v_a.mkv", "v_b.mp4", "v_e.mp4"))
    source = opened("activitynet", tmp_path)
    records = good(source)
    assert [record.values["video"][0] for record in records.values()] == [
        "v_a.mkv#t=0,4.25", "v_a.mkv#t=3,20.5", "v_e.mp4#t=0,4.25", "v_e.mp4#t=3,20.5"
    ]  # fmt: skip
    assert records["v_a#0"].values["text"] == ("A man jumps.",)
    assert {record.group for record in records.values()} == {"v_a", "v_e"}
    assert [record.split for record in records.values()] == ["train", "train", "test", "test"]
    assert source.fetch("v_a.mkv#t=3,20.5") == tmp_path / "v_a.mkv#t=3,20.5"
    assert [reason.partition(": ")[0] for reason in reasons(source)] == [
        "train.json:v_a[2]", "train.json:v_b[0]", "train.json:v_c", "train.json:v_d", "val_1.json:v_e[2]"
    ]  # fmt: skip
    assert "expected a start before an end, in seconds, got [8, 2]" in reasons(source)[0]


def test_activitynet_joins_sentences_to_paragraphs(tmp_path: Path) -> None:
    source = opened("activitynet", write(tmp_path, {"train.json": ACTIVITYNET}, ("v_a.mp4", "v_b.mp4")), paragraph=True)
    assert {name: record.values for name, record in good(source).items()} == {
        "v_a": {"video": ("v_a.mp4",), "text": ("A man jumps. He falls. x",)},
        "v_b": {"video": ("v_b.mp4",), "text": ("late",)},
    }


@pytest.mark.parametrize("time", [[0], [0, "1"], [-1, 2], [True, 2], [0, 1e999], None, {"a": 1}])
def test_times_that_are_no_part_are_rejected(tmp_path: Path, time: Any) -> None:
    value = {"v_a": {"duration": 9, "timestamps": [time], "sentences": ["a"]}, "v_b": ACTIVITYNET["v_a"]}
    source = opened("activitynet", write(tmp_path, {"train.json": value}, ("v_a.mp4", "v_b.mp4")))
    assert reasons(source)[0].startswith("train.json:v_a[0]: expected a start before an end")


VATEX = [
    {"videoID": "a_b_000010_000020", "enCap": ["one", "two"], "chCap": ["yi"]},
    {"videoID": "cut_000010_000020", "enCap": ["three"]},
    {"videoID": "cut_000010_000020", "enCap": ["again"]},
    {"videoID": "plain", "enCap": []},
    {"enCap": ["no name"]},
]


def test_vatex_finds_clips_and_parts_of_whole_videos(tmp_path: Path) -> None:
    write(tmp_path, {"vatex_training_v1.0.json": VATEX}, ("a_b.mp4", "cut_000010_000020.webm", "plain.mp4"))
    source = opened("vatex", tmp_path)
    records = good(source)
    assert [record.values for record in records.values()] == [
        {"video": ("a_b.mp4#t=10,20",), "text": ("one", "two")},
        {"video": ("cut_000010_000020.webm",), "text": ("three",)},
    ]
    assert {record.group for record in records.values()} == {"a_b", "cut"}
    assert [reason.partition(": ")[2] for reason in reasons(source)] == [
        "expected each id once, got 'cut_000010_000020' again",
        "expected a caption, got none",
        "expected a videoID, got none",
    ]
    chinese = opened("vatex", tmp_path / "vatex_training_v1.0.json", language="zh")
    assert [record.values["text"] for record in good(chinese).values()] == [("yi",)]


def test_trajvit_lists_videos_and_images(tmp_path: Path) -> None:
    rows = [
        {"video": "panda/a.mp4", "caption": "a panda"}, {"image": "b.npz", "caption": ["one", "two"]},
        {"video": "../secret.mp4", "caption": "x"}, {"video": 3, "caption": "y"}, "z",
    ]  # fmt: skip
    source = opened("trajvit", write(tmp_path, {"list.json": rows}, ("panda/a.mp4", "b.npz")) / "list.json")
    assert [record.values for record in good(source).values()] == [
        {"video": ("panda/a.mp4",), "text": ("a panda",)},
        {"video": ("b.npz",), "text": ("one", "two")},
    ]
    assert len(reasons(source)) == 3
    with pytest.raises(BadSample, match="leaves the folder"):
        source.fetch("../secret.mp4")


def test_parts_of_videos_need_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"train.json": {"v_a": ACTIVITYNET["v_a"]}})
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.writestr("v_a.mp4", b"video")
    config = SourceConfig(source="activitynet", manifest=str(tmp_path), files=str(tmp_path / "clips.zip"))
    with pytest.raises(UserError, match="unpack the archive"):
        ActivityNetSource(config).fetch("v_a.mp4#t=0,4.25")
    config.options = {"paragraph": True}
    assert ActivityNetSource(config).fetch("v_a.mp4") == b"video"


def test_a_source_without_the_video_column_needs_no_videos(tmp_path: Path) -> None:
    write(tmp_path, {"MSRVTT_data.json": MSRVTT})
    config = SourceConfig(source="msrvtt", manifest=str(tmp_path), columns={"text": "text"})
    assert len(good(MsrvttSource(config))) == 4


def test_fingerprint_depends_on_captions_and_on_files(tmp_path: Path) -> None:
    first = opened("msrvtt", write(tmp_path, {"MSRVTT_data.json": MSRVTT}, CLIPS)).fingerprint()
    assert first == opened("msrvtt", tmp_path).fingerprint()
    (tmp_path / CLIPS[0]).write_bytes(b"longer than it was before")
    second = opened("msrvtt", tmp_path).fingerprint()
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps(MSRVTT).replace("a dog runs", "a dog sits"))
    assert len({first, second, opened("msrvtt", tmp_path).fingerprint()}) == 3


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "3", "null", "[[]", "9" * 5000, '"\udcff"'])
def test_damaged_files_are_explained(tmp_path: Path, source: str, content: str) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"captions\.json"):
        opened(source, path)


@pytest.mark.parametrize("source", SOURCES)
def test_missing_oversized_and_folder_manifests_are_errors(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="expected"):
        opened(source, tmp_path)
    with pytest.raises(UserError, match="expected a JSON file"):
        opened(source, tmp_path / "none.json")
    with pytest.raises(UserError, match="--data.manifest"):
        SOURCES[source](SourceConfig(source=source))
    with pytest.raises(UserError, match="no option"):
        opened(source, write(tmp_path, {"list.json": []}) / "list.json", nonsense=1)
    (tmp_path / "large.json").write_text("[" + " " * 100 + "]")
    with pytest.raises(UserError, match="at most 50 bytes"):
        json_file.read_json(tmp_path / "large.json", most=50)


@pytest.mark.parametrize(("source", "options"), [("activitynet", {"paragraph": "yes"}), ("vatex", {"language": "de"})])
def test_wrong_options_are_named(tmp_path: Path, source: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"options.{next(iter(options))}"):
        opened(source, tmp_path, **options)
