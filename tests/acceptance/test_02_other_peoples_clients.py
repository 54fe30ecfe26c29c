"""Promise 2: programs that know nothing of us find, set up, move and read our emulated motors.

Each client runs in a process of its own, on the package that its maker (or, for Damiao, somebody else) publishes; the
emulator in another, in real time. canopen is not among them: there is no CiA 402 drive here yet.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from test_emulated_damiao import CLIENT as DAMIAO_CLIENT

from cadenza.robots.hardware.emulators.launch import Order, spawn

# Calls are tried again: the SDKs' waiting times are a few milliseconds, and this machine has other work too.
DYNAMIXEL_CLIENT = """
import json, sys, time
from dynamixel_sdk import *

port, packets = PortHandler(sys.argv[1]), PacketHandler(2.0)
assert port.openPort() and port.setBaudRate(int(sys.argv[2]))

def call(what, *arguments):
    for _ in range(100):
        answer = what(port, *arguments)
        if answer[-2] == COMM_SUCCESS:
            return answer[0] if len(answer) == 3 else None, answer[-1]
        time.sleep(0.01)
    raise SystemExit(f"{what.__name__}{arguments}: {packets.getTxRxResult(answer[-2])}")

def group(do):
    for _ in range(100):
        if do() == COMM_SUCCESS:
            return
        time.sleep(0.01)
    raise SystemExit("no answer of the group")

ids = [1, 2, 3]
said = {"models": [call(packets.ping, n)[0] for n in ids]}
for n in ids:
    assert call(packets.write1ByteTxRx, n, 9, 0) == (None, 0)        # return delay
    assert call(packets.write1ByteTxRx, n, 11, 3) == (None, 0)       # position mode
    assert call(packets.write4ByteTxRx, n, 48, 3500) == (None, 0)    # max position
    assert call(packets.write4ByteTxRx, n, 112, 200) == (None, 0)    # profile velocity
    assert call(packets.write1ByteTxRx, n, 64, 1) == (None, 0)       # torque
said["read_back"] = [[call(packets.read1ByteTxRx, n, 11)[0], call(packets.read4ByteTxRx, n, 48)[0]] for n in ids]
said["locked"] = call(packets.write1ByteTxRx, 1, 11, 1)[1]           # EEPROM under torque
said["beyond"] = call(packets.write4ByteTxRx, 1, 116, 3501)[1]
goals = GroupSyncWrite(port, packets, 116, 4)
for n in ids:
    assert goals.addParam(n, list((2048 + 200 * n).to_bytes(4, "little")))
assert goals.txPacket() == COMM_SUCCESS
reading, fast = GroupSyncRead(port, packets, 124, 23), GroupSyncRead(port, packets, 132, 4)
for n in ids:
    assert reading.addParam(n) and fast.addParam(n)
until = time.monotonic() + 30
while time.monotonic() < until:
    group(reading.txRxPacket)
    at = [reading.getData(n, 132, 4) for n in ids]
    if all(abs(a - 2048 - 200 * n) <= 4 for a, n in zip(at, ids)):
        break
    time.sleep(0.05)
group(fast.fastSyncRead)
said.update(at=at, fast=[fast.getData(n, 132, 4) for n in ids],
            volts=[reading.getData(n, 144, 2) for n in ids], warm=[reading.getData(n, 146, 1) for n in ids])
call(packets.write1ByteTxRx, 1, 64, 0)
said["torque"] = [call(packets.read1ByteTxRx, n, 64)[0] for n in ids]
call(packets.reboot, 2)
time.sleep(0.6)
said["rebooted"] = call(packets.read1ByteTxRx, 2, 64)[0]
port.closePort()
print(json.dumps(said))
"""

FEETECH_CLIENT = """
import json, sys, time
from scservo_sdk import *

port, handler = PortHandler(sys.argv[1]), PacketHandler(0)
assert port.openPort() and port.setBaudRate(int(sys.argv[2]))

def call(what, *arguments):
    for _ in range(30):
        try:
            answer = what(port, *arguments)
        except IndexError:  # 1.0.0 does so where a late answer meets the next request
            answer = (None, COMM_RX_TIMEOUT, 0)
        if answer[-2] == COMM_SUCCESS:
            return answer[0] if len(answer) == 3 else None
        time.sleep(0.05)
        port.ser.reset_input_buffer()
    raise SystemExit(f"{what.__name__}{arguments}: no answer")

ids = [1, 2, 5]
said = {"models": [call(handler.ping, n) for n in ids]}
for n in ids:
    call(handler.write1ByteTxRx, n, 55, 0)       # unlock
    call(handler.write2ByteTxRx, n, 9, 1000)     # lowest angle
    call(handler.write1ByteTxRx, n, 55, 1)
    call(handler.write1ByteTxRx, n, 40, 1)       # torque
said["lowest"] = [call(handler.read2ByteTxRx, n, 9) for n in ids]
write = GroupSyncWrite(port, handler, 42, 2)
for n in ids:
    goal = 2048 - 60 * n
    assert write.addParam(n, [SCS_LOBYTE(goal), SCS_HIBYTE(goal)])
assert write.txPacket() == COMM_SUCCESS
read = GroupSyncRead(port, handler, 56, 15)
for n in ids:
    assert read.addParam(n)
until, at = time.monotonic() + 30, []
while time.monotonic() < until:
    if read.txRxPacket() == COMM_SUCCESS:
        at = [read.getData(n, 56, 2) for n in ids]
        said["volts"] = [read.getData(n, 62, 1) for n in ids]
        if all(abs(a - 2048 + 60 * n) <= 4 for a, n in zip(at, ids)):
            break
    time.sleep(0.05)
call(handler.write1ByteTxRx, 1, 40, 0)
said.update(at=at, torque=[call(handler.read1ByteTxRx, n, 40) for n in ids])
port.closePort()
print(json.dumps(said))
"""


def client(code: str, *arguments: str) -> dict[str, Any]:
    """What a client in another process says in the end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def test_dynamixel_sdk() -> None:
    pytest.importorskip("dynamixel_sdk")
    with spawn(Order("dynamixel", ids=(1, 2, 3))) as emulator:
        said = client(DYNAMIXEL_CLIENT, emulator.port, "1000000")
        assert said["models"] == [1020] * 3
        assert said["read_back"] == [[3, 3500]] * 3
        assert said["locked"] & 0x7F == 7
        assert said["beyond"] & 0x7F == 6
        assert said["at"] == pytest.approx([2248, 2448, 2648], abs=4)
        assert said["fast"] == pytest.approx(said["at"], abs=4)
        assert said["volts"] == [120] * 3
        assert all(20 <= degrees <= 40 for degrees in said["warm"])
        assert (said["torque"], said["rebooted"]) == ([0, 1, 1], 0)
        shafts = [motor["angle_rad"] for motor in emulator.control.state()["motors"]]
        assert shafts[2] == pytest.approx(600 * 2 * math.pi / 4096, abs=0.01)


def test_dynamixel_sdk_finds_the_21_devices_of_an_op3(op3_is_here: None) -> None:
    """Its sub-controller first, at id 200: the servos have no supply before it is told to give it to them."""
    code = """
import json, sys, time
from dynamixel_sdk import *
port, packets = PortHandler(sys.argv[1]), PacketHandler(2.0)
assert port.openPort() and port.setBaudRate(2_000_000)
def found():
    for _ in range(50):
        answers, result = packets.broadcastPing(port)
        if len(answers) >= int(sys.argv[2]) or sys.argv[2] == "0":
            return {str(n): model for n, (model, firmware) in answers.items()}
    return {str(n): model for n, (model, firmware) in answers.items()}
sys.argv[2] = "1"
said = {"before": found()}
for _ in range(50):
    if packets.write1ByteTxRx(port, 200, 24, 1)[0] == COMM_SUCCESS:
        break
time.sleep(1.0)
sys.argv[2] = "21"
said["after"] = found()
print(json.dumps(said))
"""
    pytest.importorskip("dynamixel_sdk")
    with spawn(Order("dynamixel", robot="op3", hung_up=True)) as emulator:
        said = client(code, emulator.port, "1")
    assert said["before"] == {"200": 0x7400}
    assert said["after"] == {"200": 0x7400, **{str(n): 1020 for n in range(1, 21)}}


def test_scservo_sdk() -> None:
    pytest.importorskip("scservo_sdk")
    with spawn(Order("feetech", ids=(1, 2, 5))) as emulator:
        said = client(FEETECH_CLIENT, emulator.port, "1000000")
        assert said["models"] == [777] * 3
        assert said["lowest"] == [1000] * 3
        assert said["at"] == pytest.approx([1988, 1928, 1748], abs=4)
        assert said["torque"] == [0, 1, 1]
        assert all(60 <= volts <= 130 for volts in said["volts"])
        shafts = {motor["bus_id"]: motor["angle_rad"] for motor in emulator.control.state()["motors"]}
        assert shafts[5] == pytest.approx(-300 * 2 * math.pi / 4096, abs=0.01)


def test_damiao_motor() -> None:
    pytest.importorskip("damiao_motor")
    with spawn(Order("damiao", motor="DM4310", ids=(1, 2), interface="slcan")) as emulator:
        said = client(DAMIAO_CLIENT, emulator.port)
        assert (said["id"], said["master"], said["mode"], said["timeout"]) == (1, 0x11, 1, 40_000)
        assert [said[when]["status"] for when in ("before", "moved", "after")] == ["DISABLED", "ENABLED", "DISABLED"]
        assert said["moved"]["pos"] == pytest.approx(0.7, abs=0.01)
        assert emulator.control.motor(1)["angle_rad"] == pytest.approx(0.7, abs=0.02)
        assert emulator.control.motor(2)["angle_rad"] == 0.0
