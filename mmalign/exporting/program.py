"""A tower as a program: tensors in, unit vectors out, with any number of rows."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.inference import inference
from mmalign.model import Aligner
from mmalign.registry import missing_extra
from mmalign.types import Inputs

Run = Callable[[Inputs], dict[str, Tensor]]


class NotExportable(Exception):
    """A tower that a format cannot express; the message is the reason."""


class TowerModule(nn.Module):
    """One tower with its head: collated tensors, by position, to `vector` and, if the model has one, `log_variance`.

    Args:
        model: The model.
        tower: Name of the tower.
        names: Names of the collated tensors, in the order of the arguments.
    """

    def __init__(self, model: Aligner, tower: str, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.head, self.codebook = model.encoders[tower], model.heads[tower], model.codebook
        self.tower, self.names, self.variances = tower, tuple(names), model.variances
        uncertain = self.head.log_variance is not None or tower in model.variances
        self.outputs = ("vector", "log_variance") if uncertain else ("vector",)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch."""
        inputs = dict(zip(self.names, tensors, strict=True))
        features = self.encoder(inputs)
        embedding = self.head(features, self.tower, self.codebook)
        embedding = self.variances.add(embedding, self.encoder, inputs, features.vector)
        return tuple(getattr(embedding, name) for name in self.outputs)


@dataclass(frozen=True)
class Program:
    """A tower that torch.export has traced.

    Args:
        exported: The `torch.export.ExportedProgram`.
        names: Names of the inputs, in order.
        outputs: Names of the outputs.
        shapes: Shape of each input; None = any size.
        types: Type of each input, such as float32.
    """

    exported: Any
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, list[int | None]]
    types: Mapping[str, str]


def trace(model: Aligner, tower: str, inputs: Inputs) -> Program:
    """Trace a tower with torch.export; every size that the encoder does not fix is any size in the program.

    Args:
        model: The model.
        tower: Name of the tower.
        inputs: Collated inputs. A size of 0 or 1 in them is fixed, so they should have several rows, tokens and edges.

    Raises:
        NotExportable: an input is no tensor, or the encoder's control flow depends on values.
    """
    others = [name for name, value in inputs.items() if not isinstance(value, Tensor)]
    if others:
        raise NotExportable(f"inputs that are no tensors: {', '.join(others)}")
    names = tuple(inputs)
    module = TowerModule(model, tower, names).eval()
    free = tuple(dict.fromkeys(range(inputs[name].ndim), torch.export.Dim.AUTO) for name in names)
    try:
        with inference(module), torch.inference_mode(False), torch.no_grad(), quiet():
            tensors = tuple(inputs[name] for name in names)
            exported = torch.export.export(module, tensors, dynamic_shapes=(free,), strict=False)
    except Exception as error:  # torch.export raises many kinds; each of them is a reason
        raise NotExportable(reason_of(error)) from error
    wanted = set(exported.graph_signature.user_inputs)
    values = [node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder" and node.name in wanted]
    shapes = {
        name: [int(str(size)) if str(size).isdecimal() else None for size in value.shape]  # s7 = any size
        for name, value in zip(names, values, strict=True)
    }
    types = {name: str(inputs[name].dtype).removeprefix("torch.") for name in names}
    return Program(exported, names, module.outputs, shapes, types)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of tracers and quantisers, which are about their own insides."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def save_torch(program: Program, path: Path) -> Run:
    """Write a torch.export program (`.pt2`), and return what runs it."""
    torch.export.save(program.exported, path)
    module = torch.export.load(path).module()

    def run(inputs: Inputs) -> dict[str, Tensor]:
        with torch.no_grad():
            found = module(*(inputs[name] for name in program.names))
        return dict(zip(program.outputs, found, strict=True))

    return run


def save_onnx(program: Program, path: Path) -> Run:
    """Write an ONNX file, and return what runs it in onnxruntime.

    Raises:
        NotExportable: ONNX has no such operator.
        UserError: onnx, onnxscript or onnxruntime are not installed.
    """
    require_onnx()
    try:
        with quiet():
            found = torch.onnx.export(
                program.exported, dynamo=True, verbose=False,
                input_names=list(program.names), output_names=list(program.outputs),
            )  # fmt: skip
        assert found is not None
        found.save(str(path))
    except Exception as error:  # of torch.onnx and of onnxscript
        raise NotExportable(reason_of(error)) from error
    return run_onnx(path, program)


def run_onnx(path: Path, program: Program) -> Run:
    """What runs an ONNX file on the CPU; inputs that the encoder does not read are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds
        raise NotExportable(reason_of(error)) from error
    read = [one.name for one in session.get_inputs()]

    def run(inputs: Inputs) -> dict[str, Tensor]:
        found = session.run(list(program.outputs), {name: inputs[name].numpy() for name in read})
        return {name: torch.from_numpy(value) for name, value in zip(program.outputs, found, strict=True)}

    return run


def require_onnx() -> None:
    """Raise a `UserError` if a package of the extra `export` is missing."""
    import importlib.util

    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "export")


def reason_of(error: Exception) -> str:
    """Kind and first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
