"""Both codecs of the CAN bus against everything that a motor bus must do, on emulators in other processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from can_rig import CanRig, emulated
from conformance import BusConformance

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.canbus.ranges import candidate
from cadenza.robots.hardware.canbus.robstride import RobStrideCodec
from cadenza.robots.hardware.emulators.launch import Spawned

pytest.importorskip("can")
pytest.importorskip("msgpack")


@pytest.fixture(scope="module")
def damiao() -> Iterator[Spawned]:
    with emulated("damiao", "DM4310") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def robstride() -> Iterator[Spawned]:
    with emulated("robstride", "RS-02") as emulator:
        yield emulator


class TestDamiaoOnCan(BusConformance):
    persistent = "PMAX"
    harmless = ("KP_APR", 40.0)
    can_reboot = False

    @pytest.fixture
    def rig(self, damiao: Spawned) -> Iterator[CanRig]:
        rig = CanRig(damiao, "DM4310", DamiaoCodec())
        yield rig
        rig.bus.close()


class TestRobStrideOnCan(BusConformance):
    persistent = "limit_torque"
    harmless = ("loc_kp", 25.0)
    can_reboot = False

    @pytest.fixture
    def rig(self, robstride: Spawned) -> Iterator[CanRig]:
        rig = CanRig(robstride, "RS-02", RobStrideCodec({"RS-02": candidate("RS-02", "robstride-sdk")}))
        yield rig
        rig.bus.close()
