import pytest
import torch

from mmalign.errors import UserError
from mmalign.training.matmul import check_precision, matmul_precision


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [("auto", "cuda", "high"), ("auto", "cpu", "highest"), ("highest", "cuda", "highest"), ("medium", "cpu", "medium")],
)
def test_precision_holds_during_training_alone(name: str, device: str, expected: str) -> None:
    before = torch.get_float32_matmul_precision()
    assert before == "highest"
    with matmul_precision(name, torch.device(device)):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == before


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match="--matmul_precision: expected one of auto, highest, high, medium, got 'tf32'"):
        check_precision("tf32")
