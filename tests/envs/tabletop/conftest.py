"""Environments of arms whose models are on this computer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cadenza.envs.registration import make_env, make_vec_env, table_ids
from cadenza.envs.tabletop.single import TableEnv
from cadenza.envs.tabletop.vectorized import TableVecEnv
from cadenza.robots.menagerie import is_fetched

MakeSingle = Callable[..., TableEnv]
MakeVec = Callable[..., TableVecEnv]


def need(env_id: str) -> None:
    """Skip where a model has not been fetched."""
    for model in table_ids()[env_id][0].models:
        if not is_fetched(model):
            pytest.skip(f"{model} is not on this computer: make robots")


@pytest.fixture
def single() -> MakeSingle:
    """Makes an environment without Gymnasium's wrappers."""

    def make(name: str, **settings: Any) -> TableEnv:
        need(f"cadenza/{name}-v0")
        made = make_env(f"cadenza/{name}-v0", pictures=False, **settings).unwrapped
        assert isinstance(made, TableEnv)
        return made

    return make


@pytest.fixture
def together() -> MakeVec:
    """Makes a vectorised environment on one thread."""

    def make(name: str, n: int, **settings: Any) -> TableVecEnv:
        need(f"cadenza/{name}-v0")
        made = make_vec_env(f"cadenza/{name}-v0", n, threads=1, **settings)
        assert isinstance(made, TableVecEnv)
        return made

    return make
