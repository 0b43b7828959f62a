"""Graph encoders: what must change their output and what must not."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.graph_layers import FieldTable, Neighbours, mean_by
from modalities.molecule import MODALITY
from modalities.molecule.sample import BOND_SIZES

Chem = pytest.importorskip("rdkit.Chem")

ARGS: dict[str, dict[str, Any]] = {
    "gine": {"width": 24, "depth": 3},
    "hierarchical": {"width": 24, "depth": 2},
    "pyg": {"width": 24, "depth": 3, "args": {"train_eps": True}},  # GIN
    "pyg_attention": {"model": "AttentiveFP", "width": 24, "depth": 3},
}
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
ODD = ["[Na+].[Cl-]", "[He]", "C", "O=S(=O)([O-])[O-].[Cu+2]", "C" * 300, "[2H]C", ASPIRIN]


@pytest.fixture(params=["gine", "hierarchical", "gine+2048", "hierarchical+4096", "pyg", "pyg_attention+2048"])
def build(request: pytest.FixtureRequest) -> Callable[..., tuple[Callable[[Sequence[str]], Inputs], Encoder]]:
    """Makes an encoder in eval mode, and what turns SMILES into its inputs."""
    name, _, bins = request.param.partition("+")

    def made(**settings: Any) -> tuple[Callable[[Sequence[str]], Inputs], Encoder]:
        torch.manual_seed(1)
        args = ARGS[name] | {"fingerprint": int(bins or 0)}
        encoder_name = name.partition("_")[0]
        transform = MODALITY.transform(encoder_name, args, **settings)

        def inputs(smiles: Sequence[Any]) -> Inputs:
            return transform.collate([transform.item(MODALITY.read(one)) for one in smiles])

        encoder = MODALITY.encoder(encoder_name, transform, **args).eval()
        with torch.no_grad():  # away from where it begins: zeros and ones would hide what they multiply
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return inputs, encoder

    return made


def assert_same_sets(a: Features, b: Features, atol: float = 1e-5) -> None:
    """Equal vectors, and levels that are equal once each molecule's are put in an order of their own."""
    torch.testing.assert_close(a.vector, b.vector, atol=atol, rtol=0)
    for name in ("tokens", "parts"):
        one, other = getattr(a, name), getattr(b, name)
        for row in range(len(a.vector)):
            left, right = one.values[row][one.mask[row]], other.values[row][other.mask[row]]
            assert len(left) == len(right)
            apart = torch.cdist(left.double(), right.double())
            assert apart.min(0).values.max() < 20 * atol
            assert apart.min(1).values.max() < 20 * atol


def test_the_order_of_atoms_and_the_notation_change_nothing(
    build: Callable[..., Any], corpus: Callable[[int], list[str]]
) -> None:
    inputs, encoder = build()
    rng, smiles = np.random.default_rng(0), [ASPIRIN, *corpus(40)]
    mols = [Chem.MolFromSmiles(one) for one in smiles]
    expected = encoder(inputs(smiles))
    for turn in range(3):
        random = [Chem.MolToRandomSmilesVect(mol, 1, randomSeed=turn + 1)[0] for mol in mols]
        assert_same_sets(encoder(inputs(random)), expected)
    shuffled = [Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist()) for mol in mols]
    assert_same_sets(encoder(inputs(shuffled)), expected)
    # And in the graph itself, with whatever fields it has.
    transform = MODALITY.transform("", {"fingerprint": encoder.config()["fingerprint"]})
    item = transform.item(MODALITY.read(smiles[3]))
    order = rng.permutation(len(item.atoms))
    place = np.argsort(order)
    bonds = rng.permutation(len(item.bonds))
    moved = item._replace(
        atoms=item.atoms[order], motif=item.motif[order], bonds=item.bonds[bonds], ends=place[item.ends[bonds]][:, ::-1]
    )
    assert_same_sets(encoder(transform.collate([moved])), encoder(transform.collate([item])))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"),
        ("C/C=C/C", "C/C=C\\C"),
        ("C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1"),
    ],
)
def test_stereoisomers_are_apart_where_stereo_is_wanted(build: Callable[..., Any], one: str, other: str) -> None:
    inputs, encoder = build()
    apart = encoder(inputs([one, other])).vector
    assert (apart[0] - apart[1]).abs().max() > 1e-3
    inputs, encoder = build(stereo=False)
    equal = encoder(inputs([one, other, Chem.MolToSmiles(Chem.MolFromSmiles(one), isomericSmiles=False)]))
    torch.testing.assert_close(equal.vector[0], equal.vector[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(equal.vector[0], equal.vector[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CC(=O)O", "CC(=O)[O-]"),
        ("C", "[13CH4]"),
        ("[Na+].[Cl-]", "[Na+]"),
        ("[CH3]", "C"),
        ("[Fe+2]", "[Fe+3]"),
        ("CCCCCC", "CCCCCCC"),
        ("C1CCCCC1", "C1CCCCCC1"),
        ("CC(C)CC", "CCCCC"),
    ],
)
def test_different_molecules_have_different_embeddings(build: Callable[..., Any], one: str, other: str) -> None:
    inputs, encoder = build()
    for level in (encoder(inputs([one, other])), encoder.double()(inputs([one, other]))):
        assert (level.vector[0] - level.vector[1]).abs().max() > 1e-3


def test_neighbours_in_a_batch_and_padding_change_nothing(build: Callable[..., Any]) -> None:
    inputs, encoder = build()
    together = encoder(inputs(ODD))
    for name in ("tokens", "parts"):
        levels = getattr(together, name)
        assert not levels.values[~levels.mask].any()
    for row, smiles in enumerate(ODD):
        alone = encoder(inputs([smiles]))
        torch.testing.assert_close(alone.vector[0], together.vector[row], atol=1e-5, rtol=0)
        for name in ("tokens", "parts"):
            one, many = getattr(alone, name), getattr(together, name)
            torch.testing.assert_close(one.values[0], many.values[row][many.mask[row]], atol=1e-5, rtol=0)
    back = encoder(inputs(ODD[::-1]))
    torch.testing.assert_close(back.vector.flip(0), together.vector, atol=1e-5, rtol=0)


def test_sizes_of_the_levels(build: Callable[..., Any]) -> None:
    inputs, encoder = build()
    features = encoder(inputs(ODD))
    samples = [MODALITY.read(one) for one in ODD]
    assert features.tokens.mask.sum(1).tolist() == [len(sample.atoms) for sample in samples]
    assert features.parts.mask.sum(1).tolist() == [len(sample.motif_ids) for sample in samples]


def test_molecules_without_bonds(build: Callable[..., Any]) -> None:
    inputs, encoder = build()
    made = inputs(["[Na+]", "[K+].[Cl-]"])
    for name in ("ends", "links"):
        assert made[name].shape == (2, 0)
        assert made[name].dtype == torch.int64
    assert made["bonds"].shape == (0, len(BOND_SIZES))
    features = encoder.train()(made)
    assert features.vector.isfinite().all()
    features.vector.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("output", ["vector", "tokens", "parts"])
def test_each_output_trains_the_graph(build: Callable[..., Any], output: str) -> None:
    """Not the readout alone: messages, bonds' fields and atoms' fields have a gradient from each output by itself."""
    inputs, encoder = build()
    features = encoder.train()(inputs([ASPIRIN, "C/C=C/C[C@H](N)c1ccncc1"]))
    found = features.vector if output == "vector" else getattr(features, output).values
    (found * torch.randn_like(found)).sum().backward()
    graph = {name: p for name, p in encoder.named_parameters() if "readout" not in name}
    # What the storey above a level gathers last of all cannot reach that level.
    late = {
        "tokens": ("norm_parts", "layers.1.motifs.", "layers.1.hear", "layers.1.bonds", "layers.1.atoms_up",
                   "layers.1.molecules", "layers.1.norm_molecules", "layers.1.motifs_up",
                   "layers.0.molecules.", "layers.0.motifs_up"),
        "parts": ("norm.", "layers.1.atoms.mlp", "layers.1.atoms.hear", "layers.1.atoms.bonds",
                  "layers.1.motifs_down", "layers.1.molecules.", "layers.1.motifs_up"),
    }  # fmt: skip
    own_readout = ("network.model.mol_", "network.model.lin2")  # of AttentiveFP, a part of the vector alone
    skipped = late.get(output, ()) if hasattr(encoder, "identity") else own_readout * (output != "vector")
    trained = {name for name, p in graph.items() if p.grad is not None and p.grad.any()}
    assert {name for name in graph if not name.startswith(skipped)} <= trained


def test_message_passing_equals_torch_geometric() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("torch_geometric.nn").GINEConv(nn.Identity(), eps=0.3)
    transform = MODALITY.transform("gine", {})
    inputs = transform.collate([transform.item(MODALITY.read(one)) for one in ODD])
    nodes, edges = torch.randn(len(inputs["atoms"]), 5), FieldTable(BOND_SIZES, 5)(inputs["bonds"]).repeat(2, 1)
    ours = Neighbours()
    ours.epsilon.data.fill_(0.3)
    torch.testing.assert_close(ours(nodes, edges, inputs["ends"]), peer(nodes, inputs["ends"], edges))


def test_fields_are_summed_and_the_unknown_begins_at_zero() -> None:
    table = FieldTable((3, 4), 5)
    weight = table.weight.detach()
    torch.testing.assert_close(table(torch.tensor([[1, 2], [0, 3], [0, 0]])).detach(), torch.stack(
        (weight[1] + weight[5], weight[6], torch.zeros(5))
    ))  # fmt: skip
    assert "offsets" not in table.state_dict()


def test_means_of_half_precision_values_are_float32() -> None:
    values = torch.full((4000, 1), 1.01, dtype=torch.bfloat16)
    torch.testing.assert_close(mean_by(values, torch.zeros(4000, dtype=torch.int64), 1), values[:1].float())


def test_encoder_has_no_batch_normalisation(build: Callable[..., Any]) -> None:
    _, encoder = build()
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in encoder.modules())
    assert not [name for name, _ in encoder.named_buffers() if "running" in name]


def test_a_batch_in_chunks_gives_the_gradient_of_the_whole(build: Callable[..., Any]) -> None:
    inputs, encoder = build()

    def gradients(batches: list[list[str]]) -> list[Tensor]:
        encoder.zero_grad()
        vectors = torch.cat([encoder(inputs(batch)).vector for batch in batches])
        (vectors @ vectors.T).logsumexp(1).sum().backward()
        return [parameter.grad for parameter in encoder.parameters()]

    for whole, parts in zip(gradients([ODD]), gradients([ODD[:2], ODD[2:3], ODD[3:]]), strict=True):
        torch.testing.assert_close(parts, whole, atol=2e-3, rtol=1e-3)


def test_atoms_are_masked_in_training_only() -> None:
    transform = MODALITY.transform("gine", {}, atom_dropout=0.5)
    sample = MODALITY.read("C" * 400)
    assert transform.item(sample).atoms.all()
    hidden = transform.item(sample, np.random.default_rng(0)).atoms
    share = (hidden == 0).all(axis=1)
    assert 0.4 < share.mean() < 0.6
    np.testing.assert_array_equal(hidden[~share], sample.atoms[~share])
    assert sample.atoms.all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stereo": "yes"}, "expected true or false as stereo"),
        ({"fingerprint": 1000}, "0, 2048 or 4096"),
        ({"fingerprint": True}, "expected a whole number as fingerprint"),
        ({"atom_dropout": 1.0}, "atom_dropout"),
        ({"steroe": False}, "did you mean 'stereo'"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MODALITY.transform("gine", {}, **settings)


def test_invalid_arguments_are_errors() -> None:
    transform = MODALITY.transform("gine", {"fingerprint": 2048})
    assert MODALITY.encoder("hierarchical", transform, width=8).config()["fingerprint"] == 2048
    for name, args, message in (
        ("gine", {"fingerprint": 4096}, "4096 bins, its transform makes 2048"),
        ("gine", {"depth": 0}, "depth"),
        ("hierarchical", {"depth": 0}, "depth"),
        ("hierarchical", {"atom_depth": -1}, "atom_depth"),
    ):
        with pytest.raises(UserError, match=message):
            MODALITY.encoder(name, transform, **args)


def test_the_fingerprint_is_that_of_rdkit() -> None:
    from rdkit.Chem import rdFingerprintGenerator

    mol = Chem.MolFromSmiles("C[C@H](N)C(=O)O")
    transform = MODALITY.transform("gine", {"fingerprint": 4096})
    inputs = transform.collate([transform.item(MODALITY.read(one)) for one in ("CC", "C[C@H](N)C(=O)O")])
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=3, fpSize=4096, includeChirality=True)
    expected = torch.from_numpy(generator.GetCountFingerprintAsNumPy(mol).astype(np.float32)).log1p()
    dense = torch.zeros(4096)
    start = int(inputs["starts"][1])
    dense[inputs["bins"][start:]] = inputs["weights"][start:]
    torch.testing.assert_close(dense, expected / expected.norm())
