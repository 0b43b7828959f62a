"""The interface of an encoder: its configuration is a copy of its arguments, and must exist."""

from typing import Any

import pytest

from mmalign.modality import Encoder


class Sized(Encoder):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.arguments: dict[str, Any] = {"width": width}


def test_config_is_a_copy_of_the_arguments() -> None:
    encoder = Sized(3)
    assert encoder.config() == {"width": 3}
    encoder.config()["width"] = 4
    assert encoder.config() == {"width": 3}


def test_missing_arguments_raise() -> None:
    with pytest.raises(TypeError, match=r"must set self\.arguments"):
        Encoder(3).config()
    with pytest.raises(TypeError, match="must define forward"):
        Encoder(3)({})
