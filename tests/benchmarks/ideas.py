"""One table for each option that a paper proposes: the plain recipe beside it, three seeds, paired differences.

    python tests/benchmarks/ideas.py --only reducer nested_sizes --seeds 0 1 2 --out runs/ideas

Each file of `ideas_rows/` is one experiment: it defines `IDEA`, an `idea.Idea`, and its name is that of the file. What
lies in --out is not run again. Prints Markdown tables: the mean of every score with its 95 % interval over seeds and
held-out items together, the difference of the first score from the plain recipe (same items drawn for both, seeds drawn
apart), and processor time of a training step, as a ratio to the plain recipe's.
"""

import argparse
import importlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Scores, difference, interval, table
from idea import Figures, Idea, figures_of, scores_of

FOLDER = Path(__file__).resolve().parent / "ideas_rows"


def ideas() -> dict[str, Idea]:
    """Every experiment by name."""
    sys.path.insert(0, str(FOLDER.parent))
    names = sorted(file.stem for file in FOLDER.glob("*.py") if not file.stem.startswith("_"))
    return {name: importlib.import_module(f"ideas_rows.{name}").IDEA for name in names}


def lines(idea: Idea, runs: Mapping[str, Sequence[Figures]]) -> list[dict[str, str]]:
    """The rows of an experiment's table."""
    plain = next(iter(idea.rows))
    scores: dict[str, list[Scores]] = {row: [scores_of(one) for one in figures] for row, figures in runs.items()}
    steps = {row: [one["step_s"] for one in figures if one.get("step_s")] for row, figures in runs.items()}
    rows = []
    for row, seeds in scores.items():
        cells = {"row": row}
        for name in idea.scores:
            low, high = interval(seeds, name)
            cells[name] = f"{sum(one.mean(name) for one in seeds) / len(seeds):.3f} [{low:.3f}, {high:.3f}]"
        base = idea.against.get(row, plain)
        compared = row != base and base in scores
        first = idea.scores[0]
        apart = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(seeds, scores[base], first)) if compared else ""
        cells[f"{first}, difference"] = f"{apart} from {base}" if compared else ""
        if any(steps.values()):
            timed = compared and steps[row] and steps[base]
            ratio = f" ({statistics.median(steps[row]) / statistics.median(steps[base]):.2f}x)" if timed else ""
            cells["step"] = f"{1000 * statistics.median(steps[row]):.0f} ms{ratio}" if steps[row] else ""
        rows.append(cells)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print."""
    known = ideas()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(known), default=list(known), metavar="NAME", help=str([*known])
    )
    parser.add_argument("--rows", nargs="+", help="some rows of the experiments; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ideas"))
    options = parser.parse_args(arguments)
    for name in options.only:
        idea = known[name]
        seeds = options.seeds if idea.seeded else options.seeds[:1]
        chosen = [row for row in idea.rows if not options.rows or row in options.rows]
        runs: dict[str, list[Figures]] = {row: [] for row in chosen}
        for seed in seeds:  # seed by seed: a first table is there early
            for row in chosen:
                runs[row].append(figures_of(idea, name, row, seed, options.out))
                print(f"{name}: {row}, seed {seed} done", file=sys.stderr, flush=True)
        print(f"\n### {name}: {idea.title}, {len(seeds)} seed{'s' * (len(seeds) > 1)}\n\n{table(lines(idea, runs))}")


if __name__ == "__main__":
    main()
