"""Readers of the registered modalities: read, check, read again, preprocess, and at times draw."""

import importlib
import pickle
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mmalign import registry
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality, Transform
from tests.fuzz.case import Case, Nonsense, Target

COSTS = {"video": 0.5, "echo": 0.7}


def seed_module(name: str) -> ModuleType | None:
    """The module `tests.fuzz.seeds.NAME` with the seeds of a modality; None if there is none."""
    try:
        return importlib.import_module(f"tests.fuzz.seeds.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tests.fuzz.seeds."):
            return None
        raise


def reader_target(name: str, folder: Path) -> Target:
    """The reader of a modality.

    A modality without a module of seeds is fuzzed with its toy samples and with files of all others.

    Args:
        name: Registered name.
        folder: Empty folder for the files that the seeds are made of.
    """
    modality: Modality = registry.load("modalities", name)
    module = seed_module(name)
    toys = [modality.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
    seeds = module.seeds(folder) if module is not None else {f"toy-{i}": _plain(toy) for i, toy in enumerate(toys)}
    encoder = getattr(module, "ENCODER", next(iter(modality.encoders)))
    reader = Reader(modality, getattr(module, "check", None), encoder, toys)
    return Target(f"reader {name}", seeds, reader, COSTS.get(name, 1.0), takes_bytes=True)


def _plain(sample: Any) -> Case:
    """A toy sample as an input: of a dataclass, a mapping of its fields."""
    return Case(value=sample if isinstance(sample, str | np.ndarray | list) else dict(vars(sample)))


class Reader:
    """Reads an input and checks everything that training would do with it."""

    def __init__(self, modality: Modality, check: Any, encoder: str, toys: list[Any]) -> None:
        self.modality, self.check, self.encoder, self.toys = modality, check, encoder, toys
        self._transform: Transform | None = None

    def __call__(self, source: Any) -> None:
        sample = self.modality.read(source)
        if self.check is not None:
            self.check(sample)
        again = self.modality.read(sample)
        if pickle.dumps(again) != pickle.dumps(sample):
            raise Nonsense("reading a sample again changes it")
        if pickle.dumps(pickle.loads(pickle.dumps(sample))) != pickle.dumps(sample):
            raise Nonsense("a sample cannot be sent to another process")
        self._preprocess(sample)
        if random.Random(len(pickle.dumps(sample))).random() < 0.05:
            self._draw(sample)

    @property
    def transform(self) -> Transform:
        """Fitted on toy samples, once in a process."""
        if self._transform is None:
            transform = self.modality.transform(self.encoder, {})
            before = transform.fit_before_featurise
            transform.fit(self.toys if before else [transform.featurise(toy) for toy in self.toys])
            self._transform = transform
        return self._transform

    def _preprocess(self, sample: Any) -> None:
        transform = self.transform
        for rng in (None, np.random.default_rng(0)):
            try:
                item = transform.item(sample, rng)
            except (BadSample, UserError):
                return  # of a kind that the model is not for, such as another width
            for name, tensor in transform.collate([item]).items():
                if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                    raise Nonsense(f"NaN or infinity in the inputs {name}")

    def _draw(self, sample: Any) -> None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(1, 1)).subplots()
        self.modality.picture(sample, axes)
        axes.figure.canvas.draw()
