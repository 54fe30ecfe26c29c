"""Whether a policy bundle fits the robot, the hardware and the calibration at hand; what does not is refused.

Everything that differs is named at once, with both values: what the policy was made for, and what is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.bundle import BundleManifest
from cadenza.controllers.deployment_facts import POSITION_ACTION, DeploymentFacts
from cadenza.controllers.observation import UndeployableError, check_terms
from cadenza.controllers.policy_runner import EXPORT_AGAIN
from cadenza.robots import observing
from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.types import Capabilities, Mode

Array = NDArray[np.float64]
_EQUAL = 1e-9
"""Relative difference below which two numbers are the same number."""


def check_deployment(
    manifest: BundleManifest,
    robot: LeggedRobot,
    *,
    joint_names: Sequence[str] | None = None,
    capabilities: Capabilities | None = None,
    imu: bool | None = None,
    period_s: float | None = None,
    calibration_joints: Sequence[str] | None = None,
    calibration_robot: str | None = None,
) -> DeploymentFacts:
    """Refuse a bundle that does not fit.

    Args:
        manifest: of the bundle.
        robot: that is to be driven.
        joint_names: of the hardware, in its order; None: not known yet, as all that follow.
        capabilities: of its motors.
        imu: whether there is an inertial unit.
        period_s: of control.
        calibration_joints: of the calibration file, in its order.
        calibration_robot: whose that file is.

    Returns:
        The bundle's facts.

    Raises:
        RefusedError: it names every difference with both values; or a bundle without deployment facts.
    """
    facts = manifest.deployment
    if facts is None:
        raise RefusedError(
            f"This bundle of {manifest.env_id} does not say how to run it on motors: it was exported by an older "
            "version, or from a task without a robot.",
            EXPORT_AGAIN,
        )
    found = [*_with_robot(facts, robot), *_with_manifest(manifest, facts, robot)]
    if joint_names is not None:
        found += _order("the hardware", facts.joint_names, joint_names)
    if calibration_joints is not None:
        found += _order("the calibration", facts.joint_names, calibration_joints)
    if calibration_robot is not None and calibration_robot != facts.robot:
        found.append(f"robot: {facts.robot!r} in the bundle, {calibration_robot!r} in the calibration")
    if capabilities is not None:
        found += _with_motors(facts, capabilities)
    if imu is False and "imu" in facts.sensors():
        names = ", ".join(term.name for term in facts.terms if term.source == "imu")
        found.append(f"sensors: the policy reads {names}, the hardware has no inertial unit")
    if period_s is not None and not _same(period_s, facts.control_dt_s):
        found.append(f"rate: {facts.control_rate_hz:g} Hz in the bundle, {1 / period_s:g} Hz here")
    if found:
        lines = "\n".join(f"- {text}" for text in dict.fromkeys(found))
        raise RefusedError(
            f"This policy was not made for what is here; nothing was switched on. {len(dict.fromkeys(found))} "
            f"difference{'s' if len(dict.fromkeys(found)) > 1 else ''}:\n{lines}",
            "Take the bundle that was trained for this robot, or train and export again. Nothing is adapted silently: "
            "a policy with another order, scale, gain or rate moves, only not as it should.",
        )
    return facts


def check_command(facts: DeploymentFacts, command: Sequence[float]) -> None:
    """Refuse a velocity command that the policy never met in training.

    Args:
        facts: of the bundle.
        command: forward and left, m/s, and yaw rate, rad/s.

    Raises:
        RefusedError: not finite, outside what training drew, or not zero for a policy that takes no command.
    """
    if len(command) != 3 or not all(math.isfinite(value) for value in command):
        raise RefusedError(f"A command is three finite numbers: forward, left, turn; got {tuple(command)}.")
    start = 0
    for term in facts.terms:
        if term.name == "command":
            low, high = facts.bounds.low[start : start + 3], facts.bounds.high[start : start + 3]
            wrong = []
            for index, name in enumerate(("forward, m/s", "left, m/s", "turn, rad/s")):
                least, most = low[index] / term.gains[index], high[index] / term.gains[index]
                slack = 0.02 * (most - least) + 1e-9  # the draws at export do not reach the very ends
                if not least - slack <= command[index] <= most + slack and command[index] != 0.0:
                    wrong.append(f"{name}: {command[index]:g}, in training {least:.3g} to {most:.3g}")
            if wrong:
                raise RefusedError(
                    "The policy never met such a command in training: " + "; ".join(wrong) + ".",
                    "Ask for less, or train with wider commands.",
                )
            return
        start += term.size
    if any(command):
        raise RefusedError("This policy takes no velocity command.", "Leave --command away.")


def _with_robot(facts: DeploymentFacts, robot: LeggedRobot) -> Iterable[str]:
    if facts.robot != robot.name:
        yield f"robot: {facts.robot!r} in the bundle, {robot.name!r} here"
    yield from _order("the joint table", facts.joint_names, robot.joint_names)
    rows = {row.name: row for row in robot.joints}
    for joint in facts.joints:
        row = rows.get(joint.name)
        if row is None:
            continue
        for what, ours, theirs in (
            ("home", joint.home_rad, row.home_rad),
            ("lower limit", joint.limits_rad[0], row.limits_rad[0]),
            ("upper limit", joint.limits_rad[1], row.limits_rad[1]),
            ("kp", joint.kp, row.kp),
            ("kd", joint.kd, row.kd),
            ("torque limit", joint.torque_nm, row.torque_nm),
            ("velocity limit", joint.velocity_rad_s, row.velocity_rad_s),
        ):
            if not _same(ours, theirs):
                yield f"{what} of {joint.name}: {ours:.6g} in the bundle, {theirs:.6g} in the joint table"
    for term in facts.terms:
        known = observing.TERMS.get(term.name)
        if known is None:
            continue
        if not _same(term.scale, known.scale):
            yield f"scale of {term.name}: {term.scale:g} in the bundle, {known.scale:g} here"
        here = observing.command_factors(robot.speed_m_s) if term.name == "command" else (1.0,) * term.size
        if len(here) == term.size and not all(_same(*pair) for pair in zip(term.factors, here, strict=True)):
            yield f"factors of {term.name}: {_list(term.factors)} in the bundle, {_list(here)} here"
    if facts.action != POSITION_ACTION:
        yield f"action: {facts.action!r} in the bundle, {POSITION_ACTION!r} here"
    try:
        check_terms(facts)
    except UndeployableError as error:
        yield f"observation: {error}"


def _with_manifest(manifest: BundleManifest, facts: DeploymentFacts, robot: LeggedRobot) -> Iterable[str]:
    """What the manifest itself, and the settings of its environment, say otherwise than the facts."""
    for what, made_for, there in (
        ("observation size", facts.observation_size, manifest.observation_size),
        ("actions", len(facts.joints), len(manifest.action_low)),
    ):
        if made_for != there:
            yield f"{what}: {made_for} by its deployment facts, {there} by its network"
    if manifest.observation_terms is not None and manifest.observation_terms != facts.entry_names():
        pairs = list(zip(facts.entry_names(), manifest.observation_terms, strict=False))
        first = next((pair for pair in pairs if pair[0] != pair[1]), ("their number", "their number"))
        yield f"observation terms: {first[0]} by its deployment facts, {first[1]} by its manifest"
    if manifest.joint_order is not None:
        yield from _order("its manifest", facts.joint_names, manifest.joint_order)
    if manifest.control_rate_hz is not None and not _same(manifest.control_rate_hz, facts.control_rate_hz):
        said = manifest.control_rate_hz
        yield f"rate: {facts.control_rate_hz:g} Hz by its deployment facts, {said:g} Hz by its manifest"
    for what, ours, name, usual in (
        ("history", facts.history, "history", 1),
        ("action scale, rad", facts.action_scale_rad, "action_scale_rad", robot.action_scale),
        ("control step, s", facts.control_dt_s, "control_dt_s", 0.02),
    ):
        asked: Any = manifest.env_kwargs.get(name)
        theirs = float(usual if asked is None else asked)
        if not _same(float(ours), theirs):
            where = "here" if asked is None else "by its environment"
            yield f"{what}: {ours:g} by its deployment facts, {theirs:g} {where}"
    low, high = min(manifest.action_low), max(manifest.action_high)
    if set(manifest.action_low) != {-1.0} or set(manifest.action_high) != {1.0}:
        yield f"range of actions: {low:g} to {high:g} by its manifest, -1 to 1 here"


def _with_motors(facts: DeploymentFacts, capabilities: Capabilities) -> Iterable[str]:
    if not {Mode.POSITION, Mode.IMPEDANCE} & capabilities.modes:
        names = ", ".join(sorted(mode.value for mode in capabilities.modes))
        yield f"motors: the policy needs mode position or impedance, these have {names}"
    if "encoder" in facts.sensors() and capabilities.reports and "q" not in capabilities.reports:
        yield "sensors: the policy reads joint angles, these motors report none"


def _order(where: str, ours: Sequence[str], theirs: Sequence[str]) -> Iterable[str]:
    if tuple(ours) == tuple(theirs):
        return
    missing, strange = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    if missing or strange:
        yield f"joints: {missing or 'none'} only in the bundle, {strange or 'none'} only in {where}"
    else:
        row = next(row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        yield f"order of joints: {ours[row]} is number {row + 1} in the bundle, {theirs[row]} in {where}"


def _list(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _EQUAL * max(abs(one), abs(other), 1e-6)
