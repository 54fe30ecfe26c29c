from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from recorded_robot import G1, OP3, active, at, configured, homed, tick
from recording_port import DRIVE, RecordingPort

from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.lifecycle import TRANSITIONS, Lifecycle, check_transition
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.types import Fault, Mode

# ---------------------------------------------------------------------- lifecycle


def test_connecting_changes_nothing_and_configuring_does_not_power() -> None:
    port = RecordingPort(OP3)
    hardware = RobotHardware(port, OP3)
    assert hardware.lifecycle == Lifecycle.UNCONFIGURED
    assert len(hardware.connect()) == 20
    assert port.calls == ["connect"]
    hardware.read()
    assert hardware.step(at(hardware)) is None
    hardware.configure()
    assert port.calls == ["connect", "read", "configure", "prove_watchdog"]
    assert hardware.lifecycle == Lifecycle.INACTIVE
    assert hardware.mode == Mode.POSITION
    assert hardware.step(at(hardware)) is None
    assert port.written == []


def test_drives_run_in_impedance_mode_and_servos_refuse_it() -> None:
    drives = RobotHardware(RecordingPort(G1, DRIVE), G1)
    drives.connect()
    drives.configure()
    assert drives.mode == Mode.IMPEDANCE
    servos = RobotHardware(RecordingPort(OP3), OP3)
    servos.connect()
    with pytest.raises(RefusedError, match="cannot run in mode impedance"):
        servos.configure(Mode.IMPEDANCE)


STEPS: dict[str, Callable[[RobotHardware], object]] = {
    "configure": lambda hardware: hardware.configure(),
    "start_up": lambda hardware: hardware.start_up(),
    "home_step": lambda hardware: hardware.home_step(),
    "release": lambda hardware: hardware.release(),
    "command": lambda hardware: hardware.command(at(hardware)),
    "stop_step": lambda hardware: hardware.stop_step(),
    "reset": lambda hardware: hardware.reset(),
}


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ("unconnected", set()),
        ("inactive", {"start_up"}),
        ("homing", {"home_step"}),
        ("active", {"command"}),
        ("stopping", {"stop_step"}),
        ("estopped", {"reset"}),
    ],
)
def test_what_a_state_does_not_allow_is_refused_and_changes_nothing(state: str, allowed: set[str]) -> None:
    for name in STEPS.keys() - allowed:
        if state == "unconnected":
            hardware, port = RobotHardware(RecordingPort(OP3), OP3), RecordingPort(OP3)
        else:
            hardware, port = configured() if state in ("inactive", "homing") else active()
        if state == "homing":
            hardware.start_up()
            tick(hardware, port)
        elif state == "stopping":
            hardware.stop(1)
        elif state == "estopped":
            hardware.estop(0)
        before, written = hardware.lifecycle, len(port.written)
        with pytest.raises(RefusedError):
            STEPS[name](hardware)
        assert hardware.lifecycle == before, name
        assert len(port.written) == written, name
    for name in allowed:
        STEPS[name](hardware)


def test_the_transition_table_says_what_may_follow() -> None:
    with pytest.raises(RefusedError, match="estopped; it cannot become active") as caught:
        check_transition(Lifecycle.ESTOPPED, Lifecycle.ACTIVE)
    assert caught.value.advice == "What may follow: inactive, unconfigured."
    for state in (Lifecycle.ESTOPPED, Lifecycle.FAULT, Lifecycle.INACTIVE, Lifecycle.UNCONFIGURED):
        assert Lifecycle.ACTIVE not in TRANSITIONS[state], "commands are let through from home alone"


def test_a_port_of_other_joints_or_a_home_outside_the_limits_is_refused() -> None:
    with pytest.raises(RefusedError, match="not those of"):
        RobotHardware(RecordingPort(G1, DRIVE), OP3)
    with pytest.raises(RefusedError, match="home pose lies outside"):
        RobotHardware(RecordingPort(OP3), OP3, home=np.full(20, 3.0))


# ---------------------------------------------------------------------- start-up


def test_start_up_ramps_gains_and_pose_from_where_the_robot_is() -> None:
    port = RecordingPort(G1, DRIVE, follow=True)
    hardware = RobotHardware(port, G1, homing_s=1.0)
    hardware.connect()
    hardware.configure()
    port.q = hardware.home + np.where(np.arange(len(port.q)) % 2, 0.05, -0.05)
    start = port.q.copy()
    inside = np.clip(start, hardware.limits.soft_low_rad, hardware.limits.soft_high_rad)
    hardware.start_up()
    applied = tick(hardware, port)
    kp = np.array([row.kp for row in G1.joints])
    assert (port.written[0].kp == 0).all(), "no stiffness before it is at its place"
    np.testing.assert_allclose(port.written[0].q, inside)
    assert (applied.limited_by & Limit.RAMP).all()
    while not hardware.homed:
        tick(hardware, port)
    shares = np.array([command.kp[0] / kp[0] for command in port.written])
    assert (np.diff(shares) >= 0).all()
    assert shares[10] == pytest.approx(0.2 / 0.4)  # full gains after 40 % of the way
    np.testing.assert_allclose(port.written[-1].kp, kp)
    np.testing.assert_allclose(port.written[-1].q, hardware.home, atol=1e-3)
    middle = port.written[25]
    np.testing.assert_allclose(middle.q, (inside + hardware.home) / 2, atol=0.06)
    assert hardware.clock.now() == pytest.approx(1.02, abs=0.05)


def test_commands_are_not_let_through_before_an_operator_releases_the_robot() -> None:
    hardware, port = homed()
    for _ in range(100):
        tick(hardware, port, at(hardware, 0.2))
    assert hardware.lifecycle == Lifecycle.HOMING
    np.testing.assert_allclose(port.written[-1].q, hardware.home)
    hardware.release()
    tick(hardware, port, at(hardware, 0.2))
    np.testing.assert_allclose(port.written[-1].q, hardware.home + 0.2)


def test_release_is_refused_on_the_way_and_where_a_joint_is_blocked() -> None:
    hardware, port = configured()
    hardware.start_up()
    tick(hardware, port)
    with pytest.raises(RefusedError, match="on its way home"):
        hardware.release()
    while not hardware.homed:
        tick(hardware, port)
    for _ in range(4):
        port.follow = False
        port.q[OP3.joint_names.index("l_knee")] -= 0.1
        tick(hardware, port)
    with pytest.raises(RefusedError, match="did not get home: l_knee"):
        hardware.release()


def spoil(port: RecordingPort, what: str) -> None:
    knee = OP3.joint_names.index("r_knee")
    if what == "beyond":
        port.q[knee] = math.radians(-150)
    elif what == "unknown":
        port.q[knee] = math.nan
    elif what == "silent":
        port.fault[knee] = int(Fault.SILENT)
    elif what == "faulty":
        port.fault[knee] = int(Fault.OVERLOAD)
    elif what == "hot":
        port.temperature[knee] = 66
    elif what == "supply":
        port.voltage[:] = 9.0
    elif what == "fallen":
        port.gravity = np.array([1.0, 0.0, 0.0])
    else:
        port.imu_age = 1.0


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("beyond", "r_knee at -150.0 deg"),
        ("unknown", "no usable feedback from r_knee"),
        ("silent", "no usable feedback from r_knee"),
        ("faulty", "the motor of r_knee reports overload"),
        ("hot", "r_knee at 66 degC"),
        ("supply", "a supply of 9.0 V"),
        ("fallen", "leans so far"),
        ("blind", "no usable feedback from the inertial unit"),
    ],
)
def test_start_up_is_refused_with_the_reason_and_nothing_is_switched_on(what: str, said: str) -> None:
    hardware, port = configured()
    spoil(port, what)
    with pytest.raises(RefusedError, match=said):
        hardware.start_up()
    assert "activate" not in port.calls
    assert hardware.lifecycle == Lifecycle.INACTIVE


def test_a_motor_that_does_not_switch_on_leaves_all_off() -> None:
    hardware, port = configured()
    port.fails["activate"] = "r_el did not switch on."
    with pytest.raises(HardwareError, match="r_el"):
        hardware.start_up()
    assert port.calls[-1] == "deactivate"
    assert hardware.lifecycle == Lifecycle.FAULT
