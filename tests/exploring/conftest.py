"""A bundle with vectors and captions, some of which are HTML or a template, and the table of its captions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmalign
from mmalign.data.config import DataConfig
from mmalign.exploring.explore import open_session
from mmalign.exploring.session import Session
from mmalign.model import Aligner

HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> ${window.hacked=1} "
    "{{constructor.constructor('window.hacked=1')()}} two cats"
)


class Served(NamedTuple):
    """What `mmalign explore` takes."""

    bundle: Path
    table: Path
    data: DataConfig


@pytest.fixture(scope="session")
def served(model: Aligner, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder, rng = tmp_path_factory.mktemp("explore"), np.random.default_rng(0)
    rows = [
        {"id": f"r{k}", "left": rng.standard_normal(8).tolist(), "label": ("cats", HOSTILE)[k % 2],
         "words": HOSTILE if k == 0 else f"a red disc {k // 2}", "group": f"patient {k // 4}"}
        for k in range(24)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    columns = {"left": "left", "words": "words", "label": "label", "group": "group"}
    data = DataConfig(manifest=str(folder / "rows.parquet"), columns=columns, validation=0.0)
    bundle = mmalign.save(model, folder / "bundle")
    mmalign.embed(mmalign.load(bundle), data, "words").write(folder / "words.parquet")
    return Served(Path(bundle), folder / "words.parquet", data)


@pytest.fixture(scope="session")
def session(served: Served) -> Session:
    return open_session(served.bundle, served.table, served.data, k=5)
