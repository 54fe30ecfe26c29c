"""The demo's second act: what it trained just now beside a policy that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadenza.agents.runs.evaluation import Evaluation
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.shipped import ShippedPolicy

FILM_STEPS = 600
"""9 seconds of humanoid: enough to see a walk, and soon filmed."""


@dataclass(frozen=True)
class Star:
    """The shipped policy that is compared with, opened, and how it did on the task it was trained on."""

    policy: ShippedPolicy
    bundle: PolicyBundle
    evaluation: Evaluation

    @property
    def trained(self) -> str:
        """For how long, in words; how many steps where that is not known."""
        from cadenza.agents.runs.evaluation import duration

        seconds = self.policy.trained_s
        return f"{self.policy.manifest.num_timesteps:,} steps" if seconds is None else duration(seconds)

    def to_dict(self) -> dict[str, Any]:
        """For the demo's record."""
        return {
            "name": self.policy.name,
            "env": self.policy.manifest.env_id,
            "step": self.policy.manifest.num_timesteps,
            "training_s": self.policy.trained_s,
            **self.evaluation.to_dict(),
        }


def choose(env_id: str, actions: tuple[int, ...]) -> ShippedPolicy | None:
    """The shipped policy to compare with on ``env_id``: of this task, else of a robot with as many motors; the best.

    Args:
        env_id: the task.
        actions: shape of its action space.
    """
    from cadenza.controllers.shipped import shipped_policies

    def rank(policy: ShippedPolicy) -> tuple[bool, float]:
        result = policy.evaluation
        return policy.manifest.env_id == env_id, float("-inf") if result is None else float(result["return_mean"])

    fitting = [policy for policy in shipped_policies() if policy.manifest.action_shape == actions]
    return max(fitting, key=rank, default=None)


def invite(env_id: str, episodes: int, seed: int) -> Star | None:
    """Open and measure the shipped policy that fits ``env_id``; None where there is none.

    It plays the task it was trained on, which may be another than ``env_id``: its observations fit no other.

    Raises:
        CadenzaError: a shipped policy is damaged.
    """
    from cadenza.agents.asymmetric import act_in
    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.envs.registration import make_env

    stage = make_env(env_id)
    actions: tuple[int, ...] = tuple(stage.action_space.shape or ())
    stage.close()
    policy = choose(env_id, actions)
    if policy is None:
        return None
    bundle = PolicyBundle.load(policy.path)
    env = _stage_of(policy)
    try:
        return Star(policy, bundle, evaluate(act_in(bundle, env), env, episodes=episodes, seed=seed))
    finally:
        env.close()


def film_beside(path: Path, env_id: str, fresh: Any, trained: str, after: Evaluation, star: Star, seed: int) -> None:
    """Film what was trained just now (left) beside the shipped policy (right), from the same seed.

    Args:
        path: the .mp4.
        env_id: the task of the fresh policy.
        fresh: what acts on it.
        trained: for how long, in words.
        after: its evaluation.
        star: the shipped policy.
        seed: of the filmed episode.
    """
    from cadenza.agents.asymmetric import act_in
    from cadenza.envs.registration import make_env
    from cadenza.envs.rendering.filming import Panel, film_side_by_side

    envs = [make_env(env_id), _stage_of(star.policy)]
    ours, theirs = f"trained just now, {trained}", f"{star.policy.name} (ships), trained {star.trained}"
    try:
        panels = [
            Panel(ours, envs[0], fresh, _notes(after)),
            Panel(theirs, envs[1], act_in(star.bundle, envs[1]), _notes(star.evaluation)),
        ]
        film_side_by_side(panels, path, seed=seed, max_steps=FILM_STEPS)
    finally:
        for env in envs:
            env.close()


def velocity_of(result: Evaluation) -> str:
    """In words, ``-`` where the task measures none."""
    return "-" if result.forward_velocity_mean is None else f"{result.forward_velocity_mean:.2f} m/s"


def _notes(result: Evaluation) -> dict[str, str]:
    """One line: a second would cover the robot's head, and how its episode ended."""
    velocity = "" if result.forward_velocity_mean is None else f", {velocity_of(result)}"
    return {f"mean of {result.n} episodes": f"return {result.return_mean:,.0f}{velocity}"}


def _stage_of(policy: ShippedPolicy) -> Any:
    from cadenza.envs.registration import make_env

    return make_env(policy.manifest.env_id, **policy.manifest.env_kwargs)
