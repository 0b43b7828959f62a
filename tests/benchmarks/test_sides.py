"""What the benchmark says is equal is equal: with the peer's weights, mmalign's towers give the peer's embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prepared import model_config

from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig

CAPTIONS = ["annual crop", "Keycap: #", "flag: Côte d’Ivoire", "man in manual wheelchair facing right: dark skin"]


@pytest.mark.parametrize("size", [64, 72])
def test_towers_tokens_and_pixels_are_the_peers(tmp_path: Path, size: int) -> None:
    open_clip = pytest.importorskip("open_clip")
    folder = model_config(tmp_path / "model", size, "resnet10t")
    rng = np.random.default_rng(0)
    pictures = [tmp_path / f"{place}.png" for place in range(4)]
    for picture in pictures:
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(picture)

    peer, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    peer.eval()
    with torch.inference_mode():
        seen = peer.encode_image(torch.stack([preprocess(Image.open(picture)) for picture in pictures]), normalize=True)
        said = peer.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(CAPTIONS), normalize=True)

    sides = ("image", "text")
    towers = {side: TowerConfig(encoder="open_clip", args={"model": str(folder)}, head="identity") for side in sides}
    transforms = fit_transforms(towers, {side: [] for side in sides})
    ours = Aligner(towers, [PairConfig("image", "text")], 128, transforms)
    ours.encoders["image"].tower.load_state_dict(peer.visual.state_dict())
    ours.encoders["text"].tower.load_state_dict(peer.text.state_dict())
    torch.testing.assert_close(ours.encode("image", pictures).vector, seen, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.encode("text", CAPTIONS).vector, said, atol=1e-5, rtol=1e-4)
    trained = sum(parameter.numel() for parameter in ours.parameters())
    assert trained == sum(parameter.numel() for parameter in peer.parameters())
