"""Warm start: encoder weights, architecture and preprocessing from a bundle."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from mmalign.bundles import bundle
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.towers import TowerConfig, modality_of


@dataclass(frozen=True)
class WarmStart:
    """Configuration, transform and weights of a bundle's tower.

    Args:
        tower: Tower configuration, completed with the bundle's encoder and arguments.
        transform: The bundle's fitted transform.
        state: The encoder's tensors by name.
    """

    tower: TowerConfig
    transform: Transform
    state: dict[str, Tensor]

    def fill(self, encoder: nn.Module) -> None:
        """Copy the tensors into an encoder.

        Raises:
            UserError: names or shapes differ; the message lists the first ones.
        """
        there = {name: tuple(tensor.shape) for name, tensor in self.state.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        wrong = [
            f"{name} {wanted.get(name, 'not in this encoder')} here, {there.get(name, 'nothing')} there"
            for name in sorted(there.keys() | wanted.keys())
            if there.get(name) != wanted.get(name)
        ]
        if wrong:
            raise UserError(
                f"weights of {self.tower.weights} do not fit this encoder: {'; '.join(wrong[:3])}"
                f"{' ...' if len(wrong) > 3 else ''}; leave `args` out to build the bundle's encoder"
            )
        encoder.load_state_dict(self.state)


def load_warm_start(name: str, tower: TowerConfig) -> WarmStart:
    """Load a tower from the bundle `tower.weights`: the one of the same name, or the only one of that modality.

    Args:
        name: Name of the tower in this model.
        tower: Its configuration; `args` and `transform` in it override the bundle's.

    Raises:
        UserError: no bundle at that path, no such tower in it, or one with another encoder.
    """
    model, modality = bundle.load(tower.weights), modality_of(name, tower)
    same = [other for other, its in model.modalities.items() if its.name == modality.name]
    if name not in same and len(same) != 1:
        names = ", ".join(f"{other} ({its.name})" for other, its in model.modalities.items())
        raise UserError(f"towers.{name}.weights: expected a tower of {modality.name!r} in {tower.weights}, got {names}")
    source = name if name in same else same[0]
    described = model.config()["towers"][source]
    encoder = described["encoder"]
    if tower.encoder not in ("", encoder):
        raise UserError(
            f"towers.{name}.weights: expected weights of the encoder {tower.encoder!r}, got those of {encoder!r}; "
            f"set --model.towers.{name}.encoder {encoder}"
        )
    filled = replace(tower, encoder=encoder, args={**described["args"], **tower.args})
    transform = modality.restore_transform({**model.transforms[source].config(), **tower.transform})
    return WarmStart(filled, transform, model.encoders[source].state_dict())
