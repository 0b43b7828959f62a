"""The text modality: what the core calls."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.errors import BadSample, UserError
from mmalign.modality import Encoder, Modality, Transform
from modalities.common.sources.toy_classes import colour_and_shape
from modalities.text.encoders.huggingface import HuggingFaceText, huggingface_tokenizer
from modalities.text.encoders.huggingface_dual import HuggingFaceDualText, dual_tokenizer
from modalities.text.encoders.open_clip import OpenClipText, open_clip_tokenizer
from modalities.text.encoders.prompted import NAME, PromptedText, prompted_encoder
from modalities.text.encoders.sentence_transformers import SentenceTransformersText, sentence_tokenizer
from modalities.text.encoders.tfidf_linear import NgramBag
from modalities.text.encoders.transformer import TextTransformer
from modalities.text.explain import draw_weighted, ngram_units, text_units
from modalities.text.neighbours import neighbours, surface_features
from modalities.text.tfidf_transform import NgramSettings, NgramTransform
from modalities.text.transform import TextSettings, TextTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CHARACTERS = 100_000
TEMPLATES = ("a {} {}", "a picture of a {} {}", "there is one {} {} here", "this {} thing is a {}")


class TextModality(Modality):
    """Texts."""

    name = "text"
    description = "strings; a sample is the string itself"
    value_is_sample = True
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "transformer": TextTransformer,
        "tfidf": NgramBag,
        "open_clip": OpenClipText,
        "huggingface": HuggingFaceText,
        "huggingface_dual": HuggingFaceDualText,
        "sentence_transformers": SentenceTransformersText,
        NAME: PromptedText,
    }

    def read(self, source: Any) -> str:
        """Check a string.

        Raises:
            BadSample: it is no string, only white space, or longer than `MAX_CHARACTERS`.
        """
        wanted = f"a text of 1..{MAX_CHARACTERS} characters"
        if not isinstance(source, str):
            raise BadSample("text", wanted, "nothing" if source is None else f"a {type(source).__name__}")
        if len(source) > MAX_CHARACTERS:
            raise BadSample(f"text {source[:20]!r}...", wanted, f"{len(source)} characters")
        try:
            source.encode()
        except UnicodeEncodeError as error:
            raise BadSample("text", wanted, f"broken Unicode ({error.reason})") from error
        if not source.strip():
            raise BadSample("text", wanted, "an empty one" if not source else "white space only")
        return source

    def transform(
        self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any
    ) -> TextTransform | NgramTransform:
        """The transform with the model's tokenizer, or one trained by `fit`; with phrases if the encoder needs them.

        Raises:
            UserError: a tokenizer is set although the model has its own.
        """
        if encoder == NAME:  # the inner encoder's
            return self.transform(str(encoder_args.get("encoder", "")), encoder_args.get("args") or {}, **settings)
        settings = ({"phrases": True} if encoder_args.get("phrases") is True else {}) | settings
        if encoder == "tfidf":
            return NgramTransform(NgramSettings.make(settings))
        if (
            encoder in ("open_clip", "huggingface", "huggingface_dual", "sentence_transformers")
            and "tokenizer" in settings
        ):
            raise UserError(f"encoder {encoder!r} has its model's own tokenizer: leave out transform.tokenizer")
        if encoder == "open_clip":
            clip = open_clip_tokenizer(encoder_args)
            fitted = TextSettings.make({"max_length": clip.config()["max_length"]} | settings)
            return TextTransform(fitted, clip, fixed=True)
        if encoder == "huggingface_dual":
            dual, padded = dual_tokenizer(encoder_args)
            return TextTransform(TextSettings.make({"max_length": dual.max_length} | settings), dual, fixed=padded)
        if encoder in ("huggingface", "sentence_transformers"):
            make = huggingface_tokenizer if encoder == "huggingface" else sentence_tokenizer
            face = make(encoder_args, settings.get("max_length"))
            return TextTransform(TextSettings.make(settings | {"max_length": face.max_length}), face)
        length = encoder_args.get("max_length")
        return TextTransform(TextSettings.make(({} if length is None else {"max_length": length}) | settings))

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `TextTransform.config()` or `NgramTransform.config()`."""
        return NgramTransform.restore(config) if config.get("kind") == "tfidf" else TextTransform.restore(config)

    def picture(self, sample: str, axes: "Axes") -> None:
        """Draw the text in at most five lines of 32 characters."""
        # A dollar sign would start matplotlib's math mode.
        shown = textwrap.wrap(sample, 32, max_lines=5, placeholder=" ...")
        axes.text(0.5, 0.5, "\n".join(shown), ha="center", va="center", wrap=False, parse_math=False)
        axes.set_axis_off()

    def weighted_picture(self, sample: str, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw the words, each on a background shaded by its weight; one weight for each word."""
        draw_weighted(sample, axes, weights)

    def token_labels(
        self, sample: str, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Words, see `text_units`."""
        if isinstance(transform, NgramTransform):
            return ngram_units(sample, transform, level, count)
        return text_units(sample, transform, level, count) if isinstance(transform, TextTransform) else None

    def neighbours(self, samples: Sequence[str], count: int) -> NDArray[np.int64]:
        """Texts that share words and pairs of words, see `neighbours`."""
        return neighbours(samples, count)

    def with_context(
        self, name: str, encoder: Encoder, transform: Transform, *, context: int, starts: Sequence[str]
    ) -> tuple[str, Encoder]:
        """The encoder behind learnt context vectors, see `PromptedText`."""
        return NAME, prompted_encoder(name, encoder, transform, context=context, starts=starts)

    def surface_features(self, samples: Sequence[str]) -> Any:
        """TF-IDF weights of words and pairs of words, see `surface_features`."""
        return surface_features([*samples])

    def toy_sample(self, label: int, rng: np.random.Generator) -> str:
        """One of four sentences that describe the toy class, for instance its colour and shape."""
        return TEMPLATES[rng.integers(len(TEMPLATES))].format(*colour_and_shape(label))
