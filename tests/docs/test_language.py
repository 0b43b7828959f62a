"""Phrases that the field does not use stay out of README, docs and recipes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "recipes").rglob("*.yaml"),
]
PHRASES = {
    r"(?:told|tells|tell) (?:\w+ )?from": "not significantly different from",
    r"earns? its place": "adds information",
    r"so many": "the number",
    r"of (?:yours|ours)\b": "your own",
    r"a? ?stranger'?s": "an untrusted",
    r"by heart": "overfits",
    r"set aside|sets aside": "rejected, excluded",
    r"closed form alone|start in closed form|the start alone": "CCA initialisation",
    r"in rows' worth": "in units of training rows",
    r"foretell|foretold": "predict",
    r"the share of|half a share|a share of": "the fraction of",
    r"right answers?": "relevant item",
    r"count against": "resolved pessimistically, lower",
    r"held back": "regularised",
    r"its doubt|doubts\b": "uncertainty",
    r"answers to an? ": "corresponds to",
    r"does(?: it| the model) know when": "selective prediction",
    r"an hour for": "read",
    r"sides? (?:exchanged|need)|both sides of": "a and b, both towers, both sets",
    r"hides? \d|(?:is|are) hidden": "masked",
    r"mode (?:mean|fdt|codes|probability)": "--score of evaluate, --term of explain",
    r"(?:terms?|tokens?|positives?|decoders?) of (?:its|their) own": "a separate term, token or positive",
    r"counted on the screen": "their number is printed",
    r"similar ones along|forced together": "brings similar records into its batch",
    r"everything that is registered": "every registered component",
    r"behind an entry point": "registered as an entry point",
    r"far behind": "less accurate",
    r"grains?\b": "level",
    r"penalty in (?:training )?rows": "in units of training rows",
    r"learns? nothing": "does nothing",
    r"trains no vector": "there is no projection head",
}


def prose(page: Path) -> str:
    """The sentences of a page in one line, without code; of YAML, the comments."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        return " ".join(re.findall(r"# (.*)", text))
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return " ".join(re.sub(r"`[^`]*`", "", text).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_the_terms_of_the_field(page: Path) -> None:
    text = prose(page)
    found = [
        f"...{text[max(0, match.start() - 30) : match.end() + 30]}...: write {instead!r}"
        for phrase, instead in PHRASES.items()
        for match in re.finditer(rf"\b(?:{phrase})", text, re.IGNORECASE)
    ]
    assert not found, found
