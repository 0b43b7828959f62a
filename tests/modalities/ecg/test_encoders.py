"""What may not change an embedding does not change it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from mmalign.modality import Encoder, Transform
from modalities.ecg import MODALITY
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS, Ecg

ARGS: dict[str, dict[str, Any]] = {
    "resnet": {"width": 16, "beats": True},
    "patches": {"width": 32, "depth": 2, "heads": 2, "beats": True},
}


@pytest.fixture(params=ARGS)
def tower(request: pytest.FixtureRequest) -> tuple[Transform, Encoder]:
    name = request.param
    transform = MODALITY.transform(name, ARGS[name])
    return transform, MODALITY.encoder(name, transform, **ARGS[name]).eval()


def embed(tower: tuple[Transform, Encoder], *samples: Ecg) -> torch.Tensor:
    transform, encoder = tower
    with torch.no_grad():
        return encoder(transform.collate([transform.item(sample) for sample in samples])).vector


def given(signal: np.ndarray, leads: list[str]) -> Ecg:
    return read_ecg({"signal": signal, "rate": 100, "units": "mV", "leads": leads})


def test_the_order_of_leads_does_not_matter(tower: tuple[Transform, Encoder], heart: Ecg) -> None:
    order = np.random.default_rng(0).permutation(12)
    permuted = given(heart.signal[order], [LEADS[place] for place in order])
    torch.testing.assert_close(embed(tower, permuted), embed(tower, heart), atol=0, rtol=0)


def test_three_leads_give_an_embedding_of_their_own(tower: tuple[Transform, Encoder], heart: Ecg) -> None:
    few = given(heart.signal[[0, 6, 10]], ["I", "V1", "V5"])
    vectors = embed(tower, few, heart)
    assert vectors.isfinite().all()
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)


def test_values_of_missing_leads_do_not_change_the_embedding(tower: tuple[Transform, Encoder], heart: Ecg) -> None:
    transform, encoder = tower
    few = given(heart.signal[[0, 6, 10]], ["I", "V1", "V5"])
    inputs = transform.collate([transform.item(few)])
    filled = inputs | {"signal": torch.where(inputs["lead_mask"][..., None], inputs["signal"], 7.0)}
    torch.testing.assert_close(encoder(filled).vector, encoder(inputs).vector)


def test_every_token_has_its_place(heart: Ecg) -> None:
    transform = MODALITY.transform("patches", {"beats": True})
    encoder = MODALITY.encoder("patches", transform, **ARGS["patches"]).eval()
    few = given(heart.signal[[0, 10], :700], ["I", "V5"])
    tokens = encoder(transform.collate([transform.item(few)])).tokens
    mask = tokens.mask[0].unflatten(0, (12, 20))
    assert mask.any(1).nonzero().flatten().tolist() == [0, 10]
    assert mask.any(0).nonzero().flatten().tolist() == list(range(14))


def test_parts_are_tokens_averaged_by_beat() -> None:
    """Against a loop over tokens and samples."""
    heart = MODALITY.toy_sample(7, np.random.default_rng(2))
    short = Ecg(heart.signal[:, :850], 100.0, LEADS, heart.valid[:, :850])
    for name, args in ARGS.items():
        transform = MODALITY.transform(name, args)
        encoder = MODALITY.encoder(name, transform, **args).eval()
        inputs = transform.collate(
            [transform.item(short), transform.item(MODALITY.toy_sample(0, np.random.default_rng(0)))]
        )
        features = encoder(inputs)
        stride = encoder.stride if name == "resnet" else encoder.patch
        places = -(-1000 // stride)
        assert features.parts.mask.sum(1).tolist() == (inputs["beat_of"].amax(1) + 1).tolist()
        for row in range(2):
            for beat in range(int(features.parts.mask[row].sum())):
                total, weight = torch.zeros(encoder.width, dtype=torch.float64), 0
                for token in range(features.tokens.values.shape[1]):
                    place = token % places
                    inside = int((inputs["beat_of"][row, place * stride : (place + 1) * stride] == beat).sum())
                    if features.tokens.mask[row, token]:
                        total += inside * features.tokens.values[row, token].detach().double()
                        weight += inside
                torch.testing.assert_close(
                    features.parts.values[row, beat].double(), total / weight, atol=1e-5, rtol=1e-4
                )


def test_without_beats_there_are_no_parts(heart: Ecg) -> None:
    transform = MODALITY.transform("resnet", {})
    encoder = MODALITY.encoder("resnet", transform, width=8)
    assert encoder.part_width is None
    assert encoder(transform.collate([transform.item(heart)])).parts is None
    with pytest.raises(UserError, match="beats"):
        MODALITY.encoder("resnet", transform, beats=True)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("resnet", {"depths": []}, "depths"),
        ("resnet", {"kernel": 4}, "odd kernel"),
        ("patches", {"width": 33}, "even"),
        ("patches", {"patch": 0}, "patch"),
        ("patches", {"patch": 1001}, "1..1000"),
        ("patches", {"pool": "max"}, "pool"),
        ("patches", {"heads": 5}, "heads"),
    ],
)
def test_invalid_arguments_are_errors(name: str, args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MODALITY.encoder(name, MODALITY.transform(name, {}), **args)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(heart: Ecg) -> None:
    for name, args in ARGS.items():
        transform = MODALITY.transform(name, args)
        encoder = MODALITY.encoder(name, transform, **args).train()
        items = [transform.item(MODALITY.toy_sample(label, np.random.default_rng(label))) for label in range(4)]
        gradients = []
        for pieces in ([items], [items[:1], items[1:]]):
            encoder.zero_grad()
            for piece in pieces:
                (encoder(transform.collate(piece)).vector ** 3).sum().backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3, rtol=1e-3)


def test_both_rates_of_a_real_record_embed_alike(tower: tuple[Transform, Encoder], real_data: Path) -> None:
    folder = real_data / "ptbxl_500"
    if not folder.is_dir():
        pytest.skip(f"no PTB-XL records at {folder}")
    heads = sorted(folder.glob("records500/*/*.hea"))[:30]
    low = [Path(str(head).replace("records500", "records100").replace("_hr", "_lr")) for head in heads]
    one, two = (embed(tower, *map(read_ecg, paths)) for paths in (heads, low))
    assert torch.cosine_similarity(one, two).min() >= 0.99
    # An encoder that told no two records apart would pass as well: seen from their mean, each is nearest to its own.
    centre = two.mean(0)
    distance = torch.cdist(one - centre, two - centre)
    assert (distance.argmin(1) == torch.arange(len(heads))).float().mean() >= 0.9
