"""Class prompts of zero-shot classification, from a YAML file, identified by a hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmalign.errors import UserError
from mmalign.registry import nearest
from mmalign.safe_io.safe_yaml import read_yaml

OTHER = "other"
"""Name of the class of all labels that are not among the classes, with `--other class`."""


@dataclass(frozen=True)
class Prompts:
    """Prompt templates and class texts.

    Args:
        templates: Sentences with `{}` for the class.
        classes: Class -> one or more texts for it. If set, it is the complete list of classes, in that order;
            otherwise every label of the data is a class, and its own text.

    Raises:
        UserError: a template has no `{}`, or a class has no text.

    Example:
        >>> prompts = Prompts(("a photo of a {}.",), {"dog": ("dog", "puppy")})
        >>> prompts.texts("dog")
        ['a photo of a dog.', 'a photo of a puppy.']
    """

    templates: tuple[str, ...] = ("{}",)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.templates:
            raise UserError("prompts: expected at least one template, such as 'a photo of a {}.'")
        for template in self.templates:
            if "{}" not in template:
                raise UserError(f"prompts: expected {{}} in every template, where the class goes; got {template!r}")
        for name, texts in self.classes.items():
            if not texts or not all(text.strip() for text in texts):
                raise UserError(f"prompts: class {name!r} has no text")

    @classmethod
    def load(cls, path: Path | str) -> "Prompts":
        """Read prompts from YAML: `templates` (a list) and, optionally, `classes` (name: text, or a list of texts).

        Raises:
            UserError: the file is missing, larger than 1 MiB, not YAML, or does not hold these two keys.
        """
        content = read_prompts(path, "the keys templates and classes")
        for key in content:
            if key not in ("templates", "classes"):
                raise UserError(f"prompts {path}: unknown key {key!r}{nearest(str(key), ('templates', 'classes'))}")
        classes = content.get("classes") or {}
        if not isinstance(classes, dict):
            raise UserError(f"prompts {path}: expected classes as 'name: text' lines, got a {type(classes).__name__}")
        try:
            named = {_text("class name", name): _texts(f"class {name!r}", texts) for name, texts in classes.items()}
            return cls(_texts("templates", content.get("templates", ["{}"])), named)
        except UserError as error:
            raise UserError(f"{error} ({path})") from error

    def names(self, labels: Sequence[str], other: str = "error") -> list[str]:
        """The classes to predict, given the labels of the data.

        Args:
            labels: The labels.
            other: What labels outside of `classes` are: an error, one more class (`OTHER`), or dropped.

        Raises:
            UserError: a label is not among `classes`, and `other` is error.
        """
        if not self.classes:
            return sorted(set(labels))
        outside = sorted(set(labels) - set(self.classes))
        if outside and other == "error":
            near = nearest(outside[0], self.classes)
            raise UserError(
                f"prompts: the data has a class {outside[0]!r} that is not in the file{near}; --other drop leaves out "
                "records of other classes, --other class makes them one more class"
            )
        return list(dict.fromkeys([*self.classes, *([OTHER] if outside and other == "class" else [])]))

    def texts(self, name: str) -> list[str]:
        """Every prompt of one class."""
        # Not str.format, which would evaluate a class named "{0.__class__}".
        return [template.replace("{}", text) for template in self.templates for text in self.classes.get(name, (name,))]

    @property
    def hash(self) -> str:
        """SHA-256 of the content; comments and layout of the file do not change it."""
        content = {"templates": self.templates, "classes": [[name, *texts] for name, texts in self.classes.items()]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_prompts(path: Path | str, wanted: str) -> dict[Any, Any]:
    """The mapping in a prompts file; `wanted` describes it in messages.

    Raises:
        UserError: the file is missing, larger than 1 MiB, not YAML, or holds something else.
    """
    content = read_yaml(path, f"prompts {path}")
    if not isinstance(content, dict):
        raise UserError(f"prompts {path}: expected {wanted}, got a {type(content).__name__}")
    return content


def _texts(what: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(what, text) for text in (value if isinstance(value, list) else [value]))


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(
            f"prompts: {what}: expected text, got a {type(value).__name__} (YAML: quote no, yes and numbers)"
        )
    return value
