"""Nearest names for a mistyped one; the helper lives in the lowest room."""

from __future__ import annotations

from cadenza.robots.names import UnknownNameError, nearest, unknown_name

__all__ = ["UnknownNameError", "nearest", "unknown_name"]
