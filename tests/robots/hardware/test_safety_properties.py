"""What holds for any sequence of commands and of sensor readings, searched by hypothesis."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_port import DRIVE, RecordingPort

from cadenza.robots import load_humanoid
from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.lifecycle import POWERED, TRANSITIONS, Lifecycle
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.safety import SafetySupervisor
from cadenza.robots.hardware.stopping import stop_policy
from cadenza.robots.hardware.types import Fault, JointCommand, Mode

PERIOD = 0.02
FAST = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def three_joints(name: str) -> LeggedRobot:
    """A robot whose table is cut to three rows, so that hypothesis can hold all of it in view."""
    robot = load_humanoid(name)
    picked = tuple(row for row in robot.joints if "knee" in row.name or "hip_yaw" in row.name)[:3]
    return replace(robot, joints=picked)


OP3, G1 = three_joints("op3"), three_joints("unitree_g1")

numbers = st.one_of(
    st.floats(-4.0, 4.0),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e6, -1e6]),
)
arrays = st.lists(numbers, min_size=3, max_size=3).map(np.array)
shapes: st.SearchStrategy[Any] = st.sampled_from(
    [np.zeros(2), np.zeros((3, 1)), np.zeros(0), np.zeros(3, dtype=complex), np.array(["a"] * 3), None, 1.0]
)
values = st.one_of(arrays, arrays, arrays, arrays, shapes)
modes = st.sampled_from([None, None, None, None, Mode.OFF, Mode.DAMP, Mode.HOLD, Mode.POSITION, Mode.IMPEDANCE])
ages = st.one_of(st.just(0.0), numbers)
commands = st.one_of(st.none(), st.tuples(values, values, values, values, values, modes))
sane = st.tuples(st.lists(st.floats(-4, 4), min_size=3, max_size=3).map(np.array), st.floats(0, 300))
readings = st.fixed_dictionaries(
    {},
    optional={
        "q": arrays,
        "dq": arrays,
        "tau": arrays,
        "temperature": arrays,
        "voltage": arrays,
        "age": arrays,
        "fault": st.lists(st.sampled_from([0, *map(int, Fault)]), min_size=3, max_size=3).map(np.array),
        "gravity": arrays,
        "imu_age": numbers,
    },
)


def build(parts: Any, mode: Mode) -> JointCommand | None:
    if parts is None:
        return None
    q, dq, tau, kp, kd, other = parts
    return JointCommand(q, dq, tau, kp, kd, other or mode)


def say(port: RecordingPort, reading: dict[str, Any]) -> None:
    for name, value in reading.items():
        setattr(port, name, value)


def check(
    port: RecordingPort, limits: JointLimits, before: np.ndarray, safety: SafetySupervisor, elapsed: float
) -> None:
    """The last command written obeys every limit."""
    sent = port.written[-1]
    for name in ("q", "dq", "tau", "kp", "kd"):
        assert np.isfinite(getattr(sent, name)).all(), name
    tiny = 1e-9
    assert (sent.q >= limits.hard_low_rad - tiny).all()
    assert (sent.q <= limits.hard_high_rad + tiny).all()
    inside = (before >= limits.soft_low_rad - tiny) & (before <= limits.soft_high_rad + tiny)
    assert (sent.q[inside] >= limits.soft_low_rad[inside] - tiny).all()
    assert (sent.q[inside] <= limits.soft_high_rad[inside] + tiny).all()
    assert (np.abs(sent.q - before) <= limits.slew_rad_s * min(elapsed, PERIOD) + tiny).all()
    assert (np.abs(sent.dq) <= limits.velocity_rad_s + tiny).all()
    assert (np.abs(sent.tau) <= limits.torque_nm + tiny).all()
    assert ((sent.kp >= 0) & (sent.kp <= limits.kp_max)).all()
    assert ((sent.kd >= 0) & (sent.kd <= limits.kd_max)).all()
    if sent.mode == Mode.IMPEDANCE:
        torque = sent.kp * (sent.q - safety.monitor.q) + sent.kd * (sent.dq - safety.monitor.dq) + sent.tau
        assert (np.abs(torque) <= limits.torque_nm * safety.monitor.torque_share * (1 + 1e-6) + tiny).all()


@pytest.mark.parametrize("robot", [OP3, G1], ids=["servos", "drives"])
@FAST
@given(steps=st.lists(st.tuples(commands, ages, readings, st.floats(0, 0.1)), min_size=1, max_size=12))
def test_nothing_out_of_limits_is_ever_written(robot: LeggedRobot, steps: list[Any]) -> None:
    mode = Mode.IMPEDANCE if robot is G1 else Mode.POSITION
    port = RecordingPort(robot, DRIVE) if robot is G1 else RecordingPort(robot)
    port.powered = True
    limits = JointLimits.for_robot(robot)
    safety = SafetySupervisor(port, robot, limits, stop_policy(robot), PERIOD)
    safety.observe(port.read(), powered=False)
    safety.anchor(port.q, mode)
    safety.expect_commands(0.0)
    last_s = -math.inf
    for parts, age, reading, pause in steps:
        port.tick(pause)
        say(port, reading)
        safety.observe(port.read(), powered=True)
        before = safety.target
        count = len(port.written)
        safety.send(build(parts, mode), age_s=age)
        assert len(port.written) == count + 1, "something is sent in every tick, or the motors' watchdogs trip"
        check(port, limits, before, safety, port.clock.now() - last_s)
        last_s = port.clock.now()


@FAST
@given(heard=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30))
def test_no_joint_coasts_for_more_than_three_ticks(heard: list[list[bool]]) -> None:
    port = RecordingPort(OP3)
    port.powered = True
    safety = SafetySupervisor(port, OP3, JointLimits.for_robot(OP3), stop_policy(OP3), PERIOD)
    safety.observe(port.read(), powered=False)
    safety.anchor(port.q, Mode.POSITION)
    missed = np.zeros(3, dtype=int)
    for good in heard:
        port.tick(PERIOD)
        port.fault = np.where(good, 0, int(Fault.SILENT))
        safety.observe(port.read(), powered=True)
        missed = np.where(good, 0, missed + 1)
        np.testing.assert_array_equal(safety.monitor.missed, missed)
        assert (safety.take_demand() is not None) == bool((missed > 3).any())


def started(robot: LeggedRobot) -> tuple[RobotHardware, RecordingPort]:
    port = RecordingPort(robot, follow=True)
    hardware = RobotHardware(port, robot, homing_s=0.1)
    hardware.connect()
    hardware.configure()
    return hardware, port


acts = st.sampled_from(
    ["read", "step", "nan", "none", "start_up", "release", "stop0", "stop1", "stop2", "estop0", "estop1", "fall",
     "upright", "mute", "unmute", "fault", "cure", "break", "mend", "home"]
)  # fmt: skip


@FAST
@given(script=st.lists(acts, min_size=1, max_size=40))
def test_only_a_reset_leads_out_of_a_latched_state_and_power_follows_the_state(script: list[str]) -> None:
    hardware, port = started(OP3)
    home = hardware.home
    latched = False
    for act in script:
        before, events = hardware.lifecycle, len(hardware.events)
        with contextlib.suppress(HardwareError):
            {
                "read": hardware.read,
                "step": lambda: hardware.step(JointCommand.hold(home, 10.0)),
                "nan": lambda: hardware.step(JointCommand.hold(home * np.nan, 10.0)),
                "none": hardware.step,
                "start_up": hardware.start_up,
                "release": hardware.release,
                "stop0": lambda: hardware.stop(0),
                "stop1": lambda: hardware.stop(1),
                "stop2": lambda: hardware.stop(2),
                "estop0": lambda: hardware.estop(0),
                "estop1": lambda: hardware.estop(1),
                "fall": lambda: port.gravity.__setitem__(slice(None), (1.0, 0.0, 0.0)),
                "upright": lambda: port.gravity.__setitem__(slice(None), (0.0, 0.0, -1.0)),
                "mute": lambda: port.fault.__setitem__(0, int(Fault.SILENT)),
                "unmute": lambda: port.fault.__setitem__(0, 0),
                "fault": lambda: port.fault.__setitem__(1, int(Fault.OVERLOAD)),
                "cure": lambda: port.fault.__setitem__(1, 0),
                "break": lambda: port.fails.update({"write": "unplugged", "read": "unplugged"}),
                "mend": port.fails.clear,
                "home": lambda: [(hardware.read(), hardware.step(), port.tick()) for _ in range(12)],
            }[act]()
        port.tick(PERIOD)
        now = hardware.lifecycle
        moves = [text for _, text in list(hardware.events)[events:] if " -> " in text]
        for text in moves:
            start, end = text.split(" -> ")
            assert Lifecycle(end) in TRANSITIONS[Lifecycle(start)]
        latched = latched or act.startswith("estop")
        if latched and act in ("step", "none", "read", "nan", "home"):
            assert now in (Lifecycle.STOPPING, Lifecycle.ESTOPPED)
        if before in (Lifecycle.ESTOPPED, Lifecycle.FAULT):
            assert now in (before, Lifecycle.ESTOPPED)
        assert port.powered == (now in POWERED)
    hardware.close()
    assert not port.powered


@FAST
@given(q=st.lists(st.floats(-math.pi, math.pi), min_size=3, max_size=3).map(np.array))
def test_start_up_from_any_pose_never_steps_farther_than_slew_or_refuses(q: np.ndarray) -> None:
    hardware, port = started(OP3)
    port.q = q.copy()
    inside = not hardware.limits.outside(q)
    if not inside:
        with pytest.raises(RefusedError, match="beyond its limits"):
            hardware.start_up()
        assert "activate" not in port.calls
        assert hardware.lifecycle == Lifecycle.INACTIVE
        return
    hardware.start_up()
    for _ in range(400):
        hardware.read()
        before = hardware.supervisor.target
        hardware.step()
        check(port, hardware.limits, before, hardware.supervisor, math.inf)
        port.tick(PERIOD)
        if hardware.homed:
            break
    np.testing.assert_allclose(port.written[-1].q, hardware.home, atol=1e-3)
    slew = hardware.limits.slew_rad_s * PERIOD
    assert (np.abs(port.written[0].q - q) <= slew + 1e-9).all(), "the first is counted from the measured pose"
    assert hardware.lifecycle == Lifecycle.HOMING, "an operator releases it, nobody else"
