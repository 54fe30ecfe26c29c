"""A toy of milliseconds: latches in a row, each to be pressed shut; some jam at the first try and must be cleared.

It shows with few lines what a task must offer, and gives tests and pages something to sequence.

| Observation ``state`` | |
|---|---|
| hand, distance to the latch | 2 numbers, latch spacing 1 |
| shut, jammed | of the latch at hand, 0 or 1 |
| latch | number of the latch at hand over 3 |

Action: speed of the hand along the row, and pressing (above 0.5) or shaking (below -0.5), in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cadenza.agents.sequencer.learned_primitive import LearnedPrimitive
from cadenza.agents.sequencer.primitive import Context, Outcome, Primitive
from cadenza.agents.sequencer.task import Info
from cadenza.envs.errors import CadenzaError

RATE_HZ = 10.0
ENV_ID = "latches"
"""Of demonstrations; it is no environment of ``cadenza list envs``."""
NAMES = ("press", "clear", "advance")
RECOVERED = "press"
"""The primitive whose failures count as recovered where its latch is shut in the end."""
_REACH = 0.05
_HELD, _SHAKEN = 3, 4
"""Steps of pressing that shut a latch, and of shaking that free it."""


class Latches(gym.Env):
    """The toy's world.

    Args:
        stages: latches.
        jam: probability that a latch jams when it is pressed for the first time.
    """

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, stages: int = 2, jam: float = 0.5):
        self.stages, self.jam, self.steps = stages, jam, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.will_jam = self.np_random.random(self.stages) < self.jam
        self.places = np.arange(self.stages) + self.np_random.uniform(-0.2, 0.2, self.stages)
        self.hand = float(self.places[0])
        self.shut, self.jammed = np.zeros(self.stages, dtype=bool), np.zeros(self.stages, dtype=bool)
        self.latch = self.pressed = self.shaken = self.steps = 0
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        speed, press = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        self.hand += 0.5 * float(speed)
        there = abs(self.hand - self.places[self.latch]) < _REACH
        self.pressed = self.pressed + 1 if press > 0.5 and there else 0
        self.shaken = self.shaken + 1 if press < -0.5 and there else 0
        if self.pressed == 1 and self.will_jam[self.latch]:
            self.jammed[self.latch], self.will_jam[self.latch] = True, False
        if self.pressed >= _HELD and not self.jammed[self.latch]:
            self.shut[self.latch] = True
        if self.shaken >= _SHAKEN:
            self.jammed[self.latch] = False
        return self._observation(), float(self.shut.mean()), False, False, self._info()

    @property
    def time_s(self) -> float:
        """Of the row's world, s; it moves on with its steps."""
        return self.steps / RATE_HZ

    def next_latch(self) -> None:
        """Turn to the next latch; behind the last the row is over."""
        self.latch += 1

    def _observation(self) -> dict[str, NDArray[np.float32]]:
        at = min(self.latch, self.stages - 1)
        state = [self.hand, self.places[at] - self.hand, self.shut[at], self.jammed[at], at / 3]
        return {"state": np.array(state, dtype=np.float32)}

    def _info(self) -> dict[str, Any]:
        return {"shut": self.shut.copy(), "latch": self.latch}


class _Scripted:
    """A primitive that gives one action for a number of steps, and then looks at what came of it."""

    def __init__(self, name: str, env: Latches, press: float, steps: int):
        self.name, self.time_limit_s = name, 2.0
        self._env, self._press, self._steps = env, press, steps
        self._outcome = Outcome.RUNNING

    def start(self, observation: Any, context: Context) -> None:
        self._left, self._outcome = self._steps, Outcome.RUNNING

    def act(self, observation: Any) -> NDArray[np.float32]:
        self._left -= 1
        if self._left == 0:
            self._outcome = self._judge(observation["state"])
        return np.array([0.0, self._press], dtype=np.float32)

    def _judge(self, state: NDArray[np.float32]) -> Outcome:
        jammed = bool(state[3])
        return Outcome.FAILURE if jammed and self._press > 0 else Outcome.SUCCESS

    @property
    def done(self) -> bool:
        return self._outcome is not Outcome.RUNNING

    @property
    def outcome(self) -> Outcome:
        return self._outcome


class _Advance(_Scripted):
    """Moves the hand to the next latch."""

    def __init__(self, env: Latches):
        super().__init__("advance", env, 0.0, 0)

    def start(self, observation: Any, context: Context) -> None:
        self._outcome = Outcome.RUNNING
        self._env.next_latch()

    def act(self, observation: Any) -> NDArray[np.float32]:
        if self._env.latch >= self._env.stages:
            self._outcome = Outcome.SUCCESS
            return np.zeros(2, dtype=np.float32)
        away = float(self._env.places[self._env.latch]) - self._env.hand
        if abs(away) <= 0.5:
            self._outcome = Outcome.SUCCESS
        return np.array([np.clip(away / 0.5, -1.0, 1.0), 0.0], dtype=np.float32)


def learned_press(policy: Any) -> LearnedPrimitive:
    """A policy as the primitive ``press``."""

    def judge(observation: Any, context: Context) -> Outcome:
        state = observation["state"]
        return Outcome.SUCCESS if state[2] > 0.5 else Outcome.FAILURE if state[3] > 0.5 else Outcome.RUNNING

    return LearnedPrimitive("press", policy, RATE_HZ, 2.0, judge)


LEARNABLE = {"press": learned_press}
"""Primitives that a policy can do, and how it becomes one."""


class LatchTask:
    """The toy as something to sequence: press, clear, advance."""

    name = "latches"
    rate_hz = RATE_HZ
    order = ("press", "advance")

    def __init__(self, stages: int = 2, jam: float = 0.5):
        if stages < 1 or not 0.0 <= jam <= 1.0:
            raise CadenzaError(f"Latches: at least one, and jam within 0 and 1; got {stages} and {jam}.")
        self.stages, self.env = stages, Latches(stages, jam)
        primitives = (
            _Scripted("press", self.env, 1.0, _HELD + 1),
            _Scripted("clear", self.env, -1.0, _SHAKEN),
            _Advance(self.env),
        )
        self.primitives: Mapping[str, Primitive] = {primitive.name: primitive for primitive in primitives}

    def reset(self, seed: int) -> tuple[Any, Info]:
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        if self.env.latch >= self.stages:
            return self.env._observation(), 0.0, False, False, self.env._info()
        return self.env.step(action)

    def stage(self, info: Info) -> int:
        return int(info["latch"])

    def aim(self, stage: int) -> None:
        """``advance`` moves on."""

    def finished(self, info: Info) -> tuple[bool, ...]:
        return tuple(bool(shut) for shut in info["shut"])

    def over(self, info: Info) -> bool:
        return int(info["latch"]) >= self.stages

    def context(self, info: Info) -> Context:
        return {"clip": self.stage(info), "world": self.env}

    def expert_choice(self) -> str:
        if self.env.jammed[self.env.latch]:
            return "clear"
        return "advance" if self.env.shut[self.env.latch] else "press"

    def close(self) -> None:
        self.env.close()


def make_task(stages: int | None = None, **settings: Any) -> LatchTask:
    """The toy with ``jam=0.5``, say."""
    return LatchTask(2 if stages is None else stages, **settings)
