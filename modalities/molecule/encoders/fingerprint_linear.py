"""Linear encoder of count fingerprints, with an optional graph network."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.embedding_bags import bag_matrix, bag_sums
from modalities.molecule.encoders.hierarchical import Hierarchical
from modalities.molecule.transform import MoleculeTransform


class FingerprintLinear(Encoder):
    r"""Linear map of a count fingerprint: one learnt vector per bin, summed over the molecule's bins.

    .. math:: v = \sum_f w_f E_f + \gamma \odot \mathrm{graph}

    `model.cca_init` sets E. With a `graph`, a hierarchical network returns the tokens (atoms) and parts (motifs), and
    is added to the vector through a learnt gate, which CCA initialisation sets to 0.

    Args:
        transform: The transform; it must compute fingerprints.
        width: Size of the vector, and of the graph's nodes.
        graph: Layers of the hierarchical network; 0 = none, and no tokens.
        dropout: Fraction of units dropped in training.
        fingerprint: Bins of each hashed family, 2048 or 4096; None = the transform's.

    Shape:
        What `MoleculeTransform.collate` makes -> vector `(batch, width)`; with a graph tokens `(batch, atoms, width)`,
        parts `(batch, motifs, width)`.

    Example:
        >>> from modalities.molecule import MODALITY
        >>> transform = MODALITY.transform("fingerprints", {"fingerprint": 2048})
        >>> encoder = MODALITY.encoder("fingerprints", transform, width=8)
        >>> encoder(transform.collate([transform.item(MODALITY.read("CCO"))])).vector.shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        transform: MoleculeTransform,
        *,
        width: int = 256,
        graph: int = 0,
        dropout: float = 0.1,
        fingerprint: int | None = None,
    ) -> None:
        node = width if graph else None
        super().__init__(width, token_width=node, part_width=node)
        bins = transform.checked_fingerprint(fingerprint)
        if not bins:
            raise UserError("encoder 'fingerprints' needs a fingerprint: set its argument fingerprint to 2048 or 4096")
        self.arguments = {"width": width, "graph": graph, "dropout": dropout, "fingerprint": bins}
        self.table = nn.Parameter(torch.randn(transform.bins, width) * width**-0.5)
        self.graph: Hierarchical | None = None
        if graph:
            self.graph = Hierarchical(transform, width=width, depth=graph, dropout=dropout, branch=False)
            self.gate = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch of molecules."""
        vector = bag_sums(self.table, inputs)
        if self.graph is None:
            return Features(vector)
        features = self.graph(inputs)
        return Features(vector + self.gate * features.vector, features.tokens, features.parts)

    def linear_features(self, inputs: Inputs) -> Tensor:
        """A molecule's bins by weight, `(batch, bins)`, sparse."""
        count = inputs["mask"].shape[0]
        return bag_matrix(inputs, torch.arange(count, device=inputs["bins"].device), count, len(self.table))

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set the vectors of the bins, and close the gate."""
        with torch.no_grad():
            self.table.copy_(weight)
            if self.graph is not None:
                self.gate.zero_()
