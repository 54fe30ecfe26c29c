"""The Feetech bus over Feetech's own SDK, against emulated servos in lockstep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import BusConformance, command, follow, ready
from hypothesis import given
from hypothesis import strategies as st

from cadenza.robots.hardware.bus import BusCounters, MotorSettings
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.emulators.feetech import build
from cadenza.robots.hardware.emulators.feetech_firmware import FeetechServos
from cadenza.robots.hardware.emulators.launch import Order, spawn
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.feetech import bus as feetech_bus
from cadenza.robots.hardware.feetech import table
from cadenza.robots.hardware.feetech.bus import FeetechBus, tick_limits
from cadenza.robots.hardware.feetech.link import Link
from cadenza.robots.hardware.feetech.port import serial_port
from cadenza.robots.hardware.feetech.settings import Setup
from cadenza.robots.hardware.transports.serial import ByteLog
from cadenza.robots.hardware.types import Array, Fault, JointCommand, Mode

pytest.importorskip("scservo_sdk", reason="Feetech's SDK is not installed (extra feetech)")

IDS = (1, 4, 7)
MOTOR = "STS3215-12V"
KP = table.kp_of(MOTOR, 32)


def settings(**changes: Any) -> list[MotorSettings]:
    base = {
        "motor": MOTOR, "torque_limit_nm": 2.94, "velocity_limit_rad_s": 4.0, "position_limits_rad": (-1.5, 1.5),
        "kp": KP, "kd": 0.62,
    }  # fmt: skip
    return [MotorSettings(name=f"joint_{bus_id}", bus_id=bus_id, **{**base, **changes}) for bus_id in IDS]


class FeetechRig:
    """Emulated servos in this process and a bus of the real SDK, through a pty."""

    resolution_rad = table.RAD_PER_TICK

    def __init__(self, rows: list[MotorSettings] | None = None, setup: Setup | None = None):
        self.world = build(Order("feetech", ids=IDS, lockstep=True))
        self.servos = next(one for one in self.world._firmware if isinstance(one, FeetechServos))
        self.world.start()
        self.clock = VirtualClock()
        self.clock.followers.append(self.world.advance)
        self.log = ByteLog(None)
        port = serial_port(self.world.wires[0].address, margin_s=0.06)
        port.taps.append(self.log)
        self.bus = FeetechBus(port, rows or settings(), clock=self.clock, setup=setup)

    def shafts(self) -> Array:
        with self.world.lock:
            return self.servos.bank.angle_rad

    def turn(self, index: int, q_rad: float) -> None:
        with self.world.lock:
            plant = self.world.plant
            joint = plant.joints[index].name
            plant.data.joint(joint).qpos[0] = q_rad
            plant.data.joint(joint).qvel[0] = 0.0

    def powered(self) -> list[bool]:
        with self.world.lock:
            return [bool(on) for on in self.servos.bank.powered | self._asked()]

    def _asked(self) -> Any:
        return np.array([memory.get("TORQUE") == 1 for memory in self.servos.memories])

    def registers(self) -> Any:
        with self.world.lock:
            return [(bytes(memory.now[:56]), bytes(memory.kept)) for memory in self.servos.memories]

    def advance(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now() + seconds)

    def fault(self, kind: str, index: int | None = None) -> None:
        devices = None if index is None else (IDS[index],)
        with self.world.lock:
            way = "reply" if kind == "corrupt" else "both"
            self.world.faults.add(FaultSpec(kind, devices=devices, way=way), self.world.now_s)

    def heal(self) -> None:
        with self.world.lock:
            self.world.faults.clear()

    def stop(self) -> None:
        self.bus.close()
        self.world.stop()


@pytest.fixture
def rig() -> Iterator[FeetechRig]:
    made = FeetechRig()
    yield made
    made.stop()


class TestConformance(BusConformance):
    persistent = "max_temperature"
    harmless = ("acceleration", 77.0)

    @pytest.fixture
    def rig(self) -> Iterator[FeetechRig]:
        made = FeetechRig()
        yield made
        made.stop()


# ---------------------------------------------------------------------- set-up


def test_configure_writes_what_the_joint_table_says(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    read = rig.bus.read_register
    # 1.5 rad are 977.8 steps: 2048 - 977 = 1071 and 2048 + 977 = 3025, rounded inward.
    assert [read(4, "min_angle_limit"), read(4, "max_angle_limit")] == [1071, 3025]
    assert read(4, "p_coefficient") == 32
    assert read(4, "torque_limit") == read(4, "max_torque") == 500
    assert read(4, "acceleration") == 50
    assert read(4, "goal_speed") == 2607  # 4 rad/s in 1/4096 turn a second, cut off
    assert read(4, "return_delay") == 0
    assert read(4, "protection_time") == 50
    assert read(4, "unloading_condition") == 44 | 1 | 4 | 32
    assert read(4, "lock") == 1


def test_a_lower_torque_limit_of_the_joint_wins_over_the_default() -> None:
    rig = FeetechRig(settings(torque_limit_nm=0.294))
    try:
        rig.bus.connect()
        rig.bus.configure(Mode.POSITION, 0.2)
        assert rig.bus.read_register(1, "torque_limit") == 100
    finally:
        rig.stop()


def test_settings_survive_a_power_cycle_and_the_lock_is_closed(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    rig.fault("reboot")
    rig.advance(1.0)
    rig.heal()
    assert rig.bus.read_register(7, "min_angle_limit") == 1071
    assert rig.bus.read_register(7, "torque_limit") == 500  # from the stored maximum
    assert rig.bus.read_register(7, "lock") == 1


def test_eeprom_is_left_alone_where_it_is_right(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    rig.log.chunks.clear()
    rig.bus.configure(Mode.POSITION, 0.2)
    sent = rig.log.all("sent")
    writes = [sent[i + 5] for i in range(len(sent) - 5) if sent[i : i + 2] == b"\xff\xff" and sent[i + 4] == 3]
    assert writes
    assert [address for address in writes if address < 40] == []


def test_a_12_v_supply_is_refused_for_the_7_4_v_servo() -> None:
    rig = FeetechRig(settings(motor="STS3215-7.4V"))
    try:
        rig.bus.connect()
        with pytest.raises(HardwareError, match=r"12\.0 V"):
            rig.bus.configure(Mode.POSITION, 0.2)
    finally:
        rig.stop()


def test_there_is_no_watchdog_and_the_bus_says_so(rig: FeetechRig) -> None:
    assert rig.bus.capabilities.device_watchdog is False
    ready(rig)
    follow(rig, 0.2, 0.5)
    rig.advance(1.0)
    assert all(rig.powered()), "an STS servo holds for ever; if this fails the emulator is kinder than the real one"


def test_a_pose_outside_the_limits_is_not_powered(rig: FeetechRig) -> None:
    rig.turn(2, 1.7)
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    with pytest.raises(HardwareError, match="joint_7 stands at 97"):
        rig.bus.activate()
    assert rig.powered() == [False] * 3


def test_other_motors_are_refused() -> None:
    with pytest.raises(HardwareError, match="XM430"):
        FeetechBus("/dev/null", settings(motor="XM430-W350"))
    with pytest.raises(HardwareError, match="no room"):
        tick_limits(MotorSettings("x", 1, MOTOR, 1.0, 1.0, (4.0, 5.0), 1.0, 0.0))


def test_two_servos_with_one_id_are_not_taken_for_one(rig: FeetechRig) -> None:
    rig.fault("duplicate", 1)
    with pytest.raises(HardwareError, match=r"joint_4.*two servos answer"):
        rig.bus.connect()
    rig.heal()
    rig.fault("id_clash", 1)
    with pytest.raises(HardwareError, match="joint_4"):
        rig.bus.connect()


# ---------------------------------------------------------------------- control


def test_goals_beyond_the_limits_are_sent_as_the_limits(rig: FeetechRig) -> None:
    ready(rig)
    sent = rig.bus.write(JointCommand.hold(np.array([9.0, -1e30, 0.1])))
    np.testing.assert_allclose(sent.command.q, [table.to_rad(3025), table.to_rad(1071), table.to_rad(2113)])
    assert np.isnan(sent.command.kp).all()


def test_the_whole_log_holds_no_goal_out_of_limits(rig: FeetechRig) -> None:
    ready(rig)
    rng = np.random.default_rng(5)
    for _ in range(200):
        rig.bus.write(JointCommand.hold(rng.standard_t(1, size=3) * 3.0))
    sent, goals = rig.log.all("sent"), []
    for start in range(len(sent) - 15):
        if sent[start : start + 5] == b"\xff\xff\xfe\x0d\x83" and sent[start + 5] == 42:  # sync write of 3 goals
            body = sent[start + 7 : start + 16]
            goals += [body[i + 1] | body[i + 2] << 8 for i in (0, 3, 6)]
    assert len(goals) == 600
    assert min(goals) == 1071
    assert max(goals) == 3025


def test_speed_load_voltage_and_heat_come_in_si_units(rig: FeetechRig) -> None:
    ready(rig)
    follow(rig, 0.8, 0.25)
    state = rig.bus.read()
    with rig.world.lock:
        bank = rig.servos.bank
        truth = bank.velocity_rad_s, bank.torque_nm
    assert truth[0][0] > 0.5
    np.testing.assert_allclose(state.dq, truth[0], atol=table.RAD_PER_TICK)
    np.testing.assert_allclose(state.tau, truth[1], atol=0.002 * 2.94)
    np.testing.assert_allclose(state.voltage, 12.0)
    np.testing.assert_allclose(state.temperature, 25.0, atol=1.0)


def test_hold_stays_where_the_last_reading_was(rig: FeetechRig) -> None:
    ready(rig)
    follow(rig, 0.3)
    state = rig.bus.read()
    wish = command(rig, 1.0)
    wish.mode = Mode.HOLD
    sent = rig.bus.write(wish)
    np.testing.assert_allclose(sent.command.q, state.q, atol=1e-9)


def test_off_ends_torque_and_a_goal_does_not_bring_it_back(rig: FeetechRig) -> None:
    ready(rig)
    off = command(rig, 0.0)
    off.mode = Mode.OFF
    rig.bus.write(off)
    assert rig.bus.read_register(1, "torque_enable") == 0
    with pytest.raises(HardwareError, match="not active"):
        rig.bus.write(command(rig, 0.3))


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [("brown_out", Fault.VOLTAGE), ("over_heat", Fault.OVERHEATED), ("overload", Fault.OVERLOAD)],
)
def test_faults_of_the_status_register(rig: FeetechRig, kind: str, meaning: Fault) -> None:
    ready(rig)
    with rig.world.lock:
        amount = {"brown_out": 3.0}.get(kind)
        rig.world.faults.add(FaultSpec(kind, devices=(4,), amount=amount), rig.world.now_s)
    rig.advance(0.05)
    state = rig.bus.read()
    assert state.fault[1] == meaning
    assert list(state.fault[[0, 2]]) == [0, 0]
    rig.bus.deactivate()
    with pytest.raises(HardwareError, match=r"joint_4.*not fit"):
        rig.bus.activate()
    with pytest.raises(HardwareError, match="still reports"):
        rig.bus.clear_fault(4)
    rig.heal()
    with rig.world.lock:
        rig.world.set_motor(4, "temperature_c", 40.0)  # the winding would take minutes to cool
    rig.advance(0.05)
    rig.bus.clear_fault(4)
    assert rig.bus.read().fault[1] == 0


def test_every_lost_packet_is_counted_and_nothing_jumps(rig: FeetechRig) -> None:
    ready(rig)
    rig.bus.port.margin_s = 0.01
    rig.heal()
    with rig.world.lock:
        rig.world.faults.add(FaultSpec("drop", share=0.1, way="reply"), rig.world.now_s)
        rig.world.faults.add(FaultSpec("corrupt", share=0.1, way="reply"), rig.world.now_s)
    lost, last = 0, rig.bus.read().q
    for tick in range(100):
        rig.bus.write(command(rig, 0.4 * math.sin(0.1 * tick)))
        rig.advance(0.02)
        state = rig.bus.read()
        lost += int(np.count_nonzero(state.fault))
        fresh = state.age == 0
        assert np.all(fresh | (state.fault & (Fault.SILENT | Fault.CORRUPT) != 0))
        error = np.abs(state.q - rig.shafts())[fresh]
        assert np.all(error <= table.RAD_PER_TICK)
        assert np.all(np.abs(state.q - last) < 0.5)
        last = state.q
    assert lost > 20
    assert rig.bus.counters.timeouts + rig.bus.counters.corrupt >= lost / 3


def test_a_servo_that_restarted_in_a_run_is_noticed(rig: FeetechRig) -> None:
    ready(rig)
    follow(rig, 0.2, 0.4)
    with rig.world.lock:
        rig.world.faults.add(FaultSpec("reboot", devices=(4,)), rig.world.now_s)
    seen = 0
    for _ in range(60):  # 0.8 s of silence, then ten readings at most
        seen |= int(rig.bus.read().fault[1])
        rig.advance(0.02)
    assert seen & Fault.SILENT
    assert rig.bus.read().fault[1] == Fault.OTHER
    assert list(rig.bus.read().fault[[0, 2]]) == [0, 0]


def test_a_goal_that_got_lost_keeps_torque_off(rig: FeetechRig) -> None:
    rig.turn(1, 0.4)
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION, 0.2)
    real = rig.bus._link._call

    def deaf(action: str, *arguments: Any, **more: Any) -> Any:
        """Writes of goals get lost on their way; everything else arrives."""
        if action in ("writeTxRx", "syncWriteTxOnly") and 42 in arguments[:2]:
            return (0, 0)
        return real(action, *arguments, **more)

    rig.bus._link._call = deaf  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="goal_position"):
        rig.bus.activate()
    assert rig.powered() == [False] * 3


def test_a_new_id_is_followed_and_stored(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.write_register(7, "id", 9)
    assert rig.bus.ping(7) is None
    found = rig.bus.ping(9)
    assert found is not None
    assert rig.bus.read_register(9, "lock") == 1
    with rig.world.lock:
        assert rig.servos.memories[2].kept[5] == 9


def test_a_new_baud_rate_is_followed_and_stored(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.write_register(7, "baud_rate", 1)
    assert rig.bus.ping(7) is None
    assert rig.bus.ping(1) is not None
    with rig.world.lock:
        assert rig.servos.memories[2].kept[6] == 1
        assert rig.servos.memories[2].get("LOCK") == 1
    rig.bus.port.setBaudRate(500_000)
    assert rig.bus.ping(7) is not None
    with pytest.raises(HardwareError, match="sources disagree"):
        rig.bus.write_register(7, "baud_rate", 6)


def test_the_answer_that_came_too_late_is_not_the_next_ones(rig: FeetechRig) -> None:
    rig.bus.connect()
    rig.bus.port.margin_s = 0.005
    assert rig.bus.read_register(1, "id") == 1
    assert rig.bus.read_register(1, "max_temperature") == 70
    with rig.world.lock:
        rig.world.faults.add(FaultSpec("drop", share=0.4, way="reply"), rig.world.now_s)
    right = {"id": 1, "max_temperature": 70, "p_coefficient": 32, "max_torque": 1000}
    answered = 0
    for _ in range(6):
        for name, value in right.items():
            try:
                assert rig.bus.read_register(1, name) == value
                answered += 1
            except HardwareError:
                pass
    assert answered > 8


# ---------------------------------------------------------------------- docs/feetech.md


PAGE = Path(__file__).resolve().parents[3] / "docs" / "feetech.md"


def test_the_example_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code) == 1
    link = tmp_path / "servos"
    monkeypatch.setattr(feetech_bus, "serial_port", lambda device: serial_port(device, margin_s=0.5))
    with spawn(Order("feetech", ids=(1, 2, 3), link=str(link))) as emulator:
        scope: dict[str, Any] = {}
        exec(code[0].replace("/tmp/servos", str(link)), scope)
        assert len(scope["bus"].settings) == 3
        assert not any(motor["torque_enabled"] for motor in emulator.control.state()["motors"])
        registers = bytes.fromhex(emulator.control.motor(3)["registers"])
        assert registers[42] | registers[43] << 8 == table.to_ticks(-0.1)


def test_the_packet_of_the_page_ends_all_torque(rig: FeetechRig) -> None:
    ready(rig)
    (frame,) = re.findall(r"`(FF FF FE [0-9A-F ]+)`", PAGE.read_text())
    rig.bus.port.writePort(bytes.fromhex(frame))
    rig.advance(0.05)
    assert rig.powered() == [False] * 3


# ---------------------------------------------------------------------- what comes in may be anything


class Babble:
    """A port that answers with given bytes, whatever is sent."""

    def __init__(self, data: bytes):
        self.name, self.is_open, self.is_using, self.allowance_s = "babble", True, False, 0.0
        self.data = data

    def open(self) -> None: ...

    def clearPort(self) -> None: ...

    def writePort(self, packet: Any) -> int:
        return len(packet)

    def setPacketTimeout(self, packet_length: int) -> None: ...

    def isPacketTimeout(self) -> bool:
        return not self.data

    def readPort(self, length: int) -> bytes:
        got, self.data = self.data[: max(length, 0)], self.data[max(length, 0) :]
        return got


def status(bus_id: int, data: bytes) -> bytes:
    body = bytes((bus_id, len(data) + 2, 0)) + data
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


PIECES = st.one_of(
    st.binary(max_size=20),
    st.builds(status, st.sampled_from([1, 4, 7, 9]), st.binary(min_size=14, max_size=18)),
    st.builds(lambda whole, at, new: whole[:at] + new + whole[at + 1 :], st.builds(status, st.sampled_from([1, 4, 7]),
              st.binary(min_size=16, max_size=16)), st.integers(0, 21), st.binary(max_size=2)),
)  # fmt: skip


@given(st.lists(PIECES, max_size=6))
def test_whatever_comes_in_is_a_right_packet_or_a_fault(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    link = Link(Babble(stream), BusCounters())  # type: ignore[arg-type]
    link.open()
    found = link.sync_read(IDS, 56, 15)  # asks for 16 bytes first
    assert set(found) == set(IDS)
    for bus_id, data in found.items():
        if isinstance(data, bytes):
            assert len(data) == 15
            assert any(status(bus_id, data + bytes((last,))) in stream for last in range(256))
        else:
            assert data in (Fault.SILENT, Fault.CORRUPT)


@given(st.lists(PIECES, max_size=4))
def test_a_register_is_right_or_an_error(pieces: list[bytes]) -> None:
    link = Link(Babble(b"".join(pieces)), BusCounters())  # type: ignore[arg-type]
    link.open()
    with pytest.raises(HardwareError, match="max_temperature could not be read"):
        link.read(1, "max_temperature")  # none of the pieces has 3, 4 or 5 bytes, as the three tries ask
