"""Open the skills of a run or a bundle, and the environments to play them in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cadenza.agents.runs.policies import open_policy
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env, make_vec_env

if TYPE_CHECKING:
    from cadenza.agents.runs.policies import OpenedPolicy
    from cadenza.agents.slim.player import SkillPlayer


def open_skills(source: str | Path) -> tuple[SkillPlayer, OpenedPolicy]:
    """The skills of a run's last checkpoint, a bundle or a shipped policy, and what was opened.

    Raises:
        CadenzaError: none of these, nothing stored yet, or an agent without skills.
    """
    opened = open_policy(source, "last")
    if opened.skills is None:
        raise CadenzaError(
            f"{source} has no skills: it holds {opened.label}.",
            "Skills are learned by `cadenza train slim ENV`, e.g. cadenza train slim cadenza/PandaPlay-v0; a bundle "
            "that was exported by an older version has none: export it again.",
        )
    return opened.skills, opened


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
