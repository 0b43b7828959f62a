"""Inference loop: run a function on batches in eval mode, without gradients, and join the outputs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality, Transform
from mmalign.safe_io.progress import track
from mmalign.types import Embedding, Inputs

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; on exit the mode of every submodule is restored."""
    training = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for child, was in training.items():
            child.training = was


def inputs_to(inputs: Inputs, device: torch.device) -> Inputs:
    """Collated inputs on a device; values that are no tensors are unchanged."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in inputs.items()}


class Counted(Iterable[T]):
    """An iterable with a known number of items, for progress bars."""

    def __init__(self, items: Iterable[T], count: int) -> None:
        self._items, self._count = items, count

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return self._count


def item_of(modality: Modality, transform: Transform, raw: Any, where: str, seen: Callable[[Any], Any]) -> Any:
    """The item of a raw value.

    Args:
        modality: Reads it.
        transform: Prepares the sample.
        raw: A path, bytes, an array or a string.
        where: What it is, for messages.
        seen: Called with the sample; returns it.

    Raises:
        BadSample: it cannot be read.
    """
    try:
        return transform.item(seen(modality.read(raw)))
    except BadSample as error:
        raise BadSample(f"{where} ({error.source})", error.expected, error.came) from error


def finite_vectors(embedding: Embedding, tower: str) -> Embedding:
    """An embedding without NaN and infinity, which would be ranked like any other score.

    Args:
        embedding: The output of a tower.
        tower: Its name.

    Raises:
        UserError: a vector is not finite.
    """
    wrong = ~embedding.vector.isfinite().all(1)
    if bool(wrong.any()):
        raise UserError(
            f"tower {tower!r}: expected finite embeddings, got NaN or infinity in {int(wrong.sum())} of {len(wrong)}; "
            "the weights or the statistics of the transform are damaged, or the training diverged: train again"
        )
    return embedding


def run_batches(
    model: nn.Module,
    batches: Iterable[tuple[Inputs, Tensor]],
    forward: Callable[[Inputs], T],
    join: Callable[[Iterable[T]], R],
) -> tuple[R, Tensor] | None:
    """Run a function on every batch and join its outputs.

    Used by everything that embeds: `Aligner.encode`, splits, corpora, features of probes and of the CCA initialisation.

    Args:
        model: Set to eval mode during the loop; batches are moved to its device.
        batches: Collated inputs, and the index of each item `(items,)`.
        forward: Inputs on the model's device -> outputs.
        join: Joins all outputs. It is called inside the loop's context, so outputs may be computed lazily.

    Returns:
        The joined outputs and the indices of all items; None if there was no batch.

    Example:
        >>> batches = [({"x": torch.ones(2, 3)}, torch.tensor([0, 1])), ({"x": torch.zeros(1, 3)}, torch.tensor([2]))]
        >>> layer = nn.Linear(3, 4)
        >>> outputs, indices = run_batches(layer, batches, lambda inputs: layer(inputs["x"]), lambda o: torch.cat([*o]))
        >>> outputs.shape, indices.tolist()
        (torch.Size([3, 4]), [0, 1, 2])
    """
    device, indices = next(model.parameters()).device, []

    def outputs() -> Iterator[T]:
        for inputs, index in track(batches, "embedding"):
            indices.append(index.cpu())
            yield forward(inputs_to(inputs, device))

    with inference(model):
        batch_outputs = outputs()
        first = next(batch_outputs, None)
        if first is None:
            return None
        joined = join(chain([first], batch_outputs))
    return joined, torch.cat(indices)


def as_items(items: Any) -> Sequence[Any]:
    """The items that a user passes, as a sequence; a single item becomes a sequence of one.

    An array or an image is one item, although Python iterates over its rows; an array of strings is a column of items.

    Example:
        >>> as_items("one sentence"), as_items(iter(["a", "b"])), len(as_items(torch.zeros(3, 2)))
        (['one sentence'], ['a', 'b'], 1)
    """
    is_column = getattr(getattr(items, "dtype", None), "kind", None) in ("O", "U", "S")
    is_single = isinstance(items, str | bytes | bytearray | memoryview) or any(
        hasattr(items, name) for name in ("__array__", "__fspath__")
    )
    if not is_column and (is_single or not hasattr(items, "__iter__")):
        return [items]
    return items if isinstance(items, Sequence) else list(items)
