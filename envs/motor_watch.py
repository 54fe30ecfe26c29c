"""A wrapper that watches the motors: what the commands of a training or an evaluation would have done to them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.motor_metrics import LOOKBACK, Totals, difference, empty_totals, measure, merge, summarize

BLOCK = 512
"""Steps that are collected before they are measured at once; also the longest stretch of the spectrum."""


@dataclass(frozen=True, eq=False)
class MotorLimits:
    """What commands and forces are compared with; arrays of shape (motors,)."""

    names: list[str]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """Of the command, in the units of ``ctrl`` (of the action where there is no MuJoCo)."""
    force_limit: NDArray[np.float64] | None = None
    """Of ``actuator_force``; None where a limit is not known."""

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Self | None:
        """The limits that a model states; None where it states no range for an actuator's command."""
        ranges = _command_ranges(model, None, None)
        return None if ranges is None else cls(_joint_names(model), *ranges, _force_limits(model))

    def share(self, commands: NDArray[Any]) -> NDArray[np.float64]:
        """Commands (..., motors) in [-1, 1]; what is not finite counts as 0."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return np.clip(np.nan_to_num((commands - middle) / half), -1.0, 1.0)

    def load(self, forces: NDArray[Any]) -> NDArray[np.float64] | None:
        """Forces (..., motors) over their limits, in [-1, 1]; None where a limit is not known."""
        if self.force_limit is None:
            return None
        return np.clip(np.nan_to_num(forces / self.force_limit), -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Tap:
    """Where a step's command and force are read."""

    limits: MotorLimits
    dt_s: float | None
    data: mujoco.MjData | None = None

    @property
    def names(self) -> list[str]:
        return self.limits.names


class MotorWatch(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Reads the actuators after each step and changes nothing.

    MuJoCo environments are read at ``data.ctrl`` and ``data.actuator_force`` after the step, whatever the action went
    through before. A motor's torque is constant within a step; that of a position or velocity servo is sampled at the
    end of it. Other environments show their commands only (the action over its bounds), and those whose actions are no
    bounded Box nothing at all. Values that are not finite count as 0.

    The windings start at ambient temperature and stay as hot as they are when an episode ends: a reset takes no time.

    All it knows is in plain attributes: a checkpoint of the environment's state (:mod:`cadenza.envs.state`) holds it,
    and a resumed training goes on counting exactly where it was. One made without it is still restored.

    Args:
        env: any environment.
    """

    optional_layer = True
    """For :mod:`cadenza.envs.state`: a state that was saved without this wrapper fits."""

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._tap = _tap(env)
        motors = 0 if self._tap is None else len(self._tap.names)
        # A row is one step; float32, since checkpoints store them. The first rows are the steps before the block.
        self._commands = np.zeros((LOOKBACK + BLOCK, motors), np.float32)
        self._forces = np.zeros((LOOKBACK + BLOCK, motors), np.float32)
        self._starts = np.zeros(BLOCK, bool)
        self._filled = 0
        self._before = 0
        self._fresh = True
        self._rise_k = np.zeros(motors)
        self._totals = empty_totals(motors)
        self._marked = empty_totals(motors)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset; the next step is not compared with the last one."""
        result = self.env.reset(seed=seed, options=options)
        self._fresh = True
        if self._tap is not None and self._tap.data is not _data_of(self.env):
            tap = _tap(self.env)  # the environment made its data anew
            if tap is not None and len(tap.names) == len(self._rise_k):
                self._tap = tap
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and take note."""
        result = self.env.step(action)
        tap = self._tap
        if tap is not None:
            row = self._filled
            if tap.data is None:
                self._commands[LOOKBACK + row] = action
            else:
                self._commands[LOOKBACK + row] = tap.data.ctrl
                self._forces[LOOKBACK + row] = tap.data.actuator_force
            self._starts[row] = self._fresh
            self._fresh = False
            self._filled = row + 1
            if self._filled == BLOCK:
                self._totals, self._rise_k = self._measured()
                self._before = min(LOOKBACK, BLOCK - last_start(self._starts, self._before))
                for rows in (self._commands, self._forces):
                    rows[:LOOKBACK] = rows[BLOCK:]
                self._filled = 0
        return result

    def _measured(self) -> tuple[Totals, NDArray[np.float64]]:
        """Totals with the rows collected so far, and the windings' rise after them."""
        tap, count = self._tap, self._filled
        if tap is None or count == 0:
            return self._totals, self._rise_k
        commands = tap.limits.share(self._commands[: LOOKBACK + count])
        loads = tap.limits.load(self._forces[: LOOKBACK + count])
        new, rise = measure(commands, loads, self._starts[:count], self._before, self._rise_k, tap.dt_s or math.nan)
        return merge(self._totals, new), rise

    # ------------------------------------------------------------------ reading

    @property
    def names(self) -> list[str]:
        """The joints, in the order of the totals; empty where nothing can be watched."""
        return [] if self._tap is None else list(self._tap.names)

    @property
    def dt_s(self) -> float | None:
        """Length of a control step, where the environment says."""
        return None if self._tap is None else self._tap.dt_s

    def totals(self) -> Totals:
        """Of all steps so far."""
        return self._measured()[0]

    def mark(self) -> tuple[Totals, Totals]:
        """Totals of all steps, and of those since the last mark."""
        totals = self.totals()
        since = difference(totals, self._marked)
        self._marked = {
            name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in totals.items()
        }
        return totals, since

    def summary(self) -> dict[str, Any] | None:
        """The metrics of all steps so far (:func:`cadenza.envs.motor_metrics.summarize`); None without a motor."""
        return None if not self.names else summarize(self.totals(), self.names, self.dt_s)


def motor_watches(envs: Iterable[gym.Env]) -> list[MotorWatch]:
    """The watch of each environment that has one and sees something."""
    found = []
    for env in envs:
        layer = env
        while isinstance(layer, gym.Wrapper) and not isinstance(layer, MotorWatch):
            layer = layer.env
        if isinstance(layer, MotorWatch) and layer.names:
            found.append(layer)
    return found


def last_start(starts: NDArray[np.bool_], before: int) -> int:
    """Row of the last step that begins an episode; before the block where it lies there."""
    found = np.flatnonzero(starts)
    return int(found[-1]) if len(found) else -before


# ------------------------------------------------------------------ what there is to read


def _data_of(env: gym.Env) -> mujoco.MjData | None:
    data = getattr(env.unwrapped, "data", None)
    return data if isinstance(data, mujoco.MjData) and data.model.nu else None


def _tap(env: gym.Env) -> _Tap | None:
    """How to read ``env``'s motors; None where there is nothing to compare a command with."""
    low, high = _action_bounds(env.action_space)
    data, dt_s = _data_of(env), _step_seconds(env)
    if data is not None:
        ranges = _command_ranges(data.model, low, high)
        if ranges is not None:
            limit = _force_limits(data.model) if dt_s is not None else None
            return _Tap(MotorLimits(_joint_names(data.model), *ranges, limit), dt_s, data)
    if low is None or high is None or not (high > low).all():
        return None
    return _Tap(MotorLimits([f"action {index}" for index in range(len(low))], low, high), dt_s)


def _action_bounds(space: gym.Space) -> tuple[NDArray[np.float64], NDArray[np.float64]] | tuple[None, None]:
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.is_bounded("both"):
        return space.low.astype(np.float64), space.high.astype(np.float64)
    return None, None


def _step_seconds(env: gym.Env) -> float | None:
    """Of one ``step``: Gymnasium's MuJoCo tasks, and many others, call it ``dt``."""
    dt = getattr(env.unwrapped, "dt", None)
    return float(dt) if isinstance(dt, int | float | np.number) and not isinstance(dt, bool) and dt > 0 else None


def _command_ranges(
    model: mujoco.MjModel, low: NDArray[np.float64] | None, high: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What the actuators obey; where the model sets no limit, the action's bounds stand in."""
    limited = model.actuator_ctrllimited.astype(bool)
    lower, upper = model.actuator_ctrlrange.T.copy()
    if not limited.all():
        if low is None or high is None or len(low) != model.nu:
            return None
        lower, upper = np.where(limited, lower, low), np.where(limited, upper, high)
    return (lower, upper) if (upper > lower).all() else None


def _force_limits(model: mujoco.MjModel) -> NDArray[np.float64] | None:
    """Largest |actuator_force| of each actuator: its stall torque over its gear, so that the gear falls out of a load.

    It is the model's ``forcerange``; for a plain motor without one the gain times the largest command; and never more
    than the joint's ``actuatorfrcrange`` lets through. None where an actuator has no limit.
    """
    limits = np.full(model.nu, np.inf)
    forced = model.actuator_forcelimited.astype(bool)
    limits[forced] = np.abs(model.actuator_forcerange[forced]).max(axis=1)
    plain = (
        (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED)
        & (model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE)
        & (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE)
        & model.actuator_ctrllimited.astype(bool)
    )
    by_command = np.abs(model.actuator_gainprm[:, 0]) * np.abs(model.actuator_ctrlrange).max(axis=1)
    limits[plain] = np.minimum(limits, by_command)[plain]
    for index in np.flatnonzero(model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT):
        joint, gear = model.actuator_trnid[index, 0], abs(model.actuator_gear[index, 0])
        if model.jnt_actfrclimited[joint] and gear > 0:
            limits[index] = min(limits[index], np.abs(model.jnt_actfrcrange[joint]).max() / gear)
    return limits if np.isfinite(limits).all() and (limits > 0).all() else None


def _joint_names(model: mujoco.MjModel) -> list[str]:
    """Of the joints that the actuators move, else the actuators' own; no name twice."""
    names: list[str] = []
    for index in range(model.nu):
        name = ""
        if model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT:
            name = model.joint(model.actuator_trnid[index, 0]).name
        name = name or model.actuator(index).name or f"actuator {index}"
        names.append(name if name not in names else f"{name} ({index})")
    return names
