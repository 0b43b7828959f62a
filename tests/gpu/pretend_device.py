"""A device without hardware: numbers are computed on the CPU, devices are checked, and waits of the host are counted.

    with torch.autograd.set_multithreading_enabled(False):       # or the engine asks for a thread of the device
        model, batch = put(model), put(batch)                    # parameters, buffers and tensors on the device
        with Construct(counter := Count()), counter:
            loss(model, batch).backward()                        # operands on two devices raise Mismatch
    counter.waits                                                # (operation, file:line) -> how often

A wait is an operation after which the host needs a result of the device: a read, a copy to the CPU, boolean indices.
One process can register one such device, so tests run in a process of their own. Not supported: GRU, sparse tensors,
`Tensor.tolist`, and `torch.utils.checkpoint`, to be replaced by a plain call.
"""

import collections
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.backend_registration as registration
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

NAME = "pretend"
registration._setup_privateuseone_for_python_backend(NAME)
getattr(torch, NAME).get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
DEVICE = torch.device(NAME, 0)
ROOT = Path(__file__).resolve().parents[2]
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
    "is_nonzero", "bincount", "nonzero_numpy", "linalg_solve", "_linalg_solve_ex_check",
}  # fmt: skip
COPIES = {"_to_copy", "copy", "_copy_from", "clone_to"}
INDEXES = {"index", "index_put", "_index_put_impl", "_unsafe_index"}


class Mismatch(RuntimeError):
    """Operands on two devices."""


class Pretend(torch.Tensor):
    """A tensor on the device; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretend":
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"Pretend({tuple(self.shape)}, {self.dtype})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(tensors: Mapping[str, torch.Tensor], *_: Any) -> "Pretend":
        return Pretend(tensors["inner"])

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {}, None)


def run(operation: Any, args: Any, kwargs: dict[str, Any], counter: "Count | None") -> Any:
    """Run an operation on the numbers of its operands.

    Raises:
        Mismatch: its operands are on two devices.
    """
    name = operation._schema.name.split("::")[1].rstrip("_")
    flat = tree_flatten((args, kwargs))[0]
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    own = [value for value in tensors if isinstance(value, Pretend)]
    target = kwargs.get("device")
    if not own and not on_device(target):
        return operation(*args, **kwargs)
    others = [value for value in tensors if not isinstance(value, Pretend) and value.dim()]
    if others and own and name not in COPIES | INDEXES:
        raise Mismatch(f"{operation}: operands on {NAME} and cpu, shapes {[tuple(value.shape) for value in others]}")
    if counter is not None and waits(name, args, kwargs):
        counter.count(name)
    values = {key: torch.device("cpu") if key == "device" and on_device(one) else one for key, one in kwargs.items()}
    plain_args, plain_kwargs = tree_map(unwrapped, (args, values))
    out = operation(*plain_args, **plain_kwargs)
    leaves_device = name == "_to_copy" and target is not None and torch.device(target).type == "cpu"
    if leaves_device or name == "_local_scalar_dense":
        return out
    if name == "copy" and not isinstance(args[0], Pretend):
        return args[0]
    return return_and_correct_aliasing(operation, args, kwargs, tree_map(wrapped, out))


def waits(name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether the host waits for the device at an operation with an operand there."""
    if name == "_to_copy":
        target = kwargs.get("device")
        return target is not None and torch.device(target).type == "cpu"
    if name == "copy":
        return not isinstance(args[0], Pretend)
    if name == "repeat_interleave":
        return not kwargs.get("output_size")
    if name in INDEXES:
        indices = tree_flatten(args[1])[0]
        return any(isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8) for one in indices)
    return name in WAITS


class Count(TorchDispatchMode):
    """Counts waits by operation and line of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: collections.Counter[tuple[str, str]] = collections.Counter()

    def count(self, operation: str) -> None:
        frames = [f for f in traceback.extract_stack() if f"{ROOT}/mmalign/" in f.filename]
        site = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "outside"
        self.waits[operation, site] += 1

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {}, self)


class Construct(TorchFunctionMode):
    """`torch.tensor` and its kin with a device: a copy to it, for which the host waits."""

    def __init__(self, counter: Count) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and on_device(kwargs.get("device")):
            data = args[0] if args else kwargs.pop("data")
            del kwargs["device"]
            if isinstance(data, Pretend):
                return data.to(kwargs["dtype"]) if kwargs.get("dtype") else data
            self.counter.count(function.__name__)
            with torch._C.DisableTorchFunction():
                return Pretend(function(data, **kwargs))
        if function is torch.Tensor.new_tensor and isinstance(args[0], Pretend):
            self.counter.count("new_tensor")
            return Pretend(args[0].inner.new_tensor(*args[1:], **kwargs))
        return function(*args, **kwargs)


def on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def unwrapped(value: Any) -> Any:
    return value.inner if isinstance(value, Pretend) else value


def wrapped(value: Any) -> Any:
    return Pretend(value) if isinstance(value, torch.Tensor) and not isinstance(value, Pretend) else value


def put(value: Any) -> Any:
    """A module (in place), tensor, or container of them, on the device."""
    if isinstance(value, torch.nn.Module):
        for module in value.modules():
            _put_all(module._parameters, lambda p: torch.nn.Parameter(Pretend(p.detach().clone()), p.requires_grad))
            _put_all(module._buffers, lambda buffer: Pretend(buffer.detach().clone()))
        return value
    if isinstance(value, torch.Tensor):
        return Pretend(value.detach().clone()).requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {key: put(one) for key, one in value.items()}
    return type(value)(put(one) for one in value) if isinstance(value, list | tuple) else value


def _put_all(tensors: dict[str, Any], move: Callable[[Any], Any]) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            tensors[name] = move(tensor)
