"""GINE: message passing along bonds, with a virtual node per molecule."""

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
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES
from modalities.molecule.transform import MoleculeTransform


class GineLayer(nn.Module):
    """One round of messages between atoms: norm, GINE sum with the bonds' fields, perceptron, residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.hear = nn.LayerNorm(width), Neighbours()
        self.bonds, self.mlp = FieldTable(BOND_SIZES, width), perceptron(width, dropout)

    def forward(self, atoms: Tensor, inputs: Inputs, context: Tensor | None = None) -> Tensor:
        """Run the layer; `context`, `(atoms, width)`, is added to each atom's messages."""
        edges = self.bonds(inputs["bonds"]).repeat(2, 1)  # both directions
        heard = self.hear(self.norm(atoms), edges, inputs["ends"])
        return atoms + self.mlp(heard if context is None else heard + context)  # type: ignore[no-any-return]


class Gine(Encoder):
    """Graph isomorphism network with edge features (Hu et al. 2020, arXiv 1905.12265), pre-norm, and a virtual node.

    The virtual node (Gilmer et al. 2017, arXiv 1704.01212) aggregates all atoms of a molecule between layers and is
    added to each. Tokens are atoms, parts are motifs: the mean of their atoms.

    Args:
        transform: The transform.
        width: Size of a node, and of the vector.
        depth: Layers.
        dropout: Fraction of units dropped in training.
        fingerprint: Bins of the counts joined into the vector, 0, 2048 or 4096; None = the transform's.

    Shape:
        What `MoleculeTransform.collate` makes -> vector `(batch, width)`, tokens `(batch, atoms, width)`, parts
        `(batch, motifs, width)`.

    Example:
        >>> from modalities.molecule import MODALITY
        >>> transform = MODALITY.transform("gine", {})
        >>> encoder = MODALITY.encoder("gine", transform, width=8, depth=2)
        >>> encoder(transform.collate([transform.item(MODALITY.read("CCO"))])).tokens.values.shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        transform: MoleculeTransform,
        *,
        width: int = 256,
        depth: int = 5,
        dropout: float = 0.1,
        fingerprint: int | None = None,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width)
        if depth < 1:
            raise UserError(f"encoder 'gine': depth must be at least 1, got {depth}")
        bins = transform.checked_fingerprint(fingerprint)
        self.arguments = {"width": width, "depth": depth, "dropout": dropout, "fingerprint": bins}
        self.fields = FieldTable(ATOM_SIZES, width)
        self.layers = nn.ModuleList(GineLayer(width, dropout) for _ in range(depth))
        # After the last layer the virtual node has no effect.
        self.gather = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), perceptron(width, dropout)) for _ in range(depth - 1)
        )
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(2, width, transform.bins, dropout)

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch of molecules."""
        molecule, mask, batch = inputs["molecule"], inputs["mask"], inputs["mask"].shape[0]
        atoms = self.fields(inputs["atoms"])
        virtual = atoms.new_zeros(batch, self.width)
        for index, layer in enumerate(self.layers):
            atoms = layer(atoms, inputs, virtual[molecule] if index else None)
            if index < len(self.gather):
                virtual = virtual + self.gather[index](virtual + add_by(atoms, molecule, batch) / TYPICAL)
        atoms = self.norm(atoms)
        total = add_by(atoms, molecule, batch) / TYPICAL
        vector = self.readout([mean_by(atoms, molecule, batch), total], inputs)
        motifs = mean_by(atoms, inputs["motif"], inputs["motif_ids"].shape[0])
        return Features(
            vector,
            padded(atoms, inputs["slot"], mask),
            padded(motifs, inputs["motif_slot"], inputs["motif_mask"]),
        )
