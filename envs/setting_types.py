"""Settings from a command line or a JSON file against the types that a config declares, before anything runs with them.

``--set overlap=off`` is text, and text is true: what cannot be meant has to be refused, not believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    NoneType: "None",
}


def wrong_type(config: type, values: Mapping[str, Any]) -> str | None:
    """What is wrong with the first of ``values`` that is not of its field's type, in words; None where all are.

    Args:
        config: a dataclass.
        values: names of its fields -> value; numbers of numpy count as Python's. What Python would count as a number
            and nobody means, true and false, infinity and "not a number", is refused.
    """
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    hints = get_type_hints(config)
    for name, value in values.items():
        hint, plain = hints[name], _plain(value)
        try:
            check_type(plain, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            return f"{name} must be {_told(hint)}, not {value!r}"
        leaves = list(_leaves(plain))
        if bool not in _types(hint) and any(isinstance(leaf, bool) for leaf in leaves):
            return f"{name} must be {_told(hint)}, not {value!r}"
        if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in leaves):
            return f"{name} must be finite, not {value!r}"
    return None


def _plain(value: Any) -> Any:
    """The value with numpy's numbers as Python's."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in a tuple or mapping, or the value itself."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else None
    if inside is None:
        yield value
        return
    for one in inside:
        yield from _leaves(one)


def _types(hint: Any) -> set[Any]:
    """Every plain type that a hint names."""
    inner = get_args(hint)
    return {hint}.union(*map(_types, inner)) if inner and get_origin(hint) is not Literal else {hint}


def _told(hint: Any) -> str:
    """A type in words."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(inner)}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_told(one) for one in inner)
    if get_origin(hint) is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)}: {', '.join(map(_told, inner))}"
    if get_origin(hint) is tuple:
        return f"a list, each {_told(inner[0])}"
    if get_origin(hint) is Mapping:
        return f"names in braces, as in {{'reach': 0.5}}, each with {_told(inner[1])}"
    return _WORDS[hint]
