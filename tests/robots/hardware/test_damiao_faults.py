"""Faults of emulated Damiao drives and of their bus, as the host sees them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from can_rig import CanRig, emulated
from conformance import command, follow, ready

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.emulators.launch import Spawned
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Fault, Mode

pytest.importorskip("can")
pytest.importorskip("msgpack")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Spawned]:
    with emulated("damiao", "DM4310") as started:
        yield started


@pytest.fixture
def rig(emulator: Spawned) -> Iterator[CanRig]:
    made = CanRig(emulator, "DM4310", DamiaoCodec())
    yield made
    made.bus.close()


@pytest.mark.parametrize(
    ("fault", "fields", "raised"),
    [
        ("over_heat", {"amount": 120.0}, Fault.OVERHEATED),
        ("brown_out", {"amount": 5.0}, Fault.VOLTAGE),
        ("overload", {}, Fault.OVERLOAD),
    ],
)
def test_a_drive_in_fault_is_off_until_the_cause_is_gone_and_it_is_cleared(
    rig: CanRig, fault: str, fields: dict[str, float], raised: Fault
) -> None:
    ready(rig)
    rig.emulator.control.fault(fault, devices=[2], **fields)
    rig.advance(0.02)
    state = rig.bus.read()
    assert [int(one) for one in state.fault] == [0, int(raised), 0]
    assert rig.powered() == [True, False, True]
    rig.bus.deactivate()
    with pytest.raises(HardwareError, match="joint_2 is not fit"):
        rig.bus.activate()
    rig.heal()
    rig.emulator.control.set(2, temperature_c=30.0, supply_v=24.0)
    rig.advance(0.02)
    assert rig.bus.read().fault[1] == raised, "a fault that clears itself"
    rig.bus.clear_fault(2)
    rig.bus.activate()
    assert rig.powered() == [True, True, True]


def test_a_cause_that_remains_cannot_be_cleared_away(rig: CanRig) -> None:
    ready(rig)
    rig.emulator.control.fault("over_heat", devices=[1], amount=120.0)
    rig.advance(0.02)
    with pytest.raises(HardwareError, match="OVERHEATED"):
        rig.bus.clear_fault(1)


def test_a_drive_that_restarts_is_noticed_and_not_switched_on_again(rig: CanRig) -> None:
    ready(rig)
    follow(rig, 0.2, 0.2)
    rig.emulator.control.fault("reboot", devices=[5])
    rig.advance(0.02)
    assert rig.bus.read().fault[2] == Fault.OTHER
    follow(rig, 0.5, 0.2)
    assert rig.powered() == [True, True, False]


def test_a_frozen_encoder_freezes_what_is_reported(rig: CanRig) -> None:
    ready(rig)
    rig.emulator.control.fault("stuck_encoder", devices=[1])
    rig.advance(0.01)
    asked = command(rig, 0.5)
    asked.mode, asked.tau = Mode.IMPEDANCE, np.full(3, 1.0)
    for _ in range(5):
        rig.bus.write(asked)
        rig.advance(0.01)
    state = rig.bus.read()
    assert state.q[0] == pytest.approx(0.0, abs=0.001)
    assert rig.shafts()[0] > 0.05


def test_two_motors_with_one_id_are_named(rig: CanRig) -> None:
    rig.emulator.control.fault("id_clash", devices=[2])
    with pytest.raises(HardwareError, match=r"joint_2.*two motors with that id"):
        rig.bus.connect()


def test_lost_doubled_and_late_frames_are_counted_and_survived(rig: CanRig) -> None:
    ready(rig)
    rig.bus._link.margin_s = 0.02
    rig.emulator.control.fault("drop", share=0.1)
    rig.emulator.control.fault("duplicate", share=0.1)
    oldest = 0.0
    for _ in range(40):
        state = rig.bus.read()
        oldest = max(oldest, float(state.age.max()))
        rig.bus.write(command(rig, 0.3))
        rig.advance(0.005)
    counters = rig.bus.counters
    assert counters.timeouts > 0
    assert counters.late + counters.unsolicited > 0
    assert 0.004 < oldest < 0.1
    rig.heal()
    assert all(rig.powered())
    rig.emulator.control.fault("delay", amount=0.03, devices=[1])
    rig.bus._link.margin_s = 0.02
    late = counters.late
    for _ in range(4):
        rig.bus.write(command(rig, 0.3))
        rig.advance(0.02)
    assert counters.late > late
    assert rig.bus.read().fault[0] & Fault.SILENT


def test_strange_frames_never_become_a_state(rig: CanRig) -> None:
    import can

    ready(rig)
    before = rig.bus.read()
    group, port = rig.emulator.port.split(":")[1:]
    stranger = can.Bus(interface="udp_multicast", channel=group, port=int(port), fd=False)
    rng = np.random.default_rng(5)
    for _ in range(120):
        stranger.send(
            can.Message(
                arbitration_id=int(rng.integers(0x20, 0x7FF)), data=rng.bytes(int(rng.integers(0, 9))),
                is_extended_id=False,
            )
        )  # fmt: skip
    # Our motor's id, but cut short, and one that names another motor.
    stranger.send(can.Message(arbitration_id=0x11, data=b"\x11\x00\x00", is_extended_id=False))
    stranger.send(can.Message(arbitration_id=0x11, data=b"\x13" + bytes(7), is_extended_id=False))
    stranger.shutdown()
    time.sleep(0.2)
    after = rig.bus.read()
    np.testing.assert_allclose(after.q, before.q, atol=rig.resolution_rad)
    assert rig.bus.counters.late + rig.bus.counters.unsolicited + rig.bus.counters.corrupt >= 122
    assert np.all(after.fault == 0)
