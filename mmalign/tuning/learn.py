"""Learn the context vectors of a prompted tower from cached vectors of labelled samples."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.capabilities import LearntContext, capability
from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings, mean_direction
from mmalign.inference import inputs_to
from mmalign.modality import Encoder
from mmalign.model import Aligner
from mmalign.safe_io.progress import track
from mmalign.tuning.comparison import bare_texts
from mmalign.types import Embedding

EPOCHS = ((1, 50), (4, 100), (math.inf, 200))
"""Number of shots up to which a number of epochs is the default, as in CoOp."""
TEXT_WEIGHT = 5.0
"""Default weight of the text loss where there are several experts, as in MoCoOp."""
WARM_UP = 1e-5
"""Learning rate of the first epoch."""


@dataclass(frozen=True)
class TuningConfig:
    """Settings of the learnt prompts.

    Args:
        context: Number of context vectors before each text; 0 = the bundle's own zero-shot classification.
        start: `random`, or words from whose token embeddings the vectors start; `templates` = the words before `{}` in
            the first hand-written template that has some. Vectors without a word are random. Embeddings of words are
            longer than random vectors, and change less at the same learning rate.
        experts: Number of contexts, whose features are averaged (MoCoOp without its router).
        text_weight: Weight of the text loss, which keeps each expert near the hand-written templates; null = 0 with one
            expert, else 5.
        epochs: Passes over the shots; null = 50 with one shot, 100 up to four, else 200.
        lr: Learning rate of SGD with momentum 0.9 and cosine decay; the first epoch has 1e-5.
        batch_size: Samples per step.
        seed: Seed of the shots, the start and the order.

    Raises:
        UserError: a value is out of its range.
    """

    context: int = 4
    start: str = "random"
    experts: int = 1
    text_weight: float | None = None
    epochs: int | None = None
    lr: float = 0.002
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("context", self.context, 0), ("experts", self.experts, 1), ("batch_size", self.batch_size, 1),
            ("epochs", 1 if self.epochs is None else self.epochs, 1),
        ):  # fmt: skip
            if value < least:
                raise UserError(f"--{name}: expected at least {least}, got {value}")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr: expected a learning rate above 0, got {self.lr}")
        if self.text_weight is not None and not 0 <= self.text_weight < math.inf:
            raise UserError(f"--text_weight: expected a weight of 0 or more, got {self.text_weight}")

    def starts(self, templates: Sequence[str]) -> list[str]:
        """The words from which each expert starts."""
        if self.start not in ("templates", "random"):
            return [self.start] * self.experts
        if self.start == "random":
            return [""] * self.experts
        before = [[template.partition("{}")[0].strip() for template in group] for group in self.groups(templates)]
        return [next((words for words in group if words), "") for group in before]

    def groups(self, templates: Sequence[str]) -> list[Sequence[str]]:
        """The templates that each expert is kept near: every k-th one, all where there are too few."""
        return [templates[expert :: self.experts] or templates for expert in range(self.experts)]


def prompted(model: Aligner, tower: str, config: TuningConfig, templates: Sequence[str]) -> Aligner:
    """A copy of a model whose tower has a context, not yet learnt, before its texts.

    Args:
        model: The trained model; not changed.
        tower: The tower that reads prompts.
        config: Number of vectors and their start.
        templates: Hand-written templates.

    Raises:
        UserError: the tower's modality or encoder cannot have a learnt context.
    """
    modality = capability(model.modalities[tower], LearntContext, "tune")
    copied = copy.deepcopy(model).eval()
    copied.path = None  # it differs from the bundle on disk
    encoder, name = copied.encoders[tower], model.config()["towers"][tower]["encoder"]
    assert isinstance(encoder, Encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        name, behind = modality.with_context(
            name, encoder, copied.transforms[tower], context=config.context, starts=config.starts(templates)
        )
    copied.encoders[tower] = behind.to(model.device).eval()
    copied.towers[tower] = replace(copied.towers[tower], encoder=name, args=behind.config())
    return copied


def learn(
    tuned: Aligner,
    original: Aligner,
    towers: tuple[str, str],
    features: Tensor,
    labels: Tensor,
    config: TuningConfig,
    prompts: Prompts,
    names: Sequence[str],
) -> list[float]:
    """Learn the context of a model of `prompted`; all other weights are fixed.

    With the vectors `g_c` of the classes, the cached vectors `f` and the bundle's own scale S:

        loss = cross-entropy of softmax_c(S f . g_c) + text_weight * mean over experts k and classes c of
               cross-entropy of softmax_c'(S g_c^k . p_c'^k)

    where `g_c^k` are expert k's class vectors and `p_c^k` those of the hand-written templates of its group (Zhou et al.
    2022, CoOp, arXiv 2109.01134, equation 3; MoCoOp, arXiv 2409.12011, whose text loss has no scale).

    Args:
        tuned: Gets the learnt context.
        original: The bundle without context, for the vectors of the templates.
        towers: Tower of the samples and tower of the prompts.
        features: Vectors of the shots, `(shots, dim)`.
        labels: Class of each shot, `(shots,)`.
        config: The settings.
        prompts: The hand-written templates.
        names: The classes.

    Returns:
        The mean loss of each epoch.
    """
    sample_tower, tower = towers
    device, scale = tuned.device, tuned.logit_scale(*towers)
    context = tuned.encoders[tower].get_parameter("context")
    if not config.context:
        return []
    for parameter in tuned.parameters():
        parameter.requires_grad_(False)
    context.requires_grad_(True)
    texts = bare_texts(prompts, names)
    flat = [text for several in texts for text in several]
    owner = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(one) for one in texts])).to(device)
    transform, modality = tuned.transforms[tower], tuned.modalities[tower]
    inputs = inputs_to(transform.collate([transform.item(modality.read(text)) for text in flat]), device)
    weight = config.text_weight if config.text_weight is not None else TEXT_WEIGHT * (config.experts > 1)
    targets = [_template_vectors(original, tower, group, prompts, names) for group in config.groups(prompts.templates)]
    samples = Embedding(features.clone().to(device), tower=sample_tower)  # a clone: no tensor of inference mode
    labels = labels.to(device)

    def class_vectors(**expert: int) -> Tensor:
        return mean_direction(tuned.embed(tower, {**inputs, **expert}).vector, owner, len(texts))

    def loss_of(rows: Tensor) -> Tensor:
        classes = Embedding(class_vectors(), tower=tower)
        loss = F.cross_entropy(scale * tuned.similarity(samples[rows], classes), labels[rows])
        if not weight:
            return loss
        own = torch.arange(len(texts), device=device)
        kept = [
            F.cross_entropy(scale * class_vectors(expert=k) @ target.to(device).T, own)
            for k, target in enumerate(targets)
        ]
        return loss + weight * torch.stack(kept).mean()

    epochs = config.epochs or next(number for most, number in EPOCHS if len(labels) <= most * len(texts))
    optimizer = torch.optim.SGD([context], lr=config.lr, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(config.seed)
    losses = []
    for epoch in track(range(epochs), "tuning"):
        decayed = config.lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        optimizer.param_groups[0]["lr"] = WARM_UP if epoch == 0 and epochs > 1 else decayed
        total = 0.0
        for rows in torch.randperm(len(labels), generator=generator).split(config.batch_size):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = loss_of(rows.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(labels))
    context.requires_grad_(False)
    if not math.isfinite(losses[-1]):
        raise UserError(f"tune: the loss is {losses[-1]}; lower --lr")
    return losses


def _template_vectors(
    model: Aligner, tower: str, templates: Sequence[str], prompts: Prompts, names: Sequence[str]
) -> Tensor:
    """The class vectors of some hand-written templates, `(classes, dim)`."""
    filled = Prompts(tuple(templates), prompts.classes)
    texts = [filled.texts(name) for name in names]
    sentences = PromptEmbeddings(model, tower, [text for several in texts for text in several])
    owner = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(one) for one in texts]))
    vectors = sentences.of([text for several in texts for text in several]).vector
    return mean_direction(vectors, owner, len(names)).clone()
