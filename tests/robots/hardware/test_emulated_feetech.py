"""Emulated Feetech servos: worked examples of Feetech's protocol, Feetech's own SDK, and physics behind the wire."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza.robots.hardware.emulators import feetech_codec as codec
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.emulators.feetech import bench_row, build
from cadenza.robots.hardware.emulators.feetech_bus import FeetechSerialBus
from cadenza.robots.hardware.emulators.feetech_firmware import RAD, FeetechServos
from cadenza.robots.hardware.emulators.feetech_table import Memory
from cadenza.robots.hardware.emulators.launch import Order, spawn
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.motors import MOTORS


class Bench:
    """Servos in lockstep, asked without a terminal."""

    def __init__(self, *ids: int, motor: str = "STS3215-12V", arm_kg_m: float = 0.0):
        plant = Plant.of_bench([bench_row(motor, i) for i in ids], arm_kg_m=arm_kg_m)
        self.world = World(plant, lockstep=True)
        self.servos = FeetechServos(self.world)
        self.world.add(self.servos)
        self.bus = FeetechSerialBus(self.servos)

    def ask(self, text: str | bytes, baud: int = 1_000_000) -> str:
        """Bytes in, bytes out, both as hexadecimal digits."""
        data = bytes.fromhex(text) if isinstance(text, str) else text
        return b"".join(reply.data for reply, _ in self.bus.hear(data, baud)).hex(" ").upper()

    def put(self, bus_id: int, address: int, *data: int) -> str:
        return self.ask(codec.packet(bus_id, codec.WRITE, bytes((address, *data))))

    def get(self, bus_id: int, address: int, size: int) -> int:
        reply = bytes.fromhex(self.ask(codec.packet(bus_id, codec.READ, bytes((address, size)))))
        return int.from_bytes(reply[5:-1], "little")

    def word(self, bus_id: int, address: int, value: int) -> None:
        self.put(bus_id, address, value & 0xFF, value >> 8)

    def run(self, seconds: float) -> None:
        self.world.advance(self.world.now_s + seconds)

    def shaft(self, index: int = 0) -> float:
        return float(self.servos.bank.angle_rad[index])

    def turn(self, index: int, q_rad: float) -> None:
        data = self.world.plant.data.joint(self.world.plant.joints[index].name)
        data.qpos[0], data.qvel[0] = q_rad, 0.0


# ------------------------------------------------------------------ Feetech, "SCS communication protocol", section 4


def test_worked_example_ping() -> None:
    assert Bench(1).ask("FF FF 01 02 01 FB") == "FF FF 01 02 00 FC"


def test_worked_example_read_position_1304() -> None:
    bench = Bench(1)
    bench.turn(0, (0x0518 - 2048) * RAD)
    assert bench.ask("FF FF 01 04 02 38 02 BE") == "FF FF 01 04 00 18 05 DD"


def test_worked_example_broadcast_id() -> None:
    bench = Bench(6)
    assert bench.ask("FF FF FE 04 03 05 01 F4") == ""
    assert bench.ask("FF FF 01 02 01 FB") == "FF FF 01 02 00 FC"


def test_worked_example_write_goal_and_speed() -> None:
    bench = Bench(1)
    assert bench.ask("FF FF 01 09 03 2A 00 08 00 00 E8 03 D5") == "FF FF 01 02 00 FC"
    assert (bench.get(1, 42, 2), bench.get(1, 46, 2)) == (2048, 1000)


def test_worked_example_reg_write_and_action() -> None:
    bench = Bench(1, 2)
    bench.word(1, 42, 100)
    assert bench.ask("FF FF 01 09 04 2A 00 08 00 00 E8 03 D4") == "FF FF 01 02 00 FC"
    assert bench.ask("FF FF 02 09 04 2A 00 08 00 00 E8 03 D3") == "FF FF 02 02 00 FB"
    assert bench.get(1, 64, 1) == 1
    assert bench.get(1, 42, 2) == 100
    assert bench.ask("FF FF FE 02 05 FA") == ""
    assert bench.get(1, 42, 2) == bench.get(2, 42, 2) == 2048
    assert bench.get(1, 64, 1) == 0


def test_worked_example_sync_write() -> None:
    bench = Bench(1, 2, 3, 4)
    frame = (
        "FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03 03 00 08 00 00 E8 03 04 00 08 00 00 E8 03 58"
    )
    assert bench.ask(frame) == ""
    assert [bench.get(i, 46, 2) for i in (1, 2, 3, 4)] == [1000] * 4


def test_worked_example_sync_read() -> None:
    bench = Bench(1, 2)
    bench.turn(1, (0x07FF - 2048) * RAD)
    for index, (volts, celsius) in enumerate(((12.1, 30.0), (11.9, 35.0))):
        bench.world.set_motor(index + 1, "supply_v", volts)
        bench.world.set_motor(index + 1, "temperature_c", celsius)
    assert bench.ask("FF FF FE 06 82 38 08 01 02 36") == (
        "FF FF 01 0A 00 00 08 00 00 00 00 79 1E 55 FF FF 02 0A 00 FF 07 00 00 00 00 77 23 53"
    )


def test_worked_example_calibration_to_1024_and_to_the_middle() -> None:
    bench = Bench(1)
    bench.turn(0, 0.5)
    assert bench.ask("FF FF 01 04 0B 00 04 EB") == "FF FF 01 02 00 FC"
    assert bench.get(1, 56, 2) == 1024
    assert bench.ask("FF FF 01 02 0B F1") == "FF FF 01 02 00 FC"
    assert bench.get(1, 56, 2) == 2048


def test_worked_example_restart_is_silent_for_800_ms() -> None:
    bench = Bench(1)
    assert bench.ask("FF FF 01 02 08 F4") == ""
    bench.run(0.7)
    assert bench.ask("FF FF 01 02 01 FB") == ""
    bench.run(0.2)
    assert bench.ask("FF FF 01 02 01 FB") == "FF FF 01 02 00 FC"


# ---------------------------------------------------------------------- the line


@given(st.lists(st.tuples(st.integers(0, 253), st.integers(0, 255), st.binary(max_size=40)), max_size=5), st.data())
def test_packets_survive_any_cutting_of_the_stream(packets: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(codec.packet(*one) for one in packets)
    waiting, found = bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        waiting += stream[:size]
        stream = stream[size:]
        while (whole := codec.cut(waiting)) is not None:
            parsed = codec.parse(whole)
            assert parsed is not None
            found.append((parsed.bus_id, parsed.code, parsed.parameters))
    assert found == packets
    assert not waiting


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_noise_never_stops_it(noise: bytes) -> None:
    waiting = bytearray(noise)
    while codec.cut(waiting) is not None:
        pass
    # 300 bytes of silence are longer than any packet that the noise may have announced.
    waiting += bytes(300) + codec.packet(7, codec.PING)
    last = None
    while (whole := codec.cut(waiting)) is not None:
        last = whole
    assert last == codec.packet(7, codec.PING)


@given(st.integers(0, 7 * 8 - 1))
def test_one_flipped_bit_is_never_obeyed(bit: int) -> None:
    bench_packet = bytearray(codec.packet(1, codec.WRITE, bytes((5, 9))))
    bench_packet[bit // 8 % len(bench_packet)] ^= 1 << bit % 8
    waiting = bytearray(bench_packet)
    whole = codec.cut(waiting)
    assert whole is None or codec.parse(whole) is None


def test_only_the_right_baud_rate_is_heard() -> None:
    bench = Bench(1)
    assert bench.ask("FF FF 01 02 01 FB", baud=500_000) == ""
    bench.put(1, 55, 0)
    assert bench.put(1, 6, 1) == "FF FF 01 02 00 FC"
    assert bench.ask("FF FF 01 02 01 FB") == ""
    assert bench.ask("FF FF 01 02 01 FB", baud=500_000) == "FF FF 01 02 00 FC"


def test_response_level_0_answers_ping_and_read_only() -> None:
    bench = Bench(1)
    bench.put(1, 8, 0)
    assert bench.put(1, 41, 5) == ""
    assert bench.get(1, 41, 1) == 5
    assert bench.ask("FF FF 01 02 01 FB") == "FF FF 01 02 00 FC"


def test_return_delay_is_in_steps_of_2_us() -> None:
    bench = Bench(1)
    bench.put(1, 7, 250)
    ((reply, _),) = bench.bus.hear(codec.packet(1, codec.PING), 1_000_000)
    assert reply.delay_s == pytest.approx(500e-6)


def test_a_broadcast_ping_of_two_is_garbage_of_one_its_id() -> None:
    assert Bench(9).ask(codec.packet(0xFE, codec.PING)) == codec.packet(9, 0).hex(" ").upper()
    both = bytes.fromhex(Bench(9, 6).ask(codec.packet(0xFE, codec.PING)))
    assert codec.parse(both) is None


# ---------------------------------------------------------------------- memory


def test_eeprom_with_the_lock_closed_counts_until_power_off() -> None:
    bench = Bench(1)
    bench.put(1, 21, 16)
    assert bench.get(1, 21, 1) == 16
    bench.servos.restart(0)
    bench.run(1.0)
    assert bench.get(1, 21, 1) == 32
    bench.put(1, 55, 0)
    bench.put(1, 21, 16)
    bench.servos.restart(0)
    bench.run(1.0)
    assert bench.get(1, 21, 1) == 16
    assert bench.get(1, 55, 1) == 1


@given(st.integers(0, 127), st.binary(min_size=1, max_size=12))
def test_no_write_changes_what_is_measured_or_leaves_a_value_out_of_range(address: int, data: bytes) -> None:
    memory = Memory()
    before = bytes(memory.now)
    memory.write(address, data)
    assert memory.now[56:] == before[56:]
    assert memory.now[0:5] == before[0:5]
    assert memory.kept == before[:40]  # locked
    assert 0 <= memory.get("TORQUE_LIMIT") <= 1000
    assert abs(memory.get("OFFSET")) <= 2047


def test_offset_has_the_opposite_sign_to_dynamixels() -> None:
    bench = Bench(1)
    bench.word(1, 31, 100)
    assert bench.get(1, 56, 2) == 1948
    bench.word(1, 31, 0x0800 | 100)
    assert bench.get(1, 56, 2) == 2148


def test_torque_enable_128_makes_this_the_middle() -> None:
    bench = Bench(1)
    bench.turn(0, -0.7)
    bench.put(1, 40, 128)
    assert bench.get(1, 56, 2) == 2048
    assert bench.get(1, 40, 1) == 0


def test_single_turn_wraps_and_phase_bit_4_counts_on() -> None:
    bench = Bench(1)
    bench.turn(0, math.pi + 0.1)
    assert bench.get(1, 56, 2) == round((math.pi + 0.1) / RAD) + 2048 - 4096
    bench.put(1, 18, 12 | 16)
    assert bench.get(1, 56, 2) == round((math.pi + 0.1) / RAD) + 2048
    bench.turn(0, -math.pi - 0.1)
    assert bench.get(1, 56, 2) == 0x8000 | -(round((-math.pi - 0.1) / RAD) + 2048)


# ---------------------------------------------------------------------- motion


def go(bench: Bench, goal: int, *, acceleration: int = 0, speed: int = 0) -> None:
    bench.put(1, 41, acceleration)
    bench.word(1, 46, speed)
    bench.word(1, 42, goal)
    bench.put(1, 40, 1)


def test_a_step_is_that_of_the_same_mujoco_joint_driven_directly() -> None:
    bench = Bench(1)
    bench.put(1, 26, 0, 0)  # no dead zone
    go(bench, 2048 + 300)
    row = bench_row("STS3215-12V", 1)
    twin = Plant.of_joint(row)
    twin.powered[:] = True
    twin.goal[:] = 300 * RAD
    error = []
    for step in range(1, 400):
        bench.run(0.001)
        twin.advance(0.001 * step)
        error.append(bench.shaft() - float(twin.q[0]))
    assert twin.q[0] > 0.4
    assert max(np.abs(error)) < RAD  # the servo knows its shaft in whole steps; its law here does not round


def test_speed_and_acceleration_shape_the_move() -> None:
    bench = Bench(1)
    go(bench, 2048 + 1000, acceleration=10, speed=500)
    bench.run(0.25)
    # 1000 step/s^2 for 0.25 s, less the lag behind the ramp: back-EMF over gain, 0.62 / 15.6 = 40 ms.
    assert bench.get(1, 58, 2) == pytest.approx(210, abs=15)
    bench.run(0.75)
    assert bench.get(1, 58, 2) == pytest.approx(500, abs=10)
    assert bench.get(1, 66, 1) == 1
    # 1000 steps: 0.5 s up and 0.5 s down cover 250, 1.5 s at 500 the rest: 2.5 s.
    bench.run(1.3)
    assert bench.get(1, 56, 2) < 2048 + 997
    bench.run(0.5)
    assert bench.get(1, 56, 2) == pytest.approx(3048, abs=4)
    assert bench.get(1, 66, 1) == 0


def test_speed_0_without_phase_bit_3_stands_still() -> None:
    bench = Bench(1)
    bench.put(1, 18, 4)
    go(bench, 2500)
    bench.run(0.5)
    assert abs(bench.shaft()) < 2 * RAD


def test_goals_stop_at_the_angle_limits() -> None:
    bench = Bench(1)
    bench.word(1, 11, 2200)
    go(bench, 2600)
    bench.run(1.0)
    assert bench.get(1, 56, 2) == pytest.approx(2200, abs=4)


def test_torque_off_falls_under_gravity_and_torque_on_holds() -> None:
    bench = Bench(1, arm_kg_m=0.05)
    bench.turn(0, 1.0)
    go(bench, 2048 + round(1.0 / RAD))
    bench.run(1.0)
    assert bench.shaft() > 0.95
    bench.put(1, 40, 0)
    bench.run(1.5)
    assert bench.shaft() < 0.3


def test_the_torque_limit_holds_less() -> None:
    bench = Bench(1, arm_kg_m=0.08)  # 0.785 N m when level; 10 % of 2.94 N m are not enough
    bench.turn(0, math.pi / 2)
    go(bench, 3072)
    bench.word(1, 48, 100)
    bench.run(4.0)
    # It comes to rest where the lever asks for the limit and the friction: 0.785 sin q = 0.294 + 0.052.
    assert bench.shaft() == pytest.approx(math.asin((0.294 + 0.052) / 0.785), abs=0.05)


def test_a_stall_trips_the_overload_protection_until_torque_is_switched_off() -> None:
    bench = Bench(1)
    bench.put(1, 35, 50)
    bench.world.plant.model.dof_frictionloss[:] = 50.0  # somebody holds the shaft
    go(bench, 3000)
    bench.run(0.4)
    assert bench.get(1, 65, 1) == 0
    assert bench.get(1, 60, 2) == 1000
    bench.run(0.2)
    assert bench.get(1, 65, 1) == 32
    assert bench.ask("FF FF 01 02 01 FB") == codec.packet(1, 32).hex(" ").upper()  # in every reply
    bench.run(0.01)
    assert bench.get(1, 60, 2) == 200  # the protective torque
    bench.put(1, 40, 0)
    bench.run(0.01)
    assert bench.get(1, 65, 1) == 0


def test_heat_and_wrong_voltage_unload_by_the_mask() -> None:
    bench = Bench(1)
    go(bench, 2048)
    bench.run(0.1)
    bench.world.set_motor(1, "temperature_c", 75.0)
    bench.run(0.01)
    assert bench.get(1, 65, 1) == 4
    assert not bench.servos.bank.powered[0]
    bench.world.set_motor(1, "temperature_c", 40.0)
    bench.world.set_motor(1, "supply_v", 3.0)
    bench.run(0.01)
    assert bench.get(1, 65, 1) == 1
    assert bench.servos.bank.powered[0]  # as delivered, the mask 44 has no voltage in it
    bench.put(1, 19, 44 | 1)
    bench.run(0.01)
    assert not bench.servos.bank.powered[0]


def test_speed_and_pwm_modes_turn_the_shaft() -> None:
    bench = Bench(1)
    bench.put(1, 33, 1)
    bench.word(1, 46, 0x8000 | 800)
    bench.put(1, 40, 1)
    bench.run(1.0)
    assert float(bench.servos.bank.velocity_rad_s[0]) / RAD == pytest.approx(-800, abs=60)
    bench.put(1, 33, 2)
    bench.word(1, 44, 500)
    bench.run(1.0)
    no_load = MOTORS["STS3215-12V"].no_load_speed_rad_s
    friction = 0.052 / 2.94
    assert float(bench.servos.bank.velocity_rad_s[0]) == pytest.approx((0.5 - friction) * no_load, rel=0.02)


def test_a_stuck_encoder_shows_the_angle_at_which_it_stuck() -> None:
    bench = Bench(1)
    bench.turn(0, 0.3)
    bench.world.faults.add(FaultSpec("stuck_encoder", devices=(1,)), bench.world.now_s)
    bench.run(0.01)
    stuck = bench.get(1, 56, 2)
    bench.turn(0, 0.9)
    bench.run(0.01)
    assert bench.get(1, 56, 2) == stuck


def test_hidden_parameters_and_unknown_ones() -> None:
    world = build(Order("feetech", ids=(3,), plant={"armature": 0.04}, more={"gain": 0.8}))
    assert float(world.plant.model.dof_armature[0]) == 0.04
    world.stop()
    with pytest.raises(HardwareError, match="colour"):
        build(Order("feetech", more={"colour": 1}))
    with pytest.raises(HardwareError, match="XM430"):
        build(Order("feetech", motor="XM430-W350"))


# ---------------------------------------------------------------------- Feetech's own SDK, in another process

CLIENT = """
import sys, time
from scservo_sdk import *
port = PortHandler(sys.argv[1])
assert port.openPort() and port.setBaudRate(1_000_000)
handler = PacketHandler(0)

def patiently(call, *arguments):
    for _ in range(20):
        try:
            answer = call(port, *arguments)
        except IndexError:  # ping of 1.0.0 takes a late reply for that of its second request
            continue
        if answer[-2] == COMM_SUCCESS:
            return answer
        time.sleep(0.1)
        port.ser.reset_input_buffer()
    raise SystemExit("no answer")

for number in (1, 2, 5):
    model, result, error = patiently(handler.ping, number)
    assert (model, error) == (777, 0), (model, error)
assert handler.ping(port, 9)[1] == COMM_RX_TIMEOUT
write = GroupSyncWrite(port, handler, 42, 6)
for number in (1, 2, 5):
    handler.write1ByteTxRx(port, number, 40, 1)
    goal = 2048 + 50 * number
    assert write.addParam(number, [SCS_LOBYTE(goal), SCS_HIBYTE(goal), 0, 0, 0, 0])
assert write.txPacket() == COMM_SUCCESS
read = GroupSyncRead(port, handler, 56, 15)
for number in (1, 2, 5):
    assert read.addParam(number)
until = time.time() + 20
while time.time() < until:
    if read.txRxPacket() == COMM_SUCCESS:
        where = [read.getData(number, 56, 2) for number in (1, 2, 5)]
        if all(abs(w - 2048 - 50 * n) <= 4 for w, n in zip(where, (1, 2, 5))):
            print("moved", where, read.getData(1, 62, 1))
            break
    time.sleep(0.05)
else:
    raise SystemExit("did not move")
port.closePort()
"""


@pytest.fixture
def emulator() -> Iterator[str]:
    with spawn(Order("feetech", ids=(1, 2, 5))) as found:
        yield found.port


def test_feetechs_sdk_pings_reads_writes_and_moves_in_another_process(emulator: str) -> None:
    pytest.importorskip("scservo_sdk", reason="Feetech's SDK is not installed (extra feetech)")
    done = subprocess.run([sys.executable, "-c", CLIENT, emulator], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moved" in done.stdout
    assert done.stdout.strip().endswith(" 120")
