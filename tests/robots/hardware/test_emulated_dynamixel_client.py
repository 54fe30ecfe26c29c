"""ROBOTIS's own SDK, which knows nothing of us, against emulated servos in another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dynamixel_sdk import COMM_SUCCESS, GroupBulkRead, GroupSyncRead, GroupSyncWrite, PacketHandler, PortHandler

from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn
from cadenza.robots.hardware.errors import HardwareError

packets = PacketHandler(2.0)


class Sdk:
    """Three servos in lockstep and a port to them. The SDK's timeouts are milliseconds of a machine that is ours alone;
    this one is not, so every call is tried again."""

    def __init__(self, emulator: Spawned):
        self.emulator, self.control = emulator, emulator.control
        self.port = PortHandler(emulator.port)
        assert self.port.openPort()
        assert self.port.setBaudRate(1_000_000)
        self.now = 0.0

    def call(self, what: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
        """Value (None where there is none) and error byte."""
        for _ in range(200):
            answer = what(self.port, *arguments)
            if answer[-2] == COMM_SUCCESS:
                return (answer[0] if len(answer) == 3 else None), answer[-1]
        raise AssertionError(packets.getTxRxResult(answer[-2]))

    def group(self, group: Any) -> None:
        call = group if callable(group) else group.txRxPacket
        for _ in range(200):
            result = call()
            if result == COMM_SUCCESS:
                return
        raise AssertionError(packets.getTxRxResult(result))

    def run(self, seconds: float) -> None:
        self.now += seconds
        self.control.advance(self.now)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Spawned]:
    with spawn(Order("dynamixel", ids=(1, 2, 3), lockstep=True)) as emulator:
        yield emulator


@pytest.fixture
def sdk(emulator: Spawned) -> Iterator[Sdk]:
    sdk = Sdk(emulator)
    sdk.now = emulator.control.state()["time_s"]
    for bus_id in (1, 2, 3):
        packets.reboot(sdk.port, bus_id)
    sdk.run(0.3)
    yield sdk
    sdk.port.closePort()


def test_ping_and_broadcast_ping(sdk: Sdk) -> None:
    assert sdk.call(packets.ping, 2) == (1020, 0)
    for _ in range(200):
        found, result = packets.broadcastPing(sdk.port)
        if result == COMM_SUCCESS and len(found) == 3:
            break
    assert found == {1: [1020, 48], 2: [1020, 48], 3: [1020, 48]}


def test_move_with_sync_write_and_read_back_in_every_way(sdk: Sdk) -> None:
    for bus_id in (1, 2, 3):
        sdk.call(packets.write1ByteTxRx, bus_id, 64, 1)
    goals = GroupSyncWrite(sdk.port, packets, 116, 4)
    for bus_id in (1, 2, 3):
        goals.addParam(bus_id, list((2048 + 300 * bus_id).to_bytes(4, "little")))
    assert goals.txPacket() == COMM_SUCCESS
    sdk.run(2.0)
    many = GroupSyncRead(sdk.port, packets, 124, 23)
    each = GroupBulkRead(sdk.port, packets)
    for bus_id in (1, 2, 3):
        many.addParam(bus_id)
        each.addParam(bus_id, 132, 4)
    sdk.group(many)
    normal = [many.getData(bus_id, 132, 4) for bus_id in (1, 2, 3)]
    assert normal == pytest.approx([2348, 2648, 2948], abs=3)
    assert [many.getData(bus_id, 144, 2) for bus_id in (1, 2, 3)] == [120] * 3
    sdk.group(many.fastSyncRead)
    assert [many.getData(bus_id, 132, 4) for bus_id in (1, 2, 3)] == normal
    sdk.group(each)
    assert [each.getData(bus_id, 132, 4) for bus_id in (1, 2, 3)] == normal
    assert sdk.control.motor(3)["angle_rad"] == pytest.approx(900 * 2 * 3.14159265 / 4096, abs=0.004)


def test_errors_come_with_the_sdks_own_words(sdk: Sdk) -> None:
    _, error = sdk.call(packets.write4ByteTxRx, 1, 116, 5000)
    assert "exceeds the limit" in packets.getRxPacketError(error)
    sdk.call(packets.write1ByteTxRx, 1, 64, 1)
    _, error = sdk.call(packets.write1ByteTxRx, 1, 11, 1)
    assert "not available" in packets.getRxPacketError(error)


def test_reboot_takes_torque_off(sdk: Sdk) -> None:
    sdk.call(packets.write1ByteTxRx, 1, 64, 1)
    assert sdk.control.motor(1)["torque_enabled"]
    sdk.call(packets.reboot, 1)
    assert packets.ping(sdk.port, 1)[1] != COMM_SUCCESS, "it boots"
    sdk.run(0.3)
    assert sdk.call(packets.read1ByteTxRx, 1, 64) == (0, 0)


def test_ids_and_baud_rates_change(sdk: Sdk) -> None:
    sdk.call(packets.write1ByteTxRx, 3, 7, 30)
    assert sdk.call(packets.ping, 30) == (1020, 0)
    sdk.call(packets.write1ByteTxRx, 30, 8, 4)
    assert packets.ping(sdk.port, 30)[1] != COMM_SUCCESS
    sdk.port.setBaudRate(2_000_000)
    assert sdk.call(packets.ping, 30) == (1020, 0)
    assert packets.ping(sdk.port, 1)[1] != COMM_SUCCESS
    sdk.call(packets.write1ByteTxRx, 30, 8, 3)
    sdk.port.setBaudRate(1_000_000)
    sdk.call(packets.write1ByteTxRx, 30, 7, 3)
    assert sdk.call(packets.ping, 3) == (1020, 0)


def test_faults_reach_the_sdk(sdk: Sdk) -> None:
    sdk.control.fault("mute", devices=[2])
    assert packets.ping(sdk.port, 2)[1] != COMM_SUCCESS
    assert sdk.call(packets.ping, 1)[1] == 0
    sdk.control.clear_faults()
    sdk.control.fault("corrupt", devices=[2], way="reply")
    assert packets.ping(sdk.port, 2)[1] != COMM_SUCCESS
    sdk.control.clear_faults()
    assert sdk.call(packets.ping, 2)[1] == 0
    sdk.control.fault("over_heat", devices=[1], for_s=0.1)
    sdk.run(0.2)
    assert sdk.call(packets.ping, 1)[1] == 0x80, "the alert bit"
    assert sdk.call(packets.read1ByteTxRx, 1, 70)[0] & 4


def test_the_log_has_what_the_sdk_sent(sdk: Sdk) -> None:
    start = sdk.control.log()[-1]["number"] + 1
    sdk.call(packets.ping, 1)
    entries = sdk.control.log(start)
    assert entries[0]["way"] == "in"
    assert entries[0]["data"].hex() == "fffffd00010300" + "01194e"
    assert any(entry["way"] == "out" and entry["data"][4] == 1 for entry in entries)


def test_real_time_moves_by_itself() -> None:
    with spawn(Order("dynamixel", ids=(5,), more={"return_delay": 0})) as emulator:
        sdk = Sdk(emulator)
        sdk.call(packets.write1ByteTxRx, 5, 64, 1)
        sdk.call(packets.write4ByteTxRx, 5, 116, 2548)
        deadline = time.monotonic() + 20
        while abs(emulator.control.motor(5)["angle_rad"] - 500 * 2 * 3.14159265 / 4096) > 0.01:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        sdk.port.closePort()
    assert emulator.process.returncode == 0


def test_spawn_says_why_nothing_came() -> None:
    with pytest.raises(HardwareError, match=r"XM430-W351.*XM430-W350"):
        spawn(Order("dynamixel", motor="XM430-W351"))
