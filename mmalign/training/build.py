"""From a configuration and training data to a model: warm start, transforms, weights, CCA initialisation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmalign.building import no_empty_layers
from mmalign.capabilities import PretrainedLogits
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError, first_line
from mmalign.heads import CodebookConfig, GaussianConfig
from mmalign.modality import Modality, Transform
from mmalign.model import Aligner, TowerConfig, fit_transforms, modality_of
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.several_items import check_draw
from mmalign.objectives.pairs.two_views import check_views
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.registry import nearest
from mmalign.towers import new_transform
from mmalign.training.guide import GuideConfig
from mmalign.training.mixup import MixupConfig
from mmalign.training.optimizer import OptimizerConfig
from mmalign.training.starting.cca.initialisation import CCAConfig, cca_initialise
from mmalign.training.starting.warm_start import load_warm_start
from mmalign.training.starting.whitening import WhiteningConfig, whiten_initialise


@dataclass
class ModelConfig:
    """The model and its training: the key `model` of a recipe.

    Args:
        towers: Name -> tower; the data's columns use the same names.
        pairs: Pairs of towers and their objectives.
        dim: Size of the shared space. Null = the width of the encoders with head identity.
        encoder_args: Encoder name -> arguments of every tower with this encoder, such as a pretrained model of which
            two towers are parts; `args` of a tower override them.
        optimizer: AdamW with warm-up and cosine decay.
        codebook: Codebook shared by all towers, for objectives that need codes (fdt).
        gaussian: Log-variance heads, for objectives that need them (pcmepp, prolip).
        mixup: Mixing of one tower's samples, for objectives with soft targets (pcmepp).
        guide: A frozen model that removes false negatives from the loss, for objectives that use it (clip, siglip).
        cca_init: CCA initialisation of the towers' linear layers; null = random.
        whitening_init: Whitening initialisation of towers' affine heads, without pairs; null = random.
    """

    towers: dict[str, TowerConfig]
    pairs: list[PairConfig]
    dim: int | None = 256
    encoder_args: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig | None = None
    codebook: CodebookConfig | None = None
    gaussian: GaussianConfig | None = None
    mixup: MixupConfig | None = None
    guide: GuideConfig | None = None
    cca_init: CCAConfig | None = None
    whitening_init: WhiteningConfig | None = None

    def __post_init__(self) -> None:
        """Check the optimiser's settings, and pass the shared arguments on to the towers."""
        if self.optimizer is not None:
            self.optimizer.check()
        known = {name for modality in self.modalities.values() for name in modality.encoders}
        for name, args in self.encoder_args.items():
            if name not in known:
                raise UserError(f"model.encoder_args: no tower has an encoder {name!r}{nearest(name, known)}")
            if not isinstance(args, dict):
                raise UserError(f"model.encoder_args.{name}: expected arguments such as {{model: ...}}, got {args!r}")
        self.towers = {
            name: replace(
                tower,
                args={**self.encoder_args.get(tower.encoder, {}), **_mapping(tower.args, f"towers.{name}.args")},
                transform=_mapping(tower.transform, f"towers.{name}.transform"),
            )
            for name, tower in self.towers.items()
        }
        self.pairs = [
            replace(pair, args=_mapping(pair.args, f"pairs.{index}.args")) for index, pair in enumerate(self.pairs)
        ]

    @property
    def modalities(self) -> dict[str, Modality]:
        """Each tower's modality."""
        return {name: modality_of(name, tower) for name, tower in self.towers.items()}


def _mapping(value: Any, key: str) -> dict[str, Any]:
    """A dictionary of a recipe; a key without a value, which YAML reads as null, has none."""
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"model.{key}: expected names and values, got {value!r:.80}")
    return dict(value or {})


def early_transforms(config: ModelConfig) -> dict[str, Transform]:
    """The transforms whose features can be computed while the data are read: those that need not be fitted for it."""
    towers = {name: tower for name, tower in config.towers.items() if not tower.weights}  # a bundle has its own
    transforms = {name: new_transform(name, tower) for name, tower in towers.items()}
    return {name: transform for name, transform in transforms.items() if not transform.fit_before_featurise}


def build_model(config: ModelConfig, data: Dataset) -> Aligner:
    """Fit the transforms on the training samples and build the model with its initial weights.

    Args:
        config: Towers, pairs and sizes; `weights` of a tower names the bundle of its warm start.
        data: Open with the modalities of `config`; at least the split train is read. Its `transforms`, such as those of
            `early_transforms`, are fitted and used.

    Returns:
        The model, with encoders frozen as configured for the first epoch.

    Raises:
        UserError: weights do not fit, a chunk cannot be used, the CCA initialisation is not possible, or `data.draw`
            gives several items per record to an objective that takes one.
    """
    check_draw(config.pairs, data.config.draw, config.towers, guided=config.guide is not None)
    check_views(config.pairs, data.config.views, config.towers)
    train = data.split("train")
    warm = {name: load_warm_start(name, tower) for name, tower in config.towers.items() if tower.weights}
    towers = config.towers | {name: start.tower for name, start in warm.items()}
    fitted = {name: start.transform for name, start in warm.items()}
    samples = {name: train.samples(name) for name in towers}
    transforms = fit_transforms(towers, samples, train.features, fitted, data.transforms)
    try:
        with no_empty_layers():
            model = Aligner(towers, config.pairs, config.dim, transforms, config.codebook, config.gaussian)
    except UserError:
        raise
    except (RuntimeError, ValueError, ArithmeticError) as error:  # layers of a size that torch does not make
        raise UserError(f"the model cannot be built from model.towers and model.pairs: {first_line(error)}") from error
    for name, start in warm.items():
        start.fill(model.encoders[name])
    for pair, objective in zip(model.pairs, model.objective.objectives, strict=True):
        if pair.scale_from:
            _start_scale(model, pair, objective)
    model.freeze(epoch=0)
    for name in chunks_of(model):
        _check_chunk(model, name)
    if config.cca_init is not None and config.whitening_init is not None:
        raise UserError("model.cca_init and model.whitening_init both set the towers' heads; keep one of them")
    if config.cca_init is not None:
        cca_initialise(model, data, config.cca_init)
    if config.whitening_init is not None:
        whiten_initialise(model, data, config.whitening_init)
    model.adapt()
    return model


def _start_scale(model: Aligner, pair: PairConfig, objective: nn.Module) -> None:
    """Start an objective from the learnt scale (and bias) of a tower's pretrained model."""
    name, where = pair.scale_from, f"pair {pair.a}-{pair.b}: scale_from"
    if name not in model.towers:
        raise UserError(f"{where}: there is no tower {name!r}{nearest(name, model.towers)}")
    if not isinstance(objective, ScaledObjective) or objective.needs != {"vector"}:
        raise UserError(f"{where}: objective {pair.objective!r} has no learnt scale of cosines; leave scale_from out")
    encoder = model.encoders[name]
    logits = encoder.pretrained_logits() if isinstance(encoder, PretrainedLogits) else None
    if logits is None:
        raise UserError(
            f"{where}: the encoder of {name!r} is of no model with a learnt scale, such as open_clip's; leave "
            "scale_from out, or set the objective's initial_scale"
        )
    objective.set_logits(*logits)


def chunks_of(model: Aligner) -> dict[str, int]:
    """Number of rows per chunk in training, of each tower with a `chunk`."""
    return {name: tower.chunk for name, tower in model.towers.items() if tower.chunk is not None}


def _check_chunk(model: Aligner, name: str) -> None:
    tower = model.towers[name]
    if tower.chunk is not None and tower.chunk < 1:
        raise UserError(f"towers.{name}.chunk: expected at least 1 row, got {tower.chunk}")
    normed = [key for key, part in model.encoders[name].named_modules() if isinstance(part, _BatchNorm)]
    if tower.group_whitening:
        raise UserError(
            f"towers.{name}.chunk: group_whitening needs the vectors of the whole batch at once; drop one of the two"
        )
    if normed and not tower.freeze:
        raise UserError(
            f"towers.{name}.chunk: the encoder has batch normalisation ({normed[0]}), whose statistics would be "
            "those of a chunk and be updated twice; choose an encoder without it (vit), freeze it, or drop chunk"
        )
