"""Open a run of skills, and the environments to play them in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cadenza.agents.runs.policies import open_policy
from cadenza.agents.slim.slim import SLIM
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env, make_vec_env

if TYPE_CHECKING:
    from cadenza.agents.runs.policies import OpenedPolicy


def open_skills(run: str | Path) -> tuple[SLIM, OpenedPolicy]:
    """The agent of a run's last checkpoint, and what the run was.

    Raises:
        CadenzaError: no run there, nothing stored yet, or an agent without skills.
    """
    opened = open_policy(run, "last")
    if not isinstance(opened.model, SLIM):
        raise CadenzaError(
            f"{run} has no skills: it holds {opened.label}.",
            "Skills are learned by `cadenza train slim ENV`, e.g. cadenza train slim cadenza/PandaPlay-v0.",
        )
    return opened.model, opened


def skill_envs(env_id: str, n: int, **kwargs: Any) -> VecEnv:
    """``n`` environments without skills: on MuJoCo's batch where the task has one, else in turn.

    Raises:
        CadenzaError: unknown id, or fewer than one environment.
    """
    if n < 1:
        raise CadenzaError(f"At least 1 environment is needed, got {n}.")
    together = make_vec_env(env_id, n, **kwargs)
    if together is not None:
        return together
    return DummyVecEnv([partial(make_env, env_id, pictures=False, **kwargs) for _ in range(n)])
