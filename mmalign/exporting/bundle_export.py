"""`mmalign.export`: the towers of a bundle as programs, each compared with the model."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import opened
from mmalign.errors import BadSample, UserError
from mmalign.exporting.parity import differences, retrieval
from mmalign.exporting.program import (
    NotExportable,
    Program,
    Run,
    quiet,
    reason_of,
    require_onnx,
    run_onnx,
    save_onnx,
    save_torch,
    trace,
)
from mmalign.model import Aligner
from mmalign.safe_io.safe_writing import replaced
from mmalign.selection import model_of, require_tower
from mmalign.types import Inputs

FORMATS = ("onnx", "torch")
TOLERANCE = 1e-4
"""Largest difference of a float32 program; one that exceeds it is not kept."""

_ROWS = 7
_DRAWN = 70


@dataclass(frozen=True)
class ExportedFile:
    """One tower in one format.

    Args:
        tower: Name of the tower.
        format: onnx, onnx int8 or torch.
        file: Name of the file in the folder; "" if the tower cannot be exported so.
        reason: Why it cannot, "" if it can.
        max_difference: Largest difference of an output from the model's, over batches of 1, 3 and 7 samples.
        mean_difference: Mean of the differences.
        bytes: Size of the file.
    """

    tower: str
    format: str
    file: str = ""
    reason: str = ""
    max_difference: float | None = None
    mean_difference: float | None = None
    bytes: int = 0


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how far it is from the model; `export.json` in the folder has the same.

    Args:
        folder: Folder of the files.
        files: One entry for each tower and format.
        towers: Tower -> modality, encoder, transform with its settings, inputs and outputs.
        int8_retrieval: Hits of the float32 and the int8 programs, for each pair of towers; empty without int8 or data.
    """

    folder: str
    files: Sequence[ExportedFile]
    towers: dict[str, dict[str, Any]]
    int8_retrieval: Sequence[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def show(self) -> None:
        """Print a line for each file, and the retrieval of int8 programs."""
        for file in self.files:
            if file.reason:
                print(f"{file.tower} ({file.format}): not exported: {file.reason}")
            else:
                print(
                    f"{file.tower} ({file.format}): {file.file}, {file.bytes / 1e6:.2f} MB; difference from the model: "
                    f"max {file.max_difference:.1e}, mean {file.mean_difference:.1e}"
                )
        for row in self.int8_retrieval:
            print(f"retrieval of {row['a']} and {row['b']}, {row['n']} records:")
            for metric in (name.removeprefix("int8 ") for name in row if name.startswith("int8 ")):
                print(f"  {metric}: float32 {row['float32 ' + metric]:.3f}, int8 {row['int8 ' + metric]:.3f}")


def export(
    model: Aligner | str | Path,
    out: str | Path,
    data: DataConfig | None = None,
    *,
    towers: Sequence[str] = (),
    formats: Sequence[str] = ("onnx",),
    int8: bool = False,
    split: str = "all",
    device: str = "cpu",
) -> ExportReport:
    """Export each tower, its head included, to ONNX and torch.export, as `mmalign export` does.

    A program takes the tensors that the tower's transform collates and returns `vector` (unit vectors in the shared
    space) and, for probabilistic models, `log_variance`. The number of rows, and other sizes that differ between
    samples, are free. Preprocessing is not part of a program: `export.json` states it.

    Args:
        model: A model, or the path of a bundle or run.
        out: Folder to write.
        data: Data whose samples the outputs are compared on; None = samples that the modalities generate.
        towers: Towers to export; all by default.
        formats: `onnx` (run here by onnxruntime) and `torch` (`.pt2`, run by torch.export.load).
        int8: Write an ONNX file with int8 weights too (dynamic quantisation), and measure what it loses in retrieval on
            `data`.
        split: Records of `data`: train, validation, test or all.
        device: Device to load a bundle on, see `mmalign.load`; programs are traced and compared on the CPU.

    Returns:
        The differences of each file. A tower that a format cannot express is listed with the reason, and a program
        that differs by more than 1e-4 is not kept.

    Raises:
        UserError: an unknown tower or format, a package of the extra `export` is missing, or `out` is a file.

    Example:
        >>> import mmalign
        >>> mmalign.export("runs/first", "exported", formats=["onnx", "torch"]).show()  # doctest: +SKIP
    """
    for one in formats:
        if one not in FORMATS:
            raise UserError(f"formats: expected {' or '.join(FORMATS)}, got {one!r}")
    if "onnx" in formats:
        require_onnx()
    loaded = model_of(model, device).cpu()
    for tower in towers:
        require_tower(loaded, tower)
    names = tuple(towers or loaded.towers)
    folder = Path(out)
    if folder.is_file():
        raise UserError(f"{out}: expected a folder to write, got a file")
    folder.mkdir(parents=True, exist_ok=True)
    read = None if data is None else opened(loaded, data, names, split, keep_samples=True)
    files: list[ExportedFile] = []
    stated: dict[str, dict[str, Any]] = {}
    runs: dict[str, tuple[Run, Run]] = {}
    for tower in names:
        batches = _batches(loaded, tower, read, split)
        try:
            program = trace(loaded, tower, batches[0])
        except NotExportable as error:
            files += [ExportedFile(tower, one, reason=str(error)) for one in formats]
            continue
        stated[tower] = _stated(loaded, tower, program)
        for one in formats:
            made, run = _written(loaded, tower, program, folder, one, batches)
            files.append(made)
            if one == "onnx" and int8 and run is not None:
                smaller, fast = _quantised(loaded, tower, program, folder, made.file, batches)
                files.append(smaller)
                if fast is not None:
                    runs[tower] = (run, fast)
    hits = retrieval(loaded, read, split, runs) if read is not None and len(runs) > 1 else []
    report = ExportReport(str(out), files, stated, hits)
    with replaced(folder / "export.json") as partial:
        partial.write_text(json.dumps(report.to_json() | {"folder": folder.name}, indent=2), encoding="utf-8")
    return report


def _batches(model: Aligner, tower: str, data: Dataset | None, split: str) -> list[Inputs]:
    """Collated batches of 7, 1 and 3 samples; of several batches of 7, the one with the fewest sizes of 0 and 1."""
    modality, transform = model.modalities[tower], model.transforms[tower]
    if data is None:
        samples = [modality.toy_sample(place % 10, np.random.default_rng(place)) for place in range(_DRAWN)]
    else:
        samples = list(itertools.islice(data.split(split).samples(tower), _DRAWN))
        if len(samples) < _ROWS:
            few = f"got {len(samples)} in split {split!r}"
            raise UserError(f"expected at least {_ROWS} samples of {tower!r} to compare on, {few}")
    try:
        items = [transform.item(sample) for sample in samples]
    except BadSample as error:
        if data is not None:
            raise
        raise UserError(
            f"the generated samples do not fit this model ({error}): name its data with --data.*"
        ) from error
    several = [transform.collate(items[at : at + _ROWS]) for at in range(0, len(items) - _ROWS + 1, _ROWS)]
    return [min(several, key=_fixed_sizes), transform.collate(items[:1]), transform.collate(items[-3:])]


def _fixed_sizes(inputs: Inputs) -> int:
    return sum(size < 2 for value in inputs.values() for size in value.shape)


def _written(
    model: Aligner, tower: str, program: Program, folder: Path, kind: str, batches: Sequence[Inputs]
) -> tuple[ExportedFile, Run | None]:
    file = folder / f"{tower}.{'onnx' if kind == 'onnx' else 'pt2'}"
    try:
        run = (save_onnx if kind == "onnx" else save_torch)(program, file)
        largest, mean = differences(model, tower, run, batches)
    except NotExportable as error:
        file.unlink(missing_ok=True)
        return ExportedFile(tower, kind, reason=str(error)), None
    except Exception as error:  # a program that does not run for another number of rows
        file.unlink(missing_ok=True)
        return ExportedFile(tower, kind, reason=reason_of(error)), None
    if not largest <= TOLERANCE:
        file.unlink(missing_ok=True)
        reason = f"the program differs from the model by {largest:.1e} (at most {TOLERANCE:.0e})"
        return ExportedFile(tower, kind, reason=reason, max_difference=largest, mean_difference=mean), None
    return ExportedFile(tower, kind, file.name, "", largest, mean, file.stat().st_size), run


def _quantised(
    model: Aligner, tower: str, program: Program, folder: Path, source: str, batches: Sequence[Inputs]
) -> tuple[ExportedFile, Run | None]:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = folder / f"{tower}.int8.onnx"
    try:
        with quiet():
            quantize_dynamic(str(folder / source), str(file), weight_type=QuantType.QInt8)
        run = run_onnx(file, program)
        largest, mean = differences(model, tower, run, batches)
    except Exception as error:  # the quantiser raises many kinds; each of them is a reason
        file.unlink(missing_ok=True)
        return ExportedFile(
            tower, "onnx int8", reason=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        ), None
    return ExportedFile(tower, "onnx int8", file.name, "", largest, mean, file.stat().st_size), run


def _stated(model: Aligner, tower: str, program: Program) -> dict[str, Any]:
    config, transform = model.towers[tower], model.transforms[tower]
    return {
        "modality": config.modality or tower,
        "encoder": config.encoder or next(iter(model.modalities[tower].encoders)),
        "transform": transform.config(),
        "inputs": {name: {"type": program.types[name], "shape": program.shapes[name]} for name in program.names},
        "outputs": {name: [None, model.dim] for name in program.outputs},
    }
