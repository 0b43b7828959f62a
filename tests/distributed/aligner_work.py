"""Whole steps of an Aligner with three towers, two pairs and several terms, on several processes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmalign import distributed
from mmalign.heads import CodebookConfig, GaussianConfig
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Batch

WIDTH = 4


@dataclass
class Step:
    """Rows of each process, and which of all rows lack a side."""

    counts: list[int]
    lacking: dict[str, list[int]] = field(default_factory=dict)
    chunk: int | None = None
    dropout: float = 0.0
    whitening: int = 0  # groups, of every tower
    views: bool = False  # x has second views


class Loss(nn.Module):
    """What Lightning wraps: a forward that returns the loss."""

    def __init__(self, aligner: Aligner) -> None:
        super().__init__()
        self.aligner = aligner

    def forward(self, batch: Batch) -> Tensor:
        return self.aligner.loss(batch).loss


def model_of(step: Step) -> Aligner:
    torch.manual_seed(0)
    args = {"width": WIDTH, "hidden": 6, "dropout": step.dropout}
    towers = {
        name: TowerConfig(modality="vector", encoder="mlp", args=args, chunk=step.chunk, group_whitening=step.whitening)
        for name in "xyz"
    }
    pairs = [
        PairConfig("x", "y", "fdt"),
        PairConfig("x", "y", "clip", weight=0.5),
        PairConfig("y", "z", "pcmepp", {"bottleneck": 0.1}),
        PairConfig("x", "z", "transport", {"epsilon": 0.3, "tolerance": 1e-12, "max_iterations": 500}),
    ]
    if step.views:
        pairs.append(PairConfig("x", "x", "clip", {"initial_scale": 7.0}))
    codebook = CodebookConfig(codes=9, temperature=2.0, mode="learnt")
    transforms = fit_transforms(towers, {name: [] for name in towers})
    return Aligner(towers, pairs, 5, transforms, codebook, GaussianConfig(pool="mean", initial=-1.0)).double().train()


def batch_of(model: Aligner, step: Step, own: slice) -> Batch:
    rows: dict[str, Tensor] = {}
    inputs: tuple[dict[str, Any], dict[str, Any]] = ({}, {})  # of first and second views
    total = sum(step.counts)
    for place, name in enumerate(model.towers):
        there = [row for row in range(total)[own] if row not in step.lacking.get(name, [])]
        rows[name] = torch.tensor([row - own.start for row in there], dtype=torch.int64)
        for view in (0, 1) if step.views and name == "x" else (0,):
            seeds = [(place, row, view) if view else (place, row) for row in there]
            items = [np.random.default_rng(seed).normal(size=WIDTH).astype("f4") for seed in seeds]
            size = step.chunk or max(len(items), 1)
            collate = model.transforms[name].collate
            chunks = [
                {key: value.double() for key, value in collate(items[start : start + size]).items()}
                for start in range(0, len(items), size)
            ]
            if chunks:
                inputs[view][name] = chunks if step.chunk else chunks[0]
    ids = torch.arange(total)[own]
    return Batch(inputs[0], rows, ids, ids // 2, again=inputs[1])


def gradients(step: Step) -> dict[str, Tensor]:
    """Loss and the gradient of every parameter, averaged as DDP does."""
    torch.set_default_dtype(torch.float64)
    try:
        model = model_of(step)
        total = sum(step.counts)
        own = distributed.own_rows(step.counts) if distributed.is_distributed() else slice(0, total)
        wrapped = DistributedDataParallel(Loss(model)) if distributed.is_distributed() else Loss(model)
        torch.manual_seed(1)
        loss = wrapped(batch_of(model, step, own))
        loss.backward()
        return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in model.named_parameters()}
    finally:
        torch.set_default_dtype(torch.float32)


def terms(step: Step) -> dict[str, Tensor]:
    """What is logged of one step."""
    torch.set_default_dtype(torch.float64)
    try:
        model = model_of(step)
        own = distributed.own_rows(step.counts) if distributed.is_distributed() else slice(0, sum(step.counts))
        return model.loss(batch_of(model, step, own)).terms
    finally:
        torch.set_default_dtype(torch.float32)
