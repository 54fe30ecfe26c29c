"""``cadenza calibrate`` with a person who moves emulated shafts, and the bookkeeping behind it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "robots" / "hardware"))

from bench import start

from cadenza.envs.errors import CadenzaError
from cadenza.robots import load_humanoid
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.emulators.launch import Order, Spawned
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.sweeping import Sweep, calibrate
from cadenza.robots.hardware.types import Array, Fault, Identity, JointState
from cadenza.scripts import calibrate as command

OP3 = load_humanoid("op3")
N = len(OP3.joints)
LOW, HIGH = (np.array([row.limits_rad[side] for row in OP3.joints]) for side in (0, 1))
WHO = [Identity(row.bus_id, row.motor, "46") for row in OP3.joints]
SHIFT = np.array([0.0 if abs(row.limits_rad[0]) > 3 else 0.1 for row in OP3.joints])
"""How far each motor's centre is from its joint's zero, rad; the shoulders' pitch needs its whole turn."""


def state(q: Array) -> JointState:
    made = JointState.unknown(len(q))
    made.q, made.age = np.array(q, dtype=np.float64), np.zeros(len(q))
    return made


def swept(low: Array, high: Array) -> Sweep:
    sweep = Sweep(len(low))
    for pose in np.linspace(low, high, 9):
        sweep.see(state(pose))
    return sweep


# ---------------------------------------------------------------------- bookkeeping


def test_a_motor_is_followed_across_its_wrap() -> None:
    """170, 179, -178, -170 deg is 20 deg of motion, from 170 to 190."""
    sweep = Sweep(1)
    for degrees in (170, 179, -178, -170, -178, 179):
        sweep.see(state(np.radians([degrees])))
    np.testing.assert_allclose(np.degrees([sweep.low[0], sweep.high[0], sweep.now[0]]), [170, 190, 179])
    assert sweep.crossed[0]


def test_silent_and_unknown_motors_are_left_out() -> None:
    sweep = Sweep(2)
    sweep.see(state(np.array([0.1, 0.2])))
    late = state(np.array([3.0, np.nan]))
    late.fault[0] = int(Fault.SILENT)
    sweep.see(late)
    np.testing.assert_allclose(sweep.high, [0.1, 0.2])


def test_zero_and_range_follow_from_the_pose() -> None:
    """joint = motor + zero: at joint 0 the motor stood at -0.1, so zero is +0.1, and the range is the limits'."""
    made = calibrate(OP3, WHO, swept(0.95 * LOW - SHIFT, 0.95 * HIGH - SHIFT), -SHIFT, date="2026-01-02")
    knee = made.joint("r_knee")
    assert knee.zero_rad == pytest.approx(0.1)
    assert knee.range_rad == pytest.approx((0.95 * math.radians(-148), 0.95 * math.radians(135)))
    assert (knee.sign, knee.firmware, knee.method) == (1, "46", "swept, zero pose")
    assert not made.nominal


def test_a_reversed_motor_is_refused_and_can_be_flipped() -> None:
    low, high = 0.95 * LOW, 0.95 * HIGH
    hip = OP3.joint_names.index("r_hip_pitch")
    low[hip], high[hip] = -high[hip], -low[hip]
    with pytest.raises(RefusedError, match="--flip r_hip_pitch"):
        calibrate(OP3, WHO, swept(low, high), np.zeros(N), date="2026-01-02")
    made = calibrate(OP3, WHO, swept(low, high), np.zeros(N), date="2026-01-02", flip=["r_hip_pitch"])
    assert made.joint("r_hip_pitch").sign == -1
    assert made.joint("r_hip_pitch").range_rad == pytest.approx((0.95 * math.radians(-28), 0.95 * math.radians(135)))


def test_too_little_names_the_joints() -> None:
    low, high = 0.95 * LOW, 0.95 * HIGH
    low[4], high[4] = -0.1, 0.1
    with pytest.raises(RefusedError, match=r"r_el moved 11 of 108 deg") as caught:
        calibrate(OP3, WHO, swept(low, high), None, date="2026-01-02")
    assert "l_el" not in str(caught.value)


def test_the_wrap_inside_a_range_is_refused() -> None:
    low, high = 0.95 * LOW, 0.95 * HIGH
    low[12], high[12] = low[12] + 2.0, high[12] + 2.0
    with pytest.raises(RefusedError, match=r"wraps .* r_knee"):
        calibrate(OP3, WHO, swept(low, high), None, date="2026-01-02")


def test_a_zero_pose_outside_the_sweep_is_refused() -> None:
    zero = np.zeros(N)
    zero[0] = 3.1
    with pytest.raises(RefusedError, match="r_sho_pitch: the zero pose"):
        calibrate(OP3, WHO, swept(0.9 * LOW, 0.9 * HIGH), zero, date="2026-01-02")


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def servos() -> Iterator[Spawned]:
    with start(Order("dynamixel", ids=tuple(range(1, N + 1)), baud=2_000_000, lockstep=True)) as emulator:
        yield emulator


class Person:
    """Moves all shafts one pose further each time the command looks for Enter; None is Enter."""

    def __init__(self, emulator: Spawned, poses: list[Array | None]):
        self.emulator, self.poses = emulator, poses

    def __call__(self, wait_s: float) -> bool:
        pose = self.poses.pop(0)
        if pose is None:
            return True
        for row, angle in zip(OP3.joints, pose, strict=True):
            self.emulator.control.set(row.bus_id, angle_rad=float(angle))
        return False


def test_a_robot_is_swept_and_written(
    servos: Spawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stops = [0.95 * LOW - SHIFT, -SHIFT, 0.95 * HIGH - SHIFT, -SHIFT, None, -SHIFT, None]
    monkeypatch.setattr(command, "_enter", Person(servos, stops))
    file = tmp_path / "op3.json"
    arguments = [f"dynamixel:{servos.port}", "--robot", "op3", "--out", str(file), "--unit", "first"]
    assert command.main(arguments) == 0
    assert "written" in capsys.readouterr().out
    made = Calibration.load(file, OP3)
    assert (made.robot, made.unit) == ("op3", "first")
    np.testing.assert_allclose([row.zero_rad for row in made.joints], SHIFT, atol=2 * math.pi / 4096)
    np.testing.assert_allclose([row.range_rad for row in made.joints], 0.95 * np.column_stack([LOW, HIGH]), atol=4e-3)
    assert json.loads(file.read_text())["joints"][0]["motor"] == "XM430-W350"
    assert not any(motor["torque_enabled"] for motor in servos.control.state()["motors"])
    with pytest.raises(CadenzaError, match="exists"):
        command.main(arguments)


def test_a_refused_sweep_writes_nothing(servos: Spawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    across = [np.full(N, -2.0), np.full(N, 0.0), np.full(N, 2.0), np.full(N, 3.0), np.full(N, -3.0), None]
    monkeypatch.setattr(command, "_enter", Person(servos, across))
    file = tmp_path / "op3.json"
    with pytest.raises(RefusedError, match="wraps"):
        command.main([f"dynamixel:{servos.port}", "--robot", "op3", "--out", str(file)])
    assert not file.exists()


def test_torque_is_refused(servos: Spawned, tmp_path: Path) -> None:
    from cadenza.scripts.buses import opened

    with opened(f"dynamixel:{servos.port}") as somebody:
        somebody.write_register(3, "torque_enable", 1)
        try:
            somebody.close()
            with pytest.raises(CadenzaError, match="Torque is on: r_sho_roll"):
                command.main([f"dynamixel:{servos.port}", "--robot", "op3", "--out", str(tmp_path / "op3.json")])
        finally:
            somebody.write_register(3, "torque_enable", 0)


def test_enter_and_the_end_of_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert not command._enter(0.0)
        os.write(writer, b"\n")
        assert command._enter(1.0)
        os.close(writer)
        with pytest.raises(CadenzaError, match="Input ended"):
            command._enter(1.0)
