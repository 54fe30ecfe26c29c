"""What goes wrong with demonstrations, and the packages that they need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cadenza.envs.errors import CadenzaError


class DemoError(CadenzaError):
    """A set of demonstrations that cannot be read, written, continued or exported; ``advice`` says what to do next."""


class MismatchError(DemoError):
    """Sets, or a set and a recording, that do not fit together."""


def needs(module: str) -> Any:
    """The module, which the extra ``demos`` installs.

    Args:
        module: e.g. ``pyarrow.parquet``.

    Raises:
        DemoError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DemoError(
            f"Demonstrations need the Python package {module.split('.')[0]!r}; it is not installed.",
            'pip install "cadenza[demos]"      (in a checkout: pip install -e ".[demos]")',
        ) from error
