from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.sim import SimPort, SimRounding, sim_hardware
from cadenza.robots.hardware.types import Fault, JointCommand, Mode
from cadenza.robots.motors import joint

STEP = 2 * math.pi / 4096
SERVO = joint("lever", "XM430-W350", 1, (-2.0, 2.0), kp=21.1)
DRIVE = joint("lever", "Unitree 7520-14", 1, (-2.0, 2.0))


def bench(
    row: object = SERVO, *, exact: bool = False, arm_kg_m: float = 0.0, inertia: float = 0.002, **options: object
) -> SimPort:
    """One motor on a bench, in a robot's clothes."""
    from cadenza.robots import load_humanoid

    robot = replace(load_humanoid("op3"), joints=(row,))  # type: ignore[arg-type]
    plant = Plant.of_joint(row, arm_kg_m=arm_kg_m, inertia_kg_m2=inertia)  # type: ignore[arg-type]
    rounding = SimRounding.exact(robot) if exact else None
    return SimPort(robot, plant, VirtualClock(), rounding=rounding, imu=False, **options)  # type: ignore[arg-type]


def on(port: SimPort, watchdog_s: float = 0.2) -> SimPort:
    port.connect()
    port.configure(Mode.IMPEDANCE if Mode.IMPEDANCE in port.capabilities.modes else Mode.POSITION, watchdog_s)
    port.activate()
    return port


def goal(q: float, kp: float = 21.1, kd: float = 0.0, mode: Mode = Mode.POSITION) -> JointCommand:
    command = JointCommand.hold(np.array([q]), kp, kd)
    command.mode = mode
    return command


def tick(port: SimPort, seconds: float = 0.02) -> None:
    port.clock.sleep_until(port.clock.now() + seconds)


def test_connecting_and_configuring_leave_the_shaft_free() -> None:
    port = bench(arm_kg_m=0.02)
    port.plant.data.qpos[0] = 1.0
    port.connect()
    port.configure(Mode.POSITION, 0.2)
    assert not port.plant.powered.any()
    with pytest.raises(HardwareError, match="Torque is off"):
        port.write(goal(0.0))
    tick(port, 0.5)
    assert port.read().joints.q[0] < 1.0, "it falls"


def test_goals_angles_and_gains_are_rounded_as_on_the_wire() -> None:
    port = on(bench())
    # 21.1 N m/rad: a unit of the P gain is 4.1 * 4096 / (128 * 2 pi * 885) = 0.0235924, so 894.
    unit = 4.1 * 4096 / (128 * 2 * math.pi * 885)
    assert round(21.1 / unit) == 894
    assert port.plant.kp[0] == pytest.approx(894 * unit)
    sent = port.write(goal(0.1, kp=10.0))
    assert sent.command.kp[0] == pytest.approx(424 * unit)  # 423.9
    assert port.plant.kp[0] == 424 / 128 * 4096 / (2 * math.pi) / 885 * 4.1, "to the last bit of the emulated firmware"
    assert sent.command.q[0] == pytest.approx(65 * STEP)  # 0.1 rad are 65.19 steps
    assert np.isnan(sent.command.kd[0]), "a position servo has no register for it"
    assert port.plant.goal[0] == sent.command.q[0]
    port.plant.data.qpos[0], port.plant.data.qvel[0] = 0.1, 0.1
    joints = port.read().joints
    assert joints.q[0] == pytest.approx(65 * STEP)
    rpm = 0.229 * 2 * math.pi / 60
    assert joints.dq[0] == pytest.approx(4 * rpm)  # 0.1 rad/s are 4.17 units


def test_a_feetech_servo_keeps_the_gain_it_was_configured_with() -> None:
    port = on(bench(joint("lever", "STS3215-12V", 1, (-2.0, 2.0))))
    before = port.plant.kp[0]
    sent = port.write(goal(0.1, kp=1.0))
    assert port.plant.kp[0] == before == pytest.approx(32 * 0.166 * 2.94)
    assert np.isnan(sent.command.kp[0])


def test_goals_end_at_the_limits_in_the_motor() -> None:
    port = on(bench())
    assert port.write(goal(3.0)).command.q[0] == pytest.approx(1303 * STEP)  # 2 rad are 1303.8 steps
    assert port.write(goal(-3.0)).command.q[0] == pytest.approx(-1303 * STEP)


def test_angles_are_rounded_about_the_motors_zero() -> None:
    port = on(bench(replace(SERVO, zero_rad=0.0005)))
    assert port.write(goal(0.1)).command.q[0] == pytest.approx(0.0005 + 65 * STEP)


def test_nothing_is_rounded_where_asked_for() -> None:
    port = on(bench(exact=True))
    assert port.write(goal(0.1)).command.q[0] == 0.1
    assert port.plant.kp[0] == 21.1


def test_the_supply_scales_a_servos_torque_and_gain() -> None:
    weak, strong = on(bench(supply_v=10.0, exact=True)), on(bench(exact=True))
    assert weak.plant.limit_nm[0] == pytest.approx(4.1 * 10 / 12)
    assert weak.plant.kp[0] / strong.plant.kp[0] == pytest.approx(10 / 12)
    assert weak.read().joints.voltage[0] == 10.0
    drive = on(bench(DRIVE, supply_v=40.0, exact=True))
    assert drive.plant.limit_nm[0] == DRIVE.torque_nm, "a drive regulates current"


def test_a_drive_obeys_the_whole_tuple_and_a_servo_its_position_alone() -> None:
    port = on(bench(DRIVE, exact=True))
    command = JointCommand(*(np.array([value]) for value in (0.3, 1.0, 2.0, 50.0, 3.0)), Mode.IMPEDANCE)
    port.write(command)
    plant = port.plant
    got = [plant.goal[0], plant.goal_velocity[0], plant.tau[0], plant.kp[0], plant.kd[0]]
    assert got == [0.3, 1.0, 2.0, 50.0, 3.0]
    port.write(replace(command, mode=Mode.DAMP))
    assert (plant.kp[0], plant.kd[0]) == (0.0, 3.0)
    with pytest.raises(HardwareError, match="mode impedance"):
        on(bench()).write(goal(0.0, mode=Mode.IMPEDANCE))


def test_it_moves_as_the_plant_driven_directly() -> None:
    port = on(bench(exact=True, arm_kg_m=0.01))
    alone = Plant.of_joint(SERVO, arm_kg_m=0.01)
    alone.powered[:] = True
    for k in range(200):
        target = 0.5 * math.sin(k / 10)
        assert port.read().joints.q[0] == alone.q[0]
        port.write(goal(target))
        tick(port)
        alone.goal[0] = target
        alone.advance(port.clock.now())
    assert abs(alone.q[0]) > 0.05


def test_its_watchdog_stops_the_motor_where_it_is_and_stays_latched() -> None:
    port = on(bench(exact=True), watchdog_s=0.1)
    port.write(goal(1.5))
    tick(port, 0.1)
    moving = port.plant.q[0]
    assert 0.02 < moving < 1.0
    tick(port, 1.0)
    stopped = port.read().joints
    assert stopped.q[0] < moving + 0.1, "it did not go on to 1.5 rad"
    assert stopped.fault[0] & Fault.COMMUNICATION_LOST
    sent = port.write(goal(1.5))
    assert not sent.delivered
    tick(port, 0.05)
    assert port.plant.q[0] == pytest.approx(stopped.q[0], abs=0.01), "writing again clears nothing"
    port.deactivate()
    with pytest.raises(HardwareError, match="fault"):
        port.activate()
    port.clear_faults()
    port.activate()
    assert port.write(goal(1.5)).delivered


def test_writing_in_time_keeps_the_watchdog_quiet() -> None:
    port = on(bench(), watchdog_s=0.1)
    for _ in range(50):
        port.write(goal(0.0))
        tick(port, 0.099)
    assert not port.read().joints.fault.any()


def test_a_motor_under_load_warms_up_and_shuts_down_at_its_own_limit() -> None:
    port = on(bench(arm_kg_m=0.02), watchdog_s=10.0)
    assert port.read().joints.temperature[0] == 25
    port.plant.limit_nm[:] = 4.1
    port.faults.temperature_c["lever"] = 79.0
    port.write(goal(0.0))
    tick(port)
    assert not port.read().joints.fault.any()
    port.faults.temperature_c["lever"] = 80.0
    tick(port)
    joints = port.read().joints
    assert joints.fault[0] == Fault.OVERHEATED
    assert joints.temperature[0] == 80
    assert not port.plant.powered.any()


def test_heat_follows_the_winding_model() -> None:
    port = on(bench(exact=True, inertia=1e6), watchdog_s=100.0)  # so heavy that the motor stalls
    for _ in range(250):
        port.write(goal(1.9))
        tick(port)
    # 5 s at the stall torque: 25 times the loss of the rated one, which ends 55 K above the surroundings.
    assert port.read().joints.temperature[0] - 25 == pytest.approx(25 * 55 * (1 - math.exp(-5 / 300)), rel=1e-3)


def test_a_mute_motor_keeps_its_last_sample_which_ages() -> None:
    port = on(bench(exact=True))
    first = port.read().joints
    assert first.age[0] == 0.0
    port.faults.mute.add("lever")
    port.plant.data.qpos[0] = 0.5
    tick(port, 0.06)
    port.write(goal(1.0))
    joints = port.read().joints
    assert joints.q[0] == first.q[0]
    assert joints.age[0] == pytest.approx(0.06)
    assert joints.fault[0] == Fault.SILENT
    assert port.plant.goal[0] == first.q[0], "it does not hear commands either"
    port.faults.mute.clear()
    assert port.read().joints.q[0] == port.plant.q[0]


def test_other_faults_on_demand() -> None:
    port = on(bench(exact=True))
    port.read()
    port.faults.nan.add("lever")
    assert np.isnan(port.read().joints.q[0])
    port.faults.nan.clear()
    port.faults.frozen.add("lever")
    port.plant.data.qpos[0] = 0.4
    assert port.read().joints.q[0] == 0.0
    assert port.read().joints.age[0] == 0.0
    port.faults.bits["lever"] = Fault.OVERLOAD
    assert port.read().joints.fault[0] == Fault.OVERLOAD
    port.faults.supply_v = 9.1
    assert port.read().joints.voltage[0] == 9.1
    port.faults.unplugged = True
    for act in (port.read, port.deactivate, lambda: port.write(goal(0.0))):
        with pytest.raises(HardwareError, match="unplugged"):
            act()
    port.close()


def test_a_command_that_is_not_finite_is_refused_by_the_port_too() -> None:
    port = on(bench())
    with pytest.raises(HardwareError, match="not finite"):
        port.write(goal(math.nan))


# ---------------------------------------------------------------------- a whole robot


def run(hardware: RobotHardware, ticks: int, command: JointCommand | None = None) -> None:
    for _ in range(ticks):
        hardware.read()
        hardware.step(command)
        hardware.clock.sleep_until(hardware.clock.now() + 0.02)


def standing(op3: LeggedRobot, **options: object) -> tuple[RobotHardware, SimPort]:
    hardware = sim_hardware(op3, homing_s=1.0, **options)  # type: ignore[arg-type]
    hardware.connect()
    hardware.configure()
    hardware.start_up()
    while not hardware.homed:
        run(hardware, 1)
    hardware.release()
    port = hardware._port
    assert isinstance(port, SimPort)
    return hardware, port


def home(hardware: RobotHardware) -> JointCommand:
    return JointCommand.hold(hardware.home, 21.1)


def test_an_op3_goes_home_stands_and_stops(op3: LeggedRobot) -> None:
    hardware, port = standing(op3)
    run(hardware, 50, home(hardware))
    assert hardware.lifecycle == Lifecycle.ACTIVE
    assert np.abs(hardware.supervisor.monitor.q - hardware.home).max() < 0.1
    assert hardware.reading is not None
    assert hardware.reading.imu is not None
    assert hardware.reading.imu.gravity[2] < -0.95
    hardware.stop(1)
    while hardware.powered:
        run(hardware, 1)
        if hardware.powered:
            still = np.abs(port.plant.dq).max()
    assert still < 0.15, "at rest before torque went off"
    assert not port.plant.powered.any()


def test_the_inertial_unit_speaks_in_its_own_steps(op3: LeggedRobot) -> None:
    hardware, port = standing(op3)
    run(hardware, 10, home(hardware))
    reading = hardware.read()
    assert reading.imu is not None
    gravity = reading.imu.gravity
    assert np.linalg.norm(gravity) == pytest.approx(1.0)
    pitch, roll = math.degrees(math.asin(gravity[0])), math.degrees(math.atan2(-gravity[1], -gravity[2]))
    assert pitch * 10 == pytest.approx(round(pitch * 10), abs=1e-6)
    assert roll * 10 == pytest.approx(round(roll * 10), abs=1e-6)
    true = port.plant.imu()[1]
    assert np.abs(true - gravity).max() < math.radians(0.1)
    counts = reading.imu.gyro / math.radians(2000 / 32800)
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)


def test_the_same_run_twice_is_the_same_run(op3: LeggedRobot) -> None:
    ends = []
    for _ in range(2):
        hardware, port = standing(op3)
        run(hardware, 30, home(hardware))
        ends.append(port.plant.data.qpos.copy())
    np.testing.assert_array_equal(ends[0], ends[1])


def test_a_mute_servo_stops_the_robot_by_category_1(op3: LeggedRobot) -> None:
    hardware, port = standing(op3)
    port.faults.mute.add("r_knee")
    start = hardware.clock.now()
    while hardware.lifecycle == Lifecycle.ACTIVE:
        run(hardware, 1, home(hardware))
    assert hardware.clock.now() - start == pytest.approx(0.08, abs=0.021)  # coasts three ticks
    while hardware.powered:
        run(hardware, 1)
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "r_knee (silent)" in hardware.reason


def test_a_robot_hung_head_down_is_not_switched_on_and_one_outside_its_limits_neither(op3: LeggedRobot) -> None:
    hardware = sim_hardware(op3, hung_up=True)
    hardware.connect()
    hardware.configure()
    port = hardware._port
    assert isinstance(port, SimPort)
    knee = op3.joint_names.index("r_knee")
    port.plant.data.qpos[port.plant._q[knee]] = math.radians(-155)
    with pytest.raises(RefusedError, match=r"r_knee at -15\d"):
        hardware.start_up()
    assert not port.plant.powered.any()
    port.plant.data.qpos[port.plant._q[knee]] = 0.0
    port.faults.gravity = (0.0, 0.0, 1.0)
    with pytest.raises(RefusedError, match="leans"):
        hardware.start_up()


def test_start_up_from_fifty_random_poses(op3: LeggedRobot) -> None:
    """Hung in the air, limp; within its limits it goes home in small steps, outside it is refused."""
    rng = np.random.default_rng(7)
    plant = Plant.of_robot(op3, hung_up=True)
    hardware = sim_hardware(op3, plant=plant, homing_s=0.6)
    port = hardware._port
    assert isinstance(port, SimPort)
    hardware.connect()
    hardware.configure(prove_watchdog=False)
    low, high = hardware.limits.hard_low_rad, hardware.limits.hard_high_rad
    refused = 0
    for trial in range(50):
        outside = trial % 3 == 0
        middle, half = (low + high) / 2, (high - low) / 2
        q = middle + rng.uniform(-0.6, 0.6, 20) * half
        if outside:
            q[trial % 20] = high[trial % 20] + 0.05
        plant.data.qpos[plant._q], plant.data.qvel[:] = q, 0.0
        for _ in range(4):  # somebody turned the joints by hand meanwhile
            hardware.clock.sleep_until(hardware.clock.now() + 2.0)
            plant.data.qpos[plant._q], plant.data.qvel[:] = q, 0.0
            hardware.read()
        if outside:
            with pytest.raises(RefusedError, match="beyond its limits"):
                hardware.start_up()
            assert not plant.powered.any()
            refused += 1
            continue
        port.written = []
        hardware.start_up()
        for _ in range(100):
            run(hardware, 1)
            if hardware.homed:
                break
        else:
            raise AssertionError(f"{hardware.lifecycle}: {hardware.reason}")
        sent = np.array([command.q for command in port.written])
        assert np.abs(sent[0] - q).max() < 0.02 + hardware.limits.slew_rad_s.max() * 0.02
        assert (np.abs(np.diff(sent, axis=0)) <= hardware.limits.slew_rad_s * 0.02 + 1e-9).all()
        hardware.stop(0)
    assert refused == 17
    hardware.close()


def test_a_closed_simulation_no_longer_follows_the_clock() -> None:
    port = on(bench())
    port.detach()
    tick(port, 1.0)
    assert port.plant.time == 0.0


# ---------------------------------------------------------------------- against the wire


def drive(port: JointPort, robot: LeggedRobot, start_s: float, ticks: int) -> tuple[np.ndarray, float]:
    """Readings, (ticks, 86), of a run in closed loop: the next target depends on the last reading."""
    rows = []
    with RobotHardware(port, robot, homing_s=0.4) as hardware:
        hardware.connect()
        hardware.configure(prove_watchdog=False)
        start_s = max(start_s, hardware.clock.now())
        hardware.clock.sleep_until(start_s)
        hardware.start_up()
        kp = np.array([row.kp for row in robot.joints])
        rng = np.random.default_rng(3)
        while len(rows) < ticks:
            reading = hardware.read()
            joints, imu = reading.joints, reading.imu
            assert imu is not None
            rows.append(np.concatenate([joints.q, joints.dq, joints.tau, joints.voltage, imu.gyro, imu.gravity]))
            if hardware.homed:
                hardware.release()
            wave = 0.15 * np.sin(len(rows) / 8 + np.arange(20)) + 0.02 * rng.standard_normal(20)
            back = 0.1 * (joints.q - hardware.home) + 0.01 * joints.dq
            hardware.step(JointCommand.hold(hardware.home + wave - back, kp))
            hardware.clock.sleep_until(hardware.clock.now() + 0.02)
        assert hardware.lifecycle == Lifecycle.ACTIVE
    return np.array(rows), start_s


@pytest.mark.parametrize("ticks", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_simulation_and_wire_say_the_same_in_lockstep(op3: LeggedRobot, ticks: int) -> None:
    """A whole OP3, hung up: through the vendor's SDK and emulated servos in another process, and directly."""
    pytest.importorskip("dynamixel_sdk", reason="the DYNAMIXEL SDK is not installed (extra dynamixel)")
    from cadenza.controllers.rigs import open_rig

    with open_rig("emulated", op3, lockstep=True, hung_up=True) as rig:
        wire, start_s = drive(rig.port, op3, 0.0, ticks)
    plant = Plant.of_robot(op3, hung_up=True)
    direct, _ = drive(SimPort(op3, plant, VirtualClock()), op3, start_s, ticks)
    assert np.ptp(wire[:, :20], axis=0).min() > 0.1, "all joints moved"
    count = np.repeat([STEP, 0.229 * math.pi / 30, 1 / 149.8, 0.1], 20)
    steps = np.concatenate([count, np.full(3, math.radians(2000 / 32800)), np.full(3, math.radians(0.1))])
    apart = np.abs(wire - direct).max(axis=0) / steps
    assert apart.max() <= 1.0 + 1e-6
    assert apart[:40].max() < 1e-6, "angles and speeds not even by one step"
