"""Several items per row: which objectives take them, and which rows and items a pair gets."""

import pytest
import torch

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective
from mmalign.objectives.objective import MANY
from mmalign.objectives.pairs.common_rows import common_items, common_rows
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.pairs.several_items import check_draw
from mmalign.types import Batch, Embedding, Guide


def test_the_message_names_exactly_the_objectives_that_take_several_items() -> None:
    able = {name for name in registry.names("objectives") if registry.load("objectives", name).many}
    assert set(MANY.split(", ")) == able


@pytest.mark.parametrize(
    ("pairs", "draw", "message"),
    [
        ([("x", "y", "pcmepp")], {"y": 3}, r"data.draw.y: pair x-y has the objective 'pcmepp'.*one_to_k, clip, siglip"),
        ([("x", "y", "clip"), ("x", "y", "transport")], {"y": 0}, "has the objective 'transport'"),
        ([("y", "x", "clip")], {"y": 3}, "must be tower b; exchange a and b"),
        ([("x", "y", "clip")], {"x": 2, "y": 3}, "several items of one tower only"),
        ([("y", "y", "clip")], {"y": 2}, "a tower paired with itself"),
        ([("x", "y", "clip")], {"yy": 2}, "no such tower.*y"),
    ],
)
def test_what_cannot_take_several_items_is_refused(
    pairs: list[tuple[str, str, str]], draw: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_draw([PairConfig(*pair) for pair in pairs], draw, ["x", "y"])


def test_a_guide_compares_one_item() -> None:
    with pytest.raises(UserError, match=r"data\.draw\.y: a guide compares one item per row"):
        check_draw([PairConfig("x", "y", "clip")], {"y": 2}, ["x", "y"], guided=True)
    e = Embedding(torch.eye(2))
    with pytest.raises(UserError, match="a guide compares one item per row"):
        ClipObjective()(e, e, guide=Guide(torch.eye(2), torch.eye(2)), owner=torch.tensor([0, 1]))


def test_one_item_is_accepted_everywhere() -> None:
    check_draw([PairConfig("x", "y", "pcmepp")], {"x": 1, "y": 1}, ["x", "y"])
    check_draw([PairConfig("x", "y", "pcmepp")], None, ["x", "y"])
    check_draw([PairConfig("x", "y", "one_to_k"), PairConfig("x", "z", "pcmepp")], {"y": 0}, ["x", "y", "z"])


def several(lacking_x: bool) -> tuple[dict[str, Embedding], Batch]:
    """Four rows; y has 2, 0, 1 and 3 items of them, x lacks row 3 where asked."""
    torch.manual_seed(0)
    present = [0, 1, 2] if lacking_x else [0, 1, 2, 3]
    rows = {"x": torch.tensor(present), "y": torch.tensor([0, 2, 3])}
    owner = torch.tensor([0, 0, 2, 3, 3, 3])
    vectors = {"x": torch.randn(4, 5)[present], "y": torch.randn(6, 5)}
    embeddings = {name: Embedding(torch.nn.functional.normalize(v, dim=1)) for name, v in vectors.items()}
    return embeddings, Batch({}, rows, torch.arange(4), torch.arange(4), owner={"y": owner})


@pytest.mark.parametrize("lacking_x", [False, True])
def test_a_pair_gets_every_item_of_the_rows_that_have_both_towers(lacking_x: bool) -> None:
    embeddings, batch = several(lacking_x)
    a, b, rows, owner = common_items(embeddings, batch, "x", "y")
    assert owner is not None
    assert rows.tolist() == ([0, 2] if lacking_x else [0, 2, 3])
    assert owner.tolist() == ([0, 0, 1] if lacking_x else [0, 0, 1, 2, 2, 2])
    torch.testing.assert_close(a.vector, embeddings["x"].vector[rows])
    torch.testing.assert_close(b.vector, embeddings["y"].vector[: len(owner)])


def test_validation_compares_the_first_item_of_each_row() -> None:
    embeddings, batch = several(lacking_x=False)
    _, b, rows = common_rows(embeddings, batch, "x", "y")
    assert rows.tolist() == [0, 2, 3]
    torch.testing.assert_close(b.vector, embeddings["y"].vector[[0, 2, 3]])


def test_nested_sizes_and_several_terms_take_the_owners() -> None:
    embeddings, batch = several(lacking_x=False)
    terms = PairSum([PairConfig("x", "y", "one_to_k", dims=[2]), PairConfig("x", "y", "siglip")], 5)
    output = terms(embeddings, batch)
    assert {"x_y/loss_2", "x_y/items", "x_y_siglip/bias"} <= output.terms.keys()
    assert float(output.terms["x_y/items"]) == 2.0
