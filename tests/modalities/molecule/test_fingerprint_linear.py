"""Counts of molecules: each family against rdkit or a loop, their standardisation, and the encoder made of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from mmalign.errors import UserError
from modalities.molecule import MODALITY
from modalities.molecule.encoders.fingerprint_linear import FingerprintLinear
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES, MOTIFS
from modalities.molecule.transform import FAMILIES, MoleculeTransform, family_sizes

SMILES = ["CC(N)C(=O)O", "C[C@H](N)C(=O)O", "c1ccccc1O", "[Na+].[Cl-]", "C", "CCCCCCCC/C=C\\CCCCCCCC(=O)O"]


def fitted(families: tuple[str, ...], smiles: list[str] = SMILES, **settings: object) -> MoleculeTransform:
    transform = MODALITY.transform("fingerprints", {"fingerprint": 2048}, families=families, **settings)
    transform.fit(transform.featurise(MODALITY.read(one)) for one in smiles)
    return transform


def dense(transform: MoleculeTransform, smiles: list[str]) -> torch.Tensor:
    inputs = transform.collate([transform.item(MODALITY.read(one)) for one in smiles])
    return FingerprintLinear(transform, width=2).linear_features(inputs).to_dense()


@pytest.mark.parametrize("family", ["morgan", "feature", "torsion"])
def test_hashed_families_are_those_of_rdkit(family: str) -> None:
    invariants = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
    generator = {
        "morgan": rdFingerprintGenerator.GetMorganGenerator(radius=3, fpSize=2048, includeChirality=True),
        "feature": rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048, atomInvariantsGenerator=invariants),
        "torsion": rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=2048, includeChirality=True),
    }[family]
    some = [SMILES[place] for place in (0, 2, 5)]
    counts = np.stack([generator.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(one)) for one in some])
    expected = torch.from_numpy(np.log1p(counts.astype(np.float32)))
    torch.testing.assert_close(dense(fitted((family,)), some), expected / expected.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("family", ["groups", "fields"])
def test_groups_and_fields_are_standardised_by_the_training_molecules(family: str) -> None:
    def counts(smiles: str) -> list[float]:
        if family == "groups":
            mol = Chem.MolFromSmiles(smiles)
            return [count(mol) for name, count in Descriptors.descList if name.startswith("fr_")]
        sample, row, first = MODALITY.read(smiles), [0.0] * (sum(ATOM_SIZES) + sum(BOND_SIZES)), 0
        for values, sizes in ((sample.atoms, ATOM_SIZES), (sample.bonds, BOND_SIZES)):
            for column, size in zip(values.T, sizes, strict=True):
                for bucket, number in Counter(column.tolist()).items():
                    row[first + bucket] += number
                first += size
        return row

    far = ".".join(["[Na+].[Cl-]", "c1ccccc1O"] * 30)
    logs = np.log1p(np.array([counts(one) for one in [*SMILES, far]]))
    mean, spread = logs[:-1].mean(0), logs[:-1].std(0)
    values = np.where(spread > 0, (logs - mean) / (spread + 0.02), 0)
    assert values.max() > 5
    values = values.clip(-5, 5)
    expected = torch.from_numpy(values / np.linalg.norm(values, axis=1, keepdims=True)).float()
    torch.testing.assert_close(dense(fitted((family,)), [*SMILES, far]), expected, atol=1e-4, rtol=1e-4)


def test_motifs_are_counted() -> None:
    smiles = ["CCCCOC(=O)CC(=O)OCCCC", "c1ccccc1O"]
    expected = torch.zeros(2, MOTIFS)
    for row, one in zip(expected, smiles, strict=True):
        for motif, often in Counter(MODALITY.read(one).motif_ids.tolist()).items():
            row[motif] = np.log1p(often)
    assert expected.max() > 1
    torch.testing.assert_close(dense(fitted(("motifs",)), smiles), expected / expected.norm(dim=1, keepdim=True))


def test_families_have_equal_weight() -> None:
    transform = fitted(FAMILIES)
    sizes = family_sizes(2048, FAMILIES)
    assert transform.bins == sum(sizes)
    for part in dense(transform, SMILES[:3]).split(sizes, dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.full((3,), len(sizes) ** -0.5))
    # A molecule of one atom has no torsion: the others share its place.
    torch.testing.assert_close(dense(transform, ["C"]).norm(dim=1), torch.ones(1))


def test_a_molecule_does_not_depend_on_its_batch() -> None:
    transform = fitted(FAMILIES)
    together = dense(transform, SMILES)
    for place, smiles in enumerate(SMILES):
        torch.testing.assert_close(dense(transform, [smiles])[0], together[place], atol=0, rtol=0)


def test_masked_atoms_are_counted() -> None:
    transform = fitted(FAMILIES, atom_dropout=0.9)
    plain, hidden = (
        transform.collate([transform.item(MODALITY.read(SMILES[5]), rng)]) for rng in (None, np.random.default_rng(0))
    )
    assert (hidden["atoms"] == 0).sum() > (plain["atoms"] == 0).sum()
    for name in ("bins", "weights", "starts"):
        assert torch.equal(plain[name], hidden[name]), name


def test_a_molecule_without_counts() -> None:
    transform = fitted(("torsion",))
    rows = dense(transform, ["C", SMILES[0], "O"])
    assert rows.norm(dim=1).round(decimals=5).tolist() == [0.0, 1.0, 0.0]


def test_enantiomers_are_apart_with_stereo_and_one_without() -> None:
    pair = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"]
    apart, one = (dense(fitted(FAMILIES, [*SMILES, *pair], stereo=stereo), pair) for stereo in (True, False))
    assert (apart[0] - apart[1]).norm() > 0.05
    torch.testing.assert_close(one[0], one[1], atol=1e-6, rtol=0)


def test_the_order_of_the_atoms_does_not_matter() -> None:
    transform = fitted(FAMILIES)
    mol = Chem.MolFromSmiles(SMILES[5])
    others = [Chem.MolToSmiles(mol, doRandom=True) for _ in range(4)]
    rows = dense(transform, [SMILES[5], *others])
    torch.testing.assert_close(rows[1:], rows[:1].expand(4, -1), atol=1e-5, rtol=0)


def test_vector_is_the_linear_map_at_graph_gate_zero() -> None:
    transform = fitted(FAMILIES)
    encoder = FingerprintLinear(transform, width=8, graph=1).eval()
    weight = torch.randn(transform.bins, 8, generator=torch.Generator().manual_seed(0))
    encoder.set_linear_weights(weight)
    inputs = transform.collate([transform.item(MODALITY.read(one)) for one in SMILES])
    features = encoder(inputs)
    torch.testing.assert_close(features.vector, dense(transform, SMILES) @ weight, atol=1e-5, rtol=1e-5)
    assert features.tokens is not None
    assert features.parts is not None
    features.vector.sum().backward()
    assert encoder.gate.grad is not None
    assert encoder.gate.grad.abs().sum() > 0


def test_invalid_settings_are_errors() -> None:
    for settings, message in (
        ({"families": []}, "families must be some of"),
        ({"families": ["morgan", "morgan"]}, "families must be some of"),
        ({"families": ["maccs"]}, "families must be some of"),
    ):
        with pytest.raises(UserError, match=message):
            MODALITY.transform("fingerprints", {}, **settings)
    with pytest.raises(UserError, match="needs a fingerprint"):
        FingerprintLinear(MODALITY.transform("gine", {}))
