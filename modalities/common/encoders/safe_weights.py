"""Weights from untrusted files: safetensors, or PyTorch's format with tensors only."""

from pathlib import Path

from torch import Tensor

from mmalign.errors import UserError, first_line
from mmalign.safe_io.tensor_files import load_tensors


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict without executing code from the file.

    Args:
        path: A `.safetensors` file, or a `.pt`, `.pth` or `.bin` file that holds only tensors and containers.

    Raises:
        UserError: there is no such file, or it is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights at {path}: expected a .safetensors, .pt, .pth or .bin file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = load_tensors(path)
    except Exception as error:  # Each format's reader raises its own errors; all mean a damaged file.
        raise UserError(f"cannot read weights from {path}: {first_line(error)}") from error
    for wrapper in ("state_dict", "model", "base_model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict: expected names and tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
