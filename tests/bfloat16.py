"""bfloat16 on processors for which torch has no kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def bfloat16_where_torch_has_it() -> Iterator[None]:
    """Skip where torch itself fails: attention in bfloat16 on an AVX-512 machine under ATEN_CPU_CAPABILITY=default."""
    try:
        yield
    except RuntimeError as error:
        if "pack_vnni2" not in str(error):
            raise
        pytest.skip(f"torch cannot compute this in bfloat16 here: {error}")
