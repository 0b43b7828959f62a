"""Models of `transformers` from a local folder or the hub: configuration, safetensors and tokenizer, no remote code."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mmalign import registry
from mmalign.errors import UserError, first_line
from modalities.common.encoders.hub import hub

UNSAFE = (
    "auto_map", "attn_implementation", "experts_implementation", "quantization_config", "dtype", "torch_dtype",
    "backbone", "backbone_config", "use_pretrained_backbone", "use_timm_backbone",
)  # fmt: skip
"""Settings that refer to code, kernels, other models or number formats; removed from a model's configuration."""

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is downloaded of a model: no pickles and no code."""


@dataclass(frozen=True)
class FastTokenizer:
    """A tokenizer of the `tokenizers` format.

    Args:
        description: The content of its `tokenizer.json`.
        pad: Id of padding.
        longest: Maximum length that it states.
    """

    description: dict[str, Any]
    pad: int
    longest: int


def transformers_package(extra: str = "text") -> ModuleType:
    """The package transformers; raises an error with the install command if it is missing."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise registry.missing_extra("transformers", extra) from error
    return transformers


def model_folder(name: str) -> Path:
    """A local folder, or the folder of the cache to which a model of the hub is downloaded.

    Raises:
        UserError: there is no such folder, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UserError(f"no Hugging Face model at {name}: expected a folder, or a name of the hub such as owner/model")
    return _download(name)


@cache  # a run asks for the configuration, the tokenizer and the weights of each tower
def _download(name: str) -> Path:
    import huggingface_hub

    with hub(name):
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*FILES]))


def model_config(name: str) -> dict[str, Any]:
    """The configuration of a model as JSON values, without settings that refer to code or other models.

    Raises:
        UserError: there is no such model, or transformers does not know its type.
    """
    try:
        config = transformers_package().AutoConfig.from_pretrained(
            model_folder(name), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no Hugging Face model at {name}: {first_line(error)}") from error
    description: dict[str, Any] = clean_config(config.to_dict())
    return description


def clean_config(values: Any) -> Any:
    """JSON values without the keys in `UNSAFE`, at every depth."""
    if isinstance(values, Mapping):
        safe = {k: v for k, v in values.items() if k not in UNSAFE and not str(k).startswith("_")}
        return {str(k): clean_config(v) for k, v in safe.items() if k != "transformers_version"}
    return [clean_config(value) for value in values] if isinstance(values, list | tuple) else values


def load_model(kind: Any, name: str, config: Any, optional: tuple[str, ...] = ()) -> Any:
    """Build a model with the weights of a folder or of the hub, from safetensors only, in float32.

    Args:
        kind: Class of transformers with `from_pretrained`.
        name: Folder or name of the hub.
        config: Its configuration object.
        optional: Prefixes of tensors that may be missing.

    Raises:
        UserError: tensors are missing. Other errors are those of transformers.
    """
    with _quiet():
        built, report = kind.from_pretrained(
            model_folder(name),
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(optional))
    if missing:
        raise UserError(f"the weights of {name} lack {len(missing)} tensors, among them {missing[0]}")
    return built


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the report of the tensors that belong to another tower, and without progress bars."""
    from transformers.utils import logging

    printed: Any = logging
    level, bars = printed.get_verbosity(), printed.is_progress_bar_enabled()
    printed.set_verbosity_error()
    printed.disable_progress_bar()
    try:
        yield
    finally:
        printed.set_verbosity(level)
        if bars:
            printed.enable_progress_bar()


def fast_tokenizer(name: str) -> FastTokenizer:
    """The tokenizer of a model.

    Raises:
        UserError: the model has none, or none of the `tokenizers` format.
    """
    try:
        loaded = transformers_package().AutoTokenizer.from_pretrained(
            model_folder(name), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"no tokenizer at {name}: {' '.join(str(error).split())[:300]}") from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"{name} has no fast tokenizer (tokenizer.json), the only kind that a bundle can contain")
    return FastTokenizer(json.loads(backend.to_str()), int(loaded.pad_token_id or 0), int(loaded.model_max_length))
