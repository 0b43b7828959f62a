"""Molecule transform: a batch is one graph without edges between molecules; equal in training and inference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.registry import missing_extra
from mmalign.types import Inputs
from modalities.common.encoders.agreed import agreed
from modalities.common.encoders.embedding_bags import bag_inputs, padded_mask, padded_slots
from modalities.common.reading.numbers import stated_table
from modalities.molecule.augment import changed, checked_views
from modalities.molecule.sample import ATOM_FIELDS, ATOM_SIZES, BOND_FIELDS, BOND_SIZES, MOTIFS, Fields, Molecule

FINGERPRINTS = (0, 2048, 4096)
FAMILIES = ("morgan", "feature", "torsion", "motifs", "groups", "fields")
COUNTED = ("morgan", "feature", "torsion", "groups", "fields")  # default families of encoder `fingerprints`
PARSED = ("morgan", "feature", "torsion", "groups")  # families that need rdkit
GROUPS = 85
_CHIRALITY, _STEREO = list(ATOM_FIELDS).index("chirality"), list(BOND_FIELDS).index("stereo")
_NONE = 1  # the bucket of value 0

BinCounts = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]  # occurring bins, ascending, and counts


@dataclass(frozen=True)
class MoleculeSettings:
    """Settings of preprocessing.

    Args:
        stereo: False = ignore chirality and double-bond stereo: stereoisomers become equal.
        fingerprint: Bins of each hashed fingerprint family, in addition to the graph: 0 (none), 2048 or 4096.
        families: Fingerprint families: morgan, feature, torsion, motifs, groups, fields; see
            `modalities.molecule.chem.fingerprint`.
        atom_dropout: Probability of masking all fields of an atom in training (Hu et al. 2020, arXiv 1905.12265).
        subgraph: Fraction of the atoms in the random connected subgraph that training sees instead of the molecule, for
            two views (GraphCL, arXiv 2010.13902: 0.8); 1 = the whole molecule.
        atom_removal: Probability of removing an atom with its bonds in training (GraphCL: 0.2).
    """

    stereo: bool = True
    fingerprint: int = 0
    families: tuple[str, ...] = ("morgan",)
    atom_dropout: float = 0.0
    subgraph: float = 1.0
    atom_removal: float = 0.0

    def __post_init__(self) -> None:
        """Validate the settings."""
        if not isinstance(self.stereo, bool):
            raise UserError(f"molecule transform: stereo must be true or false, got {self.stereo!r}")
        if isinstance(self.fingerprint, bool) or self.fingerprint not in FINGERPRINTS:
            raise UserError(f"molecule transform: fingerprint must be 0, 2048 or 4096, got {self.fingerprint!r}")
        families = tuple(self.families)
        if not families or len(set(families)) < len(families) or set(families) - set(FAMILIES):
            raise UserError(f"molecule transform: families must be some of {', '.join(FAMILIES)}, got {list(families)}")
        object.__setattr__(self, "families", families)
        if not 0 <= self.atom_dropout < 1:
            raise UserError(f"molecule transform: atom_dropout must be in 0..1, got {self.atom_dropout}")
        checked_views(self.subgraph, self.atom_removal, self.fingerprint)

    @staticmethod
    def make(values: Mapping[str, Any]) -> "MoleculeSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(MoleculeSettings, values, "molecule transform")


class Raw(NamedTuple):
    """The features of one molecule: its graph, and the unweighted counts of its fingerprint.

    Args:
        sample: The molecule, without stereo if the transform ignores it.
        counts: `modalities.molecule.chem.fingerprint.parsed_counts` of the families that need rdkit.
    """

    sample: Molecule
    counts: Mapping[str, BinCounts]


class Item(NamedTuple):
    """A molecule after the transform: arrays as in `Molecule`, and the counts of its fingerprint."""

    atoms: Fields
    bonds: Fields
    ends: Fields
    motif: Fields
    motif_ids: Fields
    raw: Raw | None


class MoleculeTransform(Transform):
    """Preprocess molecules and batch them as one graph.

    Args:
        settings: See `MoleculeSettings`.
        scales: Fitted mean and standard deviation of the counts of groups and fields.

    Shape:
        For N atoms, M bonds, K motifs in a batch of B molecules of at most L atoms and P motifs: `atoms (N, 10)`,
        `bonds (M, 4)` buckets; `ends (2, 2 M)`, from and to, first all bonds one way, then the other; `molecule (N,)`,
        `motif (N,)` of each atom; `motif_ids (K,)`, `motif_molecule (K,)`; `links (2, 2 C)` from motif to motif for
        each of C bonds between two, `link_bonds (2 C,)`; `slot (N,)`, `motif_slot (K,)`: indices in the padded
        `mask (B, L)`, `motif_mask (B, P)`. With a fingerprint of F bins present: `bins (F,)`, `weights (F,)`, and
        where each molecule's begin, `starts (B,)`.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> transform = MoleculeTransform(MoleculeSettings())
        >>> inputs = transform.collate([transform.item(read_molecule(smiles)) for smiles in ("CO", "[Na+].[Cl-]")])
        >>> inputs["ends"]
        tensor([[0, 1],
                [1, 0]])
    """

    def __init__(self, settings: MoleculeSettings, scales: Mapping[str, Any] | None = None) -> None:
        self.settings, self.scales = settings, dict(scales or {})
        sizes = dict(zip(settings.families, family_sizes(settings.fingerprint, settings.families), strict=True))
        for family, scale in self.scales.items():
            if family not in sizes:
                raise UserError(f"molecule transform: scales of {family!r}, which is none of its families")
            stated_table(scale, (2, sizes[family]), f"the scales of {family}")

    def featurise_many(self, samples: Any, cache: Path, workers: int = 0) -> Sequence[Raw]:
        """Graphs of a `FeatureStore`, and their counts from a `CountStore` in this folder, built if missing."""
        settings = self.settings
        if not settings.fingerprint or not set(settings.families) & set(PARSED):
            return _OnDisk(self, samples)
        texts = list(dict.fromkeys(samples.texts()))
        how = {"bins": settings.fingerprint, "families": settings.families, "stereo": settings.stereo}
        counts = _counting("cache.fingerprint_cache").CountStore.build(texts, cache, **how, workers=workers)
        return _OnDisk(self, samples, counts, {text: row for row, text in enumerate(texts)})

    def featurise(self, sample: Molecule) -> Raw:
        """Remove stereo if ignored, and count the fingerprint's families."""
        settings = self.settings
        cleared = self.cleared(sample)
        if not settings.fingerprint:
            return Raw(cleared, {})
        parsed = _counting().parsed_counts
        return Raw(cleared, parsed(sample.smiles, settings.fingerprint, settings.families, stereo=settings.stereo))

    def fit(self, features: Iterable[Raw]) -> None:
        """Fit the statistics of groups and fields, if they are counted."""
        if self.settings.fingerprint and not self.scales:
            self.scales = _counting().scale_of(features, self.settings.families)

    def __call__(self, features: Raw, rng: np.random.Generator | None = None) -> Item:
        """Compute one item; with `rng`, of a subgraph, and mask some atoms."""
        sample, settings = features.sample, self.settings
        if rng is not None and (settings.subgraph < 1 or settings.atom_removal):
            sample = changed(sample, settings.subgraph, settings.atom_removal, rng)
        atoms = sample.atoms
        if rng is not None and self.settings.atom_dropout:
            unmasked = rng.random((len(atoms), 1)) >= self.settings.atom_dropout
            atoms = np.where(unmasked, atoms, 0).astype(np.int16)
        raw = features if self.settings.fingerprint else None
        return Item(atoms, sample.bonds, sample.ends, sample.motif, sample.motif_ids, raw)

    def cleared(self, sample: Molecule) -> Molecule:
        """The molecule, without stereo if the settings ignore it."""
        if self.settings.stereo:
            return sample
        atoms, bonds = sample.atoms.copy(), sample.bonds.copy()
        atoms[:, _CHIRALITY] = bonds[:, _STEREO] = _NONE
        return replace(sample, atoms=atoms, bonds=bonds)

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Batch the molecules as one graph."""
        sizes = np.array([(len(item.atoms), len(item.bonds), len(item.motif_ids)) for item in items])
        atoms, bonds, motifs = sizes.T
        first_atom, first_motif = np.cumsum(atoms) - atoms, np.cumsum(motifs) - motifs
        one_way = np.concatenate([item.ends for item in items]).T + np.repeat(first_atom, bonds)
        motif = np.concatenate([item.motif for item in items]) + np.repeat(first_motif, atoms)
        between = motif[one_way]
        crossing = np.flatnonzero(between[0] != between[1])
        rows = np.arange(len(items))
        inputs: dict[str, Any] = {
            "atoms": np.concatenate([item.atoms for item in items]),
            "bonds": np.concatenate([item.bonds for item in items]),
            "ends": np.concatenate((one_way, one_way[::-1]), axis=1),
            "molecule": np.repeat(rows, atoms),
            "motif": motif,
            "motif_ids": np.concatenate([item.motif_ids for item in items]),
            "motif_molecule": np.repeat(rows, motifs),
            "links": np.concatenate((between[:, crossing], between[::-1, crossing]), axis=1),
            "link_bonds": np.concatenate((crossing, crossing)),
            "slot": padded_slots(atoms),
            "motif_slot": padded_slots(motifs),
        }
        tensors = {name: torch.from_numpy(values.astype(np.int64)) for name, values in inputs.items()}
        if self.settings.fingerprint:
            raw = [item.raw for item in items if item.raw is not None]
            fingerprints = _counting().fingerprints
            bins, weights, owners = fingerprints(raw, self.settings.fingerprint, self.settings.families, self.scales)
            tensors |= bag_inputs(bins, weights, owners, len(items))
        return tensors | {"mask": padded_mask(atoms), "motif_mask": padded_mask(motifs)}

    def config(self) -> dict[str, Any]:
        """The settings and the fitted statistics."""
        return asdict(self.settings) | ({"scales": self.scales} if self.scales else {})

    @staticmethod
    def restore(config: Mapping[str, Any]) -> "MoleculeTransform":
        """From `config()`."""
        settings = {name: value for name, value in config.items() if name != "scales"}
        return MoleculeTransform(MoleculeSettings.make(settings), config.get("scales"))

    def checked_fingerprint(self, fingerprint: int | None) -> int:
        """The bins of the fingerprint, checked against the encoder's argument.

        Raises:
            UserError: `fingerprint` is not this transform's.
        """
        return agreed(fingerprint, self.settings.fingerprint, "fingerprints of {} bins")

    @property
    def bins(self) -> int:
        """Total number of bins of all families."""
        settings = self.settings
        return sum(family_sizes(settings.fingerprint, settings.families)) if settings.fingerprint else 0


class _OnDisk(Sequence[Raw]):
    """Features whose graphs and counts are read from disk at each access."""

    def __init__(
        self,
        transform: MoleculeTransform,
        graphs: Sequence[Molecule],
        counts: Sequence[Mapping[str, BinCounts]] | None = None,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        self.transform, self.graphs, self.counts, self.rows = transform, graphs, counts, rows or {}

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: Any) -> Any:
        molecule = self.graphs[index]
        counts = {} if self.counts is None else self.counts[self.rows[molecule.smiles]]
        return Raw(self.transform.cleared(molecule), counts)


def _counting(name: str = "chem.fingerprint") -> ModuleType:
    try:
        return import_module(f"modalities.molecule.{name}")
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error


def family_sizes(bins: int, families: Sequence[str]) -> list[int]:
    """Number of bins of each family; hashed ones have `bins`."""
    own = {"fields": sum(ATOM_SIZES) + sum(BOND_SIZES), "motifs": MOTIFS, "groups": GROUPS}
    return [own.get(family, bins) for family in families]
