"""The Gradio page: layout and events; what they show comes from a session."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmalign.errors import BadSample, UserError, first_line
from mmalign.exploring.answers import Answers
from mmalign.exploring.cards import answers_html, explanation_html, heading_html, map_html, message_html
from mmalign.exploring.limits import Worker
from mmalign.exploring.queries import Dropped
from mmalign.exploring.session import Session

_LOG = logging.getLogger("mmalign")

# A click on a button of an answer becomes an event; what a button opened gets the focus.
_ANSWERS_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (button) trigger('click', {action: button.dataset.action, rank: Number(button.dataset.rank)});
});
"""
_FOCUS_JS = """
watch('value', () => {
  const head = element.querySelector('h2, .error');
  if (head) { head.focus(); head.scrollIntoView({block: 'nearest'}); }
});
"""
_FONTS = ["system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"]


def page_style(gradio: Any) -> dict[str, Any]:
    """Theme and style of the page: fonts of the system, nothing to fetch."""
    css = (files("mmalign.exploring") / "template" / "page.css").read_text(encoding="utf-8")
    theme = gradio.themes.Base(
        font=_FONTS, font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"], primary_hue="blue"
    )
    return {"theme": theme, "css": css}


def build_page(gradio: Any, session: Session, folder: Path) -> Any:
    """The page of a session.

    Args:
        gradio: The package.
        session: The session.
        folder: Folder for exported answers.

    Returns:
        `gradio.Blocks`.
    """
    handlers = _Handlers(gradio, session, folder)
    filters = (("Only labels", session.filters.labels), ("Only groups", session.filters.groups))
    towers, first = session.towers, next(iter(session.towers.values()))
    private = {"api_visibility": "private", "show_progress": "minimal"}
    with gradio.Blocks(analytics_enabled=False, title="mmalign explore") as page:
        state = gradio.State(None)
        gradio.HTML(heading_html(session))
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                tower = gradio.Radio(list(towers), value=first.name, label="Tower of the query")
                text = gradio.Textbox(label=f"Type a sample of {first.name}", lines=1, max_lines=6, visible=first.typed,
                                      elem_id="query")  # fmt: skip
                search = gradio.Button("Search", variant="primary", visible=first.typed)
                dropped = gradio.File(label="Drop a file, or the files of one record", file_count="multiple",
                                      height=160, elem_id="dropped")  # fmt: skip
                chosen = [
                    gradio.Dropdown(choices, multiselect=True, value=[], label=name, visible=bool(choices))
                    for name, choices in filters
                ]
                export = gradio.DownloadButton("Export the answers (CSV)", interactive=False)
            with gradio.Column(scale=3, min_width=300):
                results = gradio.HTML(label="Answers", js_on_load=_ANSWERS_JS + _FOCUS_JS, elem_id="answers")
                explanation = gradio.HTML(label="Explanation", js_on_load=_FOCUS_JS, elem_id="explanation")
                space = gradio.HTML(map_html(session, None), label="Map", js_on_load="", elem_id="map")
        outputs = [results, state, export, space, explanation]
        tower.change(handlers.choose, [tower], [text, search], **private)
        for event in (search.click, text.submit):
            event(handlers.typed, [tower, text, *chosen], outputs, **private)
        dropped.upload(handlers.dropped, [tower, dropped, *chosen], [*outputs, dropped], **private)
        for one in chosen:
            one.change(handlers.filtered, [state, *chosen], outputs, **private)

        # Gradio reads the type of an event from the annotation.
        def clicked(answers: Any, labels: Any, groups: Any, event: Any) -> Any:
            return handlers.clicked(answers, labels, groups, event)

        clicked.__annotations__["event"] = gradio.EventData
        results.click(clicked, [state, *chosen], outputs, **private)
    page.queue(default_concurrency_limit=4)
    return page


class _Handlers:
    """Event handlers; each returns the answers, the state, the export, the map and the explanation."""

    def __init__(self, gradio: Any, session: Session, folder: Path) -> None:
        self.gradio, self.session, self.folder = gradio, session, folder
        self.worker = Worker(session.limits.seconds)

    def choose(self, tower: str) -> Any:
        """Show the input that the tower takes."""
        typed = tower in self.session.towers and self.session.towers[tower].typed
        return self.gradio.update(visible=typed, label=f"Type a sample of {tower}"), self.gradio.update(visible=typed)

    def typed(self, tower: str, text: str, labels: Sequence[str], groups: Sequence[str]) -> Any:
        return self._answered(lambda: self.session.ask(tower, text or "", labels=labels, groups=groups))

    def dropped(self, tower: str, paths: Sequence[str] | None, labels: Sequence[str], groups: Sequence[str]) -> Any:
        uploads = [Dropped(Path(path), Path(path).name) for path in paths or ()]
        try:
            shown = self._answered(lambda: self.session.ask(tower, files=uploads, labels=labels, groups=groups))
        finally:
            for upload in uploads:
                upload.path.unlink(missing_ok=True)
        return *shown, None

    def filtered(self, answers: Answers | None, labels: Sequence[str], groups: Sequence[str]) -> Any:
        if answers is None:
            return (self.gradio.skip(),) * 5
        return self._answered(lambda: self.session.search(answers.query, labels=labels, groups=groups))

    def clicked(self, answers: Answers | None, labels: Sequence[str], groups: Sequence[str], event: Any) -> Any:
        """Explain an answer, or find the rows that resemble it."""
        action, rank = getattr(event, "action", None), getattr(event, "rank", None)
        unchanged = (self.gradio.skip(),) * 4
        if answers is None or action not in ("explain", "similar") or not isinstance(rank, int | float):
            return *unchanged, self.gradio.skip()
        rank = int(rank)
        if not 1 <= rank <= len(answers.answers):
            return *unchanged, self.gradio.skip()
        if action == "similar":
            row = answers.answers[rank - 1].row
            return self._answered(lambda: self.session.similar(row, labels=labels, groups=groups))
        return *unchanged, self._guarded(lambda: explanation_html(self.session, answers, rank))

    def _answered(self, ask: Callable[[], Answers]) -> Any:
        def work() -> tuple[str, Answers, Any, str]:
            answers = ask()
            file = answers.write(Path(tempfile.mkdtemp(dir=self.folder)) / "answers.csv")
            export = self.gradio.update(value=str(file), interactive=True)
            return answers_html(self.session, answers), answers, export, map_html(self.session, answers)

        shown = self._guarded(work)
        if isinstance(shown, str):  # a message; the last answers stay in the state
            return shown, self.gradio.skip(), self.gradio.skip(), self.gradio.skip(), ""
        return *shown, ""

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """The result of some work, or the HTML of a message: the page outlives whatever a sample does."""
        try:
            return self.worker.run(work)
        except (UserError, BadSample) as error:
            return message_html(str(error))
        except Exception as error:
            _LOG.exception("explore: a request failed")
            return message_html(f"this request failed: {type(error).__name__}: {first_line(error)}")
