"""A campaign: cases spread over the targets, counted by outcome; of each fault the smallest input is kept."""

import hashlib
import json
import pickle
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Target
from tests.fuzz.mutate import mutate
from tests.fuzz.outcome import FAULTS, Outcome
from tests.fuzz.processes import run_batch
from tests.fuzz.targets.registered import foreign_files, seeds_of

BATCH = 50
SHRINKS = 60
"""Attempts to make a reproducer smaller."""


@dataclass
class Fault:
    """One fault: equal ones are counted once.

    Args:
        target: Name of the target.
        outcome: The outcome of the smallest input.
        case: The smallest input so far.
        count: Number of cases that showed it.
        number: Number of the first case.
    """

    target: str
    outcome: Outcome
    case: Case
    count: int = 1
    number: int = 0


@dataclass
class Report:
    """Counts of a campaign.

    Args:
        counts: Target -> outcome -> number of cases.
        faults: Kind, target and place -> the fault.
    """

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)

    @property
    def totals(self) -> Counter[str]:
        """Outcome -> number of cases."""
        return sum(self.counts.values(), Counter())

    def table(self) -> str:
        """One line per target, one column per outcome."""
        kinds = ("accepted", "refused", *FAULTS)
        width = max(map(len, [*self.counts, "target"]))
        rows = [("target", ["cases", *kinds])]
        for name, counts in [*self.counts.items(), ("all", self.totals)]:
            rows.append((name, [str(counts.total()), *(str(counts[kind]) for kind in kinds)]))
        return "\n".join(f"{name:{width}} " + " ".join(f"{cell:>9}" for cell in cells) for name, cells in rows)

    def to_json(self) -> dict[str, Any]:
        """The counts, and each fault with its place."""
        faults = [
            {"target": fault.target, "kind": fault.outcome.kind, "where": fault.outcome.where, "count": fault.count,
             "number": fault.number, "bytes": fault.case.size, "detail": fault.outcome.detail[-3000:]}
            for fault in self.faults.values()
        ]  # fmt: skip
        return {"counts": {name: dict(counts) for name, counts in self.counts.items()}, "faults": faults}


def made_case(target: Target, number: int, seed: int, foreign: Sequence[bytes]) -> Case:
    """Case `number` of a target; the first ones are the seeds themselves."""
    seeds = seeds_of(target)
    if number < len(seeds):
        return seeds[number]
    rng = random.Random(f"{seed} {target.name} {number}")
    return mutate(rng, rng.choice(seeds), seeds, foreign)


def numbers_of(targets: Sequence[Target], cases: int, first: int = 0) -> list[tuple[Target, range]]:
    """Spread a number of cases over targets, by their cost.

    Args:
        targets: The targets.
        cases: Number of cases in all.
        first: Number of the first case of each target: a later piece of the same campaign goes on after it.
    """
    total = sum(target.cost for target in targets)
    return [(target, range(first, first + max(1, round(cases * target.cost / total)))) for target in targets]


def run(
    targets: Sequence[Target], cases: int, seed: int = 0, first: int = 0, say: Callable[[str], None] = print
) -> Report:
    """Run a campaign.

    Args:
        targets: What is fuzzed.
        cases: Number of cases in all.
        seed: Seed of all mutations.
        first: Number of the first case of each target.
        say: Gets a line for each new fault.
    """
    report, foreign = Report(), foreign_files(targets)
    for target, numbers in numbers_of(targets, cases, first):
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            work = [(target, partial(made_case, target, number, seed, foreign)) for number in batch]
            for number, outcome in zip(batch, run_batch(work), strict=True):
                report.counts[target.name][outcome.kind] += 1
                if outcome.fault:
                    _note(report, target, outcome, made_case(target, number, seed, foreign), number, say)
    return report


def _note(
    report: Report, target: Target, outcome: Outcome, case: Case, number: int, say: Callable[[str], None]
) -> None:
    key = (outcome.kind, outcome.where)
    known = report.faults.get(key)
    if known is None:
        report.faults[key] = Fault(target.name, outcome, case, number=number)
        say(f"{target.name} {number}: {outcome.kind}: {outcome.where}")
        return
    known.count += 1
    if case.size < known.case.size:
        known.outcome, known.case, known.number, known.target = outcome, case, number, target.name


def shrink(target: Target, fault: Fault) -> None:
    """Cut pieces out of the largest file as long as the fault stays the same."""
    attempts, step = 0, 2
    while attempts < SHRINKS and fault.case.entry and fault.case.files:
        name = max(fault.case.files, key=lambda name: len(fault.case.files[name]))
        data = fault.case.files[name]
        piece = max(1, len(data) // step)
        smaller = [
            fault.case.changed(files={**fault.case.files, name: data[:start] + data[start + piece :]})
            for start in range(0, len(data), piece)
        ][:16]
        attempts += len(smaller)
        outcomes = list(run_batch([(target, partial(_same, case)) for case in smaller]))
        found = [(case, outcome) for case, outcome in zip(smaller, outcomes, strict=True) if _equal(outcome, fault)]
        if found:
            fault.case, fault.outcome = min(found, key=lambda one: one[0].size)
        elif piece == 1:
            return
        else:
            step *= 4


def _same(case: Case) -> Case:
    return case


def _equal(outcome: Outcome, fault: Fault) -> bool:
    return (outcome.kind, outcome.where) == (fault.outcome.kind, fault.outcome.where)


def keep(fault: Fault, folder: Path) -> Path:
    """Write the reproducer of a fault: its files, or its pickled value, and what happened."""
    name = hashlib.sha256(f"{fault.target} {fault.outcome.kind} {fault.outcome.where}".encode()).hexdigest()[:8]
    target = folder / f"{fault.target.replace(' ', '-')}-{fault.outcome.kind}-{name}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "case.pickle").write_bytes(pickle.dumps(fault.case))
    if fault.case.entry:
        (target / "files").mkdir(exist_ok=True)
        fault.case.changed(links={}).write(target / "files")
    about = {"target": fault.target, "kind": fault.outcome.kind, "where": fault.outcome.where}
    about |= {"entry": fault.case.entry, "links": dict(fault.case.links), "as_bytes": fault.case.as_bytes}
    (target / "fault.txt").write_text(f"{json.dumps(about, indent=2)}\n\n{fault.outcome.detail}\n", errors="replace")
    return target
