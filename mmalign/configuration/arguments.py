"""The arguments of a class, a function or a dataclass: name, type, default and the sentence of its docstring."""

import inspect
import re
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

_NAMES = {int: "int", float: "float", bool: "true|false", str: "text", type(None): "null", Any: "any"}


@dataclass(frozen=True)
class Argument:
    """One argument.

    Args:
        name: Its name, without dashes.
        kind: Its annotation.
        default: Its default; `MISSING` = it is required.
        about: Its description in the docstring; "" = none.
    """

    name: str
    kind: Any
    default: Any = field(default_factory=lambda: MISSING)
    about: str = ""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def sentence(self) -> str:
        """The first sentence of its description."""
        return re.split(r"(?<=[.])(?<!et al\.)\s+(?=[A-Z0-9`])", self.about, maxsplit=1)[0].rstrip(".") + "."


def arguments_of(thing: Callable[..., Any]) -> dict[str, Argument]:
    """The arguments of a class, function or dataclass, in the order of its signature, by name.

    Args:
        thing: What takes them. `self`, `*args` and `**kwargs` are left out.

    Example:
        >>> from mmalign.training.optimizer import OptimizerConfig
        >>> argument = arguments_of(OptimizerConfig)["lr"]
        >>> argument.default, argument.sentence
        (0.001, 'Peak learning rate.')
    """
    owner = thing.__init__ if inspect.isclass(thing) else thing
    about = {**_descriptions(thing.__doc__), **_descriptions(owner.__doc__)}
    kinds = _annotations(thing, owner)
    factories = {}
    if is_dataclass(thing):
        factories = {one.name: one.default_factory for one in fields(thing)}
    arguments = {}
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        factory = factories.get(name, MISSING)
        default = parameter.default if factory is MISSING else factory()
        default = MISSING if default is parameter.empty else default
        arguments[name] = Argument(name, kinds.get(name, Any), default, about.get(name, ""))
    return arguments


def takes_any(thing: Callable[..., Any]) -> bool:
    """Whether a callable takes `**kwargs`, so that its arguments cannot be listed."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(thing).parameters.values())


def type_name(kind: Any) -> str:
    """A type in a user's words.

    Example:
        >>> type_name(int | None), type_name(list[str]), type_name(Literal["a", "b"])
        ('int or null', 'list of text', 'a|b')
    """
    if kind in _NAMES:
        return _NAMES[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_name(one) for one in inner))
    name = getattr(origin or kind, "__name__", str(kind))
    if name in ("list", "Sequence", "tuple"):
        return f"list of {type_name(inner[0])}" if inner else "list"
    if name in ("dict", "Mapping"):
        return "mapping"
    return "mapping" if is_dataclass(kind) else name


def _descriptions(docstring: str | None) -> dict[str, str]:
    parsed = docstring_parser.parse(docstring or "", docstring_parser.DocstringStyle.GOOGLE)
    return {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parsed.params}


def _annotations(thing: Callable[..., Any], owner: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(thing if is_dataclass(thing) else owner)
    except NameError:  # an annotation that exists for type checkers alone
        return dict(getattr(owner, "__annotations__", {}))
