"""Promise 6: no number that is none, no other robot's file and no wrong bundle gets as far as torque; and whatever a
policy, a sensor or a fault does, no goal beyond the limits is ever on the wire.

The second half looks at the bytes that the emulator heard, by a decoder of its own (``wire_reader``), not at the API.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from wire_reader import GOAL_POSITION, TORQUE_ENABLE, Traffic, check_goals, of_register, packets, written
from wired import HOME, KP, PERIOD_S, ROBOT, SharedOp3, WiredOp3, command, wired_port

from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.loop import ControlLoop
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.types import JointCommand, Mode, RobotState
from cadenza.scripts.main import run

N = len(ROBOT.joints)
NOT_NUMBERS = (math.nan, math.inf, -math.inf)
HUGE = (1e300, -1e300, 3.4028235e38, 1e18, -(2.0**63), 2.0**31, 1e6, -7.0)


# ---------------------------------------------------------------------- refused before the first frame with power


@pytest.fixture(scope="module")
def waiting(op3_is_here: None) -> Iterator[Spawned]:
    """An OP3 that waits at a port, in real time, with its supply on."""
    pytest.importorskip("dynamixel_sdk")
    with spawn(Order("dynamixel", robot="op3", hung_up=True, more={"powered": 1})) as emulator:
        yield emulator


def _swap_joints(data: Any) -> None:
    rows = data["deployment"]["joints"]
    rows[2], rows[3] = rows[3], rows[2]


def _reverse(data: Any) -> None:
    row = data["deployment"]["joints"][12]
    row["home_rad"] = -row["home_rad"]


BUNDLES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no deployment facts": (lambda data: data.pop("deployment"), "does not say how to run it on motors"),
    "joints in another order": (lambda data: data["joint_order"].reverse(), "order of joints"),
    "facts in another order": (_swap_joints, ""),
    "a knee the other way round": (_reverse, ""),
    "another rate": (lambda data: data.update(control_rate_hz=100.0), "rate"),
    "another scale": (lambda data: data["deployment"].update(action_scale_rad=3.0), ""),
    "NaN as a limit": (lambda data: data["deployment"]["joints"][0].update(torque_nm=math.nan), ""),
    "fewer observations": (lambda data: data.update(observation_size=70), ""),
    "fewer actions": (lambda data: data.update(action_low=[-1.0] * 19, action_high=[1.0] * 19), ""),
    "another range of actions": (lambda data: data.update(action_high=[2.0] * 20), ""),
    "an observation nobody measures": (lambda data: data["deployment"]["terms"][0].update(name="base_velocity"), ""),
    "one term less": (lambda data: data["deployment"]["terms"].pop(), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLES)
def test_a_wrong_bundle_is_refused_and_the_wire_stays_silent(
    small_bundle: Callable[[str], Path],
    waiting: Spawned,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    change, said = BUNDLES[name]
    folder = tmp_path / "bundle"
    shutil.copytree(small_bundle("walk"), folder)
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))
    calibration = tmp_path / "op3.json"
    Calibration.for_robot(ROBOT).save(calibration)
    before = len(waiting.control.log())
    bus = f"dynamixel:{waiting.port}@2000000"
    arguments = ["--bus", bus, "--calibration", str(calibration), "--yes", "--i-am-at-the-stop", "--seconds", "1"]
    assert run(["deploy", str(folder), *arguments]) == 1
    shown = capsys.readouterr().err
    assert "error:" in shown
    assert said in shown
    assert len(waiting.control.log()) == before, "not a byte"


CALIBRATIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "of another robot": (lambda data: data.update(robot="unitree_g1"), "unitree_g1"),
    "joints in another order": (lambda data: data["joints"].reverse(), "order"),
    "a joint less": (lambda data: data["joints"].pop(), "missing"),
    "another motor": (lambda data: data["joints"][4].update(motor="XL330-M288"), "XL330"),
    "a sign of 0": (lambda data: data["joints"][4].update(sign=0), ""),
    "a zero that is no number": (lambda data: data["joints"][4].update(zero_rad=math.nan), ""),
    "a sign that makes the encoder wrap": (lambda data: data["joints"][12].update(zero_rad=2.5), "wraps"),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_wrong_calibration_is_refused_and_the_wire_stays_silent(
    small_bundle: Callable[[str], Path],
    waiting: Spawned,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    change, said = CALIBRATIONS[name]
    file = tmp_path / "op3.json"
    Calibration.for_robot(ROBOT).save(file)
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    before = len(waiting.control.log())
    bus = f"dynamixel:{waiting.port}@2000000"
    arguments = ["--bus", bus, "--calibration", str(file), "--yes", "--i-am-at-the-stop", "--seconds", "1"]
    assert run(["deploy", str(small_bundle("stand")), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert len(waiting.control.log()) == before, "not a byte"


def test_the_calibration_of_another_unit_is_refused_before_any_torque(op3: WiredOp3) -> None:
    """Same robot, same motors, other firmware: only the motors themselves can tell."""
    unit = Calibration.for_robot(ROBOT)
    joints = (replace(unit.joints[0], firmware="11"), *unit.joints[1:])
    port = wired_port(op3.emulator.port, op3.clock, margin_s=0.3, calibration=replace(unit, joints=joints))
    hardware = RobotHardware(port, ROBOT)
    with pytest.raises(RefusedError, match=r"r_sho_pitch.*firmware"):
        hardware.connect()
    hardware.close()
    assert of_register(written(op3.log()), TORQUE_ENABLE, 1) == []
    assert not any(op3.torque())


def test_a_calibration_with_a_reversed_knee_does_not_start_from_there(op3: WiredOp3) -> None:
    """A knee bent by 140 deg lies 7 deg beyond the stop if its sign is turned round; what lies inside cannot be told
    by a computer: that is what the sweep of `cadenza calibrate` and the first run in the air are for."""
    unit = Calibration.for_robot(ROBOT)
    row = ROBOT.joint_names.index("r_knee")
    joints = list(unit.joints)
    joints[row] = replace(joints[row], sign=-joints[row].sign)
    bent = HOME.copy()
    bent[row] = math.radians(-140.0)
    op3.turn_to(bent)
    op3.advance(0.05)
    port = wired_port(op3.emulator.port, op3.clock, margin_s=0.3, calibration=replace(unit, joints=tuple(joints)))
    with RobotHardware(port, ROBOT) as hardware:
        hardware.connect()
        hardware.configure(prove_watchdog=False)
        with pytest.raises(RefusedError, match="r_knee"):
            hardware.start_up()
        assert [one for one in of_register(written(op3.log()), TORQUE_ENABLE, 1) if one[2]] == []


# ---------------------------------------------------------------------- poison in a run


def poisoned() -> dict[str, JointCommand | Any]:
    """Commands that no motor may get."""
    made: dict[str, Any] = {}
    for name in ("q", "dq", "tau", "kp", "kd"):
        for bad in NOT_NUMBERS:
            one = command(HOME)
            values = getattr(one, name).copy()
            values[7] = bad
            setattr(one, name, values)
            made[f"{name} {bad}"] = one
    short = command(HOME)
    short.q = short.q[:-1]
    made["a joint less"] = short
    for kind in (object, str, bool, complex):
        cast = command(HOME)
        cast.q = np.array(cast.q.astype(kind))
        made[f"q as {kind.__name__}"] = cast
    flat = command(HOME)
    flat.q = HOME.tolist()  # type: ignore[assignment]
    made["a list"] = flat
    tall = command(HOME)
    tall.q = HOME[:, None]
    made["a column"] = tall
    free = command(HOME)
    free.mode = Mode.IMPEDANCE
    made["a mode these motors do not have"] = free
    off = command(HOME)
    off.mode = Mode.OFF
    made["torque off, as a command"] = off
    return made


def test_poisoned_commands_hold_the_last_goal_and_then_stop_the_robot(op3: WiredOp3) -> None:
    hardware = op3.go()
    for what, bad in poisoned().items():
        op3.tick(command(HOME + 0.1))
        before = hardware.supervisor.target
        hardware.read()
        applied = hardware.command(bad)
        op3.clock.sleep_until(op3.clock.now() + PERIOD_S)
        assert (applied.limited_by & int(Limit.NOT_FINITE | Limit.REFUSED)).all(), what
        assert applied.reasons, what
        np.testing.assert_array_equal(hardware.supervisor.target, before, err_msg=what)
        assert hardware.lifecycle == Lifecycle.ACTIVE
    op3.tick(command(HOME))
    bad = poisoned()["q nan"]
    for _ in range(hardware.policy.rejected_commands):
        assert hardware.lifecycle == Lifecycle.ACTIVE
        op3.tick(bad)
    op3.until_off(bad)
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "not finite" in hardware.reason
    assert check_goals(op3.log(), ROBOT).goals > 100


def test_huge_and_narrow_numbers_are_only_ever_a_bounded_step(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k, value in enumerate(HUGE * 3):
        one = command(np.full(N, value) if k % 2 else HOME + np.where(np.arange(N) == k % N, value, 0.0))
        if k % 3 == 0:
            with np.errstate(over="ignore"):
                one.q = one.q.astype(np.float32)  # overflows to infinity where it must
        one.kp = KP * 10.0 ** (k % 12)
        op3.tick(one)
        if k % 3 == 2:
            op3.tick(command(HOME))
    assert hardware.lifecycle in (Lifecycle.ACTIVE, Lifecycle.STOPPING)
    gains = [value for _, _, value in of_register(written(op3.log()), 84, 2)]
    assert 0 <= min(gains) <= max(gains) <= round(2 * KP[0] / (4.1 * 4096 / (128 * 2 * math.pi * 885))) + 1
    assert check_goals(op3.log(), ROBOT).goals > 0


class PoisonedPort:
    """Joints whose samples are spoiled now and then on their way to the policy."""

    def __init__(self, port: Any, spoil: Callable[[RobotState, int], None]):
        self._port, self._spoil, self.reads = port, spoil, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def read(self) -> RobotState:
        state: RobotState = self._port.read()
        self._spoil(state, self.reads)
        self.reads += 1
        return state


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize(
    ("where", "bad"),
    [
        ("q", math.nan),
        ("q", 1e300),
        ("dq", math.inf),
        ("gyro", math.nan),
        ("gravity", 1e300),
        ("age", math.nan),
        *(
            pytest.param(where, bad, marks=pytest.mark.slow)
            for where in ("q", "dq", "gyro", "gravity", "age")
            for bad in (math.nan, -math.inf, 1e300, 1e38)
        ),
    ],
)
def test_poisoned_observations_never_become_a_goal(
    op3: WiredOp3, small_bundle: Callable[[str], Path], where: str, bad: float
) -> None:
    """Two ticks of poison are coasted over; poison that stays stops the robot. A whole loop with a policy."""
    begun: list[int] = []

    def spoil(state: RobotState, number: int) -> None:
        if hardware.lifecycle != Lifecycle.ACTIVE:
            return
        begun.append(number)
        driven = len(begun)
        if not (10 <= driven < 12 or driven >= 30):
            return
        assert state.imu is not None
        if where in ("gyro", "gravity"):
            getattr(state.imu, where)[1] = bad
        else:
            getattr(state.joints, where)[9] = bad

    hardware = RobotHardware(PoisonedPort(op3.port, spoil), ROBOT, homing_s=0.3)  # type: ignore[arg-type]
    op3.hardware = hardware
    hardware.connect()
    hardware.configure(prove_watchdog=False)
    report = ControlLoop(hardware, PolicyRunner(PolicyBundle.load(small_bundle("stand")))).run(2.0)
    assert len(begun) >= 30, "the first poison was coasted over"
    assert report.lifecycle == "fault" or "training" in report.reason, report
    assert report.active_ticks < 60
    assert not any(op3.torque())
    assert check_goals(op3.log(), ROBOT).goals > 100


# ---------------------------------------------------------------------- the property, on the wire

ANY_NUMBER = st.one_of(
    st.floats(-4, 4), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([*NOT_NUMBERS, *HUGE])
)
COMMANDS = st.one_of(
    st.none(),
    st.tuples(st.just("all"), ANY_NUMBER, st.floats(0, 60)),
    st.tuples(st.integers(0, N - 1), ANY_NUMBER, st.one_of(st.floats(0, 60), ANY_NUMBER)),
)
FAULTS = st.sampled_from(
    [
        ("drop", {"share": 0.3}), ("corrupt", {"share": 0.2}), ("duplicate", {"share": 0.5}),
        ("delay", {"share": 0.3, "amount": 0.03}), ("mute", {"devices": [13]}), ("stuck_encoder", {"devices": [11]}),
        ("reboot", {"devices": [12]}), ("over_heat", {"devices": [2], "amount": 78.0}), ("brown_out", {"amount": 8.0}),
        ("overload", {"devices": [15]}), ("over_heat", {"devices": [16]}), ("id_clash", {"devices": [5]}),
    ]
)  # fmt: skip
ACTS = st.lists(
    st.one_of(
        COMMANDS.map(lambda one: ("command", one)),
        COMMANDS.map(lambda one: ("command", one)),
        COMMANDS.map(lambda one: ("command", one)),
        st.integers(1, 30).map(lambda ticks: ("pause", ticks)),
        st.tuples(st.integers(0, N - 1), st.floats(-3, 3)).map(lambda pair: ("shove", pair)),
        FAULTS.map(lambda pair: ("fault", pair)),
        st.just(("heal", None)),
        st.sampled_from([0, 1, 2]).map(lambda category: ("stop", category)),
        st.sampled_from([0, 1]).map(lambda category: ("estop", category)),
        st.just(("again", None)),
        st.just(("release", None)),
    ),
    min_size=5,
    max_size=40,
)


def play(shared: SharedOp3, acts: list[tuple[str, Any]]) -> Traffic:
    """Any sequence of commands, pauses, shoves, faults, stops and starts; the goals that came of it, checked."""
    robot = shared.power_cycled(margin_s=0.1)
    try:
        hardware = robot.go()
        robot.impatient(0.02)
        for what, value in acts:
            with contextlib.suppress(HardwareError):
                _act(robot, hardware, what, value)
        for _ in range(5):
            try:
                robot.tick(command(HOME))
            except HardwareError:
                break
        return check_goals(robot.log(), ROBOT)
    finally:
        shared.give_back(robot)


def _act(robot: WiredOp3, hardware: RobotHardware, what: str, value: Any) -> None:
    if what == "command":
        one = None
        if value is not None:
            which, number, gain = value
            q = np.full(N, number) if which == "all" else np.where(np.arange(N) == which, number, HOME)
            one = command(q, np.full(N, gain))
        for _ in range(3):
            robot.tick(one)
    elif what == "pause":
        robot.advance(value * PERIOD_S)
    elif what == "shove":
        row, angle = value
        robot.control.set(ROBOT.joints[row].bus_id, angle_rad=angle)
        robot.tick(command(HOME))
    elif what == "fault":
        robot.control.fault(value[0], **value[1])
        robot.tick(command(HOME))
    elif what == "heal":
        robot.control.clear_faults()
        robot.tick(command(HOME))
    elif what == "stop":
        hardware.stop(value)
        robot.tick(command(HOME))
    elif what == "estop":
        hardware.estop(value)
        robot.tick(command(HOME))
    elif what == "release":
        hardware.release()
    else:
        robot.control.clear_faults()
        if hardware.lifecycle in (Lifecycle.FAULT, Lifecycle.ESTOPPED):
            hardware.reset(clear_faults=True)
        robot.advance(0.3)
        hardware.read()
        if hardware.lifecycle == Lifecycle.INACTIVE:
            hardware.start_up()
        for _ in range(20):
            robot.tick(None)


PROPERTY = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)  # fmt: skip


@seed(20261124)
@settings(PROPERTY, max_examples=5)
@given(acts=ACTS)
def test_no_goal_out_of_limits_is_ever_on_the_wire(shared_op3: SharedOp3, acts: list[tuple[str, Any]]) -> None:
    assert play(shared_op3, acts).goals > 0


@pytest.mark.slow
@settings(PROPERTY, max_examples=100)
@given(acts=ACTS)
def test_no_goal_out_of_limits_is_ever_on_the_wire_long(shared_op3: SharedOp3, acts: list[tuple[str, Any]]) -> None:
    assert play(shared_op3, acts).goals > 0


def test_the_decoder_would_find_a_goal_beyond_the_limits(op3: WiredOp3) -> None:
    """A check that cannot fail proves nothing: three wrong packets, each found."""
    from wire_reader import packet

    def entry(number: int, do: int, data: bytes) -> dict[str, Any]:
        return {"at_s": 0.0, "way": "in", "data": packet(number, do, data)}

    on = entry(1, 3, bytes([64, 0, 1]))
    at = entry(1, 3, bytes([116, 0]) + (2048).to_bytes(4, "little"))
    far = entry(0xFE, 0x83, bytes([116, 0, 4, 0, 1]) + (2300).to_bytes(4, "little"))
    beyond = entry(0xFE, 0x83, bytes([112, 0, 8, 0, 1]) + bytes(4) + (5000).to_bytes(4, "little"))
    check_goals([at, on, at], ROBOT)
    check_goals([far, at, on, at], ROBOT)  # with torque off it may be anywhere inside
    with pytest.raises(AssertionError, match="a step of 252"):
        check_goals([at, on, far], ROBOT)
    with pytest.raises(AssertionError, match="goal 5000"):
        check_goals([at, beyond], ROBOT)
    assert list(packets(b"\xff" * 9 + at["data"] + b"noise"))
    assert of_register(written([beyond]), GOAL_POSITION, 4) == [(0.0, 1, 5000)]
