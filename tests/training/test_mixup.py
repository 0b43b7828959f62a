import pytest
import torch

from mmalign.errors import UserError
from mmalign.model import TowerConfig, modality_of
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.training.mixup import Mixup, MixupConfig
from mmalign.types import Batch
from modalities.image.mixup import mix_pixels

MODALITIES = {name: modality_of(name, TowerConfig()) for name in ("image", "text", "vector")}


def batch(rows: list[int], size: int = 10) -> Batch:
    pixels = torch.arange(len(rows), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8) * 20
    present = {"image": torch.tensor(rows), "text": torch.arange(size)}
    inputs = {"image": {"pixels": pixels}, "text": {}}
    return Batch(inputs, present, torch.arange(size), 100 + torch.arange(size))


def mixing(**settings: float) -> Mixup:
    return Mixup(MixupConfig("image", **settings), MODALITIES, PairSum([PairConfig("image", "text", "pcmepp")]))


def test_mixing_weights_equal_the_label_weights() -> None:
    torch.manual_seed(0)
    rows = [0, 2, 3, 5, 6, 7, 9]
    given = batch(rows)
    made = mixing(fraction=0.6)(given)
    mixed = made.mixed["image"]
    changed = (mixed.weight < 1).nonzero()[:, 0].tolist()
    assert len(changed) == 4
    assert set(changed) <= set(rows)
    assert all(int(mixed.groups[row]) != int(given.groups[row]) for row in changed), "a partner is another row"
    values = {int(group): 20.0 * place for place, group in enumerate(given.groups[given.sample_indices["image"]])}
    for place, row in enumerate(rows):
        own, other = values[int(given.groups[row])], values[int(mixed.groups[row])]
        weight = float(mixed.weight[row])
        mean = made.inputs["image"]["pixels"][place].float().mean()
        assert float(mean) == pytest.approx(weight * own + (1 - weight) * other, abs=0.51)  # rounded to integers
    labels = mixed.labels(given.groups)[given.sample_indices["image"]]
    torch.testing.assert_close(labels.sum(1), torch.ones(len(rows)))
    assert made.inputs["text"] is given.inputs["text"]
    assert not given.mixed, "the batch that came is left as it is"


def test_mixing_reports_the_fraction_that_it_keeps() -> None:
    torch.manual_seed(0)
    pixels = torch.cat([torch.zeros(400, 1, 16, 16), torch.full((400, 1, 16, 16), 200.0)]).to(torch.uint8)
    partners = torch.arange(800).flip(0)
    mixed, left = mix_pixels(pixels, partners, torch.full((800,), 0.7))
    own = (mixed[400:].float().mean((1, 2, 3))) / 200
    torch.testing.assert_close(own, left[400:], atol=0.01, rtol=0)
    blended = (left - 0.7).abs() < 1e-6
    assert 0.4 < blended.float().mean() < 0.6
    boxes = mixed[~blended].flatten(1)
    assert ((boxes == 0) | (boxes == 200)).all()
    assert 0.65 < left[~blended].mean() < 0.85  # boxes are cut off at the border
    torch.manual_seed(0)
    again, _ = mix_pixels(pixels, partners, torch.full((800,), 0.7))
    assert (again == mixed).all()


def test_batches_without_partners_are_not_mixed() -> None:
    assert not mixing(fraction=0.0)(batch([0, 1])).mixed
    empty = batch([0, 1])
    empty.inputs.pop("image")
    empty.sample_indices["image"] = torch.zeros(0, dtype=torch.int64)
    assert mixing()(empty) is empty


@pytest.mark.parametrize(
    ("config", "pair", "said"),
    [
        (MixupConfig("sound"), PairConfig("image", "text", "pcmepp"), "mixup.tower"),
        (MixupConfig("text"), PairConfig("text", "image", "pcmepp"), "does not support Mixing"),
        (MixupConfig("image"), PairConfig("image", "text", "clip"), r"image-text \(clip\)"),
        (MixupConfig("image"), PairConfig("text", "image", "pcmepp"), "tower a"),
        (MixupConfig("image", fraction=1.5), PairConfig("image", "text", "pcmepp"), "fraction"),
        (MixupConfig("image", alpha=0.0), PairConfig("image", "text", "pcmepp"), "alpha"),
    ],
)
def test_a_modality_without_mixing_is_an_error(config: MixupConfig, pair: PairConfig, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Mixup(config, MODALITIES, PairSum([pair]))


def test_chunks_and_mixing_exclude_each_other() -> None:
    chunked = batch([0, 1, 2, 3])
    chunked.inputs["image"] = [chunked.inputs["image"]]
    with pytest.raises(UserError, match="chunk"):
        mixing(fraction=1.0)(chunked)
