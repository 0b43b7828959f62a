"""Prints, as JSON, one training step of every registered objective on the pretended device: waits and differences."""

import copy
import json
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign import registry
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, Tokens
from tests.contract.made import build, code_book, learnt, side
from tests.gpu.pretend_device import Construct, Count, Pretend, put

BATCH = 12


def embedding_on_device(one: Embedding) -> Embedding:
    """The same leaves on the device."""
    moved: dict[str, Any] = {}
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Tokens):
            parts = {f.name: getattr(value, f.name) for f in fields(value)}
            moved[field.name] = Tokens(**{name: put(part) for name, part in parts.items()})
        else:
            moved[field.name] = put(value) if isinstance(value, Tensor) else value
    if one.codes is not None:  # computed from the codes, as in `side`
        moved["grounded"] = F.normalize(moved["codes"] @ put(code_book()), dim=1)
    return Embedding(**moved)


def step(objective: Objective, a: Embedding, b: Embedding, groups: Tensor) -> list[Tensor]:
    """The loss and all gradients, as CPU tensors."""
    loss = objective(a, b, groups).loss
    loss.backward()
    found = [loss.detach(), *(leaf.grad for leaf in learnt(objective, a, b) if leaf.grad is not None)]
    return [one.inner if isinstance(one, Pretend) else one for one in found]


def main() -> None:
    torch.set_num_threads(1)
    torch.utils.checkpoint.checkpoint = lambda work, *args, **_: work(*args)  # its backward ends the process here
    outcomes = {}
    for name in registry.names("objectives"):
        objective, groups = build(name), torch.arange(BATCH) // 2
        a, b = side(objective, BATCH, seed=1), side(objective, BATCH, seed=2)
        device = copy.deepcopy(objective), embedding_on_device(a), embedding_on_device(b), put(groups)
        expected = step(objective, a, b, groups)
        counter = Count()
        try:
            with torch.autograd.set_multithreading_enabled(False), Construct(counter), counter:
                found = step(put(device[0]), *device[1:])
            worst = max(
                float((x - y).abs().max() / y.abs().max().clamp(min=1e-9)) for x, y in zip(found, expected, strict=True)
            )
            outcomes[name] = {"difference": worst}
        except Exception as error:
            outcomes[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
        outcomes[name]["waits"] = {f"{operation} {site}": n for (operation, site), n in counter.waits.items()}
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
