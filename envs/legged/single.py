"""A legged task as a Gymnasium environment: one robot, one MjData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cadenza.envs.legged.events import describe
from cadenza.envs.legged.physics import SinglePhysics
from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.task import LeggedTask, configured
from cadenza.envs.legged.tasks import task_class
from cadenza.envs.mirror import Mirror
from cadenza.envs.rendering.rendered import RenderedEnv
from cadenza.robots import load_humanoid

FIRST = np.zeros(1, dtype=np.intp)


class LeggedEnv(RenderedEnv):
    """One robot at one task; made with ``make_env("cadenza/OP3Walk-v0", ...)``.

    ``info["reward_terms"]`` has the weighted terms of every step, and ``floor``, what the cut of a negative sum at 0
    added; ``reset(options={"command": (0.2, 0, 0)})`` fixes the velocity command of an episode (forward and left, m/s,
    turning to the left, rad/s), ``options={"parameters": {...}}`` sets values that a curriculum chose.

    Args:
        robot: a name of ``cadenza list robots``.
        task: ``stand``, ``walk``, ``run`` or ``get_up``.
        render_mode: None or ``rgb_array``.
        width: of pictures, px.
        height: of pictures, px.
        camera_name: of pictures.
        settings: of the task's configuration, by name.

    Raises:
        UnknownNameError: no such robot, task or setting.
        MissingModelError: the robot's model has not been fetched.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        robot: str,
        task: str,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera_name: str = "follow",
        **settings: Any,
    ):
        shown: dict[str, Any] = {"render_mode": render_mode, "width": width, "height": height}
        shown["camera_name"] = camera_name
        self.made_with = {"robot": robot, "task": task, **shown, **settings}
        kind, description = task_class(task), load_humanoid(robot)
        self.task: LeggedTask = kind(description, configured(kind, description, settings), 1, SinglePhysics)
        physics = self.task.physics
        assert isinstance(physics, SinglePhysics)
        self.model, self.data = physics.model, physics.data
        self.draw_with(**shown)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.task.dt)}
        self.observation_space = spaces.Box(-np.inf, np.inf, (self.task.layout.size,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.task.home),), np.float32)
        self.actor_observation_size = self.task.layout.actor_size
        self._seeded = False

    @property
    def events_record(self) -> dict[str, Any]:
        """What randomises and disturbs it, with ranges, for a run folder."""
        return describe(self.task.events)

    @property
    def mirror(self) -> Mirror:
        """How its observations and actions look in a mirror, for agents that learn from both."""
        return self.task.mirror

    @property
    def dt(self) -> float:
        """Length of a control step, s."""
        return self.task.dt

    @property
    def parameter_ranges(self) -> dict[str, tuple[float, float]]:
        """What a teacher may choose at a reset."""
        return self.task.parameter_ranges()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """In the order of actions."""
        return self.task.robot.joint_names

    @property
    def observation_names(self) -> tuple[str, ...]:
        """One for every entry of what the actor sees."""
        return self.task.layout.names()

    def seen(self) -> Signals:
        """What the newest sample of the last observation was made of, but for sensor noise."""
        if not self.task.steps[0]:
            return self.task._signals(FIRST)
        return replace(self.task.last_signals, command=self.task.command.copy())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin an episode; see the class for the options.

        Raises:
            CommandError: a command that the task does not take.
        """
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.task.seed(0, int(self.np_random.integers(2**63)) if seed is None else seed)
            self._seeded = True
        options = options or {}
        if "command" in options:
            self.task.checked_command(options["command"])  # before anything is begun
        self.task.parameters[0] = dict(options.get("parameters", {}))
        observation = self.task.reset(FIRST)[0]
        if "command" in options:
            observation = self.task.hold_command(0, options["command"])
        return observation, {"command": self.task.command[0].copy()}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """One control step. The time limit is Gymnasium's wrapper's."""
        observations, rewards, terminated, terms = self.task.step(np.asarray(action, dtype=np.float64)[None])
        info = {
            "reward_terms": weighted(self.task, terms, rewards, 0),
            "command": self.task.command[0].copy(),
            **{name: float(values[0]) for name, values in self.task.measures().items()},
        }
        return observations[0], float(rewards[0]), bool(terminated[0]), False, info

    def get_extra_state(self) -> dict[str, Any]:
        """What :mod:`cadenza.envs.state` stores beside mjData."""
        return self.task.state()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        self.task.set_state(state)


def weighted(
    task: LeggedTask, terms: Mapping[str, NDArray[np.float64]], rewards: NDArray[np.float64], index: int
) -> dict[str, float]:
    """A copy's reward terms times their weights, and ``floor``: they sum to its reward."""
    out = {
        name: float(weight * values[index])
        for weight, (name, values) in zip(task.reward_weights, terms.items(), strict=True)
    }
    return {**out, "floor": float(rewards[index]) - sum(out.values())}
