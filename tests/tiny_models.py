"""Tiny models of other libraries, made on the spot: nothing is downloaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

TINY_CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The JSON description of an open_clip model."""
    path: Path = tmp_path_factory.mktemp("clip") / "tiny.json"
    path.write_text(json.dumps(TINY_CLIP))
    return str(path)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of two layers and its tokenizer, as `save_pretrained` leaves it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "blue", "disc", "square", "picture", "of"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("bert")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


PREFIX = "sentence_transformers.models."


def save_sentence_model(
    folder: Path, tiny_bert: str, pool: dict[str, Any], dense: str = "", *, normalize: bool = True
) -> Path:
    """A sentence encoder around a tiny BERT."""
    shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Dense", "Dense")] if dense else []
    modules += [("3_Normalize", "Normalize")] if normalize else []
    (folder / "modules.json").write_text(
        json.dumps([{"idx": i, "name": str(i), "path": p, "type": PREFIX + k} for i, (p, k) in enumerate(modules)])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pool}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6, "do_lower_case": True}))
    if dense:
        (folder / "2_Dense").mkdir()
        config = {"in_features": 16, "out_features": 5, "bias": True, "activation_function": dense}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
        torch.manual_seed(1)
        save_file(
            {"linear.weight": torch.randn(5, 16), "linear.bias": torch.randn(5)},
            folder / "2_Dense" / "model.safetensors",
        )
    return folder


DUAL_WORDS = ["<pad>", "<unk>", "<s>", "</s>", "a", "red", "green", "blue", "disc", "square", "picture", "of"]
DUAL_TEXT = {
    "vocab_size": 12, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 10, "projection_dim": 12, "projection_size": 16, "bos_token_id": 2, "eos_token_id": 3,
    "pad_token_id": 0,
}  # fmt: skip
DUAL_VISION = {
    "image_size": 16, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "projection_dim": 12,
}  # fmt: skip


def save_dual_encoder(kind: str, folder: Path) -> None:
    """A tiny CLIPModel or SiglipModel with its tokenizer and image processor, as `save_pretrained` leaves them."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(DUAL_WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=10,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=DUAL_TEXT, vision_config=DUAL_VISION, projection_dim=12)
        model = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}
        )
    else:
        config = transformers.SiglipConfig(text_config=DUAL_TEXT, vision_config=DUAL_VISION)
        model = transformers.SiglipModel(config)
        processor = transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16})
    with torch.no_grad():
        model.logit_scale.fill_(np.log(23.0))
        if kind == "siglip":
            model.logit_bias.fill_(-8.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_dual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a CLIPModel of two layers."""
    folder = tmp_path_factory.mktemp("dual")
    save_dual_encoder("clip", folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_sentence(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> str:
    """A folder with a sentence encoder of two layers."""
    folder = tmp_path_factory.mktemp("sentence") / "model"
    return str(save_sentence_model(folder, tiny_bert, {"pooling_mode_mean_tokens": True}))
