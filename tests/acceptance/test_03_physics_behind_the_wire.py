"""Promise 3: the shaft at the other end of the wire is the MuJoCo joint of training, to the resolution of the wire.

A driver commands emulated motors in another process; beside it the same joint is driven directly. In lockstep a wire
has no delay, so what may differ is rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from bench import settings
from can_rig import CanRig, emulated

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions
from cadenza.robots.hardware.emulators.can_drives import bench_row as can_row
from cadenza.robots.hardware.emulators.dynamixel_table import bench_row
from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Fault, JointCommand, Mode

PERIOD_S = 0.02
TICK, SPEED_STEP = 2 * math.pi / 4096, 0.0239691
SETTINGS = settings((1,))
KP = SETTINGS[0].kp
P_GAIN_UNIT = 4096 / (2 * math.pi) / 128 / 885 * 4.1
"""N m/rad of one count: duty per count of error is P/128/885 (ROBOTIS e-manual), 4.1 N m is the stall torque."""


class Lever:
    """One XM430 with a lever, behind driver and terminal, and its twin."""

    def __init__(self, emulator: Spawned, arm_kg_m: float, inertia: float):
        self.control = emulator.control
        self.clock = VirtualClock(self.control.state()["time_s"])
        self.clock.followers.append(self.control.advance)
        port = SerialPort(emulator.port, 1_000_000, margin_s=0.3)
        self.bus = DynamixelBus(SETTINGS, port, self.clock, DynamixelOptions(broadcast_up_to=1))
        self.bus.connect()
        self.bus.configure(Mode.POSITION, 0.2)
        self.twin = Plant.of_bench([bench_row("XM430-W350", 1)], arm_kg_m=arm_kg_m, inertia_kg_m2=inertia)
        self.twin.kp[:] = round(KP / P_GAIN_UNIT) * P_GAIN_UNIT

    def start(self) -> None:
        self.bus.activate()
        self.twin.powered[:] = True
        self.twin.goal[:] = self.twin.q

    def tick(self, goal: float | None) -> tuple[float, float]:
        """Errors of angle and speed after one period."""
        if goal is not None:
            self.bus.write(JointCommand.hold(np.array([goal]), KP))
            self.twin.goal[:] = goal
        self.clock.sleep_until(self.clock.now() + PERIOD_S)
        self.twin.advance(self.twin.time + PERIOD_S)
        state = self.bus.read()
        return float(state.q[0] - self.twin.q[0]), float(state.dq[0] - self.twin.dq[0])


@pytest.fixture
def lever() -> Iterator[Callable[..., Lever]]:
    started: list[tuple[Spawned, Lever]] = []

    def make(arm_kg_m: float = 0.1, inertia: float = 0.05) -> Lever:
        emulator = spawn(Order("dynamixel", ids=(1,), lockstep=True, arm_kg_m=arm_kg_m, inertia_kg_m2=inertia))
        made = Lever(emulator, arm_kg_m, inertia)
        started.append((emulator, made))
        return made

    yield make
    for emulator, made in started:
        made.bus.close()
        emulator.stop()


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def step(k: int) -> float | None:
    return 0.9 if k < 100 else -0.6


def sine(k: int) -> float | None:
    return 1.0 * math.sin(2 * math.pi * k * PERIOD_S / 1.2)


def chirp(k: int) -> float | None:
    t = k * PERIOD_S
    return 0.7 * math.sin(2 * math.pi * (0.2 * t + 0.08 * t * t))


@pytest.mark.parametrize(
    ("goal", "ticks"),
    [(step, 200), (sine, 200), pytest.param(sine, 3_000, marks=pytest.mark.slow),
     pytest.param(chirp, 1_000, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_servo_moves_as_its_joint_driven_directly(
    lever: Callable[..., Lever], goal: Callable[[int], float], ticks: int
) -> None:
    bench = lever()
    bench.start()
    errors = [bench.tick(goal(k)) for k in range(ticks)]
    # Rounding of what is measured is 0.29 of a step (RMS), and that of the goal as much again at most.
    assert rms([q for q, _ in errors]) <= 0.5 * TICK
    assert rms([dq for _, dq in errors]) <= 0.6 * SPEED_STEP
    assert max(abs(q) for q, _ in errors) <= 1.2 * TICK
    assert float(np.abs(bench.twin.q[0])) > 0.0


def test_torque_off_falls_as_the_joint_alone(lever: Callable[..., Lever]) -> None:
    bench = lever()
    bench.start()
    for _ in range(100):
        bench.tick(1.4)
    raised = float(bench.twin.q[0])
    assert raised > 1.3
    bench.bus.deactivate()
    bench.twin.powered[:] = False
    errors = [bench.tick(None) for _ in range(100)]
    assert rms([q for q, _ in errors]) <= 0.5 * TICK
    assert rms([dq for _, dq in errors]) <= 0.6 * SPEED_STEP
    assert abs(float(bench.twin.q[0])) < raised - 0.3, "it fell"
    assert not bench.control.motor(1)["torque_enabled"]


def test_a_stall_is_an_overload_which_a_reboot_alone_ends(lever: Callable[..., Lever]) -> None:
    bench = lever(arm_kg_m=1.0, inertia=6.0)  # 9.8 N m when level: more than it has
    bench.start()
    for _ in range(400):
        state = bench.bus.read()
        if state.fault[0]:
            break
        bench.tick(1.5)
    else:
        raise AssertionError("it never gave up")
    assert Fault.OVERLOAD in Fault(int(bench.bus.read().fault[0]))
    assert not bench.control.motor(1)["torque_enabled"]
    bench.bus.deactivate()
    with pytest.raises(HardwareError, match="overload"):
        bench.bus.activate()
    bench.clock.sleep_until(bench.clock.now() + 2.0)
    with pytest.raises(HardwareError, match="overload"):  # time does not heal it
        bench.bus.activate()
    for _ in range(1500):  # such a pendulum swings for long; torque goes on inside the limits alone
        bench.clock.sleep_until(bench.clock.now() + PERIOD_S)
        if abs(bench.control.motor(1)["angle_rad"]) < 0.3:
            break
    # The boot takes time, which in lockstep passes only as we say; so the bus's own reboot cannot wait for it.
    bench.bus.port.reboot(1)
    bench.clock.sleep_until(bench.clock.now() + 0.5)
    assert bench.bus.read_register(1, "hardware_error_status") == 0
    bench.bus.configure(Mode.POSITION, 0.2)
    bench.bus.activate()
    assert bench.control.motor(1)["torque_enabled"]


def test_a_drive_on_can_moves_and_falls_as_its_joint_driven_directly() -> None:
    """MIT mode: stiffness, damping and feed-forward torque of a DM4310 with a lever."""
    pytest.importorskip("can")
    pytest.importorskip("msgpack")
    kp, kd = 30.0, 1.2
    with emulated("damiao", "DM4310", ids=(1,), arm_kg_m=0.1, inertia_kg_m2=0.05) as drives:
        rig = CanRig(drives, "DM4310", DamiaoCodec(), ids=(1,))
        try:
            rig.bus._reuse_s = 0.0
            rig.bus.connect()
            rig.bus.configure(Mode.IMPEDANCE, 0.2)
            twin = Plant.of_bench([can_row("DM4310", 1)], arm_kg_m=0.1, inertia_kg_m2=0.05)
            twin.data.qpos[:] = drives.control.motor(1)["angle_rad"]
            rig.bus.activate()
            twin.powered[:] = True
            errors = []
            for k in range(150):
                one = np.ones(1)
                sent = rig.bus.write(JointCommand(
                    one * 0.8 * math.sin(k / 15), 0 * one, one * 0.3, one * kp, one * kd, Mode.IMPEDANCE
                )).command  # fmt: skip
                twin.goal[:], twin.goal_velocity[:], twin.tau[:] = sent.q, sent.dq, sent.tau
                twin.kp[:], twin.kd[:] = sent.kp, sent.kd
                rig.advance(0.01)
                twin.advance(twin.time + 0.01)
                state = rig.bus.read()
                errors.append((float(state.q[0] - twin.q[0]), float(state.dq[0] - twin.dq[0])))
            swing = [float(twin.q[0])]
            rig.bus.deactivate()
            twin.powered[:] = False
            for _ in range(50):
                rig.advance(0.01)
                twin.advance(twin.time + 0.01)
                state = rig.bus.read()
                swing.append(float(twin.q[0]))
                errors.append((float(state.q[0] - twin.q[0]), float(state.dq[0] - twin.dq[0])))
            assert rms([q for q, _ in errors]) <= 25 / 65535
            assert rms([dq for _, dq in errors]) <= 60 / 4095
            assert max(swing) - min(swing) > 0.5, "it swings freely"
            assert not drives.control.motor(1)["torque_enabled"]
        finally:
            rig.bus.close()
