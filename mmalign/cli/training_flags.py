"""The flags of commands that prepare or continue training, see `mmalign.cli.flags`."""

from dataclasses import dataclass, field


@dataclass
class MineFlags:
    """Find hard negatives of the training records with a trained model; `--data.neighbours FILE` trains with them.

    Args:
        bundle: Bundle or run folder.
        out: File to write (.parquet or .csv), one row per record and negative; also -o FILE.
        pair: Tower of the queries and tower of the candidates, such as [text, image]; default: the only trained pair.
        split: Records to mine among: train, validation, test or all.
        negatives: Maximum number of negatives of each record.
        skip: Number of first ranks that are skipped, as likely false negatives.
        depth: Number of further ranks that are candidates.
        absolute_margin: Minimum distance of a negative's score below that of the record's own pair; null = no bound.
        relative_margin: The same as a fraction of the score of the own pair; null = no bound.
        min_score: Lower bound of a negative's score.
        max_score: Upper bound of a negative's score.
        surface: Tower, such as text, whose surface similarity (shared words) ranks candidates; default: the scores do.
        sampling: Choice among the remaining candidates: top (hardest first) or random.
        rerank: Rank by the cosine of vectors and compute the full score of the candidates only; for token-level scores.
        reranker: Bundle of another model that scores the candidates and the records' own pairs.
        batch_size: Samples per forward pass.
        seed: Seed of the random sampling.
        json: Write the numbers of excluded candidates, by reason, to this file.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    out: str = "negatives.parquet"
    pair: list[str] = field(default_factory=list)
    split: str = "train"
    negatives: int = 4
    skip: int = 0
    depth: int = 50
    absolute_margin: float | None = None
    relative_margin: float | None = 0.05
    min_score: float | None = None
    max_score: float | None = None
    surface: str = ""
    sampling: str = "top"
    rerank: bool = False
    reranker: str | None = None
    batch_size: int = 256
    seed: int = 0
    json: str | None = None
    device: str = "auto"


@dataclass
class TuneFlags:
    """Learn prompts for a frozen bundle from a few labelled samples, beside hand-written templates and a linear probe.

    Args:
        bundle: Bundle or run folder.
        shots: Training records per class.
        out: Folder of the tuned bundle to write; also -o FOLDER. Default: none is written.
        prompts: YAML file of hand-written templates and class texts; default: the names of the classes.
        pair: Two towers, such as [image, text], for models with more than one pair.
        context: Number of context vectors before each text; 0 = the bundle's own zero-shot classification.
        start: Start of the context: random, words, or templates (the words before {} in the hand-written templates).
        experts: Number of contexts, whose features are averaged (MoCoOp without its router).
        text_weight: Weight of the loss that keeps prompts near the templates; null = 0 with one expert, else 5.
        epochs: Passes over the shots; null = 50 with one shot, 100 up to four, else 200.
        lr: Learning rate.
        batch_size: Samples per step.
        split: Split to evaluate: validation or test.
        new_classes: Also fit to half of the classes, and report base classes, new classes and their harmonic mean.
        bootstrap: Number of bootstrap resamples; 0: no intervals.
        seed: Seed of the shots, the start, the order and the resampling.
        json: Write the result to this file.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    shots: int = 16
    out: str | None = None
    prompts: str | None = None
    pair: list[str] = field(default_factory=list)
    context: int = 4
    start: str = "random"
    experts: int = 1
    text_weight: float | None = None
    epochs: int | None = None
    lr: float = 0.002
    batch_size: int = 32
    split: str = "validation"
    new_classes: bool = True
    bootstrap: int = 1000
    seed: int = 0
    json: str | None = None
    device: str = "auto"


@dataclass
class VarianceFlags:
    """Fit a variance to one tower of a frozen bundle: the squared distance by which perturbations move its embeddings.

    Args:
        bundle: Bundle or run folder.
        tower: Tower that gets the variance; its modality must have perturbations (ecg, image, pointcloud, video).
        out: Folder of the bundle to write; in a run folder it keeps the run's data; also -o FOLDER. Default: none.
        perturbations: Perturbations of the modality, such as noise; default: all.
        copies: Perturbed copies of each sample.
        samples: Maximum number of samples.
        ridge: Ridge penalty; null = the one of highest likelihood on a fifth of the groups.
        split: Split to fit to: train, validation or test; not the one to evaluate.
        seed: Seed of the samples, the perturbations and the held-out groups.
        json: Write the fit to this file.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    tower: str
    out: str | None = None
    perturbations: list[str] = field(default_factory=list)
    copies: int = 1
    samples: int = 5000
    ridge: float | None = None
    split: str = "train"
    seed: int = 0
    json: str | None = None
    device: str = "auto"
