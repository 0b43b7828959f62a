"""Positive and negative prompts of each class, and prompts that contain a value."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import read_prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.registry import nearest

Texts = Mapping[str, tuple[str, ...]]
MAX_VALUES = 10_000


@dataclass(frozen=True)
class ClassPrompts:
    """Positive and negative prompts of each class.

    Args:
        positive: Class -> positive sentences; the classes in order.
        negative: Class -> negative sentences, for some classes or all.

    Raises:
        UserError: a class without a sentence, or negative sentences of a class without positive ones.

    Example:
        >>> prompts = ClassPrompts({"cat": ("a cat",), "dog": ("a dog",)}, {"cat": ("no cat",)})
        >>> prompts.names
        ['cat', 'dog']
    """

    positive: Texts
    negative: Texts = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.negative:
            if name not in self.positive:
                raise UserError(f"prompts: class {name!r} has negative sentences and no positive ones")
        for name, texts in [*self.positive.items(), *self.negative.items()]:
            if not texts or not all(text.strip() for text in texts):
                raise UserError(f"prompts: class {name!r} has no text")
        if not self.positive:
            raise UserError("prompts: expected at least one class, got none")

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return list(self.positive)

    @classmethod
    def load(cls, path: Path | str) -> "ClassPrompts":
        """Read YAML: class -> `{positive: [...], negative: [...]}`, or its text or texts where there are no negatives.

        The classes may be below the key `classes`, beside `templates` as in `Prompts.load`: the prompts file of
        zero-shot classification works here too.

        Raises:
            UserError: the file is missing, too large, not YAML, or of another form.
        """
        content = read_prompts(path, "'name: value' lines")
        templates = ["{}"]
        if "classes" in content:
            _known(path, content, ("templates", "classes"))
            templates, content = _texts(path, "templates", content.get("templates", templates)), content["classes"]
            if not isinstance(content, dict):
                raise UserError(f"prompts {path}: classes: expected 'name: texts' lines, got {content!r}")
        if any("{}" not in template for template in templates):
            raise UserError(f"prompts {path}: expected {{}} in every template, where the text goes; got {templates}")
        positive: dict[str, tuple[str, ...]] = {}
        negative: dict[str, tuple[str, ...]] = {}
        for name, entry in content.items():
            if not isinstance(name, str):
                raise UserError(f"prompts {path}: class {name!r}: expected text (YAML: quote no, yes and numbers)")
            polarities = entry if isinstance(entry, dict) else {"positive": entry}
            _known(path, polarities, ("positive", "negative"))
            if "positive" not in polarities:
                raise UserError(f"prompts {path}: class {name!r}: expected positive sentences, got {entry!r}")
            for polarity, sentences in (("positive", positive), ("negative", negative)):
                if polarity in polarities:
                    texts = _texts(path, f"class {name!r}", polarities[polarity])
                    sentences[name] = tuple(template.replace("{}", text) for template in templates for text in texts)
        return cls(positive, negative)

    def sentences(self) -> list[str]:
        """Every sentence, positive ones first."""
        return [text for texts in [*self.positive.values(), *self.negative.values()] for text in texts]

    def least_uncertain(self, sentences: PromptEmbeddings, fraction: float) -> "ClassPrompts":
        """Keep a fraction of each class's sentences: those with the lowest uncertainty, see `least_uncertain_texts`."""
        return ClassPrompts(
            *(least_uncertain_texts(sentences, texts, fraction) for texts in (self.positive, self.negative))
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the content; comments and layout of the file do not change it."""
        return _hash({"positive": list(self.positive.items()), "negative": list(self.negative.items())})


@dataclass(frozen=True)
class ValuePrompts:
    """Prompts that contain a value: each template is filled with each value at `{value}`.

    Args:
        values: Two or more numbers, ascending.
        templates: Sentences with `{value}`.

    Raises:
        UserError: values that are not finite, ascending and at least two, or a template without `{value}`.

    Example:
        >>> ValuePrompts((30.0, 62.5), ("An ejection fraction of {value} %.",)).texts(62.5)
        ['An ejection fraction of 62.5 %.']
    """

    values: tuple[float, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        if not 2 <= len(self.values) <= MAX_VALUES or not all(map(math.isfinite, self.values)) or not rising:
            raise UserError(f"prompts: values: expected 2 to {MAX_VALUES} ascending numbers, got {self.values[:5]} ...")
        if not self.templates or any("{value}" not in template for template in self.templates):
            raise UserError(f"prompts: expected {{value}} in every template, got {list(self.templates)}")

    @classmethod
    def load(cls, path: Path | str) -> "ValuePrompts":
        """Read YAML: `values`, a list of numbers or `{from: 10, to: 80, step: 5}`, and `templates`, a list of texts.

        Raises:
            UserError: the file is missing, too large, not YAML, or of another form.
        """
        content = read_prompts(path, "'name: value' lines")
        _known(path, content, ("values", "templates"))
        values = content.get("values")
        if isinstance(values, dict) and set(values) == {"from", "to", "step"}:
            start, stop, step = (_number(path, values[key]) for key in ("from", "to", "step"))
            steps = (stop - start) / step if step > 0 else -1.0
            if not 0 < steps < MAX_VALUES:
                raise UserError(f"prompts {path}: values: expected from < to and a step above 0, got {values}")
            values = [start + step_index * step for step_index in range(int(steps + 1e-9) + 1)]
        if not isinstance(values, list):
            raise UserError(f"prompts {path}: values: expected numbers or {{from, to, step}}, got {values!r}")
        templates = tuple(_texts(path, "templates", content.get("templates", [])))
        return cls(tuple(_number(path, value) for value in values), templates)

    def texts(self, value: float) -> list[str]:
        """Every sentence of one value."""
        return [template.replace("{value}", f"{value:g}") for template in self.templates]

    def sentences(self) -> list[str]:
        """Every sentence, all templates of the first value first."""
        return [text for value in self.values for text in self.texts(value)]

    def least_uncertain(self, sentences: PromptEmbeddings, fraction: float) -> "ValuePrompts":
        """Keep a fraction of the templates: those with the lowest uncertainty, mean over all values."""
        by_template = [list(texts) for texts in zip(*(self.texts(value) for value in self.values), strict=True)]
        indices = sentences.least_uncertain(by_template, fraction)
        return ValuePrompts(self.values, tuple(self.templates[index] for index in indices))

    @property
    def hash(self) -> str:
        """SHA-256 of the content."""
        return _hash({"values": self.values, "templates": self.templates})


def least_uncertain_texts(sentences: PromptEmbeddings, texts: Texts, fraction: float) -> dict[str, tuple[str, ...]]:
    """Keep the sentences of each class with the lowest uncertainty; ambiguous sentences have a high one (PCME++).

    Args:
        sentences: The embeddings of all of them, by a probabilistic model.
        texts: Class -> sentences.
        fraction: Of each class's sentences to keep, above 0 up to 1; at least one is kept.

    Raises:
        UserError: a fraction out of its range, or a model without uncertainties.
    """
    return {
        name: tuple(several[index] for index in sentences.least_uncertain([(text,) for text in several], fraction))
        for name, several in texts.items()
    }


def _known(path: Path | str, content: Mapping[Any, Any], keys: Sequence[str]) -> None:
    for key in content:
        if key not in keys:
            raise UserError(f"prompts {path}: unknown key {key!r}{nearest(str(key), keys)}")


def _texts(path: Path | str, what: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"prompts {path}: {what}: expected text, got {text!r} (YAML: quote no, yes and numbers)")
    return texts


def _number(path: Path | str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"prompts {path}: expected a number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"prompts {path}: expected a finite number, got an integer beyond the largest float") from error


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
