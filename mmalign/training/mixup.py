"""Mixup: rows of one tower mixed from two samples each, with soft match targets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mmalign.capabilities import Mixing, capability
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Batch, Mixed


@dataclass
class MixupConfig:
    """Mix samples of one tower in training (PCME++, arXiv 2305.18171: 25 % of a batch, Beta(2, 2)).

    Args:
        tower: Tower whose samples are mixed; its modality must support it (image does). "" = none.
        fraction: Fraction of a batch that is mixed.
        alpha: Parameter of the Beta distribution of the weight of a row's own sample.
    """

    tower: str = ""
    fraction: float = 0.25
    alpha: float = 2.0


class Mixup:
    """Mixes batches as configured.

    Raises:
        UserError: a fraction out of its range, an unknown tower, a modality that cannot mix, or a term of that tower
            without soft targets.
    """

    def __init__(self, config: MixupConfig, modalities: dict[str, Modality], pairs: PairSum) -> None:
        if not 0 <= config.fraction <= 1 or not config.alpha > 0:
            raise UserError(
                f"mixup: expected fraction in [0, 1] and alpha above 0, got {config.fraction}, {config.alpha}"
            )
        if config.tower not in modalities:
            raise UserError(f"mixup.tower: expected one of {', '.join(modalities)}, got {config.tower!r}")
        modality = capability(modalities[config.tower], Mixing, "mixup.tower")
        if wrong := _cannot(pairs.pairs, pairs, config.tower):
            raise UserError(f"mixup.tower {config.tower}: it must be tower a of objectives that mix, not {wrong}")
        self.config, self.modality = config, modality

    def __call__(self, batch: Batch) -> Batch:
        """The batch with a fraction of that tower's rows mixed; all randomness from torch's CPU generator."""
        name = self.config.tower
        inputs, rows = batch.inputs.get(name), batch.sample_indices[name]
        count = 2 * round(self.config.fraction * len(rows) / 2)
        if inputs is None or not count:
            return batch
        if name in batch.owner:
            raise UserError(f"mixup.tower {name}: several items per record cannot be mixed; drop --data.draw.{name}")
        if isinstance(inputs, list):
            raise UserError(f"mixup.tower {name}: a tower that runs in chunks cannot mix; drop towers.{name}.chunk")
        chosen = torch.randperm(len(rows))[:count]
        partners, weight = torch.arange(len(rows)), torch.ones(len(rows))
        partners[chosen] = chosen.flip(0)
        weight[chosen] = torch.distributions.Beta(self.config.alpha, self.config.alpha).sample((count,))
        partners = partners.to(rows.device)
        mixed, left = self.modality.mix(inputs, partners, weight.to(rows.device))
        # By row of the batch; rows without this tower are in no pair of it and ignored.
        groups, weights = batch.groups.clone(), torch.ones(len(batch), device=rows.device)
        groups[rows], weights[rows] = batch.groups[rows[partners]], left
        return replace(batch, inputs={**batch.inputs, name: mixed}, mixed={name: Mixed(groups, weights)})


def _cannot(configs: Sequence[PairConfig], pairs: PairSum, tower: str) -> str:
    for config, objective in zip(configs, pairs.objectives, strict=True):
        if tower in (config.a, config.b) and not (config.a == tower and getattr(objective, "mixes", False)):
            return f"{config.a}-{config.b} ({config.objective})"
    return ""
