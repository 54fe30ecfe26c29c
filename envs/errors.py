"""The base of every error that Cadenza raises for the person at the keyboard; it lives in the lowest room."""

from __future__ import annotations

from cadenza.robots.errors import CadenzaError

__all__ = ["CadenzaError"]
