"""What `--help` prints: a command's own flags, one sentence each; every flag with `--help all`."""

import contextlib
import subprocess
import sys
from dataclasses import MISSING, dataclass, field

import pytest

from mmalign.cli import COMMANDS, main
from mmalign.cli.help import describe, flatten
from mmalign.cli.train_help import DATA, PARTS, TRAINER
from mmalign.configuration.arguments import Argument, arguments_of, takes_any, type_name
from mmalign.data.config import DataConfig
from mmalign.evaluation.registry import TASKS, names_of
from mmalign.evaluation.settings import EvalSettings
from mmalign.evaluation.tasks.few_shot import FewShot
from mmalign.training.build import ModelConfig

OWN = {
    "evaluate": ["BUNDLE", "--task", "--split", "--json"],
    "compare": ["MODELS", "--task", "--metrics", "--pairs", "--bootstrap", "--split"],
    "report": ["BUNDLE", "--out", "--tasks", "--pages", "--split"],
    "mine": ["BUNDLE", "--out", "--negatives", "--skip", "--depth", "--relative_margin", "--surface"],
    "tune": ["BUNDLE", "--shots", "--out", "--prompts", "--context", "--experts"],
    "variance": ["BUNDLE", "TOWER", "--out", "--perturbations", "--copies", "--ridge"],
    "export": ["BUNDLE", "--out", "--formats", "--int8"],
    "check": ["--towers", "--sheet"],
    "embed": ["BUNDLE", "OUT", "--split", "--precision"],
    "index": ["TABLE", "--kind", "--recall"],
    "bundle": ["CHECKPOINT", "OUT"],
    "classify": ["BUNDLE", "SAMPLES", "--classes", "--prompts", "--out"],
    "search": ["BUNDLE", "INDEX", "QUERIES", "--k", "--engine", "--by_id"],
    "explain": ["BUNDLE", "SAMPLE_A", "OUT", "--term"],
    "explore": ["BUNDLE", "TABLE", "--k", "--port", "--upload_mb", "--seconds"],
    "list": ["--json"],
    "demo": ["--out", "--seed"],
}


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints with `--help`."""
    with contextlib.suppress(SystemExit):
        assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def flags_in(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.startswith("  ") and not line.startswith("   ")]


@dataclass
class Inner:
    """Inner settings.

    Args:
        rate: First sentence. Second sentence.
    """

    rate: float = 0.5


@dataclass
class Outer:
    """Outer settings.

    Args:
        name: The name.
        inner: Settings of its own.
        many: Several.
    """

    name: str
    inner: Inner | None = None
    many: dict[str, Inner] = field(default_factory=dict)


@pytest.mark.parametrize("command", [*OWN])
def test_own_flags_come_first_in_the_order_of_use(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = flags_in(printed([command, "--help"], capsys))
    places = [flags.index(flag) for flag in OWN[command]]
    assert places == sorted(places)
    own = [flag.startswith("--data.") for flag in flags]
    assert own == sorted(own), "flags of the data stand after a command's own"


@pytest.mark.parametrize("command", ["evaluate", "check", "embed", "search"])
def test_help_all_adds_every_key_of_the_data(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    short, whole = (flags_in(printed([command, *flags], capsys)) for flags in (["--help"], ["--help", "all"]))
    assert {f"--data.{name}" for name in arguments_of(DataConfig)} <= set(whole)
    assert set(short) < set(whole)


@pytest.mark.parametrize("form", [["--task", "few-shot"], ["--task=few-shot"]])
def test_help_of_one_task_has_its_flags_first_and_none_of_others(
    form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = flags_in(printed(["evaluate", *form, "--help"], capsys))
    assert flags[1 : 1 + len(names_of(FewShot))] == [f"--{name}" for name in names_of(FewShot)]
    assert {"--split", "--seed", "--json", "--data.source"} <= set(flags)
    assert not {"--gallery", "--prompts", "--tower"} & set(flags)


def test_help_of_evaluate_has_every_flag_once_under_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(["evaluate", "--help"], capsys)
    flags = flags_in(text)
    assert sorted(flags) == sorted(set(flags))
    expected = {f"--{name}" for kind in (EvalSettings, *TASKS.values()) for name in names_of(kind)}
    assert expected <= set(flags)
    titles = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[:3] == ["arguments", "flags of every task", "flags of retrieval"]
    assert "flags of few-shot, besides --shots, --features above" in titles
    assert titles[-2:] == ["output", "data"]


def test_help_of_an_unknown_task_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--task", "few-shto", "--help"]) == 2
    assert "did you mean 'few-shot'" in capsys.readouterr().err


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert {*OWN, "train"} == set(COMMANDS)
    assert "recipes:" in printed(["train", "--help"], capsys)


def test_help_of_a_recipe_has_its_values_and_no_flag_of_lightning_only(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(["train", "image-text/demo", "--help"], capsys)
    assert "Size of the shared space (default: 64)." in text
    assert "Number of epochs (default: 14)." in text
    assert {"--out", "--model.optimizer.lr", "--model.towers.NAME.encoder", "--data.batch_size"} <= set(flags_in(text))
    assert "--trainer.profiler" not in text
    whole = flags_in(printed(["train", "image-text/demo", "--help", "all"], capsys))
    assert {"--trainer.profiler", "--model.codebook.codes", "--data.cache_gb"} <= set(whole)


def test_chosen_keys_exist() -> None:
    from pytorch_lightning import Trainer

    assert {one.name for one in TRAINER} <= set(arguments_of(Trainer))
    assert set(PARTS) <= set(arguments_of(ModelConfig))
    assert set(DATA) <= set(arguments_of(DataConfig))


def test_usage_is_printed_at_once() -> None:
    """`mmalign --help` takes under 0.1 s of processor time (best of five)."""
    program = "import sys, time; from mmalign.cli import main; main(['--help']); print(time.process_time())"
    seconds = []
    for _ in range(5):
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds.append(float(ran.stdout.splitlines()[-1]))
    assert min(seconds) < 0.1


def test_arguments_of_a_dataclass_a_class_and_a_function() -> None:
    found = arguments_of(Outer)
    assert [*found] == ["name", "inner", "many"]
    assert found["name"] == Argument("name", str, MISSING, "The name.")
    assert found["name"].required
    rate = arguments_of(Inner)["rate"]
    assert (rate.default, rate.about, rate.sentence) == (0.5, "First sentence. Second sentence.", "First sentence.")

    class Thing:
        """A thing.

        Args:
            size: Its size.
        """

        def __init__(self, size: int = 3, **rest: int) -> None: ...

    assert arguments_of(Thing) == {"size": Argument("size", int, 3, "Its size.")}
    assert takes_any(Thing)
    assert not takes_any(Inner)


def test_flatten_follows_dataclasses() -> None:
    flags = [flag.name for flag in flatten("outer", arguments_of(Outer).values(), closed=("inner",))]
    assert flags == ["--outer.name", "--outer.inner", "--outer.many.NAME.rate"]
    assert [flag.name for flag in flatten("", [arguments_of(Outer)["inner"]])] == ["--inner.rate"]


def test_describe_shows_type_sentence_and_default() -> None:
    assert describe(Argument("--k", int, 0, "Results. More.")).split(maxsplit=2) == [
        "--k",
        "int",
        "Results (default: 0).",
    ]
    assert "More (default: 0)." in describe(Argument("--k", int, 0, "Results. More."), whole=True)
    assert type_name(dict[str, int] | None) == "mapping or null"
    assert type_name(tuple[int, ...]) == "list of int"


def test_a_flag_of_type_bool_needs_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize(
    ("default", "printed"),
    [(1 / 0.07, "14.2857"), (100.0, "100.0"), ((1, 2), "[1, 2]"), (None, "null"), (True, "true")],
)
def test_defaults_are_printed_as_a_recipe_spells_them(default: object, printed: str) -> None:
    line = describe(Argument("--scale", float, default, "The scale."), typed=True)
    assert f"(default: {printed})" in line
