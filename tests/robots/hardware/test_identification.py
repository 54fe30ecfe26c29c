"""System identification: what is sent is safe, and an emulator's hidden parameters come out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza.robots import load_humanoid
from cadenza.robots.hardware import identification
from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.emulators.feetech import bench_row, build
from cadenza.robots.hardware.emulators.launch import Order
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.feetech.bus import FeetechBus
from cadenza.robots.hardware.feetech.port import serial_port
from cadenza.robots.hardware.feetech.settings import Setup
from cadenza.robots.hardware.identification import Excitation, Limits, Load, Recording, limb_load, plan, powered, record
from cadenza.robots.hardware.identification_fit import NAMES, Conditions, as_json, fit, simulate
from cadenza.robots.motors import MOTORS, joint

MOTOR = "STS3215-12V"
STALL = MOTORS[MOTOR].peak_torque_nm
BACK_EMF = STALL / MOTORS[MOTOR].no_load_speed_rad_s
ROW = bench_row(MOTOR, 1)

# ---------------------------------------------------------------------- what is sent


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(["chirp", "steps", "sines"]),
    duration_s=st.floats(3.0, 20.0),
    high_hz=st.floats(0.5, 20.0),
    amplitude=st.floats(0.02, 1.0),
    step=st.floats(0.01, 0.4),
    speed=st.floats(0.2, 8.0),
    seed=st.integers(0, 1000),
)
def test_no_plan_passes_its_limits(
    shape: Any, duration_s: float, high_hz: float, amplitude: float, step: float, speed: float, seed: int
) -> None:
    limits = Limits(amplitude, step, speed)
    period = 0.002
    times = np.arange(0.0, duration_s, period)
    wave = Excitation(shape, duration_s, 0.2, high_hz, seed).offsets(times, limits)
    assert np.all(np.abs(wave) <= amplitude + 1e-9)
    assert wave[0] == 0.0
    jumps = np.abs(np.diff(wave))
    if shape == "steps":
        assert jumps.max() <= 2 * min(step, amplitude) + 1e-9
        assert np.count_nonzero(jumps) <= duration_s / 0.7 + 1
    else:
        # The amplitude is the speed limit over the rate; only ramps and the changing amplitude add to it.
        ramp = 1.5 * amplitude
        assert jumps.max() / period <= 2 * speed + ramp + 0.3
    if shape != "steps":
        assert abs(wave[-1]) < 0.02 * amplitude + speed * period


def test_a_plan_beyond_the_soft_limits_is_refused_with_the_numbers() -> None:
    limits = Limits(amplitude_rad=0.3, position_rad=(-1.0, 1.0))
    chirp = Excitation("chirp", 5.0)
    assert np.all(np.abs(plan(chirp, 0.6, 0.01, limits)) < 0.95)
    with pytest.raises(RefusedError, match=r"From 43\.0 deg"):
        plan(chirp, 0.75, 0.01, limits)
    with pytest.raises(RefusedError):
        plan(chirp, math.nan, 0.01, limits)


@pytest.mark.parametrize(("name", "value"), [("amplitude_rad", 9.0), ("step_rad", 0.0), ("speed_rad_s", math.nan)])
def test_absurd_limits_are_refused(name: str, value: float) -> None:
    with pytest.raises(HardwareError, match=name):
        Limits(**{name: value})


# ---------------------------------------------------------------------- on an emulated servo


class Bench:
    def __init__(self, *, truth: dict[str, float] | None = None, gain: float = 1.0, load: Load | None = None):
        load = load or Load(0.002)
        self.load = load
        self.world = build(
            Order(
                "feetech",
                ids=(1, 2),
                lockstep=True,
                plant=truth or {},
                more={"gain": gain},
                arm_kg_m=load.arm_kg_m,
                inertia_kg_m2=load.inertia_kg_m2,
            )
        )
        self.world.start()
        self.clock = VirtualClock()
        self.clock.followers.append(self.world.advance)
        rows = [MotorSettings(f"m{i}", i, MOTOR, STALL, 50.0, (-3.0, 3.0), ROW.kp, ROW.kd) for i in (1, 2)]
        port = serial_port(self.world.wires[0].address, margin_s=1.0)
        self.bus = FeetechBus(port, rows, clock=self.clock, setup=Setup(acceleration=0, torque_share=1.0))
        self.bus.connect()

    def powered(self) -> bool:
        return any(motor["torque_enabled"] for motor in self.world.state()["motors"])

    def stop(self) -> None:
        self.bus.close()
        self.world.stop()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.stop()


def test_only_the_one_motor_moves_and_torque_is_off_afterwards(bench: Bench) -> None:
    with powered(bench.bus):
        found = record(bench.bus, 0, Excitation("chirp", 3.0), Limits(), bench.clock, 0.02)
        other = bench.world.state()["motors"][1]["angle_rad"]
    assert not bench.powered()
    assert np.ptp(found.q) > 0.2
    assert abs(other) < 0.003
    assert found.lost == 0
    np.testing.assert_allclose(np.diff(found.sent_s), 0.02, atol=1e-9)
    assert found.supply_v == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("kind", "reason"), [("over_heat", "OVERHEATED"), ("overload", "OVERLOAD"), ("mute", "no sample for 6 ticks")]
)
def test_a_fault_breaks_it_off_with_torque_off(bench: Bench, kind: str, reason: str) -> None:
    bench.bus.port.margin_s = 0.05
    with bench.world.lock:
        bench.world.faults.add(FaultSpec(kind, at_s=bench.world.now_s + 1.2, devices=(1,)), bench.world.now_s)
    with pytest.raises(HardwareError) as caught, powered(bench.bus):
        record(bench.bus, 0, Excitation("chirp", 3.0), Limits(), bench.clock, 0.02)
    text = f"{caught.value} {caught.value.__context__}"
    assert reason in text
    with bench.world.lock:
        bench.world.faults.clear()
    bench.clock.sleep_until(bench.clock.now() + 0.1)
    assert not bench.powered()


def test_lost_packets_leave_gaps_and_not_wrong_samples(bench: Bench) -> None:
    bench.bus.port.margin_s = 0.01
    with powered(bench.bus):
        with bench.world.lock:
            bench.world.faults.add(FaultSpec("drop", share=0.1, way="reply", devices=(1,)), bench.world.now_s)
        found = record(bench.bus, 0, Excitation("sines", 3.0), Limits(), bench.clock, 0.02)
        bench.world.faults.clear()
    assert found.lost > 3
    assert np.all(np.diff(found.seen_s) > 0.01)
    assert np.all(np.abs(np.diff(found.q)) < 0.2)


def identify(bench: Bench, scale: Any, duration_s: float = 4.0) -> Any:
    runs, test = identification.usual_runs(duration_s, seed=0)
    with powered(bench.bus):
        made = [record(bench.bus, 0, one, Limits(), bench.clock, 0.02) for one in (*runs, test)]
    conditions = Conditions(ROW, bench.load, STALL, scale, BACK_EMF)
    return fit(conditions, made[:2], made[2]), conditions


TRUTH = {"armature": 0.035, "friction_nm": 0.08, "kd": 0.8}


@pytest.mark.parametrize(
    ("scale", "load"),
    [("weight", Load(0.02, 0.05)), pytest.param("torque", Load(0.002), marks=pytest.mark.slow)],
)
def test_hidden_parameters_come_out_within_10_percent(scale: Any, load: Load) -> None:
    bench = Bench(truth=TRUTH, gain=1.2, load=load)
    try:
        result, conditions = identify(bench, scale)
    finally:
        bench.stop()
    truth = {**TRUTH, "kp": 1.2 * ROW.kp}
    for name in NAMES:
        assert result.estimates[name].value == pytest.approx(truth[name], rel=0.10), name
        assert result.estimates[name].low < result.estimates[name].value < result.estimates[name].high
        assert abs(result.estimates[name].guess / truth[name] - 1) > 0.10, "the table must not know it already"
    # An encoder step of 1.53 mrad leaves 0.44 mrad rms of rounding.
    assert result.held_out_rms_rad < 0.001
    assert result.held_out_guess_rms_rad > 0.002
    written = json.loads(json.dumps(as_json(result, conditions)))
    better = dataclasses.replace(ROW, **written["row"])
    assert better.armature == pytest.approx(0.035, rel=0.1)
    assert joint("x", MOTOR, 1, (-1, 1), **written["row"]).kp == better.kp


# ---------------------------------------------------------------------- arithmetic


def made_up(q: np.ndarray, tau: float = 0.0) -> Recording:
    n = len(q)
    times = 0.02 * np.arange(n)
    return Recording("chirp", times, np.zeros(n), times, q, np.zeros(n), np.full(n, tau), 12.0)


def test_what_cannot_be_fitted_is_said() -> None:
    conditions = Conditions(ROW, Load(0.002), STALL)
    with pytest.raises(HardwareError, match="too few"):
        fit(conditions, [made_up(np.zeros(5))])
    with pytest.raises(HardwareError, match="moved by"):
        fit(conditions, [made_up(np.zeros(100))])
    moved = np.linspace(0, 0.3, 100)
    with pytest.raises(HardwareError, match="no torque"):
        fit(conditions, [made_up(moved, math.nan)])
    with pytest.raises(HardwareError, match="No weight"):
        fit(dataclasses.replace(conditions, scale="weight"), [made_up(moved)])


def test_a_lever_at_rest_sags_by_weight_over_gain() -> None:
    """Torque of gravity 0.3 N m at 90 deg from hanging, kp 15: 20 mrad, on whichever side the lever hangs."""
    n = 200
    times = 0.02 * np.arange(n)
    still = Recording("steps", times, np.zeros(n), times, np.zeros(n), np.zeros(n), np.zeros(n), 12.0)
    values = np.array([0.03, 1e-4, 0.6, 15.0, 0.0])
    for hangs, sag in ((-math.pi / 2, -0.02), (math.pi / 2, 0.02), (0.0, 0.0)):
        load = Load(0.002, 0.3 / 9.81, hangs)
        q, tau = simulate(Conditions(ROW, load, STALL), values, still)
        assert q[-1] == pytest.approx(sag, abs=5e-4)
        assert tau[-1] == pytest.approx(-15.0 * sag, abs=0.01)


def test_the_limb_of_a_robot_weighs_what_its_model_says() -> None:
    op3 = load_humanoid("op3")
    pose = {row.name: 0.0 for row in op3.joints}
    leg = limb_load(op3, "r_hip_pitch", pose)
    shank = limb_load(op3, "r_knee", pose)
    pan = limb_load(op3, "head_pan", pose)
    assert leg.inertia_kg_m2 > shank.inertia_kg_m2 > pan.inertia_kg_m2 > 0
    # Straight legs hang down: within a few degrees, for the centre of a foot lies a little before the ankle.
    assert abs(leg.hangs_at_rad) < 0.15
    assert pan.arm_kg_m < 0.002  # an upright axis carries no weight
    turned = limb_load(op3, "r_knee", {**pose, "r_hip_pitch": 0.5})
    assert turned.inertia_kg_m2 == pytest.approx(shank.inertia_kg_m2, rel=1e-6)
    assert abs(turned.hangs_at_rad - shank.hangs_at_rad) == pytest.approx(0.5, abs=1e-3)
