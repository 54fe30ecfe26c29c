"""Settings from a command line or a JSON file against the types that a config declares, before anything runs with them.

``--set overlap=off`` is text, and text is true: what cannot be meant has to be refused, not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
        values: names of its fields -> value; numbers of numpy count as Python's.
    """
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    hints = get_type_hints(config)
    for name, value in values.items():
        hint = hints[name]
        plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        try:
            check_type(plain, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            return f"{name} must be {_told(hint)}, not {value!r}"
        if isinstance(plain, bool) and hint in (int, float):  # which Python counts as 1 and 0
            return f"{name} must be {_told(hint)}, not {value!r}"
        if isinstance(plain, float) and not math.isfinite(plain):
            return f"{name} must be finite, not {value!r}"
    return None


def _told(hint: Any) -> str:
    """A type in words."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(inner)}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_told(one) for one in inner)
    if get_origin(hint) is tuple:
        return f"a list, each {_told(inner[0])}"
    if get_origin(hint) is Mapping:
        return f"names in braces, as in {{'reach': 0.5}}, each with {_told(inner[1])}"
    return _WORDS[hint]
