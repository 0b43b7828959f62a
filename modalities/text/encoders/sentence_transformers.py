"""A model of sentence-transformers as an encoder: its transformer, pooling, dense layers and normalisation.

The folder format is read here; the package sentence-transformers is not needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.hf_models import clean_config, fast_tokenizer, model_config, model_folder
from modalities.common.encoders.safe_weights import read_weights
from modalities.common.encoders.transformer import masked_mean
from modalities.common.reading.json_file import read_json
from modalities.text.encoders.huggingface import build_text_model
from modalities.text.phrases import phrase_tokens
from modalities.text.tokenizers.bpe import JsonTokenizer
from modalities.text.transform import TextTransform

POOLS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Pooling -> its key in `1_Pooling/config.json`."""

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}


class SentenceTransformersText(Encoder):
    """A sentence encoder: the vector is that of `SentenceTransformer(model).encode`.

    Args:
        transform: The transform with the model's tokenizer.
        model: A local folder, a hub id, or the description itself (without weights).
        pretrained: Read the weights, from safetensors only.
        phrases: Return phrases as parts.

    Shape:
        `tokens (batch, length)`, `mask (batch, length)` -> vector `(batch, width)`; tokens are the transformer's last
        values, before pooling; parts are their means by `phrase` and `phrase_mask`.

    Raises:
        UserError: there is no such model, or it has modules or a pooling that are not supported.
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        model: str | Mapping[str, Any],
        pretrained: bool = True,
        phrases: bool = False,
    ) -> None:
        if transform.sealed and (pretrained or not isinstance(model, Mapping)):
            raise UserError("encoder 'sentence_transformers': a bundle describes its model and brings the weights")
        folder = None if isinstance(model, Mapping) else model_folder(model)
        described = _restore(model) if isinstance(model, Mapping) else describe_sentence_model(model)
        weights = folder if pretrained else None
        built = build_text_model(
            None if weights is None else str(weights / described["path"]), described["transformer"]
        )
        tokens = int(built.config.hidden_size)
        dense = [_dense(one, weights) for one in described["dense"]]
        parts = tokens if transform.checked_phrases(phrases) else None
        super().__init__(described["dense"][-1]["out"] if dense else tokens, token_width=tokens, part_width=parts)
        self.arguments = {"model": described, "pretrained": False, "phrases": phrases}
        self.model, self.dense = built, nn.Sequential(*dense)

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""
        return self.model.get_input_embeddings()  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]` with the mask `inputs["mask"]`."""
        mask = inputs["mask"]
        values = self.model(input_ids=inputs["tokens"], attention_mask=mask.long()).last_hidden_state
        described = self.arguments["model"]
        vector = self.dense(_pooled(values, mask, described["pool"]))
        vector = F.normalize(vector, dim=1) if described["normalize"] else vector
        parts = phrase_tokens(values, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(values, mask), parts)


def describe_sentence_model(name: str) -> dict[str, Any]:
    """What rebuilds a model of sentence-transformers, as JSON values.

    Args:
        name: A local folder or a hub id.

    Raises:
        UserError: it is no model of sentence-transformers, or one with modules that are not supported.
    """
    folder = model_folder(name)
    if not (folder / "modules.json").is_file():
        raise UserError(
            f"no sentence-transformers model at {name}: expected modules.json; use encoder 'huggingface' for other "
            "models of transformers"
        )
    modules = [(str(one["type"]).rpartition(".")[2], _within(one["path"])) for one in _list(folder / "modules.json")]
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"} or "Normalize" in kinds[2:-1]:
        raise UserError(
            f"{name} has the modules {', '.join(kinds)}; supported are Transformer, Pooling, Dense (any number) and, "
            "last, Normalize"
        )
    return {
        "transformer": model_config(str(folder / modules[0][1])),
        "path": modules[0][1],
        "pool": _pool(name, read_json(folder / modules[1][1] / "config.json")),
        "dense": [_dense_config(folder, path) for kind, path in modules if kind == "Dense"],
        "normalize": kinds[-1] == "Normalize",
    }


def sentence_tokenizer(encoder_args: Mapping[str, Any], max_length: int | None) -> JsonTokenizer:
    """The tokenizer of a model, truncated to `max_length` (None = the model's own `max_seq_length`).

    Raises:
        UserError: the model has no fast tokenizer, adds a prompt to every text, or `max_length` is above its maximum.
    """
    name = encoder_args.get("model")
    if not isinstance(name, str):
        raise UserError("encoder 'sentence_transformers' needs a model: a local folder or a hub id")
    folder, described = model_folder(name), describe_sentence_model(name)
    prompt = _optional(folder / "config_sentence_transformers.json").get("default_prompt_name")
    if prompt:
        raise UserError(f"{name} adds the prompt {prompt!r} to every text, which is not supported")
    settings = _optional(folder / described["path"] / "sentence_bert_config.json")
    tokenizer = fast_tokenizer(str(folder / described["path"]))
    longest = min(tokenizer.longest, described["transformer"].get("max_position_embeddings") or tokenizer.longest)
    if max_length is not None and max_length > longest:
        raise UserError(f"{name} takes texts of at most {longest} word pieces, max_length is {max_length}")
    own = int(settings.get("max_seq_length") or longest)
    description = tokenizer.description
    if settings.get("do_lower_case"):
        rest = [description["normalizer"]] if description.get("normalizer") else []
        description = {**description, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *rest]}}
    return JsonTokenizer(description, min(own, longest) if max_length is None else max_length, pad=tokenizer.pad)


def _pooled(values: Tensor, mask: Tensor, pool: str) -> Tensor:
    if pool == "mean":
        return masked_mean(values, mask)
    if pool == "max":
        return values.masked_fill(~mask[:, :, None], -torch.inf).amax(1)
    last = mask.sum(1) - 1 if pool == "lasttoken" else torch.zeros(mask.shape[0], dtype=torch.long, device=mask.device)
    return values[torch.arange(mask.shape[0], device=mask.device), last]


def _pool(name: str, config: Mapping[str, Any]) -> str:
    named = config.get("pooling_mode")
    chosen = [named] if isinstance(named, str) else [pool for pool, key in POOLS.items() if config.get(key) is True]
    others = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in POOLS or len(others) > 1:
        raise UserError(f"{name} has the pooling {named or others}; supported is one of {', '.join(POOLS)}")
    return str(chosen[0])


def _dense_config(folder: Path, path: str) -> dict[str, Any]:
    config = read_json(folder / path / "config.json")
    kind = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    described = {"path": path, "in": config.get("in_features"), "out": config.get("out_features")}
    return _checked_dense(described | {"bias": bool(config.get("bias", True)), "activation": kind})


def _checked_dense(described: Mapping[str, Any]) -> dict[str, Any]:
    if described["activation"] not in ACTIVATIONS:
        raise UserError(
            f"a dense layer has the activation {described['activation']!r}; supported are {', '.join(ACTIVATIONS)}"
        )
    if not all(isinstance(described[key], int) and 0 < described[key] <= 2**16 for key in ("in", "out")):
        raise UserError(f"a dense layer needs in_features and out_features, got {described['in']}, {described['out']}")
    return dict(described)


def _dense(described: Mapping[str, Any], weights: Path | None) -> nn.Module:
    linear = nn.Linear(described["in"], described["out"], bias=described["bias"])
    if weights is not None:
        path = weights / described["path"] / "model.safetensors"
        state = {key.removeprefix("linear."): value for key, value in read_weights(path).items()}
        try:
            linear.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{path} does not fit its config.json: {' '.join(str(error).split())[:300]}") from error
    return nn.Sequential(linear, ACTIVATIONS[described["activation"]]())


def _restore(model: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            "transformer": clean_config(model["transformer"]),
            "path": "",
            "pool": _pool("the description", {"pooling_mode": model["pool"]}),
            "dense": [_checked_dense({**one, "path": ""}) for one in model["dense"]],
            "normalize": bool(model["normalize"]),
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"encoder 'sentence_transformers': the description of the model lacks {error}") from error


def _within(path: object) -> str:
    parts = Path(str(path)).parts
    if Path(str(path)).is_absolute() or ".." in parts:
        raise UserError(f"modules.json: {path!r} is outside of the model's folder")
    return str(path)


def _list(path: Path) -> list[dict[str, Any]]:
    modules = read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(one, dict) and {"type", "path"} <= set(one) for one in modules
    ):
        raise UserError(f"{path}: expected a list of modules with type and path")
    return modules


def _optional(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}
