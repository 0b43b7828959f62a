"""Programs of README and docs import the names of mmalign from `mmalign` itself."""

import ast
import re
from pathlib import Path

import pytest

import mmalign

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def deep_imports(code: str) -> list[str]:
    """The imports of a program from a module below `mmalign`, and of names that `mmalign` does not have."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("mmalign.")]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.startswith("mmalign."):
                found.append(node.module)
            elif node.module == "mmalign":
                found += [f"mmalign.{alias.name}" for alias in node.names if alias.name not in mmalign.__all__]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_import_public_names_only(page: Path) -> None:
    assert [name for code in PYTHON.findall(page.read_text(encoding="utf-8")) for name in deep_imports(code)] == []


def test_deep_imports_are_found() -> None:
    code = "import mmalign.towers\nfrom mmalign import Dataset, lod\ndef f():\n    from mmalign.model import Aligner\n"
    assert deep_imports(code) == ["mmalign.towers", "mmalign.lod", "mmalign.model"]
