"""AdamW with weight-decay exemptions, warm-up and cosine decay."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmalign.errors import UserError
from mmalign.model import Aligner


@dataclass
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay.

    Args:
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay; parameters below two dimensions (norms, biases, scales) have none.
        beta1: Decay rate of the first moment.
        beta2: Decay rate of the second moment.
        eps: Added to the denominator for numerical stability.
        warmup: Steps of linear warm-up; below 1 a fraction of all steps.
        final: Final learning rate as a fraction of the peak.
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8
    warmup: float = 0.05
    final: float = 0.0

    def check(self) -> None:
        """Validate the settings.

        Raises:
            UserError: one is out of range.
        """
        for name in ("lr", "weight_decay", "beta1", "beta2", "eps", "warmup", "final"):
            value, most = getattr(self, name), 1.0 if name.startswith("beta") else math.inf
            if not 0 <= value < most:
                below = "" if most > 1 else " and below 1"
                raise UserError(f"model.optimizer.{name}: expected a number of at least 0{below}, got {value:g}")


def parameter_groups(model: Aligner, config: OptimizerConfig) -> list[dict[str, object]]:
    """Parameter groups by weight decay and tower; parameters that never train are in none.

    A parameter is exempt from weight decay if it has fewer than two dimensions (biases, norms, scales) or if its module
    lists its name in an attribute `no_decay` (for instance position embeddings).
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    exempt = {id(parameter) for parameter in _exempt(model)}
    for name, parameter in model.named_parameters():
        factor, later = 1.0, False
        if name.startswith("encoders."):
            tower = model.towers[name.split(".")[1]]
            factor, later = tower.lr_scale, tower.freeze and tower.unfreeze_epoch is not None
        if parameter.requires_grad or later:
            decayed = parameter.ndim >= 2 and id(parameter) not in exempt
            groups.setdefault((decayed, factor), []).append(parameter)
    return [
        {"params": parameters, "lr": config.lr * factor, "weight_decay": config.weight_decay if decayed else 0.0}
        for (decayed, factor), parameters in sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    ]


def build(
    model: Aligner, config: OptimizerConfig, at: Callable[[int], tuple[float, float]]
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """The optimiser and its schedule.

    Args:
        model: The model.
        config: Settings.
        at: Optimiser step -> the step and the number of all steps, for `factor_at`.
    """
    groups = parameter_groups(model, config)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)
    return optimizer, LambdaLR(optimizer, lambda step: factor_at(*at(step), config))


def factor_at(step: float, steps: float, config: OptimizerConfig) -> float:
    """Learning rate at a step as a fraction of the peak: linear warm-up, then cosine decay to `final`.

    Example:
        >>> round(factor_at(0, 100, OptimizerConfig(warmup=10)), 3), factor_at(10, 100, OptimizerConfig(warmup=10))
        (0.091, 1.0)
    """
    warmup = config.warmup * steps if config.warmup < 1 else config.warmup
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done))


def _exempt(model: nn.Module) -> Iterable[nn.Parameter]:
    for module in model.modules():
        for name in getattr(module, "no_decay", ()):
            yield module.get_parameter(name)
