from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from cadenza.robots import humanoid_names, load_humanoid
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.limits import (
    JointLimits,
    LimitRules,
    ObservationBounds,
    ObservationGuard,
    device_limit_c,
    lowered,
)

OP3 = load_humanoid("op3")
KNEE = OP3.joint_names.index("r_knee")


def test_limits_of_an_op3_knee_by_hand() -> None:
    limits = JointLimits.for_robot(OP3)
    assert math.degrees(limits.hard_low_rad[KNEE]) == pytest.approx(-148)
    assert math.degrees(limits.soft_low_rad[KNEE]) == pytest.approx(-145)
    assert math.degrees(limits.soft_high_rad[KNEE]) == pytest.approx(132)
    no_load = 46 * 2 * math.pi / 60
    assert limits.velocity_rad_s[KNEE] == pytest.approx(no_load)
    assert limits.slew_rad_s[KNEE] == pytest.approx(3 * no_load)  # 14.45; a full action in 20 ms would be 15
    assert limits.torque_nm[KNEE] == 4.1
    assert limits.self_limited[KNEE], "a servo at its stall torque cannot exceed it"
    assert (limits.warn_c[KNEE], limits.derate_c[KNEE], limits.stop_c[KNEE]) == (60, 65, 75)
    assert (limits.low_v[KNEE], limits.high_v[KNEE]) == (10.0, 14.8)


@pytest.mark.parametrize("name", humanoid_names())
def test_every_robot_may_stand_at_home_and_stops_below_its_motors_own_limits(name: str) -> None:
    robot = load_humanoid(name)
    limits = JointLimits.for_robot(robot)
    home = np.array([row.home_rad for row in robot.joints])
    assert (limits.soft_low_rad <= home).all()
    assert (home <= limits.soft_high_rad).all()
    assert (limits.slew_rad_s * 0.02 <= robot.action_scale + 1e-12).all()
    device = np.array([device_limit_c(row.motor) for row in robot.joints])
    assert (limits.warn_c < limits.derate_c).all()
    assert (limits.derate_c < limits.stop_c).all()
    assert (limits.stop_c < device).all()
    assert limits.safe


def test_the_margin_gives_way_to_a_home_pose_near_the_stop() -> None:
    limits = JointLimits.for_robot(OP3, LimitRules(margin_rad=math.radians(100)))
    assert math.degrees(limits.soft_low_rad[KNEE]) == pytest.approx(-66), "the home pose itself"


def test_feetech_servos_stop_below_70_degrees() -> None:
    assert device_limit_c("STS3215-12V") == 70
    assert device_limit_c("XM430-W350") == 80


def test_limits_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        JointLimits.for_robot(OP3).torque_nm[0] = 100.0


def test_limits_that_make_no_sense_are_refused_by_name() -> None:
    limits = JointLimits.for_robot(OP3)
    beyond = limits.hard_high_rad.copy()
    beyond[KNEE] += 0.1
    with pytest.raises(RefusedError, match="r_knee"):
        limits.changed(soft_high_rad=beyond)
    with pytest.raises(RefusedError, match="r_sho_pitch"):
        limits.changed(slew_rad_s=np.full(20, np.nan))


def test_switching_limits_off_is_loud_and_keeps_the_hard_stops(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        limits = JointLimits.unsafe(OP3)
    assert "LIMITS OF ROBOTIS OP3 ARE OFF" in caplog.text
    assert not limits.safe
    assert limits.soft_low_rad[KNEE] == limits.hard_low_rad[KNEE] == pytest.approx(math.radians(-148))


def test_lowered_limits_bound_servos_too() -> None:
    limits = lowered(JointLimits.for_robot(OP3), torque_share=0.5, speed_share=0.5)
    assert limits.torque_nm[KNEE] == pytest.approx(2.05)
    assert not limits.self_limited.any()
    assert limits.slew_rad_s[KNEE] == pytest.approx(JointLimits.for_robot(OP3).slew_rad_s[KNEE] / 2)
    with pytest.raises(RefusedError):
        lowered(limits, torque_share=0.0)


def test_joints_outside_are_named_with_their_angles_and_unknown_ones_count() -> None:
    limits = JointLimits.for_robot(OP3)
    q = np.array([row.home_rad for row in OP3.joints])
    assert limits.outside(q) == []
    q[KNEE], q[0] = math.radians(-150), math.nan
    found = limits.outside(q)
    assert len(found) == 2
    assert "r_sho_pitch at nan deg" in found[0]
    assert "r_knee at -150.0 deg (limits -148.0 to 135.0)" in found[1]


def test_observations_out_of_bounds_warn_then_stop() -> None:
    bounds = ObservationBounds(np.array([-1.0, -1.0]), np.array([1.0, 1.0]), ("gyro x", "gyro y"), stop_after=3)
    guard = ObservationGuard(bounds)
    assert guard.check(np.array([0.0, 1.0])) == ("", False)
    outside = np.array([0.0, 2.0])
    assert guard.check(outside) == ("the observation left what training saw: gyro y", False)
    assert not guard.check(outside)[1]
    assert guard.check(outside)[1]
    guard.check(np.zeros(2))
    assert not guard.check(outside)[1], "one inside starts the count again"
    assert guard.check(np.array([np.nan, 0.0]))[1], "not a number stops at once"
    assert guard.check(np.zeros(3))[1]
