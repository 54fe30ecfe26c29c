"""Inertia, friction, damping and gain of a motor by least squares on its MuJoCo model.

The model is the plant of emulators and SimHardware (plant.py), so what is found here is what the simulation wants:
``armature``, ``frictionloss``, ``damping`` (of a servo: back-EMF and what of viscous friction the gear has) and ``kp``.
Each trial set of numbers plays the recorded goals through it; scipy.optimize.least_squares moves the numbers until the
angles agree. A fifth number, the delay between a sample's time stamp and the shaft, is fitted along and thrown away.

Angles alone fix only ratios: twice the inertia, friction, damping and gain move alike. The absolute scale comes from a
known weight on the shaft, or, where there is none, from the torque that the motor reports, with that one's own errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import Joint
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.identification import Load, Recording
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.motors import MOTORS

Array = NDArray[np.float64]
Scale = Literal["weight", "torque"]

NAMES = ("armature", "friction_nm", "kd", "kp")
UNITS = {"armature": "kg m^2", "friction_nm": "N m", "kd": "N m s/rad", "kp": "N m/rad"}
_GRAVITY = 9.81
_MIDDLE = 10.0
_BENCH_MASS = 0.2  # of the plant's lever
_ANGLE_NOISE_RAD = 0.002  # an encoder step and what the model leaves out
_TORQUE_NOISE = 0.05  # of the torque limit


@dataclass(frozen=True)
class Conditions:
    """What is known and not fitted."""

    row: Joint
    """The motor as its table has it, at its own shaft: sign 1, zero 0; first guess."""
    load: Load
    limit_nm: float
    """Torque that its settings allow, at the nominal voltage."""
    scale: Scale = "torque"
    torque_back_emf: float | None = None
    """N m s/rad that the driver took off to get from duty to torque; None: it measures a current."""


@dataclass(frozen=True)
class Estimate:
    """One quantity."""

    value: float
    low: float
    """Ends of the 95 % interval."""
    high: float
    guess: float
    """As the table had it."""


@dataclass(frozen=True, eq=False)
class Result:
    """What came out; ``kp`` at the motor's nominal voltage."""

    estimates: dict[str, Estimate]
    delay_s: float
    rms_rad: float
    """Of model less measurement on the runs that were fitted."""
    guess_rms_rad: float
    """The same with the table's numbers."""
    held_out_rms_rad: float = math.nan
    """On the run that was not fitted."""
    held_out_guess_rms_rad: float = math.nan
    supply_v: float = math.nan
    scale: Scale = "torque"
    rollouts: int = 0
    values: Array = field(default_factory=lambda: np.zeros(0))
    """For :func:`simulate`: the four at the supply of the recordings, and the delay."""

    def row(self) -> dict[str, float]:
        """What a joint table takes: ``dataclasses.replace(joint, **row)``, or keywords of ``motors.joint``."""
        return {name: self.estimates[name].value for name in NAMES}


def simulate(conditions: Conditions, values: Array, recording: Recording) -> tuple[Array, Array]:
    """(angle, torque at the shaft as the driver would report it) at each sample of a recording.

    Args:
        conditions: what is known.
        values: armature, friction, damping, gain at the recording's supply, delay.
        recording: whose goals are played.
    """
    armature, friction, damping, gain, delay = (float(value) for value in values)
    row = replace(conditions.row, armature=armature, friction_nm=friction, kd=damping, kp=gain)
    plant = _bench(row, conditions.load)
    servo = MOTORS[row.motor].actuator == "dc_motor"
    plant.limit_nm[:] = conditions.limit_nm * (_voltage_share(row, recording) if servo else 1.0)
    plant.powered[:] = True
    plant.data.qpos[0] = recording.q[0]
    plant.goal[:] = recording.goal_rad[0]
    drag = damping if conditions.torque_back_emf is None or not servo else conditions.torque_back_emf
    q, tau = np.empty(len(recording.seen_s)), np.empty(len(recording.seen_s))
    seen, sent = recording.seen_s - delay, recording.sent_s
    next_goal = 0
    # The first sample precedes the first command, which holds the measured pose: time starts a little before.
    start = min(float(seen[0]), float(sent[0]), 0.0) - plant.dt
    for index, moment in enumerate(seen):
        while next_goal < len(sent) and sent[next_goal] <= moment:
            plant.advance(float(sent[next_goal]) - start)
            plant.goal[:] = recording.goal_rad[next_goal]
            next_goal += 1
        # To the first step at or after it and back along the line: the integrator moves by its new velocity.
        plant.advance(math.ceil((float(moment) - start) / plant.dt - 1e-6) * plant.dt)
        dq = float(plant.dq[0])
        q[index] = float(plant.q[0]) - dq * (plant.time - float(moment) + start)
        tau[index] = float(plant.force[0]) + (float(plant.back_emf[0]) - drag) * dq
    return q, tau


def _bench(row: Joint, load: Load) -> Plant:
    """The plant's lever has a fixed mass, which must not add up to more than the inertia of the load: a short arm in a
    stronger field weighs the same.
    """
    inertia = max(load.inertia_kg_m2, 1e-5)
    arm = min(load.arm_kg_m, math.sqrt(0.5 * _BENCH_MASS * inertia))
    plant = Plant.of_joint(replace(row, limits_rad=(-10.0, 10.0), home_rad=0.0), inertia_kg_m2=inertia, arm_kg_m=arm)
    pull = _GRAVITY * load.arm_kg_m / arm if arm > 0 else 0.0
    plant.model.opt.gravity[:] = (-pull * math.sin(load.hangs_at_rad), 0.0, -pull * math.cos(load.hangs_at_rad))
    return plant


def _voltage_share(row: Joint, recording: Recording) -> float:
    nominal = MOTORS[row.motor].nominal_voltage_v
    return recording.supply_v / nominal if math.isfinite(recording.supply_v) else 1.0


def fit(
    conditions: Conditions,
    recordings: Sequence[Recording],
    held_out: Recording | None = None,
    progress: Callable[[int], None] = lambda rollouts: None,
) -> Result:
    """Least squares over rollouts.

    Args:
        conditions: what is known.
        recordings: to fit on.
        held_out: to test on.
        progress: called with the number of rollouts so far.

    Raises:
        HardwareError: nothing moved, the motor reports no torque that the scale could come from, or no weight is known.
    """
    from scipy.optimize import least_squares

    _check(conditions, recordings)
    row = conditions.row
    share = _voltage_share(row, recordings[0]) if MOTORS[row.motor].actuator == "dc_motor" else 1.0
    guess = np.array([row.armature, max(row.friction_nm, 1e-3), max(row.kd, 1e-3), row.kp * share])
    done = 0

    def actual(x: Array) -> Array:
        return np.append(guess * np.exp(x[:4] - _MIDDLE), (x[4] - _MIDDLE) / 1000)

    def residuals(x: Array) -> Array:
        nonlocal done
        values = actual(x)
        parts = []
        for recording in recordings:
            q, tau = simulate(conditions, values, recording)
            parts.append((q - recording.q) / _ANGLE_NOISE_RAD)
            if conditions.scale == "torque":
                parts.append((tau - recording.tau) / (_TORQUE_NOISE * conditions.limit_nm))
        done += 1
        progress(done)
        return np.concatenate(parts)

    # Logarithms of ratios and ms, about a number that is not 0: the steps of the differences are shares of it.
    reach = np.array([math.log(30)] * 4 + [8.0])
    middle = np.full(5, _MIDDLE)

    def search(start: Array, held: int) -> Any:
        """All but the last ``held`` numbers."""
        free = slice(0, 5 - held)
        return least_squares(
            lambda x: residuals(np.append(x, start[5 - held :])), start[free],
            bounds=((middle - reach)[free], (middle + reach)[free]), diff_step=1e-3,
            x_scale=[0.1, 0.3, 0.1, 0.1, 1.0][free], ftol=1e-4, xtol=1e-4,
        )  # fmt: skip

    # A delay looks like damping from afar: from the table's numbers it would run to a wrong minimum.
    near = search(middle, held=1).x
    found = search(np.append(near, _MIDDLE + 0.2), held=0)
    spread = _spread(found.jac, found.fun)
    values = actual(found.x)
    estimates = {}
    for index, name in enumerate(NAMES):
        scale = 1.0 / share if name == "kp" else 1.0
        value, ratio = values[index] * scale, math.exp(1.96 * min(float(spread[index]), 5.0))
        first = row.kp if name == "kp" else float(guess[index])
        estimates[name] = Estimate(float(value), float(value / ratio), float(value * ratio), first)
    guessed = np.append(guess, 0.0)
    return Result(
        estimates=estimates,
        delay_s=float(values[4]),
        rms_rad=_rms(conditions, values, recordings),
        guess_rms_rad=_rms(conditions, guessed, recordings),
        held_out_rms_rad=math.nan if held_out is None else _rms(conditions, values, [held_out]),
        held_out_guess_rms_rad=math.nan if held_out is None else _rms(conditions, guessed, [held_out]),
        supply_v=recordings[0].supply_v,
        scale=conditions.scale,
        rollouts=done * len(recordings),
        values=values,
    )


def _check(conditions: Conditions, recordings: Sequence[Recording]) -> None:
    if not recordings or any(len(one.q) < 20 for one in recordings):
        raise HardwareError("There are too few samples to fit anything on.", "Longer runs, or a better connection.")
    moved = max(float(np.ptp(one.q)) for one in recordings)
    if moved < 0.02:
        raise HardwareError(
            f"The shaft moved by {math.degrees(moved):.2f} deg in all.", "Is it free? Raise --amplitude or --step."
        )
    if conditions.scale == "weight" and conditions.load.arm_kg_m < 1e-3:
        raise HardwareError("No weight on the shaft is known, which the scale could come from.", "Give --arm-kg-m.")
    if conditions.scale == "torque" and not all(np.isfinite(one.tau).all() for one in recordings):
        raise HardwareError(
            "These motors report no torque, so inertia and gain cannot be told apart.",
            "Fix a known lever to the shaft and give --arm-kg-m and --inertia-kg-m2.",
        )


def _spread(jacobian: Array, residuals: Array) -> Array:
    """Standard deviation of each parameter; wider where residuals are not independent of their neighbours."""
    n, k = jacobian.shape
    variance = float(residuals @ residuals) / max(n - k, 1)
    along = float(residuals[1:] @ residuals[:-1]) / max(float(residuals @ residuals), 1e-300)
    along = min(max(along, 0.0), 0.98)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * variance * (1 + along) / (1 - along)
    return np.sqrt(np.maximum(np.diag(covariance), 0.0))


def _rms(conditions: Conditions, values: Array, recordings: Sequence[Recording]) -> float:
    errors = [simulate(conditions, values, one)[0] - one.q for one in recordings]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def as_json(result: Result, conditions: Conditions) -> dict[str, Any]:
    """For a file; ``row`` is what a joint table takes."""
    return {
        "format": 1,
        "joint": conditions.row.name,
        "motor": conditions.row.motor,
        "row": {name: float(f"{value:.5g}") for name, value in result.row().items()},
        "interval_95": {name: [one.low, one.high] for name, one in result.estimates.items()},
        "table": {name: one.guess for name, one in result.estimates.items()},
        "scale": result.scale,
        "load": {
            "inertia_kg_m2": conditions.load.inertia_kg_m2,
            "arm_kg_m": conditions.load.arm_kg_m,
            "hangs_at_rad": conditions.load.hangs_at_rad,
        },
        "rms_rad": result.rms_rad,
        "rms_rad_of_the_table": result.guess_rms_rad,
        "held_out_rms_rad": result.held_out_rms_rad,
        "held_out_rms_rad_of_the_table": result.held_out_guess_rms_rad,
        "delay_s": result.delay_s,
        "supply_v": result.supply_v,
    }
