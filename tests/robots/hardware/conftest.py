"""Puts this folder on sys.path, so that the tests of every kind of bus can import ``conformance``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("conformance")
_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)
