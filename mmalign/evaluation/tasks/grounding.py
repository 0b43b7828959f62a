"""Grounding: whether the tokens that correspond to a word are those of the region that the word names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from mmalign.capabilities import NamedRegions, TokenLabels
from mmalign.data.dataset import Dataset
from mmalign.embedding.token_pairs import embed_tokens, label_tokens
from mmalign.errors import UserError
from mmalign.evaluation.ablation import gradient_times_input, score_without
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.grounding import mean_of, pointing, ranking
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Bools, Floats
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.inference import inference
from mmalign.model import Aligner
from mmalign.safe_io.progress import track

NAMED, OTHER, GRADIENT, CHANCE = "named word", "other words", "gradient x input", "chance"
PROTOCOL = {
    "words": "each word of the query sample that names a region which its sample contains, but which is not the whole "
    "sample; the first alternative of each record",
    "pointing": "fraction of the units of largest weight that lie in the region; 0 for a word without weight",
    "auroc": "probability that a unit of the region has a larger weight than one outside, ties counting half; 0.5 for "
    "a word without weight",
    "other words": "mean over the words of the same sample that name no region and are no stop words",
    "gradient x input": "product of each token and the gradient of the similarity, summed over dimensions, without its "
    "sign; the same for every word",
    "chance": "fraction of the units that lie in the region",
    "score_drop": "decrease of the similarity when the tokens of the region are masked, or as many random ones",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


@dataclass(frozen=True)
class Grounding(Task):
    """Grounding: whether the tokens that correspond to a word are those of the region that the word names.

    One modality must know regions of its samples by name (capability `NamedRegions`), as molecules know functional
    groups, and the model must compare tokens (transport, late_interaction, fdt or local).

    Args:
        term: Term of the pair: the name of its objective, or its label; "" = the first that compares tokens.
    """

    name: ClassVar[str] = "grounding"

    term: str = ""

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The tower whose modality knows regions by name, and the other one."""
        able = [tower for tower in pair if isinstance(model.modalities[tower], NamedRegions)]
        if not able or pair[0] == pair[1]:
            names = " and ".join(model.modalities[tower].name for tower in pair)
            raise UserError(
                f"grounding needs a modality with named regions of its samples, such as molecule; {names} have "
                "none (`capabilities.NamedRegions`: named_regions and region_of_word)"
            )
        return (able[0], pair[1] if able[0] == pair[0] else pair[0])

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Compute the token correspondence of every pair, and compare it with the named regions.

        Returns:
            `words`, a table with the rows `named word`, `other words`, `gradient x input` and `chance`, columns
            `pointing` and `auroc`; `differences`, of the first row to the others; `regions`, a row per name;
            `deletion`, `score_drop` with the tokens of the region masked, and with random ones. `details`: `rows`, the
            list of `GroundedWord`s.

        Raises:
            UserError: no word of the split names a region, or the model does not compare tokens.
        """
        drawn, query = towers
        split = data.split(settings.split)
        words: list[GroundedWord] = []
        with inference(model), torch.inference_mode(False), torch.no_grad():
            for index, record in enumerate(track(split.records, "grounding")):
                if record.values.get(drawn) and record.values.get(query):
                    samples = [split.store.get(split.indices[index], tower, 0) for tower in towers]
                    words += self._words(model, towers, samples, index, settings.seed)
        if not words:
            raise UserError(
                f"grounding: no word of {query!r} in split {settings.split!r} names a region of its {drawn!r}"
            )
        groups = groups_of(split.records, torch.tensor([word.record for word in words]))
        rows = {
            NAMED: [word.own for word in words],
            OTHER: [word.other for word in words],
            GRADIENT: [word.gradient for word in words],
            CHANCE: [(word.chance, 0.5) for word in words],
        }
        own = np.array(rows[NAMED])
        differences = {f"{NAMED} - {name}": own - np.array(values) for name, values in rows.items() if name != NAMED}
        drops = {"named region": [[word.drop] for word in words]}
        drops["random units"] = [[word.random_drop] for word in words]
        figures = {"pointing": 0, "auroc": 1}
        scores: dict[str, Any] = {
            "n": len(words),
            "records": len({word.record for word in words}),
            "without_weight": sum(not word.has_weight for word in words),
            "words": _table(rows, figures, groups, settings),
            "differences": _table(differences, figures, groups, settings),
            "deletion": _table(drops, {"score_drop": 0}, groups, settings),
            "regions": _by_region(words),
        }
        protocol = PROTOCOL | {"pair": " ".join(towers), "term": words[0].term}
        return EvalResult(self.name, scores, settings.provenance(model, data, protocol), {"rows": words})

    def _words(
        self, model: Aligner, towers: Sequence[str], samples: Sequence[Any], record: int, seed: int
    ) -> list["GroundedWord"]:
        modality = model.modalities[towers[0]]
        assert isinstance(modality, NamedRegions)
        regions = {name: mask for name, mask in modality.named_regions(samples[0]).items() if 0 < mask.mean() < 1}
        a, b = (embed_tokens(model, tower, sample) for tower, sample in zip(towers, samples, strict=True))
        correspondence = model.correspondence(a, b, self.term)
        levels, weights = (correspondence.level_a, correspondence.level_b), correspondence.weights
        drawn, query = (
            label_tokens(model, *one)[0].units for one in zip(towers, samples, levels, weights.shape, strict=True)
        )
        table = drawn.members @ weights.double().cpu().numpy() @ query.members.T  # (units, words)
        names = [modality.region_of_word(label) for label in query.labels]
        named = [(word, name) for word, name in enumerate(names) if name is not None and name in regions]
        if not named or any(len(regions[name]) != len(table) for _, name in named):
            return []
        others = [i for i, name in enumerate(names) if name is None and i not in query.minor and table[:, i].sum() > 0]
        gradient = drawn.members @ gradient_times_input(model, towers[0], samples[0], b, levels[0])
        score = float(model.similarity(a, b)[0, 0])
        found = []
        for word, name in named:
            inside = regions[name]
            entries = _entries(drawn, inside)
            rng = np.random.default_rng((seed, record, word))
            random = np.zeros_like(entries)
            random[rng.permutation(len(entries))[: entries.sum()]] = True
            left = [score_without(model, towers[0], samples[0], b, levels[0], removed) for removed in (entries, random)]
            found.append(
                GroundedWord(
                    record=record,
                    word=query.labels[word],
                    region=name,
                    term=correspondence.term,
                    own=(pointing(table[:, word], inside), ranking(table[:, word], inside)),
                    other=mean_of([(pointing(table[:, i], inside), ranking(table[:, i], inside)) for i in others]),
                    gradient=(pointing(gradient, inside), ranking(gradient, inside)),
                    chance=float(inside.mean()),
                    has_weight=bool(table[:, word].sum() > 0),
                    drop=score - left[0],
                    random_drop=score - left[1],
                )
            )
        return found


@dataclass(frozen=True)
class GroundedWord:
    """One word that names a region of its pair.

    Args:
        record: Index of the record in the split.
        word: The word.
        region: Name of the region.
        term: Label of the objective's term.
        own: Pointing and AUROC of the word's weights.
        other: Mean of the other words'; NaN where there are none.
        gradient: Those of gradient x input.
        chance: Fraction of the units in the region.
        has_weight: Whether the word has any weight.
        drop: Decrease of the similarity without the region.
        random_drop: Decrease without as many random tokens.
    """

    record: int
    word: str
    region: str
    term: str
    own: tuple[float, float]
    other: tuple[float, float]
    gradient: tuple[float, float]
    chance: float
    has_weight: bool
    drop: float
    random_drop: float


def _entries(labels: TokenLabels, inside: Bools) -> Bools:
    """The tokens of which more than half belongs to the units of a region, `(entries,)`."""
    return np.asarray(labels.members[inside].sum(axis=0) > labels.members.sum(axis=0) / 2)


def _table(
    rows: dict[str, Any], figures: dict[str, int], groups: Any, settings: EvalSettings
) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for name, values in rows.items():
        columns: Floats = np.array(values, dtype=np.float64)
        known = ~np.isnan(columns).any(axis=1)
        table[name] = {"n": int(known.sum())}
        if not known.any():
            continue
        intervals = boot.means(columns[known], groups[known], resamples=settings.bootstrap, seed=settings.seed)
        for figure, column in figures.items():
            table[name][figure] = float(columns[known, column].mean())
            if intervals[column]:
                table[name][f"{figure}_ci"] = intervals[column]
    return table


def _by_region(words: Sequence[GroundedWord]) -> dict[str, dict[str, Any]]:
    names = sorted({word.region for word in words}, key=lambda name: (-sum(w.region == name for w in words), name))
    table = {}
    for name in names:
        own = [word.own for word in words if word.region == name]
        pointed, ranked = mean_of(own)
        table[name] = {"n": len(own), "pointing": pointed, "auroc": ranked}
    return table
