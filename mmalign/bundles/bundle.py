"""A bundle: one folder with everything that inference needs, and no executable code.

    config.json        format, versions, model (registered names and arguments), data defaults, provenance
    model.safetensors  weights, learnt scale included
    transforms/        one JSON file per tower: preprocessing, tokenizer included
    README.md          the model card
    results.json       results of `mmalign evaluate`, newest last

No pickle, no class paths: loading looks up names in the registry and reads tensors.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmalign.building import no_empty_layers
from mmalign.bundles.bundle_files import demand_whole, finite, read_json, write_json
from mmalign.bundles.card import GENERATED, model_card
from mmalign.bundles.parameter_bound import bounded_parameters
from mmalign.data.files.store import file_sha256
from mmalign.errors import UserError, first_line
from mmalign.heads import CodebookConfig, GaussianConfig
from mmalign.lora import merged_state
from mmalign.model import Aligner, modality_of
from mmalign.model_description import check_description
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.safe_io.safe_writing import replaced
from mmalign.version import BUNDLE_FORMAT, __version__


def save(model: Aligner, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
    """Save a model as a bundle; an existing bundle is replaced file by file, and its results are kept.

    Args:
        model: The model.
        path: The folder; created if missing.
        provenance: JSON values to save with the weights: seed, data hash, command.

    Returns:
        The folder.
    """
    folder = Path(path).expanduser()
    (folder / "transforms").mkdir(parents=True, exist_ok=True)
    described, state = _merged(model)
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with ExitStack() as stack:
        # All files are written before the first one is replaced: a full disk or a kill leaves the former bundle.
        files = ["model.safetensors", *(f"transforms/{name}.json" for name in model.transforms)]
        partial = {name: stack.enter_context(replaced(folder / name)) for name in reversed(files)}
        save_file(weights, partial["model.safetensors"], metadata={"format": "pt"})
        partial["model.safetensors"].chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
        for name, transform in model.transforms.items():
            write_json(partial[f"transforms/{name}.json"], transform.config())
        hashes = {name: file_sha256(partial[name]) for name in files}
    config = {
        "format": BUNDLE_FORMAT,
        "files": hashes,
        "mmalign": __version__,
        "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": described,
        "parameters": {name: _count(model.encoders[name]) + _count(model.heads[name]) for name in model.encoders},
        "provenance": finite(dict(provenance or {})),
    }
    with replaced(folder / "config.json") as file:
        write_json(file, config)
    update_card(folder, overwrite=True)
    return folder


def update_card(path: str | Path, *, overwrite: bool = False) -> None:
    """Write the model card of a bundle again, with its newest results; a card edited by hand is not touched.

    Args:
        path: A bundle or run.
        overwrite: Also replace a card edited by hand.
    """
    folder = find(path)
    card = folder / "README.md"
    if not overwrite and (not card.is_file() or GENERATED not in card.read_text(encoding="utf-8", errors="replace")):
        return
    config = read_json(folder / "config.json")
    transforms = {name: read_json(folder / "transforms" / f"{name}.json") for name in config["model"]["towers"]}
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        results = []
    if not isinstance(config.get("provenance"), dict):  # written by other software
        config["provenance"] = {}
    with replaced(card) as file:
        file.write_text(model_card(config, transforms, results if isinstance(results, list) else []), encoding="utf-8")


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Aligner:
    """Load a bundle for inference, in eval mode; needs no network, data or recipe.

    Args:
        path: A bundle folder, or a run folder with one in `bundle/`.
        device: Device of the weights; auto = a GPU if there is one, else the CPU.

    Returns:
        The `Aligner`, with the attributes `provenance` (a dictionary) and `path`.

    Raises:
        UserError: no bundle at `path`, another format, a damaged file, weights that do not fit the configuration, or an
            unavailable device.

    Example:
        >>> import tempfile, mmalign
        >>> from mmalign.model import Aligner, TowerConfig, fit_transforms
        >>> from mmalign.objectives.pairs.pair_config import PairConfig
        >>> towers = {name: TowerConfig(modality="vector", args={"width": 4}) for name in ("left", "right")}
        >>> model = Aligner(towers, [PairConfig("left", "right")], 2, fit_transforms(towers, {"left": [], "right": []}))
        >>> folder = mmalign.save(model, tempfile.mkdtemp())
        >>> mmalign.load(folder).encode("left", [[1.0, 0.0, 0.0, 0.0]]).vector.shape
        torch.Size([1, 2])
    """
    folder = find(path)
    config = read_json(folder / "config.json")
    if config.get("format") != BUNDLE_FORMAT:
        raise UserError(
            f"{folder}: expected bundle format {BUNDLE_FORMAT}, got {config.get('format')!r}; it was written by "
            f"mmalign {config.get('mmalign', 'of unknown version')}, this is {__version__}; train the model again"
        )
    where = folder / "config.json"
    demand_whole(folder, config.get("files"))
    towers = check_description(config.get("model"), where)
    restored = {name: read_json(folder / "transforms" / f"{name}.json") for name in towers}
    file = folder / "model.safetensors"
    with bounded_parameters(file.stat().st_size, where):
        model = rebuild(config["model"], restored, where)
    try:
        weights = load_file(file, device="cpu")
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{file} does not fit its configuration: {' '.join(str(error).split())[:1000]}") from error
    load_weights(model, weights, file)
    _demand_finite(weights, file)
    model.provenance, model.path = provenance(folder), folder
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device).eval()
    except RuntimeError as error:  # no such device, no driver, or too little memory on it
        raise UserError(f"device {device}: {first_line(error)}") from error


def _merged(model: Aligner) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Description and weights, with LoRA adapters merged: loading needs no peft, and inference costs nothing more."""
    described, state = model.config(), model.state_dict()
    for name in model.adapted:
        del described["towers"][name]["lora"]
        prefix = f"encoders.{name}."
        merged = {prefix + key: value for key, value in merged_state(model.encoders[name]).items()}
        state = {key: value for key, value in state.items() if not key.startswith(prefix)} | merged
    return described, state


def rebuild(described: Any, transforms: Mapping[str, Mapping[str, Any]], where: object) -> Aligner:
    """A model with random weights from its description: registered names and arguments, no data and no network.

    Args:
        described: `Aligner.config()`.
        transforms: Tower -> `config()` of its transform.
        where: File that contains them, for messages.

    Raises:
        UserError: the description is damaged, or names pretrained weights.
    """
    towers = check_description(described, where)
    try:
        pairs, dim = [PairConfig(**pair) for pair in described["pairs"]], described["dim"]
        codebook = CodebookConfig(**described.get("codebook", {}))
        gaussian = GaussianConfig(**described.get("gaussian", {}))
        restored = {
            name: modality_of(name, tower).restore_transform(transforms[name]) for name, tower in towers.items()
        }
        with no_empty_layers():
            model = Aligner(towers, pairs, dim, restored, codebook, gaussian, described.get("variances"))
        model.adapt()  # of a checkpoint; a bundle has adapters merged
    except UserError as error:
        raise error if str(where) in str(error) else UserError(f"{where}: {error}") from error
    except Exception as error:  # constructors receive unchecked values of the file
        came = " ".join(str(error).split())[:200]
        raise UserError(f"{where} is not a bundle's configuration: {type(error).__name__}: {came}") from error
    return model


def load_weights(model: Aligner, weights: Mapping[str, torch.Tensor], where: object) -> None:
    """Set all weights of a model.

    Raises:
        UserError: one is missing, does not fit, or belongs to another model.
    """
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"{where} does not fit its configuration: {' '.join(str(error).split())[:1000]}") from error
    if missing or unexpected:
        raise UserError(f"{where} does not fit its configuration: missing {missing[:3]}, unexpected {unexpected[:3]}")


def _demand_finite(weights: Mapping[str, torch.Tensor], where: object) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{where}: expected finite weights, got NaN or infinity in {name}; train the model again")


def find(path: str | Path) -> Path:
    """The bundle folder at `path`, or inside the run folder `path`."""
    path = Path(path).expanduser()
    for folder in (path, path / "bundle"):
        with suppress(OSError):  # a name that is too long
            if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
                return folder
    raise UserError(
        f"no bundle at {path}: expected config.json and model.safetensors there or in {Path(path) / 'bundle'}; "
        "`mmalign train` writes one when it ends"
    )


def provenance(path: str | Path) -> dict[str, Any]:
    """Provenance of the bundle; empty if it has none."""
    stored = read_json(find(path) / "config.json").get("provenance")
    return stored if isinstance(stored, dict) else {}


def version_of(path: str | Path) -> str:
    """The version of mmalign that wrote the bundle."""
    return str(read_json(find(path) / "config.json").get("mmalign", "of unknown version"))


def fingerprint(path: str | Path) -> str:
    """Hash of weights, configuration and transforms; independent of the folder."""
    folder, digest = find(path), hashlib.sha256()
    described = read_json(folder / "config.json")["model"]
    digest.update(json.dumps(described, sort_keys=True).encode())
    for file in [folder / "model.safetensors", *sorted((folder / "transforms").glob("[!.]*.json"))]:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
