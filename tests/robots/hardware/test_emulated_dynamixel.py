"""Emulated DYNAMIXELs: instructions, registers and errors, as the e-manual has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_dynamixels import Bench, sync_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cadenza.robots.errors import CadenzaError
from cadenza.robots.hardware.emulators import dynamixel_packet as wire
from cadenza.robots.hardware.emulators.dynamixel_packet import Failure, Instruction
from cadenza.robots.hardware.emulators.dynamixel_table import MODELS
from cadenza.robots.hardware.emulators.faults import FaultSpec


@pytest.fixture
def servo() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def three() -> Iterator[Bench]:
    bench = Bench(ids=(3, 7, 4))
    yield bench
    bench.close()


# ---------------------------------------------------------------------- instructions


@pytest.mark.parametrize("model", MODELS)
def test_every_model_says_its_number(model: str) -> None:
    bench = Bench(motor=model)
    error, data = bench.ask(1, Instruction.PING)
    assert error == 0
    assert int.from_bytes(data[:2], "little") == MODELS[model].number
    assert bench.get("baud_rate") == 3
    bench.close()


@pytest.mark.parametrize("model", MODELS)
def test_registers_lie_where_robotis_own_sdk_has_them(model: str) -> None:
    import dynamixel_easy_sdk

    folder = Path(dynamixel_easy_sdk.__file__).parent / "control_table"
    text = (folder / f"{model.lower().replace('-', '_')}.model").read_text()
    theirs = {}
    for line in text.split("[control table]")[1].splitlines()[2:]:
        address, size, name = line.split("\t")
        if "Indirect" not in name:
            theirs[name.lower().replace("(shadow)", "").replace(" ", "_")] = (int(address), int(size))
    theirs["present_current"] = theirs.pop("present_load", theirs.get("present_current", (0, 0)))
    ours = {row.name: (row.address, row.size) for row in MODELS[model].registers}
    assert {name: ours.get(name) for name in theirs} == theirs
    # On the model's page of the e-manual, but not in the SDK's file.
    assert set(ours) - set(theirs) <= {"startup_configuration", "backup_ready"}


def test_broadcast_ping_answers_in_the_order_of_ids(three: Bench) -> None:
    replies = three.send(wire.BROADCAST, Instruction.PING)
    assert [reply[4] for reply in replies] == [3, 4, 7]


def test_reads_answer_in_the_order_that_was_asked(three: Bench) -> None:
    replies = three.send(wire.BROADCAST, Instruction.SYNC_READ, sync_read(132, 4, [7, 9, 3]))
    assert [reply[4] for reply in replies] == [7, 3]
    replies = three.send(wire.BROADCAST, Instruction.BULK_READ, bytes([4, 146, 0, 1, 0, 3, 144, 0, 2, 0]))
    assert [(reply[4], reply[9:-2]) for reply in replies] == [(4, b"\x19"), (3, (120).to_bytes(2, "little"))]


def test_fast_sync_read_is_one_packet_with_chained_checksums(three: Bench) -> None:
    (reply,) = three.send(wire.BROADCAST, Instruction.FAST_SYNC_READ, sync_read(132, 4, [3, 7, 4]))
    assert reply[4] == wire.BROADCAST
    assert int.from_bytes(reply[5:7], "little") == 1 + 3 * (4 + 4) == len(reply) - 7
    for end in (16, 24, 32):
        assert wire.crc16(reply[: end - 2]) == int.from_bytes(reply[end - 2 : end], "little")
    assert [reply[9], reply[17], reply[25]] == [3, 7, 4]
    assert int.from_bytes(reply[10:14], "little") == 2048


def test_one_silent_device_ends_a_fast_reply(three: Bench) -> None:
    three.world.faults.add(FaultSpec("mute", devices=(7,)), 0.0)
    (reply,) = three.send(wire.BROADCAST, Instruction.FAST_SYNC_READ, sync_read(132, 4, [3, 7, 4]))
    assert len(reply) == 16
    assert int.from_bytes(reply[5:7], "little") == 25, "the first has announced all"


def test_a_fast_reply_is_lost_as_one_packet(three: Bench) -> None:
    request = sync_read(132, 4, [3, 7, 4])
    three.world.faults.add(FaultSpec("drop", share=0.1, way="reply"), 0.0)
    lengths = [[len(r) for r in three.send(wire.BROADCAST, Instruction.FAST_SYNC_READ, request)] for _ in range(500)]
    assert {tuple(found) for found in lengths} == {(), (32,)}
    assert 25 < lengths.count([]) < 80  # 50 expected, standard deviation 7
    three.world.faults.clear()
    three.world.faults.add(FaultSpec("corrupt", devices=(4,), way="reply"), 0.0)
    (reply,) = three.send(wire.BROADCAST, Instruction.FAST_SYNC_READ, request)
    assert wire.crc16(reply[:-2]) != int.from_bytes(reply[-2:], "little")


@given(st.sampled_from([1, 7, 3, 254]), st.integers(0, 255), st.binary(max_size=24))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_packet_upsets_a_servo(three: Bench, bus_id: int, do: int, parameters: bytes) -> None:
    for reply in three.send(bus_id, do, parameters):
        fast = do in (Instruction.FAST_SYNC_READ, Instruction.FAST_BULK_READ)
        assert fast or wire.parse(reply) is not None
    three.bus.hear(parameters, three.baud)
    three.run(0.002)
    three.firmware.silent_until_s[:] = -1.0  # or it would sleep through most examples after the first reboot


def test_sync_and_bulk_write_reach_the_named_and_nobody_answers(three: Bench) -> None:
    data = bytes([65, 0, 1, 0, 3, 1, 7, 1])
    assert three.send(wire.BROADCAST, Instruction.SYNC_WRITE, data) == []
    assert [three.get("led", i) for i in (3, 7, 4)] == [1, 1, 0]
    data = bytes([4, 65, 0, 1, 0, 1, 3, 98, 0, 1, 0, 50])
    assert three.send(wire.BROADCAST, Instruction.BULK_WRITE, data) == []
    assert (three.get("led", 4), three.get("bus_watchdog", 3)) == (1, 50)


def test_reg_write_waits_for_action(servo: Bench) -> None:
    assert servo.ask(1, Instruction.ACTION)[0] == Failure.INSTRUCTION
    assert servo.ask(1, Instruction.REG_WRITE, bytes([65, 0, 1]))[0] == 0
    assert (servo.get("led"), servo.get("registered_instruction")) == (0, 1)
    assert servo.send(wire.BROADCAST, Instruction.ACTION) == []
    assert (servo.get("led"), servo.get("registered_instruction")) == (1, 0)


def test_an_unknown_instruction_and_a_broken_packet_are_answered_so(servo: Bench) -> None:
    assert servo.ask(1, 0x33)[0] == Failure.INSTRUCTION
    packet = bytearray(wire.build(1, Instruction.PING))
    packet[-1] ^= 1
    ((reply, _),) = servo.bus.hear(bytes(packet), servo.baud)
    assert reply.data == wire.status(1, Failure.CRC)


def test_status_return_level(servo: Bench) -> None:
    servo.put("status_return_level", 1)
    assert servo.send(1, Instruction.WRITE, bytes([65, 0, 1])) == []
    assert servo.get("led") == 1
    servo.send(1, Instruction.WRITE, bytes([68, 0, 0]))
    assert servo.send(1, Instruction.READ, bytes([65, 0, 1, 0])) == []
    assert len(servo.send(1, Instruction.PING)) == 1


def test_broadcast_write_is_obeyed_in_silence(three: Bench) -> None:
    assert three.send(wire.BROADCAST, Instruction.WRITE, bytes([65, 0, 1])) == []
    assert [three.get("led", i) for i in (3, 7, 4)] == [1, 1, 1]


def test_id_and_baud_rate_change_after_the_answer(servo: Bench) -> None:
    assert servo.put("id", 9) == 0
    assert servo.send(1, Instruction.PING) == []
    assert servo.ask(9, Instruction.PING)[0] == 0
    assert servo.put("baud_rate", 1, 9) == 0
    assert servo.send(9, Instruction.PING) == [], "heard only at its own rate"
    assert len(servo.send(9, Instruction.PING, baud=57_600)) == 1


def test_secondary_id_reaches_ram_only_and_in_silence(three: Bench) -> None:
    for bus_id in (3, 7, 4):
        three.put("secondary_id", 100, bus_id)
    assert three.send(100, Instruction.WRITE, bytes([65, 0, 1])) == []
    assert three.send(100, Instruction.WRITE, bytes([10, 0, 1])) == []
    assert [(three.get("led", i), three.get("drive_mode", i)) for i in (3, 7, 4)] == [(1, 0)] * 3


def test_two_devices_with_one_id_garble_each_other(three: Bench) -> None:
    three.put("id", 7, 3)
    three.put("drive_mode", 1, 4)
    assert wire.parse(three.send(7, Instruction.PING)[0]) is not None, "the same bytes at the same time"
    three.world.plant.data.qpos[0] += 0.5
    three.world.steps += 1
    (reply,) = three.send(7, Instruction.READ, bytes([132, 0, 4, 0]))
    assert wire.parse(reply) is None


def test_factory_reset_keeps_what_it_is_told_to(servo: Bench) -> None:
    servo.put("id", 5)
    servo.put("homing_offset", 100, 5)
    assert servo.ask(5, Instruction.FACTORY_RESET, b"\x02")[0] == 0
    assert servo.send(5, Instruction.PING) == [], "it boots"
    servo.run(0.3)
    assert (servo.get("homing_offset", 5), servo.get("baud_rate", 5)) == (0, 3)
    assert servo.send(wire.BROADCAST, Instruction.FACTORY_RESET, b"\xff") == []
    assert servo.ask(5, Instruction.PING)[0] == 0, "reset of all by broadcast is not obeyed"
    servo.ask(5, Instruction.FACTORY_RESET, b"\xff")
    servo.run(0.3)
    assert len(servo.send(1, Instruction.PING, baud=57_600)) == 1


# ---------------------------------------------------------------------- registers and errors


@pytest.mark.parametrize(
    ("address", "data", "failure"),
    [
        (132, "00000000", Failure.ACCESS),  # present position is read only
        (14, "00", Failure.ACCESS),  # nothing there
        (2000, "00", Failure.ACCESS),
        (116, "0008", Failure.LENGTH),  # two of four bytes
        (117, "08", Failure.LENGTH),
        (65, "02", Failure.RANGE),
        (84, "0040", Failure.RANGE),  # 16,384
        (98, "80", Failure.RANGE),
        (116, "00100000", Failure.LIMIT),  # 4,096 in position mode
        (100, "7603", Failure.LIMIT),  # 886
    ],
)
def test_refused_writes(servo: Bench, address: int, data: str, failure: Failure) -> None:
    parameters = address.to_bytes(2, "little") + bytes.fromhex(data)
    expected = {Failure.LIMIT, Failure.RANGE} if address == 100 else {failure}
    assert servo.ask(1, Instruction.WRITE, parameters)[0] in expected


def test_limits_of_goals_come_from_their_registers(servo: Bench) -> None:
    servo.put("max_position_limit", 3000)
    assert servo.put("goal_position", 3000) == 0
    assert servo.put("goal_position", 3001) == Failure.LIMIT
    assert servo.get("goal_position") == 3000
    servo.put("current_limit", 500)
    assert servo.put("goal_current", -501) == Failure.LIMIT


def test_eeprom_is_locked_while_torque_is_on(servo: Bench) -> None:
    assert servo.put("torque_enable", 1) == 0
    assert servo.put("operating_mode", 1) == Failure.ACCESS
    assert servo.get("operating_mode") == 3
    assert servo.put("led", 1) == 0
    assert servo.put("torque_enable", 0) == 0
    assert servo.put("operating_mode", 1) == 0


def test_a_model_has_only_its_own_modes_and_registers() -> None:
    bench = Bench(motor="XL430-W250")
    assert bench.put("operating_mode", 0) == Failure.RANGE
    assert bench.put("operating_mode", 5) == Failure.RANGE
    assert bench.put("goal_current", 0) == Failure.ACCESS
    assert bench.put("operating_mode", 16) == 0
    bench.close()


def test_a_new_mode_resets_gains_profile_and_goals(servo: Bench) -> None:
    for name, value in (("position_p_gain", 300), ("profile_velocity", 50), ("goal_pwm", 100), ("goal_current", 7)):
        assert servo.put(name, value) == 0
    servo.put("operating_mode", 5)
    names = ("position_p_gain", "profile_velocity", "goal_pwm", "goal_current")
    assert [servo.get(name) for name in names] == [800, 0, 885, 1193]


def test_a_block_of_several_registers_is_written_whole_or_not_at_all(servo: Bench) -> None:
    both = (40).to_bytes(4, "little") + (9_999_999).to_bytes(4, "little")
    assert servo.ask(1, Instruction.WRITE, bytes([112, 0]) + both)[0] == Failure.RANGE
    assert servo.get("profile_velocity") == 0


def test_indirect_addresses_stand_for_what_they_point_to(servo: Bench) -> None:
    # Indirect data 224..227 -> goal position 116..119, 228 -> LED.
    pointers = b"".join(a.to_bytes(2, "little") for a in (116, 117, 118, 119, 65))
    assert servo.ask(1, Instruction.WRITE, bytes([168, 0]) + pointers)[0] == 0
    data = (2500).to_bytes(4, "little") + b"\x01"
    assert servo.ask(1, Instruction.WRITE, bytes([224, 0]) + data)[0] == 0
    assert (servo.get("goal_position"), servo.get("led")) == (2500, 1)
    assert servo.ask(1, Instruction.READ, bytes([224, 0, 5, 0])) == (0, data)
    assert servo.ask(1, Instruction.READ, (634).to_bytes(2, "little") + b"\x02\x00") == (0, b"\0\0")


def test_reboot_keeps_eeprom_and_forgets_ram(servo: Bench) -> None:
    servo.put("homing_offset", 50)
    servo.put("led", 1)
    servo.put("torque_enable", 1)
    assert servo.ask(1, Instruction.REBOOT)[0] == 0
    assert servo.send(1, Instruction.PING) == []
    servo.run(0.3)
    assert [servo.get(name) for name in ("homing_offset", "led", "torque_enable")] == [50, 0, 0]


def test_clear_brings_the_position_back_into_one_turn() -> None:
    bench = Bench()
    bench.put("operating_mode", 4)
    bench.world.plant.data.qpos[0] = 3 * 2 * math.pi + 0.1
    bench.world.steps += 1
    assert bench.get("present_position") == 2048 + 3 * 4096 + 65
    assert bench.ask(1, Instruction.CLEAR, bytes.fromhex("0144584C22"))[0] == 0
    assert bench.get("present_position") == 2048 + 65
    bench.close()


def test_homing_offset_and_reverse_mode(servo: Bench) -> None:
    servo.world.plant.data.qpos[0] = 0.5
    servo.world.steps += 1
    ticks = round(0.5 * 4096 / (2 * math.pi))
    assert servo.get("present_position") == 2048 + ticks
    servo.put("homing_offset", -100)
    assert servo.get("present_position") == 2048 + ticks - 100
    servo.put("homing_offset", 2000)
    assert servo.get("present_position") == 2048 + ticks, "outside +-1024 it is ignored in position mode"
    servo.put("homing_offset", 0)
    servo.put("drive_mode", 1)
    assert servo.get("present_position") == 2048 - ticks


def test_torque_on_by_goal(servo: Bench) -> None:
    servo.put("drive_mode", 8)
    servo.put("goal_position", 2100)
    assert servo.get("torque_enable") == 1
    servo.run(1.0)
    assert abs(servo.get("present_position") - 2100) <= 3


def test_the_state_block_is_what_the_plant_does() -> None:
    bench = Bench(arm_kg_m=0.05, inertia_kg_m2=0.02)
    bench.put("torque_enable", 1)
    bench.put("goal_position", 2560)
    bench.run(0.06)
    plant = bench.world.plant
    error, data = bench.ask(1, Instruction.READ, bytes([124, 0, 23, 0]))
    assert error == 0

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at - 124 : at - 124 + size], "little", signed=True)

    assert number(132, 4) == round(float(plant.q[0]) * 4096 / (2 * math.pi)) + 2048
    assert number(128, 4) == round(float(plant.dq[0]) / (0.229 * 2 * math.pi / 60))
    assert number(126, 2) == round(float(plant.force[0]) * 149.8)
    duty = float(plant.data.actuator_force[0]) / 4.1
    assert abs(number(124, 2) - 885 * duty) <= 1
    assert (number(144, 2), number(146, 1)) == (120, 25)
    assert number(128, 4) > 20, "it moves"
    assert np.isclose(bench.world.now_s, 0.06)
    bench.close()


def test_order_refuses_what_does_not_exist() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"motor": "XM430-W35"}, "XM430-W35"),
        ({"baud": 12_345}, "12,345"),
        ({"robot": "op4"}, "op4"),
        ({"robot": "op3", "joint": "r_kne"}, "r_kne"),
        ({"robot": "unitree_g1"}, "Unitree"),
        ({"held": True}, "whole robot"),
        ({"more": {"colour": 1}}, "colour"),
        ({"plant": {"mass": 1}}, "mass"),
    ]
    for order, message in wrong:
        with pytest.raises(CadenzaError, match=message):
            Bench(**order)
