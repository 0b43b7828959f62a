"""Reading, transforming and encoding text."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from mmalign.errors import BadSample, UserError
from modalities.text import MODALITY
from modalities.text.modality import MAX_CHARACTERS
from modalities.text.transform import TextSettings, TextTransform

TEXTS = ["a red disc", "a green square on a blue ground", "disc"]


def fitted(**settings: Any) -> TextTransform:
    transform = MODALITY.transform("transformer", {}, **settings)
    transform.fit(TEXTS * 3)
    return transform


def test_reading_a_text_returns_it() -> None:
    for text in ("a", " a  b ", "日本", "x" * MAX_CHARACTERS):
        assert MODALITY.read(text) is text


@pytest.mark.parametrize(
    ("junk", "message"),
    [
        ("", "an empty one"),
        (" \t\n\u2003", "white space only"),
        (None, "nothing"),
        (float("nan"), "a float"),
        (b"bytes", "a bytes"),
        ("x" * (MAX_CHARACTERS + 1), f"{MAX_CHARACTERS + 1} characters"),
        ("half of a pair \ud83d", "broken Unicode"),
    ],
)
def test_invalid_texts_are_rejected(junk: object, message: str) -> None:
    with pytest.raises(BadSample, match=message):
        MODALITY.read(junk)


def test_word_dropout() -> None:
    transform = fitted(word_dropout=0.5)
    whole = transform.item(TEXTS[1])
    shorter = [transform.item(TEXTS[1], np.random.default_rng(seed)) for seed in range(200)]
    assert transform.item(TEXTS[1], np.random.default_rng(5)) == shorter[5]
    kept = [len(item) - 1 for item in shorter]
    assert min(kept) >= 1
    assert abs(np.mean(kept) / (len(whole) - 1) - (0.5 + 0.5 / 7)) < 0.06  # one word is always kept
    assert fitted()(TEXTS[1], np.random.default_rng(0)) == whole


def test_collate_pads_on_the_right() -> None:
    transform = fitted()
    items = [transform.item(text) for text in TEXTS]
    inputs = transform.collate(items)
    assert inputs["mask"].sum(1).tolist() == [len(item) for item in items]
    assert inputs["tokens"].shape[1] == max(len(item) for item in items)
    for row, item in enumerate(items):
        assert inputs["tokens"][row, : len(item)].tolist() == item
        assert (inputs["tokens"][row, len(item) :] == 0).all()


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_padding_changes_nothing(pool: str) -> None:
    transform = fitted()
    encoder = MODALITY.encoder("transformer", transform, width=16, depth=2, heads=2, pool=pool).double().eval()
    inputs = transform.collate([transform.item(TEXTS[0])])
    long = {key: torch.nn.functional.pad(value, (0, 20)) for key, value in inputs.items()}
    long["tokens"][0, -20:] = torch.randint(0, 200, (20,))
    torch.testing.assert_close(encoder(long).vector, encoder(inputs).vector)


def test_use_before_fit_is_an_error() -> None:
    transform = TextTransform(TextSettings())
    for use in (lambda: transform.item("a"), lambda: MODALITY.encoder("transformer", transform), transform.config):
        with pytest.raises(UserError, match="call fit"):
            use()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 1}, "max_length must be"),
        ({"vocab_size": 10}, "vocab_size must be"),
        ({"word_dropout": 1.0}, "word_dropout must be"),
        ({"max_lenght": 9}, "did you mean 'max_length'"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MODALITY.transform("transformer", {}, **settings)


def test_length_may_be_an_argument_of_the_encoder() -> None:
    assert MODALITY.transform("transformer", {"max_length": 9}).settings.max_length == 9
    with pytest.raises(UserError, match="of length 8, its transform makes 64"):
        MODALITY.encoder("transformer", fitted(), max_length=8)


def test_picture_takes_any_text() -> None:
    for text in ("a $5 and $6 note", "\\frac{", "x" * 5000, "a_b^c"):
        axes = Figure(figsize=(1, 1)).subplots()
        MODALITY.picture(text, axes)
        axes.figure.canvas.draw()
        assert len(axes.texts[0].get_text()) < 200


CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 10, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def face_tokenizer(folder: Path, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in TEXTS for word in text.split()})]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=12, **names, **options)
    whole.save_pretrained(folder)
    return whole


def test_open_clip_tower_equals_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    save_file(open_clip.CLIP(**CLIP).state_dict(), tmp_path / "open_clip_model.safetensors")
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    args = {"model": str(tmp_path)}
    transform = MODALITY.transform("open_clip", args)
    encoder = MODALITY.encoder("open_clip", transform, **args).eval()
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(TEXTS)
    torch.testing.assert_close(inputs["tokens"], ids, atol=0, rtol=0)
    torch.testing.assert_close(inputs["mask"].sum(1), ids.argmax(1) + 1)
    with torch.no_grad():
        features = encoder(inputs)
        torch.testing.assert_close(features.vector, theirs.encode_text(ids))
    assert features.tokens.values.shape == (3, 10, 16)


def test_open_clip_with_a_tokenizer_of_hugging_face(tmp_path: Path) -> None:
    """As SigLIP's towers have: equal integers as open_clip makes, and back from JSON with the folder gone."""
    open_clip = pytest.importorskip("open_clip")
    text = {**CLIP["text_cfg"], "vocab_size": 40, "pool_type": "last", "no_causal_mask": True}
    text |= {"hf_tokenizer_name": "someone/somewhere", "tokenizer_kwargs": {"clean": "canonicalize"}}
    (tmp_path / "clip").mkdir()
    face_tokenizer(tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**CLIP, "text_cfg": text}}))
    transform = MODALITY.transform("open_clip", {"model": str(tmp_path / "clip")})
    texts = ["A red, disc!", "a green square on a blue ground a red disc a red disc"]
    inputs = transform.collate([transform.item(text) for text in texts])
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'clip'}")(texts)
    torch.testing.assert_close(inputs["tokens"], ids, atol=0, rtol=0)
    config = json.loads(json.dumps(transform.config()))
    shutil.rmtree(tmp_path / "clip")
    again = MODALITY.restore_transform(config)
    torch.testing.assert_close(again.collate([again(text) for text in texts])["tokens"], ids, atol=0, rtol=0)


def test_open_clip_with_a_text_model_of_hugging_face_is_refused() -> None:
    args = {"model": {**CLIP, "text_cfg": {"hf_model_name": "roberta-base"}}}
    with pytest.raises(UserError, match="use encoder 'huggingface'"):
        MODALITY.transform("open_clip", args)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    size = len(face_tokenizer(tmp_path))
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_huggingface_equals_transformers(bert: Path, pool: str) -> None:
    transformers = pytest.importorskip("transformers")
    args = {"model": str(bert), "pool": pool}
    transform = MODALITY.transform("huggingface", args)
    encoder = MODALITY.encoder("huggingface", transform, **args).eval()
    theirs = transformers.AutoModel.from_pretrained(bert).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(bert)(TEXTS, padding=True, return_tensors="pt")
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    torch.testing.assert_close(inputs["tokens"], tokens["input_ids"], atol=0, rtol=0)
    torch.testing.assert_close(inputs["mask"].long(), tokens["attention_mask"], atol=0, rtol=0)
    with torch.no_grad():
        values = theirs(**tokens).last_hidden_state
        rows = [v[: int(m.sum())].mean(0) for v, m in zip(values, tokens["attention_mask"], strict=True)]
        expected = torch.stack(rows) if pool == "mean" else values[:, 0]
        torch.testing.assert_close(encoder(inputs).vector, expected)


def test_a_huggingface_tower_loads_without_its_folder(bert: Path) -> None:
    args = {"model": str(bert)}
    transform = MODALITY.transform("huggingface", args)
    encoder = MODALITY.encoder("huggingface", transform, **args).eval()
    saved = json.dumps([transform.config(), encoder.config()])
    assert str(bert) not in saved, "a path of this machine is in the bundle"
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    shutil.rmtree(bert)
    transform_config, encoder_config = json.loads(saved)
    again = MODALITY.restore_transform(transform_config)
    rebuilt = MODALITY.encoder("huggingface", again, **encoder_config).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    after = again.collate([again(text) for text in TEXTS])
    torch.testing.assert_close(rebuilt(after).vector, encoder(inputs).vector, atol=0, rtol=0)


def test_huggingface_refuses_pickle_and_code(bert: Path) -> None:
    model = json.loads((bert / "config.json").read_text())
    torch.save({"x": torch.ones(1)}, bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    args = {"model": str(bert)}
    transform = MODALITY.transform("huggingface", args)
    with pytest.raises(UserError, match="cannot build the text model"):
        MODALITY.encoder("huggingface", transform, **args)
    (bert / "code.py").write_text(f"open({str(bert / 'ran')!r}, 'w').close()\nclass Model: pass\nclass Config: pass\n")
    remote = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (bert / "config.json").write_text(json.dumps({**model, "model_type": "unheard-of", "auto_map": remote}))
    with pytest.raises(UserError, match="at"):
        MODALITY.encoder("huggingface", transform, **args)
    hostile = {**model, "auto_map": remote, "attn_implementation": "someone/kernel"}
    encoder = MODALITY.encoder("huggingface", transform, model=hostile, pretrained=False)
    assert not {"auto_map", "attn_implementation"} & encoder.config()["model"].keys()
    assert not (bert / "ran").exists()


def test_huggingface_weights_that_lack_something(bert: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(bert / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layer.1." not in k}, bert / "model.safetensors", {"format": "pt"})
    args = {"model": str(bert)}
    with pytest.raises(UserError, match=r"lack \d+ tensors"):
        MODALITY.encoder("huggingface", MODALITY.transform("huggingface", args), **args)


def test_invalid_huggingface_settings(bert: Path) -> None:
    with pytest.raises(UserError, match="at most 12 word pieces"):
        MODALITY.transform("huggingface", {"model": str(bert)}, max_length=13)
    with pytest.raises(UserError, match="needs a model"):
        MODALITY.transform("huggingface", {})
    (bert / "config.json").unlink()
    with pytest.raises(UserError, match="no Hugging Face model at|no tokenizer at"):
        MODALITY.transform("huggingface", {"model": str(bert)})


def test_bundle_arguments_that_name_models_are_refused(bert: Path) -> None:
    sealed = MODALITY.restore_transform(fitted().config())
    for encoder, args in (
        ("huggingface", {"model": str(bert)}),
        ("huggingface", {"model": str(bert), "pretrained": False}),
        ("open_clip", {"model": "ViT-B-32"}),
    ):
        with pytest.raises(UserError, match="a bundle"):
            MODALITY.encoder(encoder, sealed, **args)
