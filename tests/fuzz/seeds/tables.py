"""Tables of every suffix, and stores: a folder, tars and zips."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import single

ROWS = [
    {"id": f"r{k}", "t": f"text, {k}", "v": [k, 0.5], "label": k % 2, "group": "g", "split": "train", "age": 1.5 * k}
    for k in range(6)
]


def sdf() -> bytes:
    """Three molecules with properties, as rdkit writes them."""
    from rdkit import Chem

    stream = io.StringIO()
    with Chem.SDWriter(stream) as writer:
        for name, smiles in {"ethanol": "CCO", "benzene": "c1ccccc1", "glycine": "NCC(=O)O"}.items():
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("NAME", name)
            writer.write(molecule)
    return stream.getvalue().encode()


def _delimited(separator: str) -> bytes:
    lines = [separator.join(ROWS[0])]
    lines += [
        separator.join(f'"{value}"' if "," in str(value) else str(value) for value in row.values()) for row in ROWS
    ]
    return ("\n".join(lines) + "\n").encode()


def _parquet(folder: Path) -> bytes:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "t.parquet")
    return (folder / "t.parquet").read_bytes()


REGISTERED: dict[str, Callable[[], bytes]] = {"sdf": sdf}
"""Suffix in the group `mmalign.tables` -> a table."""


def tables(folder: Path) -> dict[str, Case]:
    """Suffix -> a table."""
    jsonl = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    files = {"csv": _delimited(","), "tsv": _delimited("\t"), "jsonl": jsonl, "parquet": _parquet(folder)}
    files |= {suffix: make() for suffix, make in REGISTERED.items()}
    return {suffix: single(f"t.{suffix}", data) for suffix, data in files.items()}


def folders() -> dict[str, Case]:
    """Folders as tables: classes, splits, texts beside files, metadata."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    png = stream.getvalue()
    beside = {f"{split}/dog/{k}.{suffix}": data for split in ("train", "test") for k in range(2)
              for suffix, data in (("png", png), ("txt", b"a dog"))}  # fmt: skip
    table = b"file_name,text\n1.png,a dog\n2.png,a cat\n"
    return {
        "beside": Case(beside, "./"),
        "metadata": Case({"1.png": png, "2.png": png, "metadata.csv": table}, "./"),
    }


def stores() -> dict[str, Case]:
    """A tar, plain and packed, two zips, and a folder."""
    members = {"a.txt": b"one", "d/b.txt": b"two" * 100, "\u00e9.txt": b"three"}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("h.txt")
        link.type, link.linkname = tarfile.LNKTYPE, "a.txt"
        archive.addfile(link)
    files = {"t.tar": tar.getvalue()}
    files["t.tar.gz"] = gzip.compress(files["t.tar"], mtime=0)
    files["t.tar.bz2"], files["t.tar.xz"] = bz2.compress(files["t.tar"]), lzma.compress(files["t.tar"])
    for name, kind in (("stored.zip", zipfile.ZIP_STORED), ("packed.zip", zipfile.ZIP_DEFLATED)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", kind) as packed:
            for member, data in members.items():
                packed.writestr(member, data)
        files[name] = stream.getvalue()
    return {name: single(name, data) for name, data in files.items()} | {"folder": Case(members, "./")}
