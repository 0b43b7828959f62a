"""A bundle from a checkpoint: of an unfinished run, or of an earlier epoch."""

import json
from pathlib import Path
from typing import Any

from mmalign.bundles import bundle
from mmalign.bundles.parameter_bound import bounded_parameters
from mmalign.errors import UserError
from mmalign.training.checkpoints.resume import OWN, RUN, read_checkpoint

PREFIX = "aligner."
"""Where a checkpoint has the model's weights."""


def bundle_from_checkpoint(checkpoint: str | Path, out: str | Path) -> Path:
    """Write the model of a checkpoint as a bundle; needs neither the data nor the recipe.

    Of a run with `--ema` these are the averaged weights, as in the bundle of a finished run.

    Args:
        checkpoint: A `.ckpt` file of a run folder.
        out: Folder of the bundle; created if missing.

    Returns:
        The folder.

    Raises:
        UserError: mmalign did not write the checkpoint, or it has no description of the model.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise UserError(f"{path}: expected a checkpoint such as RUN/checkpoints/last.ckpt, got no such file")
    state = read_checkpoint(path)
    run = state.get(RUN) or {}
    if "model" not in run:
        raise UserError(f"{path}: expected a checkpoint with the description of its model; go on with --resume instead")
    try:
        described = json.loads(run["model"])
        transforms = {tower: json.loads(text) for tower, text in run["transforms"].items()}
        weights = {name.removeprefix(PREFIX): value for name, value in state["state_dict"].items()}
        provenance = _provenance(state, run, path)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a checkpoint of mmalign, got {type(error).__name__} in one") from error
    with bounded_parameters(path.stat().st_size, path):
        model = bundle.rebuild(described, transforms, path)
    bundle.load_weights(model, weights, path)
    return bundle.save(model, out, provenance=provenance)


def _provenance(state: dict[str, Any], run: dict[str, Any], path: Path) -> dict[str, Any]:
    data = json.loads(run["settings"]).get("data", {}) if run["settings"] else {}
    return {
        "recipe": run["recipe"],
        "checkpoint": path.name,
        "epochs": state["epoch"],
        "steps": state["global_step"],
        "data": state[OWN]["data"],
        "split": {key: data[key] for key in ("validation", "test", "split_seed", "positives") if key in data},
        "mmalign": state[OWN]["version"],
    }
