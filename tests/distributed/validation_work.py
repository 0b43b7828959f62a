"""Validation of an Aligner on several processes, and losses of own rows that are called there."""

import warnings
from typing import Any

import numpy as np
import torch

from mmalign import distributed, functional
from mmalign.data.batching.sampling import EpochBatches
from mmalign.objectives.functional.computing import own_rows
from mmalign.training import validation_hits
from tests.distributed.aligner_work import Step, batch_of, model_of

ROWS, PER_PROCESS = 23, 2


def hits(most: int) -> dict[str, float]:
    """The hit rates of validation over at most so many rows, of which some lack a tower."""
    torch.set_default_dtype(torch.float64)
    known = validation_hits.MAX_VALIDATION_ROWS, validation_hits.MAX_VALIDATION_SETS
    validation_hits.MAX_VALIDATION_ROWS = validation_hits.MAX_VALIDATION_SETS = most
    try:
        step = Step([ROWS], {"z": [0, 3, 4, 5, 11], "x": [6, 7]})
        model = model_of(step).eval()
        found = validation_hits.ValidationHits(model)
        with torch.inference_mode():
            for _, ids in EpochBatches(np.arange(ROWS), PER_PROCESS, shuffle=False):
                batch = batch_of(model, step, slice(int(ids[0]), int(ids[-1]) + 1))
                found.add(model(batch), batch)
            return {name: float(rate) for name, rate in found.rates().items()}
    finally:
        torch.set_default_dtype(torch.float32)
        validation_hits.MAX_VALIDATION_ROWS, validation_hits.MAX_VALIDATION_SETS = known


def warned(_: Any) -> dict[str, list[str]]:
    """What each function of own rows warns of in two calls."""
    own_rows._WARNED.clear()
    eye, rows = torch.eye(3), torch.arange(3)
    calls: dict[str, tuple[Any, ...]] = {
        "clip_loss": (eye, eye, 1.0),
        "siglip_loss": (eye, eye, 1.0, 0.0),
        "one_to_k_loss": (eye, eye, 1.0, rows),
        "relation_loss": (eye, eye),
        "similarity_cross_entropy": (eye,),
        "prototype_codes": (eye,),
        "code_statistics": (eye,),
        "pcmepp_loss": (eye, eye, eye, eye),
        "prolip_loss": (eye, eye, eye, eye),
        "gaussian_kl": (eye, eye, eye, eye),
        "sparsemax": (eye,),
    }
    more = {"pcmepp_loss": {"scale": 1.0, "bias": 0.0}, "prolip_loss": {"scale": 1.0, "bias": 0.0}}
    lines: dict[str, list[str]] = {}
    for name, arguments in calls.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                getattr(functional, name)(*arguments, **more.get(name, {}))
        lines[name] = [f"{one.filename.rsplit('/', 1)[-1]}: {one.message}" for one in caught]
    own_rows._WARNED.clear()
    assert distributed.world_size() in (1, 2)
    return lines
