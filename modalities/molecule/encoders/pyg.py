"""A network of PyTorch Geometric over the fields of atoms and bonds."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.graph_layers import TYPICAL, FieldTable, Readout, add_by, mean_by, padded
from modalities.common.encoders.pyg_network import PygNetwork
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES
from modalities.molecule.transform import MoleculeTransform

DEGREES = (637, 69_781, 113_609, 77_223, 7_851, 0, 6)
"""Atoms with 0, 1, 2, ... bonds in every fourth molecule of ChEBI-20's corpus: the statistics that PNA scales by."""


class PygMolecule(Encoder):
    """A model of `torch_geometric.nn.models`, or layers of one of its convolutions, over the fields of atoms and bonds.

    Atoms and bonds are embedded as sums of one learnt vector per field. Tokens are atoms, parts are motifs: the mean of
    their atoms. The vector is a perceptron of the mean and the sum of the atoms, and of the model's own readout
    (AttentiveFP).

    Args:
        transform: The transform.
        model: `GIN`, `GAT`, `PNA`, `GraphSAGE`, `GCN`, `EdgeCNN`, `GraphUNet`, `AttentiveFP`, or the name of a
            convolution: `GINEConv`, `GATv2Conv`, `TransformerConv`, `GENConv`.
        width: Size of a node, and of the vector.
        depth: Layers.
        dropout: Fraction of units dropped in training.
        args: Further arguments of the model or convolution, such as `{heads: 4}` or `{jk: cat}`.
        fingerprint: Bins of the counts joined into the vector, 0, 2048 or 4096; None = the transform's.

    Shape:
        What `MoleculeTransform.collate` makes -> vector `(batch, width)`, tokens `(batch, atoms, width)`, parts
        `(batch, motifs, width)`.

    Raises:
        UserError: PyTorch Geometric has no such network or argument, or it is not installed.

    Example:
        >>> from modalities.molecule import MODALITY
        >>> transform = MODALITY.transform("pyg", {})
        >>> encoder = MODALITY.encoder("pyg", transform, model="GAT", width=8, depth=2, args={"heads": 2})
        >>> encoder(transform.collate([transform.item(MODALITY.read("CCO"))])).tokens.values.shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        transform: MoleculeTransform,
        *,
        model: str = "GIN",
        width: int = 256,
        depth: int = 4,
        dropout: float = 0.1,
        args: Mapping[str, Any] | None = None,
        fingerprint: int | None = None,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width)
        bins = transform.checked_fingerprint(fingerprint)
        self.arguments = {
            "model": model, "width": width, "depth": depth, "dropout": dropout, "args": dict(args or {}),
            "fingerprint": bins,
        }  # fmt: skip
        self.network = PygNetwork("pyg", model, width, depth, dropout=dropout, args=args, degrees=DEGREES)
        self.atoms, self.bonds = FieldTable(ATOM_SIZES, width), FieldTable(BOND_SIZES, width)
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(2 + self.network.pooled, width, transform.bins, dropout)

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch of molecules."""
        molecule, batch = inputs["molecule"], inputs["mask"].shape[0]
        edges = self.bonds(inputs["bonds"]).repeat(2, 1)  # both directions
        atoms, own = self.network(self.atoms(inputs["atoms"]), edges, inputs["ends"], molecule, batch)
        atoms = self.norm(atoms)
        pooled = [mean_by(atoms, molecule, batch), add_by(atoms, molecule, batch) / TYPICAL]
        vector = self.readout(pooled if own is None else [*pooled, own], inputs)
        motifs = mean_by(atoms, inputs["motif"], inputs["motif_ids"].shape[0])
        return Features(
            vector,
            padded(atoms, inputs["slot"], inputs["mask"]),
            padded(motifs, inputs["motif_slot"], inputs["motif_mask"]),
        )
