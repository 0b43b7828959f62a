"""Chemistry by rdkit: features, fingerprints, motifs, identifiers."""
