"""Nearest names for a mistyped one. Imports nothing of ours but the error base."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from cadenza.robots.errors import CadenzaError


class UnknownNameError(CadenzaError, ValueError):
    """A name that does not exist; the advice lists the nearest that do."""


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of ``choices`` that look like ``name``, best first; case is ignored."""
    by_lower = {choice.lower(): choice for choice in choices}
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)]


def unknown_name(kind: str, name: str, choices: Iterable[str], *, see: str = "") -> UnknownNameError:
    """The error for ``name``, which is none of ``choices``.

    Args:
        kind: what was named, e.g. ``environment``.
        name: as the user wrote it.
        choices: the names that exist.
        see: the command that lists them all.
    """
    choices = list(choices)
    near = nearest(name, choices)
    if near:
        advice = f"Did you mean {', '.join(near)}?"
    elif len(choices) <= 12:
        advice = f"There are: {', '.join(choices)}."
    else:
        advice = ""
    if see:
        advice = f"{advice} `{see}` lists them all.".strip()
    return UnknownNameError(f"There is no {kind} named {name!r}.", advice)
