from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.bus import BusCounters, MotorSettings
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.joint_map import JointMap, MappedBuses, motor_settings
from cadenza.robots.hardware.types import (
    Capabilities,
    Fault,
    Identity,
    ImuState,
    JointCommand,
    JointState,
    Mode,
    Sent,
)

OP3 = load_humanoid("op3")
N = 20
LEFT = tuple(name for name in OP3.joint_names if name.startswith("l_"))
REST = tuple(name for name in reversed(OP3.joint_names) if name not in LEFT)


class FakeBus:
    """Motors that stand at ``q`` and keep what they were told."""

    def __init__(self, settings: Sequence[MotorSettings], capabilities: Capabilities):
        self.settings, self.capabilities, self.counters = tuple(settings), capabilities, BusCounters()
        n = len(self.settings)
        self.state = JointState(*(np.full(n, float(i)) for i in range(5)), np.zeros(n, dtype=np.int64), np.zeros(n))
        self.written: list[JointCommand] = []
        self.calls: list[str] = []
        self.fails: set[str] = set()
        self.serial = ""

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise HardwareError(f"{self.settings[0].name} said no.")

    def connect(self) -> list[Identity]:
        self._call("connect")
        return [Identity(row.bus_id, row.motor, "", self.serial) for row in self.settings]

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        self._call(f"configure {mode.value} {watchdog_s}")

    def prove_watchdog(self) -> None:
        self._call("prove_watchdog")

    def activate(self) -> None:
        self._call("activate")

    def deactivate(self) -> None:
        self._call("deactivate")

    def read(self) -> JointState:
        return self.state

    def write(self, command: JointCommand) -> Sent:
        self._call("write")
        self.written.append(command)
        return Sent(command, 0.0)

    def ping(self, bus_id: int) -> Identity | None:
        return None

    def scan(self, ids: Sequence[int]) -> list[Identity]:
        return []

    def read_register(self, bus_id: int, name: str) -> float:
        return 0.0

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        self._call("write_register")

    def reboot(self, bus_id: int) -> None:
        self._call("reboot")

    def clear_fault(self, bus_id: int) -> None:
        self._call(f"clear {bus_id}")

    def close(self) -> None:
        self.calls.append("close")


class FakeImu:
    closed = configured = False

    def configure(self) -> None:
        self.configured = True

    def read(self) -> ImuState:
        return ImuState(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, -1.0]), 0.01)

    def close(self) -> None:
        self.closed = True


def mirrored() -> Calibration:
    """The right knee's motor is turned round, set off by 0.1 rad and turns 0.8 times per turn of the joint."""
    nominal = Calibration.for_robot(OP3)
    rows = tuple(
        replace(row, sign=-1, zero_rad=0.1, gear=0.8) if row.name == "r_knee" else row for row in nominal.joints
    )
    return replace(nominal, joints=rows)


def make(calibration: Calibration | None = None) -> tuple[MappedBuses, FakeBus, FakeBus]:
    calibration = calibration or Calibration.for_robot(OP3)
    both = frozenset({Mode.OFF, Mode.POSITION, Mode.HOLD})
    left = FakeBus(motor_settings(OP3, calibration, LEFT), Capabilities(both, True, 0.02, frozenset({"q", "dq"})))
    rest = FakeBus(
        motor_settings(OP3, calibration, REST), Capabilities(frozenset(Mode), False, 0.005, frozenset({"q", "tau"}))
    )
    return MappedBuses(OP3, [rest, left], calibration, VirtualClock(), FakeImu()), left, rest


def test_settings_at_the_motors_shaft_by_hand() -> None:
    knee = {row.name: row for row in motor_settings(OP3, mirrored())}["r_knee"]
    assert knee.bus_id == 13
    # joint -148..135 deg: motor -(q - 0.1) * 0.8, so the order turns round
    low, high = math.radians(-148), math.radians(135)
    assert knee.position_limits_rad == pytest.approx((-(high - 0.1) * 0.8, -(low - 0.1) * 0.8), abs=1e-12)
    assert knee.torque_limit_nm == pytest.approx(4.1 / 0.8)
    assert knee.velocity_limit_rad_s == pytest.approx(OP3.joint("r_knee").velocity_rad_s * 0.8)
    assert knee.kp == pytest.approx(21.1 / 0.64)


def test_settings_refuse_another_robots_calibration() -> None:
    with pytest.raises(RefusedError):
        motor_settings(OP3, Calibration.for_robot(load_humanoid("unitree_g1")))


def test_commands_and_states_of_a_turned_geared_motor_by_hand() -> None:
    joints = JointMap(mirrored())
    knee = OP3.joint_names.index("r_knee")
    command = JointCommand(
        np.full(N, 0.6), np.full(N, 3.0), np.full(N, 2.4), np.full(N, 14.4), np.full(N, 1.44), Mode.IMPEDANCE
    )
    motors = joints.to_motors(command)
    # motor = -(0.6 - 0.1) * 0.8; speed times -0.8; torque over -0.8; gains over 0.64
    got = [float(getattr(motors, name)[knee]) for name in ("q", "dq", "tau", "kp", "kd")]
    assert got == pytest.approx([-0.4, -2.4, -3.0, 22.5, 2.25])
    assert motors.mode == Mode.IMPEDANCE
    assert motors.q[0] == 0.6
    back = joints.to_joints(motors)
    for name in ("q", "dq", "tau", "kp", "kd"):
        np.testing.assert_allclose(getattr(back, name), getattr(command, name))


def test_several_buses_in_any_order_become_one_robot_in_table_order() -> None:
    port, left, rest = make(mirrored())
    for bus, start in ((left, 100.0), (rest, 200.0)):
        bus.state.q[:] = start + np.arange(len(bus.settings))
        bus.state.age[:] = start / 1e6
    state = port.read()
    for row, name in enumerate(OP3.joint_names):
        if name == "r_knee":
            assert state.joints.q[row] == pytest.approx(-(200 + REST.index(name)) / 0.8 + 0.1)
        elif name in LEFT:
            assert state.joints.q[row] == 100 + LEFT.index(name)
            assert state.joints.age[row] == pytest.approx(1e-4)
        else:
            assert state.joints.q[row] == 200 + REST.index(name)
    assert state.imu is not None
    np.testing.assert_array_equal(state.imu.gyro, [1, 2, 3])


def test_a_write_reaches_each_bus_in_its_own_order_and_comes_back_in_the_table_s() -> None:
    port, left, rest = make(mirrored())
    command = JointCommand.hold(np.arange(N) / 10, 5.0)
    sent = port.write(command)
    np.testing.assert_array_equal(left.written[0].q, [command.q[OP3.joint_names.index(name)] for name in LEFT])
    assert rest.written[0].q[REST.index("r_knee")] == pytest.approx(-(1.2 - 0.1) * 0.8)
    np.testing.assert_allclose(sent.command.q, command.q, atol=1e-12)
    assert sent.delivered


def test_one_bus_that_fails_keeps_no_other_from_its_command() -> None:
    port, left, rest = make()
    rest.fails.add("write")
    with pytest.raises(HardwareError, match="head_tilt said no"):
        port.write(JointCommand.hold(np.zeros(N)))
    assert len(left.written) == 1


def test_a_number_that_is_not_finite_reaches_no_bus() -> None:
    port, left, rest = make()
    bad = JointCommand.hold(np.zeros(N))
    bad.q[3] = np.nan
    with pytest.raises(HardwareError, match="finite"):
        port.write(bad)
    assert left.written == rest.written == []


def test_switching_off_tries_every_bus_and_then_says_what_is_left() -> None:
    port, left, rest = make()
    rest.fails.add("deactivate")
    with pytest.raises(HardwareError, match="head_tilt said no"):
        port.deactivate()
    assert left.calls == ["deactivate"]


def test_one_bus_that_does_not_switch_on_switches_all_off_again() -> None:
    port, left, rest = make()
    left.fails.add("activate")
    with pytest.raises(HardwareError, match="l_sho_pitch said no"):
        port.activate()
    assert rest.calls == ["activate", "deactivate"]
    assert left.calls == ["activate", "deactivate"]


def test_connecting_asks_who_is_there_and_does_nothing_else() -> None:
    port, left, rest = make()
    found = port.connect()
    assert [who.bus_id for who in found] == list(range(1, 21)), "in table order"
    assert left.calls == rest.calls == ["connect"]


def test_motors_of_another_unit_are_refused_and_the_buses_closed() -> None:
    nominal = Calibration.for_robot(OP3)
    unit = replace(nominal, joints=tuple(replace(row, serial=f"S{row.bus_id}") for row in nominal.joints))
    port, left, rest = make(unit)
    left.serial = "S2"
    with pytest.raises(RefusedError, match="l_sho_roll \\(id 4\\): serial 'S2', the file has 'S4'"):
        port.connect()
    assert left.calls[-1] == rest.calls[-1] == "close"


def test_supply_may_be_switched_on_before_motors_are_asked() -> None:
    order: list[str] = []
    port, left, _ = make()
    powered = MappedBuses(OP3, port.buses, port.calibration, port.clock, before_connect=lambda: order.append("supply"))
    order_of_bus = left.calls
    powered.connect()
    assert order == ["supply"]
    assert order_of_bus == ["connect"]


def test_a_robot_can_do_what_all_its_buses_can() -> None:
    port, _, _ = make()
    assert port.capabilities.modes == frozenset({Mode.OFF, Mode.POSITION, Mode.HOLD})
    assert not port.capabilities.device_watchdog, "one bus has none"
    assert port.capabilities.watchdog_step_s == 0.02
    assert port.capabilities.reports == frozenset({"q"})


def test_joints_that_no_bus_or_two_buses_carry_are_refused() -> None:
    _, left, rest = make()
    calibration = Calibration.for_robot(OP3)
    with pytest.raises(RefusedError, match="missing: \\['l_sho_pitch'"):
        MappedBuses(OP3, [rest], calibration, VirtualClock())
    with pytest.raises(RefusedError, match="twice: \\['l_ank_pitch'"):
        MappedBuses(OP3, [rest, left, left], calibration, VirtualClock())


def test_a_bus_made_from_other_ids_than_the_calibration_is_refused() -> None:
    _, left, rest = make()
    left.settings = (replace(left.settings[0], bus_id=77), *left.settings[1:])
    with pytest.raises(RefusedError, match="l_sho_pitch: the bus has a XM430-W350 at id 77"):
        MappedBuses(OP3, [rest, left], Calibration.for_robot(OP3), VirtualClock())


def test_without_a_calibration_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    _, left, rest = make()
    with caplog.at_level(logging.WARNING):
        port = MappedBuses(OP3, [rest, left], None, VirtualClock())
    assert "without a calibration file" in caplog.text
    assert port.calibration.nominal


def test_every_motor_is_asked_to_clear_its_fault_and_everything_is_closed() -> None:
    """A latched watchdog may not have been seen yet: no sample decides who is asked."""
    port, left, rest = make()
    left.state.fault[2] = int(Fault.OVERLOAD)
    port.clear_faults()
    for bus in (left, rest):
        assert bus.calls == [f"clear {row.bus_id}" for row in bus.settings]
    port.configure(Mode.POSITION, 0.2)
    assert left.calls[-1] == "configure position 0.2"
    imu = port.imu
    assert isinstance(imu, FakeImu)
    assert imu.configured
    port.close()
    assert imu.closed
    assert left.calls[-1] == rest.calls[-1] == "close"
