"""Promise 8: each fault of a motor, its supply or its wire leads to the right stop, and the message says what is wrong.

All faults are made by the emulator behind the wire; what an operator sees is what is asserted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from wire_reader import TORQUE_ENABLE, check_goals, of_register, written
from wired import HOME, ROBOT, SharedOp3, WiredOp3, command, wired_port

from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.robot import RobotHardware


def sway(k: int) -> Any:
    return command(HOME + 0.25 * np.sin(k / 8))


def category(hardware: RobotHardware) -> int | None:
    """Of the last stop that was begun; 0 where torque went off without one."""
    texts = [text for _, text in hardware.events]
    stops = [int(text.split(":")[0].split()[-1]) for text in texts if text.startswith("stop category")]
    return stops[-1] if stops else (0 if any(text.startswith("torque off") for text in texts) else None)


STAND_TICKS = 75
"""Heat can wait until a policy has come to a stand."""
# Fault, its fields, joint, stop category, words of the message, ticks within which the stop begins.
RUNNING = {
    "over-temperature, before the servo gives up": (
        "over_heat", {"amount": 76.0}, "l_knee", 1, ["l_knee", "too hot", "76 degC"], 40 + STAND_TICKS,
    ),
    "over-temperature, the servo gives up": (
        "over_heat", {"amount": 95.0}, "l_knee", 1, ["l_knee", "overheated"], 40,
    ),
    "under-voltage, before the servos complain": ("brown_out", {"amount": 9.8}, None, 1, ["supply of 9.8 V"], 80),
    "under-voltage, the servos complain": (
        "brown_out", {"amount": 9.0}, None, 1, ["r_sho_pitch reports: voltage", "more report"], 20,
    ),
    "overload": ("overload", {}, "r_ank_pitch", 1, ["r_ank_pitch", "overload"], 300),
    "encoder freeze": ("stuck_encoder", {}, "head_pan", 1, ["head_pan", "encoder stuck"], 120),
    "reboot in mid-run": ("reboot", {}, "r_hip_pitch", 1, ["r_hip_pitch"], 60),
    "id clash in mid-run": ("id_clash", {}, "l_el", 1, ["no usable feedback from l_el"], 20),
    "a servo without power": ("unplug", {}, "l_el", 1, ["no usable feedback from l_el", "silent"], 20),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNNING)
def test_a_fault_in_mid_run(op3: WiredOp3, name: str) -> None:
    kind, fields, joint, stop, words, within = RUNNING[name]
    hardware = op3.go()
    for k in range(20):
        op3.tick(sway(k))
    op3.impatient(0.03)
    op3.fault(kind, joint, **fields)
    for k in range(within + 100):
        if hardware.lifecycle != Lifecycle.ACTIVE:
            break
        op3.tick(sway(20 + k))
    assert k <= within
    assert category(hardware) == stop, [text for _, text in hardware.events]
    for word in words:
        assert word in hardware.reason, hardware.reason
    op3.until_off()
    assert hardware.lifecycle == Lifecycle.FAULT
    still_on = [row.name for row, on in zip(ROBOT.joints, op3.torque(), strict=True) if on]
    assert still_on == []
    with pytest.raises(RefusedError):
        hardware.start_up()
    check_goals(op3.log(), ROBOT)


def test_a_hardware_error_with_alert_is_read_from_the_register_that_explains_it(op3: WiredOp3) -> None:
    """The Alert bit makes the SDK's plain read fail; we read on, and say which error it is."""
    hardware = op3.go()
    op3.fault("over_heat", "head_tilt", amount=95.0, for_s=0.2)
    op3.until_off(command(HOME))
    assert "overheated" in hardware.reason
    op3.run(30)
    assert op3.bus.read_register(20, "hardware_error_status") == 4
    hardware.reset()
    with pytest.raises(RefusedError, match=r"head_tilt.*overheated"):
        hardware.start_up()
    hardware.estop(0, "an operator takes a look")
    op3.control.set(20, temperature_c=30.0)
    hardware.reset(clear_faults=True)  # a restart of that servo: nothing else clears it
    assert op3.bus.read_register(20, "hardware_error_status") == 0


def test_faults_before_the_start_are_all_named(op3: WiredOp3) -> None:
    hardware = op3.set_up()
    op3.fault("over_heat", "l_knee", amount=74.0)
    op3.advance(0.02)
    op3.control.set(13, angle_rad=-2.7)  # r_knee, beyond its -148 deg
    with pytest.raises(RefusedError) as caught:
        hardware.start_up()
    said = str(caught.value)
    for word in ("l_knee at 74 degC", "r_knee at", "beyond its limits"):
        assert word in said
    assert "by hand" in caught.value.advice
    assert [one for one in of_register(written(op3.log()), TORQUE_ENABLE, 1) if one[2]] == []


def test_two_motors_with_one_id_are_named_at_connect(op3: WiredOp3) -> None:
    op3.fault("id_clash", "l_el")
    with pytest.raises(HardwareError, match=r"l_el.*two motors"):
        RobotHardware(op3.port, ROBOT).connect()
    assert of_register(written(op3.log()), TORQUE_ENABLE, 1) == []


def test_a_motor_that_is_not_there_is_named_at_connect(op3: WiredOp3) -> None:
    op3.impatient(0.03)
    op3.fault("mute", "head_pan")
    with pytest.raises(HardwareError, match=r"head_pan.*does not answer") as caught:
        RobotHardware(op3.port, ROBOT).connect()
    assert "r_knee" not in str(caught.value)


def test_a_wrong_baud_rate_is_what_the_message_suspects(shared_op3: SharedOp3, op3: WiredOp3) -> None:
    port = wired_port(op3.emulator.port, VirtualClock(), margin_s=0.02)
    port.buses[0].port.serial.setBaudRate(1_000_000)  # type: ignore[attr-defined]
    with pytest.raises(HardwareError) as caught:
        RobotHardware(port, ROBOT).connect()
    said = f"{caught.value} {caught.value.advice}"
    assert "OpenCR" in said or "speed" in said
    port.close()
    assert [entry for entry in op3.log() if entry["way"] == "out"] == [], "nobody understood it"
