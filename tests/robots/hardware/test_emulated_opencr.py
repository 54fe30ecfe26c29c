"""The OP3 on the wire: twenty servos and the sub-controller of one simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from emulated_dynamixels import Bench, sync_read

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.emulators import dynamixel_packet as wire
from cadenza.robots.hardware.emulators.dynamixel_packet import Failure, Instruction
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.emulators.gantry import Gantry
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.menagerie import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched("robotis_op3"), reason="the OP3's model is not here: make robots")
BOARD = 200


@pytest.fixture
def op3() -> Iterator[Bench]:
    bench = Bench(robot="op3")
    yield bench
    bench.close()


def numbers(bench: Bench, address: int, count: int) -> np.ndarray:
    error, data = bench.ask(BOARD, Instruction.READ, bytes([address, 0, 2 * count, 0]))
    assert error == 0
    return np.frombuffer(data, "<i2").astype(float)


def switch_on(bench: Bench) -> None:
    assert bench.ask(BOARD, Instruction.WRITE, bytes([24, 0, 1]))[0] == 0
    bench.run(0.3)


def test_servos_answer_nothing_until_the_board_gives_them_power(op3: Bench) -> None:
    assert [reply[4] for reply in op3.send(wire.BROADCAST, Instruction.PING)] == [BOARD]
    assert op3.ask(BOARD, Instruction.PING) == (0, bytes([0x00, 0x74, 2]))
    switch_on(op3)
    assert [reply[4] for reply in op3.send(wire.BROADCAST, Instruction.PING)] == [*range(1, 21), BOARD]


def test_power_off_drops_the_robot_and_restarts_the_servos() -> None:
    bench = Bench(robot="op3", held=True)
    switch_on(bench)
    for bus_id in range(1, 21):
        assert bench.put("torque_enable", 1, bus_id) == 0
    assert bench.world.plant.powered.all()
    bench.ask(BOARD, Instruction.WRITE, bytes([24, 0, 0]))
    bench.run(0.01)
    assert not bench.world.plant.powered.any()
    assert bench.send(5, Instruction.PING) == []
    switch_on(bench)
    assert bench.get("torque_enable", 5) == 0
    bench.close()


def test_the_fourth_button_takes_power_off(op3: Bench) -> None:
    switch_on(op3)
    op3.world.set_motor(BOARD, "buttons", 3)
    op3.run(0.01)
    assert op3.ask(BOARD, Instruction.READ, bytes([30, 0, 1, 0])) == (0, b"\x03")
    op3.world.set_motor(BOARD, "buttons", 8)
    op3.run(0.01)
    assert op3.ask(BOARD, Instruction.READ, bytes([24, 0, 1, 0])) == (0, b"\x00")
    assert op3.send(5, Instruction.PING) == []


def test_each_servo_is_its_joint_of_the_table(op3: Bench) -> None:
    switch_on(op3)
    plant = op3.world.plant
    for row in load_humanoid("op3").joints:
        plant.data.joint(row.name).qpos[0] = row.bus_id / 20
    op3.world.steps += 1
    replies = op3.send(wire.BROADCAST, Instruction.SYNC_READ, sync_read(132, 4, range(1, 21)))
    ticks = [int.from_bytes(reply[9:13], "little", signed=True) for reply in replies]
    assert ticks == [2048 + round(i / 20 * 4096 / (2 * math.pi)) for i in range(1, 21)]


def test_twenty_servos_are_the_plant_to_the_tick() -> None:
    bench = Bench(robot="op3", held=True)
    switch_on(bench)
    direct = Plant.of_robot(load_humanoid("op3"))
    direct.data.qpos[:], direct.data.qvel[:] = bench.world.plant.data.qpos, bench.world.plant.data.qvel
    direct.data.time = bench.world.plant.time
    direct.data.qacc_warmstart[:] = bench.world.plant.data.qacc_warmstart
    gantry = Gantry(direct)
    gantry._pose = bench.world.gantry._pose.copy()  # type: ignore[union-attr]
    gain = 894  # the P register nearest to the table's 21.1 N m/rad
    direct.kp[:] = gain / 128 * 4096 / (2 * math.pi) / 885 * 4.1
    direct.powered[:] = True
    for bus_id in range(1, 21):
        bench.put("position_p_gain", gain, bus_id)
        bench.put("torque_enable", 1, bus_id)
    rng = np.random.default_rng(0)
    goals = 2048 + np.round(rng.uniform(-200, 200, 20)).astype(int)
    for _ in range(50):
        goals = goals + rng.integers(-30, 31, 20)
        data = b"".join(bytes([i + 1]) + int(goal).to_bytes(4, "little") for i, goal in enumerate(goals))
        bench.send(wire.BROADCAST, Instruction.SYNC_WRITE, bytes([116, 0, 4, 0]) + data)
        direct.goal[:] = (goals - 2048) * 2 * math.pi / 4096
        bench.run(0.02)
        for _ in range(5):
            direct.step()
            gantry.hold(0.004)
        replies = bench.send(wire.BROADCAST, Instruction.SYNC_READ, sync_read(132, 4, range(1, 21)))
        ticks = [int.from_bytes(reply[9:13], "little", signed=True) for reply in replies]
        assert ticks == list(2048 + np.round(direct.q * 4096 / (2 * math.pi)).astype(int))
    bench.close()


def test_the_inertial_unit_reads_the_simulation(op3: Bench) -> None:
    base = op3.world.plant.data.qpos
    roll, pitch = 0.2, -0.4
    cr, sr, cp, sp = math.cos(roll / 2), math.sin(roll / 2), math.cos(pitch / 2), math.sin(pitch / 2)
    base[3:7] = [cr * cp, sr * cp, cr * sp, -sr * sp]  # first roll, then pitch, yaw 0
    op3.world.plant.data.qvel[3:6] = [1.0, -0.5, 0.25]
    op3.world.steps += 1
    gyro = numbers(op3, 32, 3) * 2000 / 32800
    assert gyro == pytest.approx(np.degrees([1.0, -0.5, 0.25]), abs=0.04)
    assert numbers(op3, 44, 3) / 10 == pytest.approx([math.degrees(roll), math.degrees(pitch), 0.0], abs=0.11)


def test_a_hanging_robot_feels_one_g() -> None:
    bench = Bench(robot="op3", hung_up=True)
    bench.run(0.01)
    assert numbers(bench, 38, 3) * 2 / 32768 == pytest.approx([0, 0, 1], abs=1e-3)
    assert bench.ask(BOARD, Instruction.READ, bytes([31, 0, 1, 0])) == (0, bytes([120]))
    bench.close()


def test_falling_robots_feel_none_and_say_so(op3: Bench) -> None:
    op3.world.plant.data.qpos[2] += 2.0
    op3.run(0.1)
    assert np.linalg.norm(numbers(op3, 38, 3)) * 2 / 32768 < 0.1
    op3.run(2.0)
    state = op3.world.state()
    assert state["base_height_m"] < 0.2
    assert state["uprightness"] < 0.8


def test_a_robot_that_is_held_stays_up_until_it_is_released() -> None:
    bench = Bench(robot="op3", held=True)
    height = bench.world.state()["base_height_m"]
    bench.run(1.0)
    assert bench.world.state()["base_height_m"] == pytest.approx(height)
    bench.world.release()
    bench.run(3.0)
    assert bench.world.state()["base_height_m"] < height - 0.1
    assert not bench.world.state()["held"]
    bench.close()


def test_the_board_knows_no_fast_read_and_no_reboot(op3: Bench) -> None:
    switch_on(op3)
    assert op3.ask(BOARD, Instruction.REBOOT)[0] == Failure.INSTRUCTION
    (reply,) = op3.send(wire.BROADCAST, Instruction.FAST_SYNC_READ, sync_read(24, 1, [1, BOARD]))
    assert len(reply) == 7 + 1 + 5, "only the servo sends its part"
    op3.world.faults.add(FaultSpec("unplug", devices=(BOARD,)), op3.world.now_s)
    assert op3.send(BOARD, Instruction.PING) == []


def test_unplugged_servos_lose_power_and_come_back_restarted(op3: Bench) -> None:
    switch_on(op3)
    op3.put("torque_enable", 1, 13)
    op3.world.faults.add(FaultSpec("unplug", devices=(13,), for_s=0.1), op3.world.now_s)
    op3.run(0.05)
    assert op3.send(13, Instruction.PING) == []
    assert not op3.world.plant.powered[12]
    op3.run(0.5)
    assert op3.get("torque_enable", 13) == 0
