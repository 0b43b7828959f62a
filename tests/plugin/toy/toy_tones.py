"""A stranger's distribution: its own modality, objective and source. Nothing of mmalign's core knows of it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.errors import BadSample
from mmalign.modality import Encoder, Modality, Transform
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, Features, Inputs, LossOutput, Tokens

SAMPLES = 64


class ToneTransform(Transform):
    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        return sample if rng is None else np.roll(sample, rng.integers(SAMPLES))

    def collate(self, items: Any) -> Inputs:
        return {"samples": torch.from_numpy(np.stack(items))}

    def config(self) -> dict[str, Any]:
        return {}


class Spectrum(Encoder):
    """Magnitudes of the Fourier transform, then a linear layer."""

    def __init__(self, transform: ToneTransform, *, width: int = 32) -> None:
        super().__init__(width, token_width=1)
        self.linear = nn.Linear(SAMPLES // 2 + 1, width)

    def forward(self, inputs: Inputs) -> Features:
        magnitude = torch.fft.rfft(inputs["samples"].float()).abs()
        tokens = magnitude.unsqueeze(-1)
        return Features(self.linear(magnitude), Tokens(tokens, torch.ones_like(magnitude, dtype=torch.bool)))

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


class Tone(Modality):
    name = "tone"
    description = "a short sound: 64 samples"
    encoders = {"spectrum": Spectrum}

    def read(self, source: Any) -> Any:
        samples = np.asarray(source, dtype=np.float32)
        if samples.shape != (SAMPLES,) or not np.isfinite(samples).all():
            raise BadSample("a tone", f"{SAMPLES} finite samples", f"shape {samples.shape}")
        return samples

    def transform(self, encoder: str, encoder_args: Any, **settings: Any) -> ToneTransform:
        return ToneTransform()

    def restore_transform(self, config: Any) -> ToneTransform:
        return ToneTransform()

    def picture(self, sample: Any, axes: Any) -> None:
        axes.plot(sample)

    def toy_sample(self, label: int, rng: np.random.Generator) -> Any:
        time = np.arange(SAMPLES) / SAMPLES
        wave = np.sin(2 * np.pi * ((label + 2) * time + rng.random())) + 0.3 * rng.normal(size=SAMPLES)
        return wave.astype(np.float32)


MODALITY = Tone()


class TonesSource(Source):
    """`options.rows` tones of ten pitches, each with a sentence."""

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        self.rows = int(config.options.get("rows", 200))

    def records(self) -> list[Record]:
        rng = np.random.default_rng(0)
        made = []
        for row in range(self.rows):
            label = row % 10
            values = {"tone": (MODALITY.toy_sample(label, rng),), "text": (f"a tone of pitch {label}",)}
            made.append(Record(str(row), f"tone {row}", values, labels=(f"pitch {label}",)))
        return made

    def fetch(self, name: str) -> Path | bytes:
        raise BadSample(name, "no files", "a file name")

    def fingerprint(self) -> str:
        return f"tones-{self.rows}"


class MarginObjective(Objective):
    """Hinge on the hardest negative, both directions (VSE++, Faghri et al. 2018, arXiv 1707.05612)."""

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = nn.Parameter(torch.tensor(margin), requires_grad=False)

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        positive = (a.vector * b.vector).sum(1)
        hardest_b = (a.vector @ global_batch.b.vector.T).masked_fill(global_batch.positives, -1.0).amax(1)
        hardest_a = (b.vector @ global_batch.a.vector.T).masked_fill(global_batch.positives, -1.0).amax(1)
        losses = (self.margin + hardest_b - positive).relu() + (self.margin + hardest_a - positive).relu()
        return LossOutput(losses, {"hardest": hardest_b.detach()})

    def similarity(self, a: Embedding, b: Embedding) -> Tensor:
        return a.vector @ b.vector.T
