"""The video modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder, Modality, Transform
from modalities.common.encoders.image_tower import ImageTower, tower_settings
from modalities.video.encoders.trajtok import TrajTok
from modalities.video.encoders.trajvit import TrajViT
from modalities.video.encoders.vit3d import ViT3d
from modalities.video.explain import ClipUnits, clip_labels
from modalities.video.neighbours import neighbours
from modalities.video.parts import split_part
from modalities.video.perturb import PERTURBATIONS, perturb_video
from modalities.video.read import read_video
from modalities.video.sample import Clip, Tracks
from modalities.video.synthetic import synthetic_clip
from modalities.video.transform import VideoSettings, VideoTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class VideoModality(Modality):
    """Video clips, with or without the trajectories of their objects."""

    name = "video"
    description = "video clips: MP4, MKV, AVI, GIF, WebP, NPZ, folders; an item is 16 frames, perhaps with trajectories"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "trajvit": TrajViT,
        "trajtok": TrajTok,
        "vit3d": ViT3d,
        "frames": ImageTower,
    }

    perturbations: ClassVar[Mapping[str, Sequence[float]]] = PERTURBATIONS
    cached_types: ClassVar[Sequence[type]] = (Clip, Tracks)
    reading_libraries: ClassVar[Sequence[str]] = ("av", "pillow", "numpy")

    def files_read(self, path: Path) -> Sequence[Path]:
        """The clip, or the pictures of a folder, and the masks beside it."""
        from modalities.video.formats.masks import mask_files
        from modalities.video.formats.pictures import pictures_in

        path, _ = split_part(path)
        return [*(pictures_in(path) if path.is_dir() else [path]), *mask_files(path)]

    def read(self, source: Any) -> Clip:
        """Decode and check, see `read_video`."""
        return read_video(source)

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> VideoTransform:
        """The settings of an image encoder's weights, or trajectories, overridden by the given ones."""
        wanted = tower_settings(encoder_args) if encoder == "frames" else {}
        if encoder in ("", "trajvit"):
            wanted = {"tracks": "supervoxels"}
        return VideoTransform(VideoSettings.make(wanted | settings))

    def restore_transform(self, config: Mapping[str, Any]) -> VideoTransform:
        """From `VideoTransform.config()`."""
        return VideoTransform(VideoSettings.make(config), sealed=True)

    def perturb(self, sample: Clip, transform: Transform, name: str, level: float, rng: np.random.Generator) -> Clip:
        """Dropped frames, lower frame rate, brightness, noise; see `perturb_video`."""
        return perturb_video(sample, name, level, rng)

    def picture(self, sample: Clip, axes: "Axes") -> None:
        """Draw a strip of frames."""
        from modalities.video.picture import draw_clip

        draw_clip(sample, axes)

    def token_labels(
        self, sample: Clip, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Trajectories, space-time patches or frames, see `clip_labels`."""
        if not isinstance(transform, VideoTransform):
            return None
        return clip_labels(sample, transform, encoder, level, count)

    def weighted_picture(self, sample: ClipUnits, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw the strip of frames, darker where the unit of a cell has a low weight."""
        from modalities.common.film_strip import draw_strip

        lit = sample.lit(weights)
        draw_strip(lit.frames, lit.rate, axes, count=4)  # drawn once for each word: few and large

    def neighbours(self, samples: Sequence[Clip], count: int) -> NDArray[np.int64]:
        """Clips with a similar mean picture, see `neighbours`."""
        return neighbours(samples, count)

    def toy_sample(self, label: int, rng: np.random.Generator) -> Clip:
        """One of ten kinds of a moving shape, see `synthetic_clip`."""
        return synthetic_clip(label, rng)
