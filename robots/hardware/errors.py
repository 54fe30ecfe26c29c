"""What goes wrong between a program and motors."""

from __future__ import annotations

from cadenza.robots.errors import CadenzaError


class HardwareError(CadenzaError):
    """Something between us and a motor; ``advice`` says what to do next."""


class MissingSdkError(HardwareError):
    """A vendor's library is not installed.

    Args:
        module: what could not be imported.
        extra: of this project, which installs it.
    """

    def __init__(self, module: str, extra: str):
        super().__init__(
            f"This bus needs the Python package that offers {module!r}; it is not installed.",
            f'pip install "cadenza[{extra}]"      (in a checkout: pip install -e ".[{extra}]")',
        )


class RefusedError(HardwareError):
    """A mismatch for which nothing is set in motion."""
