import io
import multiprocessing
import os
import pickle
import tarfile
import threading
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mmalign import registry
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.files.archives import TarStore, ZipStore
from mmalign.data.files.folder import FolderStore
from mmalign.data.files.open import open_store
from mmalign.data.files.store import FileStore, safe_name
from mmalign.errors import BadSample, UserError
from mmalign.model import TowerConfig, modality_of

CONTENT = {f"deep/{number}.bin": bytes([number]) * (1000 + number) for number in range(50)}


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    archive.addfile(info, io.BytesIO(data))


@pytest.fixture(params=["folder", "tar", "tar.gz", "tar.xz", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    path = tmp_path / f"files.{request.param}"
    if request.param == "folder":
        for name, data in CONTENT.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif request.param == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in CONTENT.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[request.param]) as archive:
            for name, data in CONTENT.items():
                add(archive, f"./{name}", data)
    return open_store(path, max_bytes=2000)


def content(store: FileStore, name: str) -> bytes:
    fetched = store.fetch(name)
    return fetched.read_bytes() if isinstance(fetched, Path) else fetched


def test_lists_and_fetches_every_file(store: FileStore) -> None:
    assert store.names() == sorted(CONTENT)
    assert {name: content(store, name) for name in store.names()} == CONTENT
    assert content(store, "./deep//7.bin") == CONTENT["deep/7.bin"]


@pytest.mark.parametrize(
    "name", ["../x", "deep/../../x", "/etc/hostname", "C:\\x", "a\\..\\..\\x", "", ".", "a\0b", "\\x"]
)
def test_names_that_leave_are_refused(store: FileStore, name: str) -> None:
    with pytest.raises(BadSample, match="expected a name relative to"):
        store.fetch(name)


def test_missing_files_are_refused(store: FileStore) -> None:
    with pytest.raises(BadSample, match="no such"):
        store.fetch("deep/99.bin")


def test_a_folder_is_a_value_of_a_folder_alone(store: FileStore) -> None:
    """For modalities that read folders, such as the frames of a clip; archives have members only."""
    if isinstance(store, FolderStore):
        folder = store.fetch("deep")
        assert folder.is_dir()
        before = store.fingerprint(["deep"])
        (folder / "new.bin").write_bytes(b"1")
        assert store.fingerprint(["deep"]) != before
        (folder / "new.bin").unlink()
        assert store.fingerprint(["deep"]) == before
    else:
        with pytest.raises(BadSample, match="no such member"):
            store.fetch("deep")


def test_oversized_files_are_refused(store: FileStore) -> None:
    small = open_store(store.path, max_bytes=1010)
    assert len(content(small, "deep/10.bin")) == 1010
    with pytest.raises(BadSample, match="at most 1010 bytes, got 1011 bytes"):
        small.fetch("deep/11.bin")


def test_threads_read_right_bytes(store: FileStore) -> None:
    wrong: list[str] = []

    def read() -> None:
        for _ in range(20):
            wrong.extend(name for name, data in CONTENT.items() if content(store, name) != data)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _reads_all(store: FileStore, queue: "multiprocessing.Queue[bool]") -> None:
    queue.put(all(content(store, name) == data for _ in range(30) for name, data in CONTENT.items()))


def test_forked_processes_read_right_bytes(store: FileStore) -> None:
    content(store, "deep/1.bin")  # the handle is open before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_reads_all, args=(store, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert all(content(store, name) == data for _ in range(30) for name, data in CONTENT.items())
    assert [queue.get(timeout=60) for _ in children] == [True, True]
    for child in children:
        child.join()


def _reads_big(store: FileStore, ready: Any, queue: "multiprocessing.Queue[bool]") -> None:
    ready.wait()
    queue.put(all(content(store, str(n)) == bytes([n]) * 500_000 for _ in range(10) for n in range(8)))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_forks_share_no_position_in_the_archive(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"big.{kind}"
    members = {str(n): bytes([n]) * 500_000 for n in range(8)}
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                add(tar, name, data)
    store = open_store(path)
    content(store, "1")
    context = multiprocessing.get_context("fork")
    queue, ready = context.Queue(), context.Event()
    children = [context.Process(target=_reads_big, args=(store, ready, queue)) for _ in range(3)]
    for child in children:
        child.start()
    ready.set()
    assert [queue.get(timeout=60) for _ in children] == [True] * 3
    for child in children:
        child.join()


def test_pickled_stores_open_their_own_file(store: FileStore) -> None:
    copy = pickle.loads(pickle.dumps(store))
    del store
    assert {name: content(copy, name) for name in copy.names()} == CONTENT


def test_fingerprint_follows_content(store: FileStore) -> None:
    before = store.fingerprint(CONTENT)
    assert open_store(store.path).fingerprint(reversed(list(CONTENT))) == before
    if isinstance(store, FolderStore):
        (store.path / "deep" / "3.bin").write_bytes(b"other")
        assert store.fingerprint(CONTENT) != before


def test_hostile_tar_members(tmp_path: Path) -> None:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "../out.png", b"evil")
        add(archive, "/etc/absolute.png", b"evil")
        add(archive, "link.png", kind=tarfile.SYMTYPE, link="/etc/passwd")
        add(archive, "hard.png", kind=tarfile.LNKTYPE, link="good.png")
        add(archive, "pipe.png", kind=tarfile.FIFOTYPE)
        add(archive, "good.png", b"good")
    store = open_store(path)
    assert store.names() == ["good.png"]
    assert store.fetch("good.png") == b"good"
    for name, reason in {
        "../out.png": "leaves the folder",
        "out.png": "no such member",
        "etc/absolute.png": "no such member",
        "link.png": "a link to '/etc/passwd'",
        "hard.png": "a link to 'good.png'",
        "pipe.png": "device",
    }.items():
        with pytest.raises(BadSample, match=reason):
            store.fetch(name)


def test_hostile_zip_members(tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * 5_000_000)  # 5 kB in the archive
        archive.writestr("../out.png", b"evil")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", b"good")
    assert path.stat().st_size < 10_000
    store = open_store(path, max_bytes=1_000_000)
    assert store.fetch("good.png") == b"good"
    for name, reason in {
        "bomb.png": "at most 1000000 bytes",
        "../out.png": "leaves the folder",
        "link.png": "a link",
    }.items():
        with pytest.raises(BadSample, match=reason):
            store.fetch(name)


def test_zip_member_that_unfolds_without_end_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmalign.data.files.archives._MEMBER_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.obj", b"0" * 5_000_000)
        archive.writestr("zeros.npy", b"0" * (1 << 20))  # as much as is always unpacked
    store = open_store(path)
    assert len(store.fetch("zeros.npy")) == 1 << 20
    monkeypatch.setattr(ZipStore, "_read", lambda *_: pytest.fail("the member was unpacked"))
    with pytest.raises(BadSample, match=r"decompress to 5000000, like a decompression bomb; unpack the zip"):
        store.fetch("bomb.obj")


def test_zip_with_false_sizes_and_damaged_members(tmp_path: Path) -> None:
    path = tmp_path / "lies.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.bin", b"a" * 100_000)
    data = path.read_bytes()
    path.write_bytes(data.replace((100_000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(BadSample, match="expected a whole member"):
        open_store(path, max_bytes=1000).fetch("big.bin")


def test_cut_tar_keeps_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "first", b"1" * 2000)
        add(archive, "second", b"2" * 2000)
    path.write_bytes(path.read_bytes()[: 512 + 2048 + 512 + 700])
    store = open_store(path)
    assert store.fetch("first") == b"1" * 2000
    with pytest.raises(BadSample, match="cut off"):
        store.fetch("second")
    with pytest.raises(BadSample, match="no such member .*damaged"):
        store.fetch("third")


def test_sparse_member_with_a_lying_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "lies.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "huge", b"x" * 10)
    header = bytearray(path.read_bytes())
    header[124:136] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path.write_bytes(header)
    with pytest.raises(BadSample, match=f"got {1 << 32} bytes"):
        open_store(path).fetch("huge")


def test_packed_tar_that_unfolds_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmalign.data.files.archives._UNFOLD_BYTES", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "zeros", b"\0" * 8_000_000)
    with pytest.raises(UserError, match="like a decompression bomb"):
        open_store(path)


def test_folder_links_and_devices(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside.png", tmp_path / "root"
    outside.write_bytes(b"secret")
    (root / "sub").mkdir(parents=True)
    (root / "own.png").write_bytes(b"own")
    (root / "leaves.png").symlink_to(outside)
    (root / "sub" / "climbs").symlink_to("../..")
    (root / "stays.png").symlink_to("own.png")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    (tmp_path / "alias").symlink_to(root)
    for store in (open_store(root), open_store(tmp_path / "alias")):
        assert content(store, "stays.png") == b"own"
        for name, reason in {
            "leaves.png": "a link that leaves it",
            "sub/climbs/outside.png": "a link that leaves it",
            "loop.png": "expected a file",
            "pipe.png": "a device or pipe",
            "own.png/x": "expected a file",
        }.items():
            with pytest.raises(BadSample, match=reason):
                store.fetch(name)


def test_rows_of_a_matrix_keep_their_number(tmp_path: Path) -> None:
    (tmp_path / "m.npy").write_bytes(b"matrix")
    (tmp_path / "odd#3").write_bytes(b"odd")
    store = open_store(tmp_path)
    assert store.fetch("m.npy#17") == tmp_path / "m.npy#17"
    assert content(store, "odd#3") == b"odd"
    assert store.fingerprint(["m.npy#1", "m.npy#2"]) == store.fingerprint(["m.npy"])
    with pytest.raises(BadSample, match="no such file"):
        store.fetch("n.npy#17")
    (tmp_path / "out.npy").symlink_to(tmp_path.parent / "elsewhere.npy")
    (tmp_path.parent / "elsewhere.npy").write_bytes(b"secret")
    with pytest.raises(BadSample, match="leaves"):
        store.fetch("out.npy#0")


def test_a_path_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; set --data\.files"):
        open_store(tmp_path / "nowhere")
    for name, data in {
        "a.tar": b"hello" * 300,
        "b.zip": b"PK\x03\x04" + b"x" * 90,
        "c.tar.gz": b"\x1f\x8b" + b"x" * 90,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="expected a"):
            open_store(tmp_path / name)


def test_an_encrypted_member_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the local header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadSample, match="encrypted"):
        open_store(path).fetch("a")


def test_formats_are_recognised_by_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.tar", "w") as archive:
        archive.writestr("a", b"1")
    with tarfile.open(tmp_path / "odd.zip", "w") as tar:
        add(tar, "a", b"2")
    assert isinstance(open_store(tmp_path / "odd.tar"), ZipStore)
    assert isinstance(open_store(tmp_path / "odd.zip"), TarStore)


def test_safe_name_keeps_inner_dots() -> None:
    assert safe_name("a/..b/c..d", Path("x")) == "a/..b/c..d"


def test_names_as_other_systems_write_them(tmp_path: Path) -> None:
    """Decomposed accents of macOS, backslashes of Windows, a zip that does not state its encoding, a hard link."""
    folder = tmp_path / "f"
    (folder / "s").mkdir(parents=True)
    (folder / unicodedata.normalize("NFD", "é.png")).write_bytes(b"accent")
    (folder / "s" / "a.png").write_bytes(b"below")
    assert Path(open_store(folder).fetch("é.png")).read_bytes() == b"accent"  # type: ignore[arg-type]
    assert Path(open_store(folder).fetch("s\\a.png")).read_bytes() == b"below"  # type: ignore[arg-type]
    for encoding in ("utf-8", "cp1252"):
        path = tmp_path / f"{encoding}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x" * len("ü.png".encode(encoding)), b"umlaut")
        raw = path.read_bytes().replace(b"x" * len("ü.png".encode(encoding)), "ü.png".encode(encoding))
        path.write_bytes(raw)
        assert open_store(path).fetch("ü.png") == b"umlaut"
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a.png", b"one file")
        add(archive, "b.png", kind=tarfile.LNKTYPE, link="a.png")
        add(archive, "c.png", kind=tarfile.LNKTYPE, link="../a.png")
    store = open_store(path)
    assert store.fetch("b.png") == b"one file"
    assert store.names() == ["a.png", "b.png"]
    with pytest.raises(BadSample, match="a link to"):
        store.fetch("c.png")


@pytest.mark.parametrize("name", ["..\\x.png", "s\\..\\..\\x.png", "\\x.png", "C:\\x.png"])
def test_other_spellings_do_not_leave_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"outside")
    (tmp_path / "f" / "s").mkdir(parents=True)
    with pytest.raises(BadSample):
        open_store(tmp_path / "f").fetch(name)


def test_members_above_the_limit_of_the_reader_are_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.off", bytes(1001))
    (tmp_path / "t.csv").write_text("shape,text\na.off,a cube\n")

    def refuse(*_: object) -> bytes:
        raise AssertionError("unpacked")

    monkeypatch.setattr(ZipStore, "_read", refuse)
    monkeypatch.setattr(registry.load("modalities", "pointcloud").__class__, "max_file_bytes", 1000)
    modalities = {name: modality_of(name, TowerConfig()) for name in ("pointcloud", "text")}
    config = DataConfig("manifest", str(tmp_path / "t.csv"), str(tmp_path / "z.zip"), max_rejected=1.0,
                        columns={"pointcloud": "shape", "text": "text"})  # fmt: skip
    data = Dataset.open(config, modalities)
    assert [rejected.reason for rejected in data.rejected] == ["expected a file of at most 1000 bytes, got 1001 bytes"]


def test_the_limit_of_files_is_that_of_the_towers_that_read_files() -> None:
    known = {name: modality_of(name, TowerConfig()) for name in ("text", "ecg", "echo", "image", "molecule")}
    limits = {name: DataConfig("digits").source_config({}, {name: one}).max_file_bytes for name, one in known.items()}
    assert limits == {"text": 1 << 30, "ecg": 1 << 28, "echo": 1 << 29, "image": 1 << 30, "molecule": 1 << 26}
    both = {name: known[name] for name in ("ecg", "echo", "text")}
    assert DataConfig("digits").source_config({}, both).max_file_bytes == 1 << 29


@pytest.mark.parametrize(("kind", "size"), [(b"L", 8 << 30), (b"K", 8 << 30), (b"x", 60 << 30), (b"g", 1 << 21)])
def test_metadata_of_a_tar_is_bounded(tmp_path: Path, kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, size
    whole = tarfile.TarInfo("a.png")
    whole.size = 1
    first = whole.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    bomb = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    (tmp_path / "t.tar").write_bytes(bomb)
    with pytest.raises(UserError, match=f"a header of {size} bytes of metadata"):
        open_store(tmp_path / "t.tar")
    (tmp_path / "t.tar").write_bytes(first + bomb)
    store = open_store(tmp_path / "t.tar")
    assert content(store, "a.png") == b"x"
    with pytest.raises(BadSample, match="the archive is damaged after 1 members"):
        store.fetch("b.png")
