"""`mmalign.report`: gather, make the pages, render one HTML file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.all_tasks import Evaluations, evaluate_all
from mmalign.evaluation.registry import TASKS
from mmalign.evaluation.settings import EvalSettings
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.reporting.blocks import Block, Page
from mmalign.reporting.context import Context
from mmalign.reporting.pages.classification import classification_page
from mmalign.reporting.pages.codes import codes_page
from mmalign.reporting.pages.correspondence import correspondence_page
from mmalign.reporting.pages.data import data_page
from mmalign.reporting.pages.overview import overview_page
from mmalign.reporting.pages.results import results_page
from mmalign.reporting.pages.retrieval import pairs_page, retrieval_page, similarity_page
from mmalign.reporting.pages.space import space_page
from mmalign.reporting.pages.training import training_page
from mmalign.run_folder import data_settings
from mmalign.safe_io.progress import track
from mmalign.safe_io.safe_writing import replaced
from mmalign.selection import model_of, pair_of
from mmalign.version import __version__

PAGES: dict[str, tuple[str, Callable[[Context], Sequence[Block]]]] = {
    "overview": ("Overview", overview_page),
    "data": ("Data", data_page),
    "training": ("Training", training_page),
    "results": ("Results", results_page),
    "similarity": ("Similarity", similarity_page),
    "retrieval": ("Retrieval", retrieval_page),
    "pairs": ("Best, worst and most uncertain pairs", pairs_page),
    "classification": ("Zero-shot classification", classification_page),
    "space": ("Shared space", space_page),
    "codes": ("Codebook", codes_page),
    "correspondence": ("Correspondence of tokens", correspondence_page),
}
QUICK = ("retrieval", "zero-shot", "multi-label", "regression", "geometry")
"""Tasks that a report runs by default; probes, few-shot and robustness take longer."""


def report(
    model: str | Path,
    out: str | Path = "report.html",
    data: DataConfig | None = None,
    *,
    tasks: Sequence[str] = (),
    pages: Sequence[str] = (),
    pair: Sequence[str] = (),
    device: str = "auto",
    **settings: Any,
) -> Path:
    """Write one self-contained HTML file about a run or bundle: data, curves, results and samples.

    The file contains its style and pictures, and no script; a browser that shows it makes no request. Samples are drawn
    by their modality and labelled by their number in the split and their classes, not by their file names.

    Args:
        model: Path of a run or bundle.
        out: HTML file to write.
        data: The configuration of the data; default: that of the run.
        tasks: Tasks to run; `all` = every task that the data allow; default: retrieval, zero-shot, multi-label,
            regression and geometry.
        pages: Pages to write, such as `["overview", "results"]`; default: all that apply.
        pair: The two towers; default: the first pair that the model was trained on.
        device: Device to load the bundle on, see `mmalign.load`.
        settings: Settings of the evaluation and of the tasks, as in `mmalign.evaluate_all`. By default, relevance is
            that of training (`data.positives`).

    Returns:
        The file.

    Raises:
        UserError: a page or task that does not exist, or no data.
    """
    for name in pages:
        if name not in PAGES:
            raise UserError(f"--pages: no page called {name!r}{nearest(name, PAGES)}")
    for name in tasks:
        if name not in (*TASKS, "all"):
            raise UserError(f"--tasks: no task called {name!r}{nearest(name, [*TASKS, 'all'])}")
    context = _gather(Path(model), data, tasks, pair, device, settings)
    wanted = [name for name in PAGES if not pages or name in pages]
    made = []
    for name in track(wanted, "report"):
        title, page = PAGES[name]
        if blocks := page(context):
            made.append(Page(name, title, blocks))
    file = Path(out).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as partial:
        partial.write_text(render(made, _title(context)), encoding="utf-8", errors="backslashreplace")
    return file


def render(pages: Sequence[Page], title: str) -> str:
    """The pages as one HTML document; every string is escaped."""
    from jinja2 import Environment, StrictUndefined

    folder = files("mmalign.reporting") / "template"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    style = (folder / "style.css").read_text(encoding="utf-8")
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return template.render(pages=pages, title=title, style=style, version=__version__, date=date)


def _gather(
    path: Path,
    data: DataConfig | None,
    tasks: Sequence[str],
    pair: Sequence[str],
    device: str,
    settings: dict[str, Any],
) -> Context:
    loaded = model_of(path, device)
    assert loaded.path is not None
    run = loaded.path.parent if (loaded.path.parent / "config.yaml").is_file() else None
    if data is None:
        known = data_settings(loaded.path.parent)
        if known is None:
            raise UserError(f"{path}: no configuration of a run, so name the data with --data.*")
        data = DataConfig(**known)
    towers = _pair(loaded, pair)
    split = str(settings.get("split", EvalSettings.split))
    data, opened = _opened(loaded, data, towers, split)
    options = {"relevance": data.positives} | settings if data.positives in ("record", "content", "group") else settings
    labels = max((len(record.labels) for record in opened.records), default=0)
    if labels == 1 and "uncertainty" not in options:
        options = {**options, "uncertainty": True}
    names = list(TASKS) if "all" in tasks else list(tasks) or list(QUICK)
    try:
        evaluations = evaluate_all(loaded, opened, tasks=names, pair=towers if len(towers) == 2 else (), **options)
    except UserError as error:  # the data allow no task: the other pages still have content
        evaluations = Evaluations(skipped={name: str(error) for name in names})
    return Context(loaded, run, opened, split, towers, evaluations, options)


def _pair(model: Aligner, pair: Sequence[str]) -> tuple[str, ...]:
    if pair:
        return pair_of(model, pair)
    pairs = [(one.a, one.b) for one in model.pairs if one.a != one.b]
    return pairs[0] if pairs else tuple(model.towers)[:1]


def _opened(model: Aligner, config: DataConfig, towers: tuple[str, ...], split: str) -> tuple[DataConfig, Dataset]:
    """The data with the split read; the column `label` is added where the source has one and none is named."""
    modalities = {tower: model.modalities[tower] for tower in towers}
    columns = config.named_columns
    if "label" not in columns:
        labelled = replace(config, columns={**{name: columns[name] for name in columns}, "label": "label"})
        try:
            Dataset.open(labelled, modalities, splits=[])
            config = labelled
        except UserError:
            pass
    missing = [tower for tower in towers if tower not in config.towers]
    if missing:
        raise UserError(
            f"the data has no column for the tower {missing[0]!r}; name it with --data.columns.{missing[0]}"
        )
    return config, Dataset.open(config, modalities, splits=[split])


def _title(context: Context) -> str:
    recipe = bundle.provenance(context.model.path or "").get("recipe")
    return f"{recipe or ' and '.join(context.model.towers)}: report"
