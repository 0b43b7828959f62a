"""The flags of each command: a field without default is positional, any other one is a flag. Helps are docstrings."""

from dataclasses import dataclass, field

from mmalign.configuration.arguments import Argument, arguments_of


@dataclass
class EvaluateFlags:
    """Evaluate a bundle: print a table of scores, write JSON.

    Args:
        bundle: Bundle or run folder.
        task: retrieval, zero-shot, multi-label, regression, probe, few-shot, robustness, geometry or grounding, see
            `--task NAME --help`; or all: every task that the data allow.
        pair: Two towers, such as [image, text], for models with more than one pair.
        json: Write the result to this file.
        rows: Write one row per query or sample to this file (.parquet or .csv): rank, scores, truth, prediction.
        picture: Draw the scores, or the confusion matrix, to this file.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    task: str = "retrieval"
    pair: list[str] = field(default_factory=list)
    json: str | None = None
    rows: str | None = None
    picture: str | None = None
    device: str = "auto"


@dataclass
class CompareFlags:
    """Compare models on the same queries: paired differences with intervals, and Holm's correction.

    Args:
        models: Two or more bundles or run folders, or Parquet files of `mmalign evaluate --rows`; the first one is
            the baseline.
        task: retrieval, zero-shot, multi-label or regression.
        metrics: Metrics to compare, such as mrr hit@1; default: the main metrics of the task.
        pairs: Compare every other model with the first (`first`), or every two models (`all`).
        pair: Two towers, such as [image, text], for models with more than one pair.
        bootstrap: Number of bootstrap resamples.
        json: Write the comparison to this file.
        picture: Draw a forest plot to this file.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    models: list[str]
    task: str = "retrieval"
    metrics: list[str] | None = None
    pairs: str = "first"
    pair: list[str] = field(default_factory=list)
    bootstrap: int = 10_000
    json: str | None = None
    picture: str | None = None
    device: str = "auto"


@dataclass
class ExportFlags:
    """Export the towers of a bundle as ONNX or torch.export programs, each compared with the model.

    Args:
        bundle: Bundle or run folder.
        out: Folder to write; also -o.
        formats: onnx, torch (a torch.export program), or both; default: onnx.
        int8: Write ONNX files with int8 weights too, and measure the decrease of their retrieval metrics.
        towers: Towers to export; null = all.
        split: Records that outputs are compared on: train, validation, test or all.
        device: Device to load the bundle on; programs are compared on the CPU.
        json: Write the report to this file, in addition to export.json in the folder.
    """

    bundle: str
    out: str = "exported"
    formats: list[str] | None = None
    int8: bool = False
    towers: list[str] | None = None
    split: str = "all"
    device: str = "auto"
    json: str | None = None


@dataclass
class ReportFlags:
    """Write one self-contained HTML file about a run or bundle: data, curves, results and samples.

    Args:
        bundle: Bundle or run folder.
        out: HTML file to write; also -o FILE.
        tasks: Tasks to run, such as retrieval zero-shot probe, or all; default: retrieval, zero-shot, multi-label,
            regression and geometry.
        pages: Pages to write, such as overview results; default: all that apply.
        pair: Two towers, such as [image, text]; default: the first pair that the model was trained on.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    out: str = "report.html"
    tasks: list[str] | None = None
    pages: list[str] | None = None
    pair: list[str] = field(default_factory=list)
    device: str = "auto"


@dataclass
class CheckFlags:
    """Check data before training: unusable records, duplicates, leakage; exit code 1 when a record is unusable.

    Args:
        towers: Tower -> modality, where the names differ: {left: image}.
        reject_warnings: Towers that reject samples with a data-quality warning, such as [ecg].
        sheet: Draw sample records to this file (PNG).
        json: Write the report to this file.
    """

    towers: dict[str, str] = field(default_factory=dict)
    reject_warnings: list[str] = field(default_factory=list)
    sheet: str | None = None
    json: str | None = None


@dataclass
class ClassifyFlags:
    """Classify files without labels by prompts (zero-shot), and write a CSV table.

    Args:
        bundle: Bundle or run folder.
        samples: Files or folders of files; or the samples themselves where these are strings, such as SMILES.
        classes: Names of the classes; default: those of the prompts.
        prompts: YAML file of prompts; default: the names of the classes are the prompts.
        pair: Two towers, such as [image, text], for models with more than one pair.
        score: Another score of the pair's objective, such as mean or codes; "" = as trained.
        out: Write one row per sample to this file (CSV): class, probabilities, entropy, and why it cannot be read.
        batch_size: Samples per forward pass.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    samples: list[str]
    classes: list[str] | None = None
    prompts: str | None = None
    pair: list[str] = field(default_factory=list)
    score: str = ""
    out: str | None = None
    batch_size: int = 64
    device: str = "auto"


@dataclass
class BundleFlags:
    """Write the model of a checkpoint as a bundle, without its data and recipe.

    Args:
        checkpoint: Checkpoint of a run, such as RUN/checkpoints/best.ckpt.
        out: Folder of the bundle to write.
    """

    checkpoint: str
    out: str


@dataclass
class ExplainFlags:
    """Draw which words of one sample correspond to which atoms, patches or beats of another.

    Args:
        bundle: Bundle or run folder.
        sample_a: Sample of the pair's first tower: a file, or the text itself.
        sample_b: Sample of the second tower.
        out: Picture to write: PNG, PDF or SVG.
        pair: Two towers, such as [image, text], for models with more than one pair.
        term: Objective whose weights are drawn, such as transport or fdt, or its label; "" = the first that has any.
        most: Number of words to draw, 1 to 6.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    sample_a: str
    sample_b: str
    out: str
    pair: list[str] = field(default_factory=list)
    term: str = ""
    most: int = 6
    device: str = "auto"


@dataclass
class DemoFlags:
    """Train on the embedded handwritten digits, evaluate, and draw the scores, in about a minute.

    Args:
        out: Run folder; it is replaced when it exists.
        seed: Seed of the weights, the order and the augmentation.
        json: Write the results to this file.
    """

    out: str = "runs/demo"
    seed: int = 0
    json: str | None = None


def arguments_of_flags(flags: type) -> dict[str, Argument]:
    """The flags of a command by name, positional ones first; of some with the tasks' settings."""
    own = arguments_of(flags)
    if flags not in (EvaluateFlags, CompareFlags, ReportFlags):
        return own
    from mmalign.evaluation.registry import flags as settings

    first = {name: argument for name, argument in own.items() if argument.required or name in ("task", "pair")}
    return first | settings() | own


def flag_sections(flags: type, task: str = "") -> dict[str, list[Argument]]:
    """The flags of a command for its help, by title; without positional arguments.

    Args:
        flags: The dataclass of the command's flags.
        task: Task of `mmalign evaluate` whose flags come first, without those of other tasks; "" = all tasks.

    Raises:
        UserError: there is no such task.
    """
    own = {name: argument for name, argument in arguments_of(flags).items() if not argument.required}
    if flags not in (EvaluateFlags, CompareFlags, ReportFlags):
        return {"flags": list(own.values())}
    from mmalign.evaluation.registry import TASKS, flags_of, require_task
    from mmalign.evaluation.settings import EvalSettings

    if flags is not EvaluateFlags:
        common = {name: flag for name, flag in flags_of(EvalSettings).items() if name not in own}
        sections = {"flags": list(own.values()), "settings of every task": list(common.values())}
        if task:
            require_task(task)
            sections[f"settings of {task}"] = list(flags_of(TASKS[task]).values())
        return sections
    every = {"flags of every task": [own["task"], own["pair"], *flags_of(EvalSettings).values(), own["device"]]}
    output = {"output": [own["json"], own["rows"], own["picture"]]}
    if task and task != "all":
        require_task(task)
        return {f"flags of {task}": list(flags_of(TASKS[task]).values())} | every | output
    sections, above = every, set[str]()
    for name, kind in TASKS.items():
        of_task = flags_of(kind)
        shared = ", ".join(f"--{flag}" for flag in of_task if flag in above)
        title = f"flags of {name}" + (f", besides {shared} above" if shared else "")
        sections[title] = [argument for flag, argument in of_task.items() if flag not in above]
        above |= set(of_task)
    return sections | output
