"""The molecule modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.errors import BadSample
from mmalign.modality import Encoder, Modality, Transform
from mmalign.registry import missing_extra
from modalities.common.sources.toy_classes import colour_and_shape
from modalities.molecule.chem.mol_text import MAX_BYTES
from modalities.molecule.chem.neighbours import neighbours
from modalities.molecule.encoders.fingerprint_linear import FingerprintLinear
from modalities.molecule.encoders.gine import Gine
from modalities.molecule.encoders.hierarchical import Hierarchical
from modalities.molecule.encoders.pyg import PygMolecule
from modalities.molecule.graph_data import smiles_of
from modalities.molecule.sample import Molecule
from modalities.molecule.transform import COUNTED, MoleculeSettings, MoleculeTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = (
    "O", "C(=O)O", "N", "C#N", "Cl", "c1ccccc1", "c1ccncc1", "C1CCCCC1", "S", "[N+](=O)[O-]",
)  # fmt: skip
"""End group of each toy class: alcohol, acid, amine, nitrile, chloride, benzene, pyridine, ..."""


class MoleculeModality(Modality):
    """Molecules."""

    name = "molecule"
    max_file_bytes = MAX_BYTES
    description = "SMILES strings, .mol and .sdf files; a sample is the fields of its atoms and bonds, and its motifs"
    value_is_sample = True
    file_suffixes = (".mol", ".sdf")
    separable = False
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "gine": Gine,
        "hierarchical": Hierarchical,
        "fingerprints": FingerprintLinear,
        "pyg": PygMolecule,
    }

    def read(self, source: Any) -> Molecule:
        """Read, see `read_molecule`; a `Data` of PyTorch Geometric by its `smiles`."""
        sample: Molecule = source if isinstance(source, Molecule) else _reading().read_molecule(smiles_of(source))
        return sample

    def read_many(
        self, sources: Sequence[Any], cache: Path, workers: int = 0
    ) -> tuple[Sequence[Molecule], Mapping[int, BadSample]] | None:
        """Read SMILES from the graph cache in this folder, built if missing; None if one of them is a file."""
        _reading()
        from modalities.molecule.cache.graph_cache import FeatureStore, is_smiles

        if not all(map(is_smiles, sources)):
            return None
        store = FeatureStore.build(sources, cache, workers)
        return store, store.rejected

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> MoleculeTransform:
        """The transform with the encoder's fingerprint, overridden by the given settings."""
        bins = encoder_args.get("fingerprint")
        wanted: dict[str, Any] = {} if bins is None else {"fingerprint": bins}
        if encoder == "fingerprints":
            wanted = {"fingerprint": 4096, "families": COUNTED} | wanted
        return MoleculeTransform(MoleculeSettings.make(wanted | settings))

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `MoleculeTransform.config()`."""
        return MoleculeTransform.restore(config)

    def picture(self, sample: Molecule, axes: "Axes") -> None:
        """Draw the structural formula."""
        self._draw(sample, axes, None)

    def weighted_picture(self, sample: Molecule, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw the structural formula with atoms coloured by weight; one weight for each atom."""
        self._draw(sample, axes, weights)

    def _draw(self, sample: Molecule, axes: "Axes", weights: Sequence[float] | None) -> None:
        _reading()  # names the extra to install
        from modalities.molecule.picture import draw

        draw(sample, axes, weights)

    def token_labels(
        self, sample: Molecule, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Atoms, labelled by element and number.

        An atom's token describes its surroundings, so half as much of it belongs to each neighbour as to the atom
        itself. A motif is divided equally among its atoms.
        """
        _reading()
        from modalities.molecule.picture import atom_names

        atoms, motifs = len(sample.atoms), len(sample.motif_ids)
        if count != (atoms if level == "tokens" else motifs):
            return None  # an encoder with other tokens
        if level == "parts":
            members = (sample.motif[:, None] == np.arange(motifs)).astype(np.float64)
        else:
            members = np.eye(atoms)
            first, second = sample.ends.T
            members[first, second] = members[second, first] = NEIGHBOUR_SHARE
        return TokenLabels(atom_names(sample), members / members.sum(0))

    def named_regions(self, sample: Molecule) -> Mapping[str, NDArray[np.bool_]]:
        """The atoms of each functional group and ring that has a name in `chem.functional_groups`."""
        _reading()
        from modalities.molecule.chem.functional_groups import groups_of

        return {name: atoms for name, atoms in groups_of(sample.smiles).items() if len(atoms) == len(sample.atoms)}

    def region_of_word(self, word: str) -> str | None:
        """The functional group or ring that a word names."""
        _reading()
        from modalities.molecule.chem.functional_groups import named_group

        return named_group(word)

    def neighbours(self, samples: Sequence[Molecule], count: int) -> NDArray[np.int64]:
        """The same skeleton with other stereo or charge, then shared environments, see `neighbours`."""
        return neighbours(samples, count)

    def toy_sample(self, label: int, rng: np.random.Generator) -> Molecule:
        """A chain of 2 to 7 carbons with up to two methyl branches and the end group of the class."""
        colour_and_shape(label)
        carbons = ["C"] * int(rng.integers(2, 8))
        for index in rng.integers(1, len(carbons), int(rng.integers(0, 3))).tolist():
            carbons[index] = "C(C)"
        return self.read("".join(carbons) + KINDS[label])


NEIGHBOUR_SHARE = 0.5
"""Share of an atom's token that belongs to each neighbour, relative to the atom itself; see `token_labels`."""


def _reading() -> ModuleType:
    try:
        from modalities.molecule import read
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error
    return read
