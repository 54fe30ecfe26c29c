"""Moving one motor so that its inertia, friction, damping and gain show, and recording what it did.

What goes out is planned beforehand as offsets from the measured pose: a chirp whose amplitude shrinks where its speed
would pass the limit, small steps, and for the test a sum of sines that the fit never sees. Everything starts and ends
at rest at the start. The plan is refused where it would leave the soft limits; while it runs, a fault, a stale sample,
a speed or an angle that nobody asked for ends it with torque off. identification_fit.py makes numbers of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.bus import MotorBus
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.types import Fault, JointCommand, Mode

Array = NDArray[np.float64]
Shape = Literal["chirp", "steps", "sines"]

_RAMP_S = 1.0
_HOLD_S = 0.7
_MOST_LOST = 5
"""Samples in a row that may be missing."""


@dataclass(frozen=True)
class Limits:
    """What a plan may ask for, and at which point a run is broken off."""

    amplitude_rad: float = 0.3
    """Largest offset from the start."""
    step_rad: float = 0.12
    """Largest jump of the goal."""
    speed_rad_s: float = 2.0
    """Fastest that a chirp or a sum of sines asks for."""
    position_rad: tuple[float, float] = (-math.inf, math.inf)
    """Hard limits, at the motor's shaft."""
    margin_rad: float = 0.05
    """Soft limits lie this far inside."""

    def __post_init__(self) -> None:
        for name, most in (("amplitude_rad", 1.5), ("step_rad", 0.5), ("speed_rad_s", 10.0)):
            value = getattr(self, name)
            if not 0 < value <= most:
                raise HardwareError(f"{name} is {value:g}.", f"Allowed are values above 0, up to {most:g}.")


@dataclass(frozen=True)
class Excitation:
    """One run."""

    shape: Shape
    duration_s: float = 10.0
    low_hz: float = 0.2
    high_hz: float = 4.0
    """Of a chirp, and of the fastest sine."""
    seed: int = 0
    """Of the sizes of steps and the phases of sines."""

    def offsets(self, times_s: Array, limits: Limits) -> Array:
        """Goal less start at each time, rad, (n,); 0 at both ends."""
        if self.shape == "steps":
            return self._steps(times_s, limits)
        wave = self._chirp(times_s, limits) if self.shape == "chirp" else self._sines(times_s, limits)
        rise = np.clip(times_s / _RAMP_S, 0.0, 1.0) * np.clip((self.duration_s - times_s) / _RAMP_S, 0.0, 1.0)
        return wave * rise * rise * (3 - 2 * rise)

    def _chirp(self, times_s: Array, limits: Limits) -> Array:
        slope = (self.high_hz - self.low_hz) / self.duration_s
        now_hz = self.low_hz + slope * times_s
        phase = 2 * np.pi * (self.low_hz * times_s + slope * times_s**2 / 2)
        return np.minimum(limits.amplitude_rad, limits.speed_rad_s / (2 * np.pi * now_hz)) * np.sin(phase)

    def _sines(self, times_s: Array, limits: Limits) -> Array:
        rng = np.random.default_rng(self.seed)
        rates_hz = np.geomspace(self.low_hz, 0.75 * self.high_hz, 5)
        parts = np.minimum(limits.amplitude_rad, limits.speed_rad_s / (2 * np.pi * rates_hz)) / 2.5
        phases = rng.uniform(0, 2 * np.pi, 5)
        wave = (parts * np.sin(2 * np.pi * rates_hz * times_s[:, None] + phases)).sum(axis=1)
        return np.clip(wave, -limits.amplitude_rad, limits.amplitude_rad)

    def _steps(self, times_s: Array, limits: Limits) -> Array:
        rng = np.random.default_rng(self.seed)
        count = max(int(self.duration_s / _HOLD_S), 2)
        levels, now = [0.0], 0.0
        for _ in range(count - 2):
            size = rng.uniform(0.4, 1.0) * limits.step_rad
            way = -1.0 if now > 0 else 1.0 if now < 0 else rng.choice([-1.0, 1.0])
            now = float(np.clip(now + way * size, -limits.amplitude_rad, limits.amplitude_rad))
            levels.append(now)
        levels.append(0.0)
        return np.array(levels)[np.minimum((times_s / _HOLD_S).astype(int), count - 1)]


def plan(excitation: Excitation, start_rad: float, period_s: float, limits: Limits) -> Array:
    """Goals of a run at each tick, rad at the motor's shaft.

    Raises:
        RefusedError: the motor stands where they would pass its soft limits.
    """
    times = np.arange(0.0, excitation.duration_s, period_s)
    offsets = excitation.offsets(times, limits)
    low, high = limits.position_rad[0] + limits.margin_rad, limits.position_rad[1] - limits.margin_rad
    least, most = start_rad + offsets.min(), start_rad + offsets.max()
    if not (low <= least and most <= high):
        raise RefusedError(
            f"From {math.degrees(start_rad):.1f} deg this would move to {math.degrees(least):.1f} and "
            f"{math.degrees(most):.1f} deg, beyond the soft limits of {math.degrees(low):.1f} and "
            f"{math.degrees(high):.1f} deg.",
            "Turn the joint nearer to the middle of its range by hand, or lower --amplitude.",
        )
    return start_rad + offsets


@dataclass(frozen=True)
class Load:
    """What is on the shaft besides the motor's own rotor and gear."""

    inertia_kg_m2: float = 0.0
    """About the shaft."""
    arm_kg_m: float = 0.0
    """Mass times the distance of its centre from the shaft."""
    hangs_at_rad: float = 0.0
    """Motor angle at which its centre hangs lowest."""


def limb_load(robot: LeggedRobot, name: str, pose: dict[str, float]) -> Load:
    """What a joint of a robot turns when its base is fixed and all other joints stand still.

    Args:
        robot: hung up.
        name: of the joint.
        pose: angle of every joint, rad.

    Raises:
        ValueError: there is no joint of that name.
    """
    import mujoco

    from cadenza.robots.hardware.plant import Plant

    row, plant = robot.joint(name), Plant.of_robot(robot, hung_up=True)
    model, data = plant.model, plant.data
    for other, angle in pose.items():
        data.qpos[model.joint(other).qposadr[0]] = angle
    place, dof = int(model.joint(name).qposadr[0]), int(model.joint(name).dofadr[0])
    start = float(data.qpos[place])
    data.qvel[:] = 0.0
    weight = []
    for angle in (start, start + math.pi / 2):
        data.qpos[place] = angle
        mujoco.mj_forward(model, data)
        weight.append(float(data.qfrc_bias[dof]))
    column = np.zeros(model.nv)
    unit = np.zeros(model.nv)
    unit[dof] = 1.0
    mujoco.mj_mulM(model, data, column, unit)
    gravity = float(np.linalg.norm(model.opt.gravity))
    # weight = A sin(angle - lowest), so a quarter turn on it is A cos.
    lowest = start - math.atan2(weight[0], weight[1])
    return Load(
        inertia_kg_m2=float(column[dof] - model.dof_armature[dof]),
        arm_kg_m=math.hypot(*weight) / gravity,
        hangs_at_rad=row.sign * (lowest - row.zero_rad),
    )


@dataclass(frozen=True, eq=False)
class Recording:
    """What one motor was told and what it did; times in s from the first command, angles at its shaft."""

    shape: Shape
    sent_s: Array
    goal_rad: Array
    """As on the wire, from ``sent_s`` on."""
    seen_s: Array
    """When each sample was taken."""
    q: Array
    dq: Array
    tau: Array
    """N m; NaN where the motor does not report it."""
    supply_v: float
    """Mean; NaN where the motor does not report it."""

    @property
    def lost(self) -> int:
        """Ticks without a fresh sample."""
        return len(self.sent_s) - len(self.seen_s)


def record(
    bus: MotorBus,
    index: int,
    excitation: Excitation,
    limits: Limits,
    clock: Clock,
    period_s: float,
    progress: Callable[[float], None] = lambda share: None,
) -> Recording:
    """Play one run on an active bus; all other motors of it stay where they are.

    Raises:
        RefusedError: it would leave the soft limits.
        HardwareError: it was broken off; torque is off.
    """
    state = bus.read()
    goals = plan(excitation, float(state.q[index]), period_s, limits)
    command = _hold(bus, state.q)
    sent_s: list[float] = []
    goal: list[float] = []
    seen_s: list[float] = []
    rows: list[tuple[float, float, float]] = []
    volts: list[float] = []
    missing = 0
    began = clock.now()
    for tick, wanted in enumerate(goals):
        clock.sleep_until(began + tick * period_s)
        state = bus.read()
        at = clock.now() - float(state.age[index]) - began
        fresh = not seen_s or at > seen_s[-1] + 0.1 * period_s
        missing = 0 if fresh else missing + 1
        reason = _reason(state.fault[index], missing, float(state.q[index]), float(state.dq[index]), goals, limits)
        if reason:
            with contextlib.suppress(HardwareError):
                bus.deactivate()
            raise HardwareError(f"Broken off after {tick * period_s:.2f} s: {reason}.", "Torque is off.")
        if fresh:
            seen_s.append(at)
            rows.append((state.q[index], state.dq[index], state.tau[index]))
            volts.append(state.voltage[index])
        command.q[index] = wanted
        sent = bus.write(command)
        sent_s.append(sent.at_s - began)
        goal.append(float(sent.command.q[index]))
        progress((tick + 1) / len(goals))
    q, dq, tau = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return Recording(
        excitation.shape, np.array(sent_s), np.array(goal), np.array(seen_s), q, dq, tau, float(np.mean(volts))
    )


def _reason(fault: int, missing: int, q: float, dq: float, goals: Array, limits: Limits) -> str:
    """Why a run must end now; empty where it need not."""
    serious = Fault(int(fault)) & ~(Fault.SILENT | Fault.CORRUPT)
    if serious:
        return f"the motor reports {serious.name}"
    if missing > _MOST_LOST:
        return f"no sample for {missing} ticks"
    if not goals.min() - 0.3 <= q <= goals.max() + 0.3:
        return f"it stands at {math.degrees(q):.1f} deg, where nobody sent it"
    if abs(dq) > 3 * limits.speed_rad_s:
        return f"it turns at {dq:.1f} rad/s, three times the speed limit"
    return ""


def _hold(bus: MotorBus, q: Array) -> JointCommand:
    made = JointCommand.hold(q, np.array([row.kp for row in bus.settings]), np.array([row.kd for row in bus.settings]))
    made.mode = Mode.POSITION if Mode.POSITION in bus.capabilities.modes else Mode.IMPEDANCE
    return made


@contextlib.contextmanager
def powered(bus: MotorBus, watchdog_s: float = 0.3) -> Iterator[None]:
    """A connected bus, configured and with torque on at the measured pose; off in the end, whatever happens."""
    modes = bus.capabilities.modes
    bus.configure(Mode.POSITION if Mode.POSITION in modes else Mode.IMPEDANCE, watchdog_s)
    bus.prove_watchdog()
    bus.activate()
    try:
        yield
    finally:
        bus.deactivate()


def usual_runs(duration_s: float, seed: int) -> tuple[Sequence[Excitation], Excitation]:
    """Runs to fit on, and the one to test on."""
    chirp = Excitation("chirp", duration_s)
    return [chirp, Excitation("steps", duration_s, seed=seed)], replace(chirp, shape="sines", seed=seed + 1)
