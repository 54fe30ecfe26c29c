"""The DYNAMIXEL driver with the vendor's SDK, against emulated servos in another process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from bench import DynamixelRig, SharedEmulator, settings, start
from conformance import BusConformance, command, follow, ready

from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.dynamixel.opencr import AS_BOARD, OpenCr, gravity_of
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions, eeprom_for
from cadenza.robots.hardware.dynamixel.table import MODELS
from cadenza.robots.hardware.emulators.launch import Order
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.serial import ByteLog, SerialPort
from cadenza.robots.hardware.types import JointCommand, Mode

TICK = 2 * np.pi / 4096
QUICK = DynamixelOptions(broadcast_up_to=3)


@pytest.fixture(scope="module")
def emulator() -> Iterator[SharedEmulator]:
    made = SharedEmulator()
    yield made
    made.stop()


@pytest.fixture
def rig(emulator: SharedEmulator) -> Iterator[DynamixelRig]:
    made = emulator.rig()
    yield made
    emulator.give_back(made)


class TestConformance(BusConformance):
    persistent = "temperature_limit"
    harmless = ("led", 1.0)

    @pytest.fixture
    def rig(self, emulator: SharedEmulator) -> Iterator[DynamixelRig]:  # type: ignore[override]
        made = emulator.rig()
        yield made
        emulator.give_back(made)


# ---------------------------------------------------------------------- configuring


def written(rig: DynamixelRig, since: int = 0) -> list[tuple[int, int, bytes]]:
    """Write instructions that reached the emulator: (id, address, data)."""
    packets = [entry["data"] for entry in rig.control.log(since) if entry["way"] == "in"]
    return [
        (packet[4], int.from_bytes(packet[8:10], "little"), packet[10:-2])
        for packet in packets
        if len(packet) > 11 and packet[7] == 0x03
    ]


def mark(rig: DynamixelRig) -> int:
    log = rig.control.log()
    return log[-1]["number"] + 1 if log else 0


def test_a_servo_as_delivered_gets_what_the_joint_table_asks_for() -> None:
    """By hand: limits of +-2 rad are 2 * 4096 / (2 pi) = 1303.8 counts about 2048; a kp of 18.9 N m/rad is
    18.9 / (4.1 N m * 4096 / (2 pi) / 128 / 885) = 801.0 counts of P gain; 0.2 s are 10 steps of 20 ms."""
    shared = SharedEmulator((4, 9))
    rig = shared.rig()
    try:
        rig.bus.connect()
        rig.bus.configure(Mode.POSITION, 0.2)
        expected = {
            "return_delay_time": 0, "operating_mode": 3, "drive_mode": 0, "temperature_limit": 80, "pwm_limit": 885,
            "current_limit": 1193, "min_position_limit": 2048 - 1303, "max_position_limit": 2048 + 1303,
            "position_p_gain": 801, "position_i_gain": 0, "position_d_gain": 0, "goal_pwm": 885, "bus_watchdog": 10,
            "profile_velocity": 0, "status_return_level": 2, "torque_enable": 0,
        }  # fmt: skip
        for number in (4, 9):
            assert {name: rig.bus.read_register(number, name) for name in expected} == expected
        since = mark(rig)
        rig.bus.configure(Mode.POSITION, 0.2)
        assert written(rig, since) == [], "EEPROM wears out: what is right is not written again"
    finally:
        shared.give_back(rig)
        shared.stop()


def test_a_torque_limit_becomes_duty_and_current(rig: DynamixelRig) -> None:
    """Half the stall torque of 4.1 N m: half of 885, and 2.05 N m * 149.8 counts per N m = 307.1."""
    rows = [replace(row, torque_limit_nm=2.05) for row in rig.bus.settings]
    model = MODELS[1020]
    wanted = eeprom_for(model, rows[0], DynamixelOptions())
    assert (wanted["pwm_limit"], wanted["current_limit"]) == (442, 308)


def test_configure_refuses_what_the_registers_cannot_hold(rig: DynamixelRig) -> None:
    rig.bus.connect()
    for watchdog_s in (0.0, -1.0, 2.6, float("nan"), float("inf")):
        with pytest.raises(HardwareError, match="watchdog"):
            rig.bus.configure(Mode.POSITION, watchdog_s)
    with pytest.raises(HardwareError, match="impedance"):
        rig.bus.configure(Mode.IMPEDANCE, 0.2)


def test_a_bus_that_somebody_keeps_alive_fails_the_proof(rig: DynamixelRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.1)
    rig.clock.followers.clear()

    def advance_with_pings(until_s: float) -> None:
        now = rig.control.state()["time_s"]
        while now < until_s:
            now = min(now + 0.02, until_s)
            rig.control.advance(now)
            rig.bus.port.ping(1)

    rig.clock.followers.append(advance_with_pings)
    with pytest.raises(HardwareError, match="did not trip"):
        rig.bus.prove_watchdog()
    assert not any(rig.powered())


def test_a_pose_outside_the_limits_is_not_switched_on(rig: DynamixelRig) -> None:
    """The servo would refuse the measured position as goal, and jump to an older one."""
    rig.turn(1, 2.2)
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    with pytest.raises(HardwareError, match=r"joint_b \(id 2\) is at 126\.\d deg"):
        rig.bus.activate()
    assert not any(rig.powered())


# ---------------------------------------------------------------------- on the wire


def test_a_command_is_one_sync_write(rig: DynamixelRig) -> None:
    """0.5 rad is 2048 + 0.5 * 4096 / (2 pi) = 2373.95 counts, 2374 = 0x0946; the SDK's checksum ends the packet."""
    ready(rig)
    rig.bus.write(command(rig, 0.0))
    heard = ByteLog()
    rig.bus.port.serial.taps.append(heard)
    sent = rig.bus.write(command(rig, np.array([0.5, 0.0, -0.5])))
    packet = heard.all("sent")
    assert packet[:12].hex(" ") == "ff ff fd 00 fe 16 00 83 74 00 04 00"
    assert packet[12:-2].hex(" ") == "01 46 09 00 00 02 00 08 00 00 03 ba 06 00 00"
    np.testing.assert_allclose(sent.command.q, [326 * TICK, 0.0, -326 * TICK])
    assert np.isnan(sent.command.dq).all()
    assert np.isnan(sent.command.tau).all()


def test_gains_go_out_where_they_change(rig: DynamixelRig) -> None:
    ready(rig)
    first = command(rig, 0.0)
    rig.bus.write(first)
    heard = ByteLog()
    rig.bus.port.serial.taps.append(heard)
    ramp = command(rig, 0.0)
    ramp.kp = np.array([9.45, 18.9, 18.9])
    sent = rig.bus.write(ramp)
    gains = heard.chunks[0].data
    assert gains[8:-2].hex(" ") == "54 00 02 00 01 91 01", "9.45 N m/rad: half of 801.0, for the first motor alone"
    assert sent.command.kp[0] == pytest.approx(9.45, abs=0.012)
    limp = command(rig, 0.0)
    limp.kp[:] = 0.0
    rig.bus.write(limp)
    assert [rig.bus.read_register(number, "position_p_gain") for number in (1, 2, 3)] == [0, 0, 0]


def test_goals_never_leave_the_limits(rig: DynamixelRig) -> None:
    ready(rig)
    sent = rig.bus.write(command(rig, np.array([3.0, -40.0, 1e9])))
    np.testing.assert_allclose(sent.command.q, [1303 * TICK, -1303 * TICK, 1303 * TICK])
    assert [rig.bus.read_register(n, "goal_position") for n in (1, 2, 3)] == [3351, 745, 3351]


def test_voltage_and_temperature_come_along(rig: DynamixelRig) -> None:
    rig.control.set(2, temperature_c=41.0)
    rig.control.set(3, supply_v=11.4)
    rig.bus.connect()
    state = rig.bus.read()
    assert state.temperature[1] == 41
    np.testing.assert_allclose(state.voltage, [12.0, 12.0, 11.4], atol=0.051)


# ---------------------------------------------------------------------- other operating modes


def test_current_mode_takes_torque_alone(emulator: SharedEmulator) -> None:
    """1 N m is 149.8 counts of current, sent as 150 = 1.0013 N m."""
    rig = emulator.rig(operating="current")
    try:
        assert rig.bus.capabilities.modes == {Mode.OFF, Mode.IMPEDANCE}
        rig.bus.connect()
        rig.bus.configure(Mode.IMPEDANCE, 0.2)
        rig.bus.activate()
        asked = JointCommand.hold(np.zeros(3))
        asked.mode, asked.tau = Mode.IMPEDANCE, np.array([1.0, 0.0, -100.0])
        sent = rig.bus.write(asked)
        np.testing.assert_allclose(sent.command.tau, [150 / 149.8, 0.0, -1193 / 149.8])
        assert np.isnan(sent.command.q).all()
        asked.kp[0] = 1.0
        with pytest.raises(HardwareError, match="gains"):
            rig.bus.write(asked)
    finally:
        emulator.give_back(rig)


def test_current_based_position_has_its_mode_and_limit(emulator: SharedEmulator) -> None:
    rig = emulator.rig(operating="current_position")
    try:
        ready(rig)
        assert rig.bus.read_register(1, "operating_mode") == 5
        assert rig.bus.read_register(1, "goal_current") == 1193
        follow(rig, 0.3, 0.1)
        assert np.all(rig.shafts() > 0.1), "on its way; without a gain D nothing damps this mode"
    finally:
        emulator.give_back(rig)


def test_off_is_sent_at_once(rig: DynamixelRig) -> None:
    ready(rig)
    off = command(rig, 0.0)
    off.mode = Mode.OFF
    rig.bus.write(off)
    rig.advance(0.01)
    assert not any(rig.powered())
    with pytest.raises(HardwareError, match="not active"):
        rig.bus.write(command(rig, 0.0))


# ---------------------------------------------------------------------- the OP3's board


def test_opencr_gives_power_on_request_alone_and_tells_where_down_is() -> None:
    with start(Order("dynamixel", robot="op3", hung_up=True, lockstep=True)) as op3:
        op3.control.ask("advance", by_s=0.1)
        bus = DynamixelBus(settings((1, 2)), SerialPort(op3.port, 2_000_000, margin_s=0.2), None, DynamixelOptions())
        with pytest.raises(HardwareError) as caught:
            bus.connect()
        assert "OpenCR" in caught.value.advice
        clock = VirtualClock(op3.control.state()["time_s"])
        clock.followers.append(op3.control.advance)
        board = OpenCr(bus.port, clock, axes=AS_BOARD)
        board.connect()
        board.configure()
        assert not board.powered()
        sample = board.read()
        np.testing.assert_allclose(sample.gravity, [0, 0, -1], atol=2e-3)
        np.testing.assert_allclose(sample.gyro, 0.0, atol=2e-3)
        np.testing.assert_allclose(board.specific_force(), [0, 0, 1], atol=1e-3)
        OpenCr(bus.port, clock, power=True).configure()
        assert board.powered()
        assert [one.bus_id for one in bus.connect()] == [1, 2]
        op3.control.fault("mute", devices=[200])
        clock.sleep_until(clock.now() + 0.1)
        late = board.read()
        assert late.age >= 0.1 - 1e-6
        np.testing.assert_array_equal(late.gravity, sample.gravity)
        bus.close()


def test_gravity_from_roll_and_pitch() -> None:
    """By hand: rolled 90 deg to the right, down is -y of the body; pitched nose down by 90 deg, down is +x."""
    np.testing.assert_allclose(gravity_of(np.pi / 2, 0.0), [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(gravity_of(0.0, np.pi / 2), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(gravity_of(0.3, -0.4), [-0.38942, -0.27219, -0.87993], atol=1e-5)
    with pytest.raises(ValueError, match="rotation"):
        OpenCr(DynamixelBus([], "/dev/null").port, axes=((1, 0, 0), (0, 1, 0), (0, 0, 2)))


def test_activate_has_the_gains_of_the_table_whatever_was_sent_before(rig: DynamixelRig) -> None:
    ready(rig)
    limp = command(rig, 0.0)
    limp.kp[:] = 0.0
    rig.bus.write(limp)
    rig.bus.deactivate()
    rig.bus.activate()
    assert [rig.bus.read_register(number, "position_p_gain") for number in (1, 2, 3)] == [801] * 3
