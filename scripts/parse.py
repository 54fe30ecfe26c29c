"""Command lines from frozen dataclasses, with the nearest names for a mistyped option."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any, TypeVar

from cadenza.envs.errors import CadenzaError

Arguments = TypeVar("Arguments")


_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse(kind: type[Arguments], command: str, arguments: list[str]) -> Arguments:
    """Parse with tyro, which prints help or what is wrong (with the nearest option) and exits by itself."""
    import tyro

    description = (kind.__doc__ or "").strip()
    parsed: Arguments = tyro.cli(kind, prog=f"cadenza {command}", description=description, args=arguments)
    return parsed


def settings_from(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("batch_size=64", "age_law=uniform")`` -> values; numbers, booleans and None are read as Python
    writes them, booleans also as true, yes, on, false, no, off.

    Raises:
        CadenzaError: a pair without ``=``.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise CadenzaError(f"--set takes NAME=VALUE, got {pair!r}.", "For example: --set batch_size=64 gamma=0.98")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = _WORDS.get(text.lower(), text)
    return found


def options_of(instance: Any) -> dict[str, Any]:
    """Fields of a parsed dataclass, for a record of what was asked; paths as text."""
    return {k: str(v) if hasattr(v, "__fspath__") else v for k, v in dataclasses.asdict(instance).items()}
