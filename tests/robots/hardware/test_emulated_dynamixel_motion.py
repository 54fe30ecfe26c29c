"""What emulated DYNAMIXELs do with their shafts: the plant's own motion, modes, profiles, protection, watchdog."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from emulated_dynamixels import Bench

from cadenza.robots.hardware.emulators.dynamixel_packet import ALERT, Failure, Instruction
from cadenza.robots.hardware.emulators.dynamixel_table import bench_row
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.plant import Plant

TICK = 2 * math.pi / 4096


@pytest.fixture
def arm() -> Iterator[Bench]:
    """A lever of 0.1 kg m (0.98 N m when level)."""
    bench = Bench(arm_kg_m=0.1, inertia_kg_m2=0.05)
    yield bench
    bench.close()


def test_a_step_is_that_of_the_plant_alone(arm: Bench) -> None:
    direct = Plant.of_bench([bench_row("XM430-W350", 1)], arm_kg_m=0.1, inertia_kg_m2=0.05)
    goal = 2048 + 700
    direct.powered[:] = True
    direct.kp[:] = 800 / 128 * 4096 / (2 * math.pi) / 885 * 4.1
    direct.goal[:] = 700 * TICK
    arm.put("torque_enable", 1)
    arm.put("goal_position", goal)
    worst = 0.0
    for k in range(1, 101):
        arm.run(0.01)
        direct.advance(k * 0.01)
        worst = max(worst, abs(arm.get("present_position") - 2048 - direct.q[0] / TICK))
    assert worst <= 0.51, "half a tick of rounding"
    assert abs(arm.get("present_position") - goal) < 60


def test_a_sine_and_a_fall_are_those_of_the_plant_alone(arm: Bench) -> None:
    direct = Plant.of_bench([bench_row("XM430-W350", 1)], arm_kg_m=0.1, inertia_kg_m2=0.05)
    direct.powered[:] = True
    direct.kp[:] = 800 / 128 * 4096 / (2 * math.pi) / 885 * 4.1
    arm.put("torque_enable", 1)
    for k in range(1, 101):
        goal = round(600 * math.sin(2 * math.pi * k / 50))
        if k <= 60:
            arm.put("goal_position", 2048 + goal)
            direct.goal[:] = goal * TICK
        elif k == 61:
            arm.put("torque_enable", 0)
            direct.powered[:] = False
        arm.run(0.02)
        direct.advance(k * 0.02)
        assert abs(arm.get("present_position") - 2048 - direct.q[0] / TICK) <= 0.51
        assert abs(arm.get("present_velocity") - direct.dq[0] / (0.229 * 2 * math.pi / 60)) <= 0.51


def test_a_gain_and_a_pwm_limit_are_those_of_the_manual(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.put("position_p_gain", 400)
    arm.put("goal_pwm", 443)
    arm.run(0.01)
    plant = arm.world.plant
    assert plant.kp[0] == pytest.approx(400 / 128 * 4096 / (2 * math.pi) / 885 * 4.1)
    assert plant.limit_nm[0] == pytest.approx(4.1 * 443 / 885)
    arm.world.set_motor(1, "supply_v", 10.0)
    arm.run(0.01)
    assert plant.limit_nm[0] == pytest.approx(4.1 * 443 / 885 * 10 / 12)
    assert arm.get("present_input_voltage") == 100


def test_torque_off_falls(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.put("goal_position", 2048 + 1024)  # level
    arm.run(2.0)
    before = arm.get("present_position")
    assert before > 2048 + 900
    arm.put("torque_enable", 0)
    arm.run(0.5)
    assert arm.get("present_position") < before - 200
    assert not arm.world.plant.powered[0]


def test_torque_on_holds_where_it_stands(arm: Bench) -> None:
    arm.world.plant.data.qpos[0] = 0.4
    arm.world.steps += 1
    arm.put("torque_enable", 1)
    assert arm.get("goal_position") == arm.get("present_position") == 2048 + round(0.4 / TICK)


def test_velocity_mode_turns_at_that_speed() -> None:
    bench = Bench()
    bench.mode(1)
    bench.put("goal_velocity", 100)
    bench.run(2.0)
    assert abs(bench.get("present_velocity") - 100) <= 2
    assert bench.get("moving") == 1
    bench.put("goal_velocity", -40)
    bench.run(2.0)
    assert abs(bench.get("present_velocity") + 40) <= 2
    bench.close()


def test_pwm_mode_is_a_share_of_the_no_load_speed() -> None:
    bench = Bench()
    bench.mode(16)
    bench.put("goal_pwm", 442)
    bench.run(2.0)
    # Half the voltage: half of 46 rpm, less what 0.03 N m of friction take.
    expected = (442 / 885 * 4.1 - 0.03) / (4.1 / (46 * 2 * math.pi / 60)) / (0.229 * 2 * math.pi / 60)
    assert abs(bench.get("present_velocity") - expected) <= 1
    bench.close()


def test_current_mode_is_a_torque() -> None:
    bench = Bench(inertia_kg_m2=0.05)
    bench.mode(0)
    bench.put("goal_current", 75)
    bench.run(0.3)
    # 75 units are 0.501 N m; less 0.03 N m of friction, on 0.05 + 0.045 kg m^2. Back-EMF does not slow it down.
    assert bench.world.plant.dq[0] == pytest.approx((75 / 149.8 - 0.03) / 0.095 * 0.3, rel=0.02)
    assert abs(bench.get("present_current") - 75) <= 1
    bench.close()


def test_current_based_position_mode_gives_way_at_its_current(arm: Bench) -> None:
    arm.mode(5)
    arm.put("goal_current", round(0.5 * 149.8))
    arm.put("goal_position", 2048 + 1024)
    # 0.5 N m that swing it up from rest: 0.5 a = 0.981 (1 - cos a) at a = 1.12, which is 730 ticks.
    peak = 0
    for _ in range(30):
        arm.run(0.05)
        peak = max(peak, arm.get("present_position") - 2048)
    assert 500 < peak < 740, "0.5 N m do not lift it level"
    arm.put("goal_current", 400)
    arm.run(1.0)
    assert arm.get("present_position") > 2048 + 900


def test_a_profile_takes_the_time_it_says() -> None:
    bench = Bench()
    bench.put("torque_enable", 1)
    bench.put("profile_velocity", 50)  # 11.45 rpm, 781.7 ticks/s
    bench.put("goal_position", 2048 + 1000)
    bench.run(0.64)
    assert bench.get("moving_status") & 0x32 == 0x12, "rectangular, ongoing"
    assert abs(bench.get("present_position") - (2048 + 500)) < 60
    bench.run(1.5)
    assert bench.get("moving_status") & 0x03 == 0x01
    bench.put("profile_acceleration", 20)
    bench.put("goal_position", 2048)
    bench.run(0.3)
    assert bench.get("moving_status") & 0x30 == 0x30
    fastest = 0
    for _ in range(200):
        bench.run(0.01)
        fastest = max(fastest, abs(bench.get("velocity_trajectory")))
    assert fastest == 50
    assert abs(bench.get("present_position") - 2048) <= 2
    bench.close()


def test_a_time_based_profile_takes_the_time_it_says() -> None:
    bench = Bench()
    bench.put("drive_mode", 4)
    bench.put("torque_enable", 1)
    bench.put("profile_acceleration", 300)
    bench.put("profile_velocity", 1000)
    bench.put("goal_position", 2048 + 1000)
    bench.run(0.5)
    assert abs(bench.firmware.profiles.position[0] - 2548) < 6
    bench.run(0.47)
    assert bench.get("moving_status") & 2
    bench.run(0.06)
    assert not bench.get("moving_status") & 2
    bench.close()


# ---------------------------------------------------------------------- protection


def test_a_stall_is_an_overload_and_needs_a_reboot() -> None:
    bench = Bench(arm_kg_m=1.0, inertia_kg_m2=6.0)  # 9.8 N m level: more than it has
    bench.put("torque_enable", 1)
    bench.put("goal_position", 2048 + 1024)
    bench.run(6.0)
    error, status = bench.error_and_value("hardware_error_status")
    assert status & 32
    assert error == ALERT
    assert bench.get("torque_enable") == 0
    assert bench.put("torque_enable", 1) == ALERT | Failure.RESULT
    bench.run(1.0)
    assert bench.get("torque_enable") == 0
    bench.ask(1, Instruction.REBOOT)
    bench.run(1.0)
    assert bench.error_and_value("hardware_error_status") == (0, 0)
    assert bench.put("torque_enable", 1) == 0
    bench.close()


def test_over_heat_takes_torque_off_and_stays(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.world.faults.add(FaultSpec("over_heat", for_s=0.1), arm.world.now_s)
    arm.run(0.05)
    assert arm.get("present_temperature") == 95
    assert arm.get("hardware_error_status") & 4
    arm.run(0.2)
    arm.world.set_motor(1, "temperature_c", 30.0)
    assert (arm.get("torque_enable"), arm.get("hardware_error_status")) == (0, 4)


def test_a_hard_working_servo_warms_up_by_the_winding_model(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.put("goal_position", 2048 + 1024)
    arm.run(1.0)
    arm.world.set_motor(1, "temperature_c", 25.0)
    arm.run(5.0)
    # 0.98 of 4.1 N m for 5 s of a time constant of 300 s; a load of 0.2 ends 55 K above 25 degC.
    expected = 25 + 55 * (0.98 / 4.1 / 0.2) ** 2 * -math.expm1(-5 / 300)
    assert arm.firmware.bank.temperature_c[0] == pytest.approx(expected, abs=0.1)


def test_a_low_supply_is_told_and_a_lower_one_is_a_shock(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.world.set_motor(None, "supply_v", 9.0)
    arm.run(0.01)
    assert arm.error_and_value("hardware_error_status") == (ALERT, 1)
    assert arm.get("torque_enable") == 1, "voltage is not in Shutdown(63) as delivered"
    arm.world.set_motor(None, "supply_v", 6.0)
    arm.run(0.01)
    assert arm.get("hardware_error_status") & 16
    assert arm.get("torque_enable") == 0


def test_a_brown_out_restarts_the_servo(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.put("led", 1)
    arm.world.faults.add(FaultSpec("brown_out", for_s=0.1), arm.world.now_s)
    arm.run(0.05)
    assert arm.send(1, Instruction.PING) == []
    assert not arm.world.plant.powered[0]
    arm.run(0.5)
    assert (arm.get("torque_enable"), arm.get("led")) == (0, 0)


def test_a_stuck_encoder_repeats_itself_and_the_motor_runs_away(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.world.faults.add(FaultSpec("stuck_encoder"), arm.world.now_s)
    arm.put("goal_position", 2048 + 200)
    arm.run(1.0)
    assert (arm.get("present_position"), arm.get("present_velocity")) == (2048, 0)
    assert arm.world.state()["motors"][0]["angle_rad"] > 1.0


def test_overload_and_reboot_faults(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.world.faults.add(FaultSpec("overload", for_s=0.05), arm.world.now_s)
    arm.run(0.05)
    assert arm.get("hardware_error_status") & 32
    arm.world.faults.add(FaultSpec("reboot"), arm.world.now_s)
    arm.run(1.0)
    assert arm.get("hardware_error_status") == 0


# ---------------------------------------------------------------------- watchdog


def test_the_watchdog_trips_when_nothing_is_heard_and_stays_so() -> None:
    bench = Bench()
    bench.mode(1)
    bench.put("goal_velocity", 100)
    bench.put("bus_watchdog", 5)  # 100 ms
    for _ in range(20):
        bench.run(0.09)
        bench.send(7, Instruction.PING)  # any instruction on the wire feeds it
    assert abs(bench.get("present_velocity") - 100) <= 2
    bench.run(0.11)
    assert bench.world.state()["motors"][0]["watchdog"] == {"limit_s": 0.0, "tripped": True}
    bench.run(1.0)
    assert bench.get("bus_watchdog") == 0xFF
    assert bench.get("present_velocity") == 0
    assert bench.put("goal_velocity", 50) == Failure.RANGE
    assert bench.put("bus_watchdog", 5) == Failure.RANGE
    assert bench.put("bus_watchdog", 0) == 0
    bench.run(0.5)
    assert bench.get("present_velocity") == 0, "clearing moves nothing"
    assert bench.put("goal_velocity", 50) == 0
    bench.run(1.0)
    assert abs(bench.get("present_velocity") - 50) <= 2
    bench.close()


def test_a_tripped_position_servo_holds_where_it_was(arm: Bench) -> None:
    arm.put("torque_enable", 1)
    arm.put("bus_watchdog", 2)
    arm.put("goal_position", 2048 + 1000)
    arm.run(0.1)
    stopped = [arm.world.plant.goal[0]]
    arm.run(1.0)
    assert np.allclose(arm.world.plant.goal[0], stopped)
    assert arm.get("present_position") < 2048 + 900
    assert arm.get("torque_enable") == 1


def test_the_watchdog_sleeps_while_torque_is_off() -> None:
    bench = Bench()
    bench.put("bus_watchdog", 2)
    bench.run(1.0)
    assert bench.get("bus_watchdog") == 2
    bench.close()
