"""Worlds of cable routing for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cadenza.envs.cable.cable_routing import CableRouting
from cadenza.robots.menagerie import is_fetched


@pytest.fixture(autouse=True)
def _panda() -> None:
    if not is_fetched("franka_emika_panda"):
        pytest.skip("the Panda is not on this computer: make robots")


@pytest.fixture(scope="session")
def routing() -> Callable[..., CableRouting]:
    """Environments by their settings, each made once."""
    made: dict[str, CableRouting] = {}

    def make(**settings: Any) -> CableRouting:
        key = repr(sorted(settings.items()))
        if key not in made:
            made[key] = CableRouting(visuals=settings.pop("visuals", False), **settings)
        return made[key]

    return make
