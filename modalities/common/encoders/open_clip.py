"""open_clip models: configuration, weights, and extraction of one tower."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from torch import nn

from mmalign import registry
from mmalign.errors import UserError
from modalities.common.encoders.hub import hub
from modalities.common.encoders.safe_weights import read_weights

MAX_JSON = 1 << 20
WEIGHT_FILES = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")


@dataclass(frozen=True)
class Described:
    """Description of an open_clip model, before it is built.

    Args:
        model: open_clip's model configuration: `embed_dim`, `vision_cfg`, `text_cfg`, ...
        preprocess: Its image preprocessing, if known.
        weights: open_clip's entry for a tag (not downloaded yet), or a local file, or None.
        folder: Folder of the description, which also has the tokenizer files.
    """

    model: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] | Path | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Reject invalid descriptions, and names that would download another model."""
        for name, kind in (("vision_cfg", dict), ("text_cfg", dict), ("embed_dim", int)):
            if not isinstance(self.model.get(name), kind):
                found = ", ".join(sorted(map(str, self.model))) or "nothing"
                raise UserError(f"an open_clip model needs {name!r}, a {kind.__name__}; found: {found}")
        inner = str(self.model["vision_cfg"].get("timm_model_name") or "")
        if ":" in inner or "/" in inner:
            raise UserError(f"open_clip model: timm_model_name must be a plain name, got {inner!r}")


def describe(model: Any, pretrained: str | None = None, *, sealed: bool = False) -> Described:
    """Find a model's description without network access.

    Args:
        model: open_clip's name (`ViT-B-32`), a JSON file, a folder with `open_clip_config.json` and weights, or the
            configuration itself.
        pretrained: A tag of open_clip's for that name (`laion2b_s34b_b79k`), a local file, or None. A folder's own
            weights need not be named.
        sealed: The arguments come from a bundle: only a configuration is accepted.

    Raises:
        UserError: there is no such model, tag or file.
    """
    clip = open_clip_package()
    if sealed and (pretrained is not None or not isinstance(model, Mapping)):
        raise UserError(
            "encoder 'open_clip': a bundle describes its model and brings the weights, it cannot name others"
        )
    if isinstance(model, Mapping):
        return Described(copy.deepcopy(dict(model)), weights=_file(pretrained))
    if not isinstance(model, str):
        raise UserError("encoder 'open_clip' needs a model: a name of open_clip's, a JSON file or a folder")
    path = Path(model.removeprefix("local-dir:"))
    if path.is_dir() or path.suffix == ".json":
        config = _read_json(path / "open_clip_config.json" if path.is_dir() else path)
        found = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None) if path.is_dir() else None
        return Described(
            config.get("model_cfg", config),
            config.get("preprocess_cfg", {}),
            _file(pretrained) or found,
            path if path.is_dir() else path.parent,
        )
    names = clip.list_models()
    if model not in names:
        raise UserError(f"open_clip has no model {model!r}{registry.nearest(model, names)[:200]}")
    config = clip.get_model_config(model)
    if pretrained is None:
        return Described(config)
    tag = clip.get_pretrained_cfg(model, pretrained)
    if tag:
        if tag.get("quick_gelu", False):
            config["quick_gelu"] = True  # the weights were trained with this activation
        return Described(config, {k: v for k, v in tag.items() if k not in ("url", "hf_hub", "quick_gelu")}, tag)
    tags = clip.list_pretrained_tags_by_model(model)
    if not Path(pretrained).is_file():
        raise UserError(
            f"open_clip's {model} has no weights {pretrained!r}{registry.nearest(pretrained, tags)}, "
            "and there is no such file"
        )
    # A file does not say how its images were prepared: as for all tags of this model, if these agree.
    prepared = [_preprocessing(clip.get_pretrained_cfg(model, name)) for name in tags]
    return Described(
        config, prepared[0] if prepared and prepared.count(prepared[0]) == len(prepared) else {}, Path(pretrained)
    )


def _preprocessing(tag: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}


def build_tower(described: Described, side: str) -> tuple[nn.Module, tuple[float, float | None]]:
    """Build one tower, `visual` or `text`, with its weights if there are any.

    Without weights the other tower is replaced by a tiny one, so that a bundle loads fast and without network.

    Returns:
        The tower, and the scale and bias (None = none) of the whole model's logits.

    Raises:
        UserError: open_clip rejects the description, or the weights do not fit.
    """
    clip = open_clip_package()
    config = copy.deepcopy(described.model)
    weights = _fetched(clip, described.weights)  # first: building a large model takes a while
    if weights is None:
        _shrink(config, "text" if side == "visual" else "visual")
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    config.pop("custom_text", None)
    try:
        # The class with two separate towers; open_clip's loader converts weights saved in the older form.
        whole = (clip.CoCa if "multimodal_cfg" in config else clip.CustomTextCLIP)(**config)
    except (TypeError, KeyError, ValueError, AssertionError, RuntimeError, OSError) as error:
        raise UserError(f"open_clip cannot build this model: {type(error).__name__}: {error}") from error
    if weights is not None:
        _load(clip, whole, weights)
    tower = getattr(whole, side)
    assert isinstance(tower, nn.Module)
    scale, bias = whole.logit_scale.detach().exp(), getattr(whole, "logit_bias", None)
    return tower, (float(scale), None if bias is None else float(bias.detach()))


def embedded(described: Described) -> dict[str, Any]:
    """The description as JSON values for a bundle: rebuilds the architecture without downloads."""
    config = copy.deepcopy(described.model)
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    return config


def open_clip_package(extra: str = "image") -> ModuleType:
    """The open_clip package; raises an error with the install command if it is missing."""
    try:
        import open_clip  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise registry.missing_extra("open_clip_torch", extra) from error
    package: ModuleType = open_clip
    return package


def _fetched(clip: ModuleType, weights: Mapping[str, Any] | Path | None) -> Path | None:
    if weights is None or isinstance(weights, Path):
        return weights
    with hub(str(weights.get("hf_hub") or weights.get("url")).rstrip("/")):
        return Path(clip.download_pretrained(dict(weights)))


def _load(clip: ModuleType, whole: nn.Module, path: Path) -> None:
    if path.suffix not in (".safetensors", ".npz", ".npy"):
        read_weights(path)  # checked by our reader first: open_clip's own falls back to unsafe loading
    try:
        clip.load_checkpoint(whole, str(path))
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError) as error:
        raise UserError(f"the weights in {path} are not those of this open_clip model: {str(error)[:300]}") from error


def _shrink(config: dict[str, Any], side: str) -> None:
    if side == "text":
        config["text_cfg"] = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
    else:
        config["vision_cfg"] = {"layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "image_size": 8}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}


def _file(name: str | None) -> Path | None:
    if name is None:
        return None
    if not Path(name).is_file():
        raise UserError(f"no weights at {name}: a model from a file or folder takes weights from a local file")
    return Path(name)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"no open_clip description at {path}")
    if path.stat().st_size > MAX_JSON:
        raise UserError(f"{path} is larger than {MAX_JSON} bytes: no open_clip description")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__}, not an open_clip description")
    return config
