"""Seeds that are the same bytes in every process: without times, random identifiers and names of temporary folders."""

import datetime
import gzip
import io
import itertools
import time
import types
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

SECONDS = 1_000_000_000


@contextmanager
def fixed_clock() -> Iterator[None]:
    """Inside this context, archives, bundles and DICOM files are written at one time, with counted identifiers."""
    from mmalign.bundles import bundle

    # Modules refer to the clock by their own name `time`: that of everything else goes on.
    clock = types.SimpleNamespace(time=lambda: float(SECONDS), localtime=lambda *_: time.gmtime(SECONDS))
    with ExitStack() as stack:
        for module in (zipfile, gzip):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(bundle, "datetime", _Datetime))
        try:
            import pydicom.uid
        except ModuleNotFoundError:
            pass
        else:
            numbers = itertools.count(1)
            stack.enter_context(
                patch.object(pydicom.uid, "generate_uid", lambda *_: pydicom.uid.UID(f"1.2.826.0.1.{next(numbers)}"))
            )
        yield


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(SECONDS, tz)


def without_name(archive: bytes, name: str) -> bytes:
    """A zip in whose members the name of a temporary folder is another one of the same length."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(stream, "w") as target:
        for info in source.infolist():
            content = source.read(info).replace(name.encode(), b"x" * len(name))
            if info.filename.endswith("serialization_id"):  # torch's hash of the rest
                content = b"0" * len(content)
            target.writestr(zipfile.ZipInfo(info.filename), content)
    return stream.getvalue()
