"""Worlds: time in lockstep and in real time, who ticks when, what the truth looks like."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cadenza.robots.hardware.emulators.dynamixel_table import bench_row
from cadenza.robots.hardware.emulators.servo import ServoBank
from cadenza.robots.hardware.emulators.world import ByteLog, World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant


class Clockwork:
    """Notes when it ticks."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def tick(self, now_s: float, dt_s: float) -> None:
        self.ticks.append(now_s)

    def motors(self) -> list[dict[str, Any]]:
        return [{"bus_id": 7}]

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        return bus_id == 7


def bench(count: int = 1, **options: Any) -> Plant:
    return Plant.of_bench([bench_row("XM430-W350", i + 1) for i in range(count)], **options)


def test_lockstep_ticks_once_before_each_physics_step() -> None:
    world, clockwork = World(bench(), lockstep=True), Clockwork()
    world.add(clockwork)
    world.advance(0.0105)
    assert len(clockwork.ticks) == 10
    assert clockwork.ticks == pytest.approx([i / 1000 for i in range(10)])
    assert world.now_s == 0.0105
    assert world.plant.time == pytest.approx(0.010)
    world.advance(0.011)
    assert len(clockwork.ticks) == 11


def test_many_small_advances_are_one_large_one() -> None:
    def fall(steps: int) -> float:
        world = World(bench(arm_kg_m=0.05), lockstep=True)
        world.plant.data.qpos[0] = 1.0
        for k in range(1, steps + 1):
            world.advance(0.3 * k / steps)
        return float(world.plant.q[0])

    assert fall(1) == fall(3) == fall(100)


@pytest.mark.parametrize("until", [-1.0, float("nan"), float("inf")])
def test_time_only_moves_on(until: float) -> None:
    world = World(bench(), lockstep=True)
    world.advance(0.1)
    with pytest.raises(HardwareError, match=r"0\.1"):
        world.advance(until)


def test_real_time_keeps_up_with_the_wall_clock() -> None:
    world, clockwork = World(bench()), Clockwork()
    world.add(clockwork)
    world.start()
    deadline = time.monotonic() + 20
    while world.now_s < 0.05 and time.monotonic() < deadline:
        time.sleep(0.01)
    world.stop()
    done = world.now_s
    assert done >= 0.05
    time.sleep(0.05)
    assert world.now_s == done, "stopped is stopped"
    assert len(clockwork.ticks) == world.steps
    world.stop()


def test_state_lists_motors_and_only_robots_have_a_height() -> None:
    world = World(bench(), lockstep=True)
    world.add(Clockwork())
    state = world.state()
    assert state["motors"] == [{"bus_id": 7}]
    assert "base_height_m" not in state
    assert (state["time_s"], state["behind_s"], state["lockstep"], state["held"]) == (0.0, 0.0, True, False)


def test_setting_names_a_device_that_exists_and_a_finite_value() -> None:
    world = World(bench(), lockstep=True)
    world.add(Clockwork())
    world.set_motor(7, "supply_v", 11.0)
    with pytest.raises(HardwareError, match="8"):
        world.set_motor(8, "supply_v", 11.0)
    with pytest.raises(HardwareError, match="nan"):
        world.set_motor(None, "supply_v", float("nan"))
    with pytest.raises(HardwareError, match="holds"):
        world.release()


def test_a_bench_has_nothing_to_hold() -> None:
    with pytest.raises(HardwareError, match="no free base"):
        World(bench(), held=True)


def test_the_log_counts_on_and_forgets_the_oldest() -> None:
    log = ByteLog()
    for i in range(10):
        log.add(i / 10, "in", "serial", bytes([i]))
    assert [entry.number for entry in log.since(7)] == [7, 8, 9]
    assert [entry.data for entry in log.since(0, most=2)] == [b"\0", b"\1"]
    assert log.since(10) == []
    assert log.since(3)[0].to_json() == {"number": 3, "at_s": 0.3, "way": "in", "wire": "serial", "data": "03"}


def test_a_bank_stands_on_the_motors_side_of_sign_and_zero() -> None:
    import dataclasses

    row = dataclasses.replace(bench_row("XM430-W350", 1), sign=-1, zero_rad=0.25)
    world = World(Plant.of_bench([row]), lockstep=True)
    bank = ServoBank(world)
    world.plant.data.qpos[0], world.plant.data.qvel[0] = 0.75, 2.0
    assert bank.angle_rad[0] == pytest.approx(-0.5)  # motor = sign (joint - zero)
    assert bank.velocity_rad_s[0] == -2.0
    bank.command(bank.angle_rad + 0.1, kp=bank.stall_nm, limit_nm=bank.stall_nm)
    assert world.plant.goal[0] == pytest.approx(0.65)


def test_a_bank_without_supply_has_no_power() -> None:
    world = World(bench(2), lockstep=True)
    bank = ServoBank(world)
    bank.power(bank.rows >= 0)
    assert world.plant.powered.all()
    bank.switched_on[1] = False
    assert bank.tick(0.0, 0.001) == []
    assert list(world.plant.powered) == [True, False]
    assert list(bank.supply_v) == [12.0, 0.0]
    bank.switched_on[1] = True
    assert bank.tick(0.0, 0.001) == [1], "restarts when its supply is back"
    assert list(world.plant.powered) == [True, False]
