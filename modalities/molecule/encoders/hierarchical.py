"""Three-level graph (atoms, motifs, molecule) with edges within and between levels."""

from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.graph_layers import (
    TYPICAL,
    FieldTable,
    Neighbours,
    Readout,
    add_by,
    mean_by,
    padded,
    perceptron,
)
from modalities.molecule.encoders.gine import GineLayer
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES, MOTIFS
from modalities.molecule.transform import MoleculeTransform


class Storeys(nn.Module):
    """One synchronous round of message passing on all three levels.

    Atoms receive messages from their neighbours and their motif; motifs from the mean of their atoms, bonded motifs
    (with the fields of those bonds) and the molecule; the molecule from the mean of its motifs.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.atoms = GineLayer(width, dropout)
        self.norm_motifs, self.norm_molecules = nn.LayerNorm(width), nn.LayerNorm(width)
        self.bonds, self.hear = FieldTable(BOND_SIZES, width), Neighbours()
        self.atoms_up, self.motifs_up = nn.Linear(width, width), nn.Linear(width, width)
        self.motifs_down, self.molecules_down = nn.Linear(width, width), nn.Linear(width, width)
        self.motifs, self.molecules = perceptron(width, dropout), perceptron(width, dropout)

    def forward(
        self, atoms: Tensor, motifs: Tensor, molecules: Tensor, inputs: Inputs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer: `(N, width)`, `(K, width)`, `(B, width)` to the same."""
        motif, owner = inputs["motif"], inputs["motif_molecule"]
        part, whole = self.norm_motifs(motifs), self.norm_molecules(molecules)
        edges = self.bonds(inputs["bonds"])[inputs["link_bonds"]]
        heard = self.hear(part, edges, inputs["links"])
        heard = heard + mean_by(self.atoms_up(self.atoms.norm(atoms)), motif, len(motifs))
        heard = heard + self.molecules_down(whole)[owner]
        up = mean_by(self.motifs_up(part), owner, len(molecules))
        return (
            self.atoms(atoms, inputs, self.motifs_down(part)[motif]),
            motifs + self.motifs(heard),
            molecules + self.molecules(whole + up),
        )


class Hierarchical(Encoder):
    """A hierarchical graph network: bonds first, then atoms, motifs and molecule together.

    The three levels are those of ORMA (arXiv 2411.11875) and HiMol (Zang et al. 2023, doi 10.1038/s42004-023-00825-5);
    edges are bidirectional, motifs and bonds have their identity as features, and the gradient of tokens and of parts
    reaches the graph. Tokens are atoms, parts are motifs.

    Args:
        transform: The transform.
        width: Size of a node, and of the vector.
        depth: Layers on all three levels.
        atom_depth: Layers on atoms only, before those.
        dropout: Fraction of units dropped in training.
        fingerprint: Bins of the counts joined into the vector, 0, 2048 or 4096; None = the transform's.
        branch: False = ignore the transform's fingerprint.

    Shape:
        What `MoleculeTransform.collate` makes -> vector `(batch, width)`, tokens `(batch, atoms, width)`, parts
        `(batch, motifs, width)`.
    """

    def __init__(
        self,
        transform: MoleculeTransform,
        *,
        width: int = 256,
        depth: int = 3,
        atom_depth: int = 2,
        dropout: float = 0.1,
        fingerprint: int | None = None,
        branch: bool = True,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width)
        if depth < 1 or atom_depth < 0:
            raise UserError(
                "encoder 'hierarchical': depth must be at least 1 and atom_depth at least 0, "
                f"got {depth} and {atom_depth}"
            )
        bins = transform.checked_fingerprint(fingerprint)
        self.arguments = {
            "width": width, "depth": depth, "atom_depth": atom_depth, "dropout": dropout,
            "fingerprint": bins, "branch": branch,
        }  # fmt: skip
        self.fields = FieldTable(ATOM_SIZES, width)
        self.identity = FieldTable((MOTIFS,), width)
        self.first = nn.ModuleList(GineLayer(width, dropout) for _ in range(atom_depth))
        self.layers = nn.ModuleList(Storeys(width, dropout) for _ in range(depth))
        self.norm, self.norm_parts = nn.LayerNorm(width), nn.LayerNorm(width)
        self.readout = Readout(4, width, transform.bins if branch else 0, dropout)

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch of molecules."""
        molecule, motif, owner = inputs["molecule"], inputs["motif"], inputs["motif_molecule"]
        batch, count = inputs["mask"].shape[0], inputs["motif_ids"].shape[0]
        atoms = self.fields(inputs["atoms"])
        for layer in self.first:
            atoms = layer(atoms, inputs)
        motifs = mean_by(atoms, motif, count) + self.identity(inputs["motif_ids"][:, None])
        molecules = mean_by(motifs, owner, batch)
        for storeys in self.layers:
            atoms, motifs, molecules = storeys(atoms, motifs, molecules, inputs)
        atoms, motifs = self.norm(atoms), self.norm_parts(motifs)
        pooled = [mean_by(atoms, molecule, batch), add_by(atoms, molecule, batch) / TYPICAL]
        vector = self.readout([*pooled, mean_by(motifs, owner, batch), molecules], inputs)
        return Features(
            vector,
            padded(atoms, inputs["slot"], inputs["mask"]),
            padded(motifs, inputs["motif_slot"], inputs["motif_mask"]),
        )
