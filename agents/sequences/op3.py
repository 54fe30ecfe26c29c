"""OP3 gets up, stands, walks: primitives that play policy bundles, chosen by tilt and turning speed.

``get_up`` is a scripted placeholder: it drives the joints home and rights the robot from no pose worth the name. It
holds the place of a policy of ``cadenza/OP3GetUp-v0``. ``stand`` plays the shipped bundle ``op3-stand``; where there is
none, ``op3-walk`` that is asked not to move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.sequencer.primitive import Context, Observation, Outcome, Primitive
from cadenza.agents.sequencer.task import Info
from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.shipped import locate, shipped_names
from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.single import LeggedEnv
from cadenza.envs.names import unknown_name
from cadenza.envs.registration import make_env
from cadenza.robots.hardware.types import ImuState, JointState, RobotState

STARTS = {"standing": "cadenza/OP3Walk-v0", "fallen": "cadenza/OP3GetUp-v0"}
"""How an episode begins -> environment; in the first a fall ends it."""
WALKED_M = 0.3
"""So far from where it began, and upright: done."""
FALLEN_UP = 0.64
"""Cosine of the tilt below which it counts as fallen: 50 degrees."""
STEADY_UP, STEADY_RAD_S = 0.97, 1.5
WALK_M_S = 0.2
GET_UP_S, STAND_S, WALK_S = 1.5, 1.0, 4.0
_RECOVERABLE = ("get_up", "stand", "walk")
RECOVERED = "walk"
"""The primitive whose failures the others make up for."""


class _Timed:
    """A primitive that ends after some time and is then judged by tilt.

    Args:
        name: what a sequencer calls it.
        task: whose robot it moves.
        seconds: how long it acts.
    """

    def __init__(self, name: str, task: OP3Task, seconds: float):
        self.name, self.time_limit_s = name, seconds + 1.0
        self._task, self._steps = task, max(1, round(seconds * task.rate_hz))
        self._left, self._outcome = 0, Outcome.RUNNING

    def start(self, observation: Observation, context: Context) -> None:
        self._left, self._outcome = self._steps, Outcome.RUNNING
        self._begin()

    def act(self, observation: Observation) -> NDArray[np.float32]:
        self._left -= 1
        if self._left <= 0 or self._task.fallen != self._was_fallen:
            self._outcome = Outcome.FAILURE if self._task.fallen else Outcome.SUCCESS
        return self._targets()

    @property
    def done(self) -> bool:
        return self._outcome is not Outcome.RUNNING

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    def _begin(self) -> None:
        self._was_fallen = self._task.fallen

    def _targets(self) -> NDArray[np.float32]:
        raise NotImplementedError


class GetUpPlaceholder(_Timed):
    """Drives the joints from where they are to the home pose. It is no skill; see the module."""

    def _begin(self) -> None:
        super()._begin()
        self._from = self._task.state().joints.q - self._task.home

    def _targets(self) -> NDArray[np.float32]:
        return self._task.action_for(self._task.home + self._from * max(0.0, self._left / self._steps))


class PlayBundle(_Timed):
    """Plays a policy bundle with a velocity command, as ``cadenza deploy`` would.

    Args:
        name: what a sequencer calls it.
        task: whose robot it moves.
        seconds: how long it acts.
        runner: of the bundle.
        command: forward and left, m/s, turn, rad/s.
    """

    def __init__(self, name: str, task: OP3Task, seconds: float, runner: PolicyRunner, command: tuple[float, ...]):
        super().__init__(name, task, seconds)
        self._runner, self._command = runner, np.array(command, dtype=np.float64)

    def _begin(self) -> None:
        super()._begin()
        self._runner.reset()

    def _targets(self) -> NDArray[np.float32]:
        return self._task.action_for(self._runner.step(self._task.state(), self._command).q)


class OP3Task:
    """See the module.

    Args:
        stages: 1; there is one thing to do.
        start: ``standing`` or ``fallen``.
        push_m_s: what the robot is pushed by, in any direction, 2 s into the episode; 0: not.
        walk: a bundle, or the name of a shipped one.
        stand: the same; None: ``op3-stand`` where it ships, else ``walk`` without a command.
    """

    name = "op3"
    order = _RECOVERABLE

    def __init__(
        self, stages: int = 1, start: str = "standing", push_m_s: float = 0.0, walk: str = "op3-walk",
        stand: str | None = None,
    ):  # fmt: skip
        if stages != 1:
            raise CadenzaError(f"op3 has one stage, not {stages}.")
        if start not in STARTS:
            raise unknown_name("start", start, STARTS)
        self.stages, self._push_m_s = 1, push_m_s
        self.env = make_env(STARTS[start], pictures=False)
        task = self.env.unwrapped
        assert isinstance(task, LeggedEnv)
        self._legged = task
        self.rate_hz = 1.0 / task.dt
        self.home = task.task.home.copy()
        runner = PolicyRunner(PolicyBundle.load(locate(walk)[0]))
        if abs(runner.period_s - task.dt) > 1e-9 or not np.allclose(runner.home, self.home):
            raise CadenzaError(f"{walk} was not trained for this robot at {self.rate_hz:g} Hz.")
        named = stand or ("op3-stand" if "op3-stand" in shipped_names() else walk)
        standing = PolicyRunner(PolicyBundle.load(locate(named)[0]))
        made: tuple[Primitive, ...] = (
            GetUpPlaceholder("get_up", self, GET_UP_S),
            PlayBundle("stand", self, STAND_S, standing, (0.0, 0.0, 0.0)),
            PlayBundle("walk", self, WALK_S, runner, (WALK_M_S, 0.0, 0.0)),
        )
        self.primitives: Mapping[str, Primitive] = {primitive.name: primitive for primitive in made}

    # ------------------------------------------------------------------ what primitives and rules look at

    def state(self) -> RobotState:
        """What the robot measures."""
        seen = self._legged.seen()
        joints = JointState.unknown(len(self.home))
        joints.q[:], joints.dq[:] = seen.joint_angle[0], seen.joint_velocity[0]
        return RobotState(joints, ImuState(seen.gyro[0].copy(), seen.gravity[0].copy(), 0.0), 0.0)

    def action_for(self, targets: NDArray[np.float64]) -> NDArray[np.float32]:
        """The environment's action whose joint targets are these, rad."""
        return np.clip((targets - self.home) / self._legged.task.action_scale, -1.0, 1.0).astype(np.float32)

    @property
    def up(self) -> float:
        """Cosine of the tilt that the inertial unit measures: 1 upright, 0 lying."""
        return -float(self._legged.seen().gravity[0, 2])

    @property
    def fallen(self) -> bool:
        """Tilted by more than 50 degrees."""
        return self.up < FALLEN_UP

    # ------------------------------------------------------------------ SequenceTask

    def reset(self, seed: int) -> tuple[Observation, Info]:
        observation, _ = self.env.reset(seed=seed, options=self._options())
        self._random = np.random.default_rng([seed, 3])
        self._start, self._taken, self._stood = self._place(), 0, False
        return observation, self._info()

    def _options(self) -> dict[str, Any]:
        return {"command": (WALK_M_S, 0.0, 0.0)} if self.env.spec and "Walk" in self.env.spec.id else {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        self._taken += 1
        if self._push_m_s and self._taken == round(2.0 * self.rate_hz):
            turn = self._random.uniform(0.0, 2.0 * np.pi)
            self._legged.data.qvel[:2] += self._push_m_s * np.array((np.cos(turn), np.sin(turn)))
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, float(reward), terminated, truncated, self._info()

    def _place(self) -> NDArray[np.float64]:
        return self._legged.data.qpos[:2].copy()

    def _info(self) -> dict[str, Any]:
        return {"walked_m": float(np.linalg.norm(self._place() - self._start)), "up": self.up}

    def stage(self, info: Info) -> int:
        return 0

    def aim(self, stage: int) -> None:
        """There is one stage."""

    def finished(self, info: Info) -> tuple[bool, ...]:
        return (info["walked_m"] >= WALKED_M and info["up"] >= FALLEN_UP,)

    def over(self, info: Info) -> bool:
        return self.finished(info)[0]

    def context(self, info: Info) -> Context:
        return {"clip": 0, "world": None}

    def expert_choice(self) -> str:
        """Fallen: ``get_up``. Shaken: ``stand``. Steady: ``walk``. By the inertial unit alone."""
        if self.fallen:
            return "get_up"
        turning = float(np.linalg.norm(self._legged.seen().gyro[0]))
        return "walk" if self.up >= STEADY_UP and turning <= STEADY_RAD_S else "stand"

    def close(self) -> None:
        self.env.close()


def make_task(stages: int | None = None, **settings: Any) -> OP3Task:
    """Begins standing; ``start="fallen"`` begins on the ground."""
    return OP3Task(1 if stages is None else stages, **settings)
