"""The rules that keep the core free of modalities and light to import: read from the syntax trees, not trusted."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mmalign

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "mmalign"

# A package may import from its own layer and from layers above it, never from one below.
LAYERS = [
    {
        "mmalign",
        "version",
        "errors",
        "configuration",
        "types",
        "registry",
        "modality",
        "building",
        "capabilities",
        "distributed",
        "recipes",
        "plugin",
        "safe_io",
        "inference",
    },
    {"data"},
    {"functional"},  # equations alone: heads and objectives both stand on them
    {"heads"},
    {"objectives"},
    {"lora", "towers", "model", "model_description"},
    {"bundles", "selection", "run_folder"},
    {"embedding"},
    {"evaluation", "pictures"},
    {"searching", "explanation", "classification", "mining", "tuning"},
    {"reporting", "exporting", "exploring"},
    {"training"},
    {"api"},
    {"cli", "__main__"},
]
LAYER_OF = {package: place for place, packages in enumerate(LAYERS) for package in packages}
HEAVY = {"peft", "rdkit", "torch_geometric", "timm", "open_clip", "transformers", "wfdb", "gradio", "pytorch_lightning"}


def package_of(path: Path) -> str:
    parts = path.relative_to(CORE).with_suffix("").parts
    if parts[:2] == ("objectives", "functional"):
        return "functional"
    return "mmalign" if parts == ("__init__",) else parts[0]


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    """Every module that a file names in an import, wherever it stands, with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found.append((node.module or "", node.lineno))
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def violations(path: Path, text: str) -> list[str]:
    package, wrong = package_of(path), []
    for name, line in imported(ast.parse(text)):
        where = f"{path.relative_to(ROOT)}:{line} imports {name}"
        if name.split(".")[0] == "modalities":
            wrong.append(f"{where}: the core knows no modality")
        if name.startswith("mmalign.") and package != "mmalign":
            other = "functional" if name.startswith("mmalign.objectives.functional") else name.split(".")[1]
            if other in LAYER_OF and LAYER_OF[other] > LAYER_OF[package]:
                wrong.append(f"{where}: {package} lies before {other} in the flow of data")
    return wrong


def core_files() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def test_every_package_has_a_layer() -> None:
    assert {package_of(path) for path in core_files()} <= set(LAYER_OF)


def test_imports_flow_one_way() -> None:
    assert [line for path in core_files() for line in violations(path, path.read_text())] == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data/module.py", "from mmalign.training import module"),
        ("heads/projection.py", "def f():\n    import mmalign.objectives.objective"),
        ("model.py", "from modalities.image import MODALITY"),
    ],
)
def test_import_rules_detect_violations(file: str, text: str) -> None:
    assert violations(CORE / file, text)


def test_the_core_names_no_modality() -> None:
    """No identifier of the core names a side image or text: a cardiologist reads this code too."""
    allowed = {"cli"}  # the demo is about digits and sentences; help says so
    wrong = []
    for path in core_files():
        if package_of(path) in allowed or path.name in {"digits.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None)
            if isinstance(name, str) and name.split("_")[0] in {"image", "images"}:
                wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')} {name}")
    assert wrong == []


def imports_of(tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules of ours that a file imports anywhere, but for its types alone."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            found |= {name if name in modules else str(child.module) for name in names}
        found |= imports_of(child, modules)
    return found & modules


def test_no_import_circles() -> None:
    """No module imports itself by way of others, in mmalign or in modalities; imports in functions count too."""
    paths = {}
    for root in ("mmalign", "modalities"):
        for path in (ROOT / root).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    lazy = {"mmalign"}  # its names are loaded on first use
    graph = {name: imports_of(ast.parse(path.read_text()), {*paths} - lazy) for name, path in paths.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_one_loop_embeds() -> None:
    """Batches are run in use by `inference.run_batches` alone; the others look into a sample, or compare programs."""
    callers = set()
    for path in core_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "inference":
                callers.add(str(path.relative_to(CORE)))
    programs = {"exporting/program.py", "exporting/parity.py"}
    assert callers == {"inference.py", "explanation.py", "evaluation/tasks/grounding.py", *programs}


def test_modalities_is_a_namespace_package() -> None:
    assert not (ROOT / "modalities" / "__init__.py").exists()


def test_files_have_at_most_300_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("mmalign", "modalities")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_import_is_light() -> None:
    """`import mmalign` after torch takes under 50 ms and pulls in nothing heavy (one of five: machines are noisy)."""
    program = (
        "import json, sys, time, torch; t = time.perf_counter(); import mmalign; "
        "d = time.perf_counter() - t; print(json.dumps([d, sorted(m.split('.')[0] for m in sys.modules)]))"
    )
    taken = []
    while len(taken) < 5 and min(taken, default=1.0) >= 0.05:
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, modules = json.loads(ran.stdout)
        assert HEAVY.isdisjoint(modules)
        taken.append(seconds)
    assert min(taken) < 0.05


def test_public_names_resolve() -> None:
    for name in mmalign.__all__:
        assert getattr(mmalign, name) is not None
    with pytest.raises(AttributeError, match="lod"):
        mmalign.lod


def reads_objective(tree: ast.AST) -> list[int]:
    """Lines that read `model.objective` or `aligner.objective`, of a variable or of an attribute."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "objective"
        and (getattr(node.value, "id", None) or getattr(node.value, "attr", None)) in {"model", "aligner", "member"}
    ]


def test_the_objective_is_the_models_own() -> None:
    """Modules call methods of `Aligner`, not of its objective; the training loop alone drives the objective itself."""
    exempt = {"model", "objectives", "functional", "training"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in core_files()
        if package_of(path) not in exempt
        for line in reads_objective(ast.parse(path.read_text()))
    ]
    assert wrong == []
    assert reads_objective(ast.parse("def f(model):\n    return self.aligner.objective.pairs")) == [2]
