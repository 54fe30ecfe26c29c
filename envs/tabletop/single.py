"""A table-top task as a Gymnasium environment: one arm, one MjData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.rendered import RenderedEnv
from cadenza.envs.tabletop.goals import GoalTask
from cadenza.envs.tabletop.physics import SinglePhysics
from cadenza.envs.tabletop.play import Play
from cadenza.envs.tabletop.settings import configured
from cadenza.envs.tabletop.task import TableTask, actions_of
from cadenza.envs.tabletop.tasks import task_class
from cadenza.robots import load_arm

FIRST = np.zeros(1, dtype=np.intp)
SHAPED = 'A reward that is "shaped" depends on more than goals, so hindsight cannot compute it.'
OF_PLAY = ("reward_groups", "reward_weights", "object_entries")


class TableEnv(RenderedEnv):
    """One arm at one task; made with ``make_env("cadenza/PandaReach-v0", ...)``.

    ``reset(options={"object": (x, y, yaw), "goal": (x, y, z)})`` says where things start (docs/tabletop.md).

    Args:
        arm: a name of ``cadenza.robots.arm_names()``.
        task: ``reach``, ``push``, ``pick_place`` or ``play``.
        render_mode: None or ``rgb_array``.
        width: of pictures, px.
        height: of pictures, px.
        camera_name: of pictures.
        settings: of the task's configuration, by name.

    Raises:
        UnknownNameError: no such arm, task or setting.
        MissingModelError: the arm's model has not been fetched.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        arm: str,
        task: str,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera_name: str = "scene",
        **settings: Any,
    ):
        shown: dict[str, Any] = {"render_mode": render_mode, "width": width, "height": height}
        shown["camera_name"] = camera_name
        self.made_with = {"arm": arm, "task": task, **shown, **settings}
        self.task: TableTask = task_class(task)(load_arm(arm), configured(settings), 1, SinglePhysics)
        self.model, self.data = self.task.model, self.task.physics.data(0)
        self.draw_with(**shown)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.task.dt)}
        self.observation_space, self.action_space = self.task.observation_space, self.task.action_space
        self._seeded = False
        if isinstance(self.task, Play):
            self.reward_groups, self.reward_weights = self.task.reward_groups, self.task.reward_weights
            self.object_entries = self.task.object_entries

    @property
    def dt(self) -> float:
        """Length of a control step, s."""
        return self.task.dt

    @property
    def observation_names(self) -> tuple[str, ...]:
        """One for every entry of the state in the observation."""
        return self.task.layout.names()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see the class for the options."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.task.seed(0, int(self.np_random.integers(2**63)) if seed is None else seed)
            self._seeded = True
        self.task.options[0] = self.task.check_options(options)
        return self._observed(self.task.observation(self.task.reset(FIRST))), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step. The time limit is Gymnasium's wrapper's.

        Raises:
            CadenzaError: an action of another shape, or with a number that is not finite; nothing has moved then.
        """
        if not self._seeded:
            raise CadenzaError("The first step comes before the first reset.", "Call reset() first.")
        given = actions_of(action, (self.task.driver.size,))
        signals, rewards, terminated, terms = self.task.step(given[None])
        info = {
            "reward_terms": {name: float(values[0]) for name, values in terms.items()},
            **self.task.infos(signals)[0],
        }
        return self._observed(self.task.observation(signals)), float(rewards[0]), bool(terminated[0]), False, info

    def close(self) -> None:
        """Free the renderers."""
        self.task.pictures.close()
        super().close()

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on, as arrays and plain values; the same form as of a vectorised copy."""
        return self.task.states(FIRST)[0]

    def set_state(self, state: Mapping[str, Any]) -> Any:
        """Go on from :meth:`get_state` of an environment made the same way; the observation there."""
        self._seeded = True
        return self._observed(self.task.observation(self.task.set_states(FIRST, [state])))

    def get_extra_state(self) -> dict[str, Any]:
        """What :mod:`cadenza.envs.state` stores beside mjData."""
        return self.get_state()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        self.set_state(state)

    def _observed(self, parts: dict[str, NDArray[Any]]) -> Any:
        first = {name: values[0] for name, values in parts.items()}
        return first if len(first) > 1 else first["state"]


class GoalTableEnv(TableEnv):
    """The same for tasks with a goal: observations are dictionaries, as hindsight needs them.

    ``compute_reward(achieved_goal, desired_goal, info)`` gives the reward of goals (..., 3), a number for one pair.
    With ``reward="shaped"`` observations are flat and it is not there: who looks for it, as Stable-Baselines3's
    ``check_env`` does, takes it for a promise of dictionaries.
    """

    def __getattr__(self, name: str) -> Any:
        if name != "compute_reward":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if not vars(self)["task"].goal_apart:
            raise AttributeError(f"{SHAPED} There is no compute_reward.")
        return self._compute_reward

    def _compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any) -> Any:
        return reward_of(self.task, achieved_goal, desired_goal)


def reward_of(task: TableTask, achieved: ArrayLike, desired: ArrayLike) -> Any:
    """The reward of goals (..., 3): an array, or a number for a single pair.

    Raises:
        CadenzaError: the task has no goal, or a reward of more than that.
    """
    if not isinstance(task, GoalTask):
        raise CadenzaError("Play has no goal to compute a reward of.", "Reach, Push and PickPlace have.")
    if not task.goal_apart:
        raise CadenzaError(
            SHAPED,
            'reward="sparse" and "dense" it can; "shaped" is for learners without.',
        )
    reward = task.compute_reward(achieved, desired)
    return float(reward) if reward.ndim == 0 else reward
