"""Why PCME++'s variance does not mark noise: what its loss reads, and on which rows.

    python tests/benchmarks/uncertainty_causes.py --seeds 0 1 2

Reads the bundles of `uncertainty.py --data hearts` and prints, for each seed: mean and standard deviation over
recordings of the variance that the recipe `pcmepp` trained; the squared distance of a recording to its text in the
model `clip`, in training and on the test hearts, and its rank correlation with the noise; and what the variance becomes
where it is trained to convergence: means frozen, a log-linear head on the features by PCME++'s loss, with and without
pseudo-positives. Of that head the rank correlation with the noise, with the distance to the partner, and with the
log-sum-exp of the scaled similarities to all training texts, which is the density of items near the mean.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from figures import table
from torch import Tensor
from uncertainty import Hearts

import mmalign
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import embed_split, opened
from mmalign.evaluation.metrics.weighted import spearman
from mmalign.model import Aligner
from mmalign.objectives.functional import pcmepp_loss
from modalities.heart.simulator.heart import draw_heart

STEPS, BATCH = 400, 512


def features_of(model: Aligner, data: Dataset, split: str) -> Tensor:
    """The features of the recordings, `(n, features)`."""
    batches = data.split(split).batches("ecg", model.transforms["ecg"])
    return torch.cat([inputs["measures"] for inputs, _ in batches])


def converged(features: Tensor, ecgs: Tensor, texts: Tensor, groups: Tensor, pseudo: float) -> tuple[Tensor, Tensor]:
    """Weights of the log of the recordings' summed variance, trained by PCME++ on frozen means, and the scale."""
    torch.manual_seed(0)
    weight = torch.zeros(features.shape[1], requires_grad=True)
    constants = torch.tensor([-0.7, -0.7, np.log(5.0), 5.0], requires_grad=True)  # both towers' logs, log scale, bias
    optimizer = torch.optim.Adam([{"params": [weight], "lr": 1e-2}, {"params": [constants], "lr": 5e-2}])
    dim = ecgs.shape[1]
    for _ in range(STEPS):
        rows = torch.randperm(len(features))[:BATCH]
        own = (features[rows] @ weight + constants[0] - np.log(dim))[:, None].expand(-1, dim)
        other = (constants[1] - np.log(dim)).expand(len(rows), dim)
        loss = pcmepp_loss(
            ecgs[rows], own, texts[rows], other, scale=constants[2].exp(), bias=constants[3], groups_a=groups[rows],
            groups_b=groups[rows], pseudo_weight=pseudo, reduction="rows",
        )  # fmt: skip
        optimizer.zero_grad()
        (loss + 1e-4 * weight.square().sum()).backward()
        optimizer.step()
    return weight.detach(), constants[2].detach().exp()


def causes(folder: Path, seed: int) -> dict[str, str]:
    """One row of the table."""
    task, clip, pcmepp = Hearts(seed), mmalign.load(folder / "clip"), mmalign.load(folder / "pcmepp")
    data = opened(clip, task.config, ["ecg", "text"], "train").read("test")
    trained = embed_split(pcmepp, data, "ecg", "test").embedding.uncertainty
    row = {"seed": str(seed), "pcmepp: mean, sd": f"{trained.mean():.4f}, {trained.std():.1e}"}
    vectors, noise = {}, {}
    for split in ("train", "test"):
        records = data.split(split).records
        noise[split] = np.array([draw_heart(seed, int(record.id)).noise for record in records])
        vectors[split] = [embed_split(clip, data, tower, split).embedding.vector for tower in ("ecg", "text")]
        squared = (vectors[split][0] - vectors[split][1]).square().sum(1).double().numpy()
        rank = spearman(squared, noise[split])[0]
        row[f"{split}: distance, rank correlation with noise"] = f"{squared.mean():.2f}, {rank:+.2f}"
    features = {split: features_of(clip, data, split) for split in ("train", "test")}
    mean = features["train"].mean(0)
    unit = (features["train"] - mean).square().mean().sqrt()
    _, groups = np.unique([record.values["text"][0] for record in data.split("train").records], return_inverse=True)
    (ecgs, texts), asked = vectors["train"], vectors["test"][0]
    for pseudo in (0.0, 0.1):
        weight, scale = converged((features["train"] - mean) / unit, ecgs, texts, torch.from_numpy(groups), pseudo)
        found = (((features["test"] - mean) / unit) @ weight).double().numpy()
        density = torch.logsumexp(2 * scale * asked @ texts.T, 1).double().numpy()
        squared = (asked - vectors["test"][1]).square().sum(1).double().numpy()
        ranks = [spearman(found, one)[0] for one in (noise["test"], squared, density)]
        row[f"converged, pseudo-positives {pseudo:g}: noise, distance, density"] = ", ".join(f"{r:+.2f}" for r in ranks)
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/uncertainty"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(table([causes(given.out / "hearts" / str(seed), seed) for seed in given.seeds]))


if __name__ == "__main__":
    main()
