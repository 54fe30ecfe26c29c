"""Motors by name, and the rules that turn their data into gains. SI units at the output shaft.

``pd`` drives get their gains from the rotor: a drive that has to move nothing but its own reflected inertia ``a``
obeys ``a q'' = kp (target - q) - kd q'``. Asking for a natural frequency and a damping ratio fixes both gains
(:func:`gains_from_bandwidth`), so one number in the table, the armature, decides how stiff a joint is.

``dc_motor`` servos set the duty of a bridge in proportion to the position error. :func:`servo_gains` gives the torque
per radian that follows from the servo's register; the damping is no setting but the back-EMF (robots/actuators.py).
"""

from __future__ import annotations

import math

from cadenza.robots.description import Joint, Motor
from cadenza.robots.names import unknown_name

RPM = 2 * math.pi / 60
"""rad/s."""


def gains_from_bandwidth(
    armature: float, natural_frequency_hz: float = 10.0, damping_ratio: float = 2.0
) -> tuple[float, float]:
    """(kp in N m/rad, kd in N m s/rad) that give a motor's own rotor this frequency and damping ratio.

    ``kp = a w^2`` and ``kd = 2 zeta a w`` with ``w = 2 pi f``. 10 Hz and a ratio of 2 are what mjlab uses for the
    Unitree G1 (mujocolab/mjlab, ``asset_zoo/robots/unitree_g1/g1_constants.py``): slow beside a 50 Hz policy's targets,
    overdamped because the limb that hangs on the rotor lowers both.
    """
    omega = 2 * math.pi * natural_frequency_hz
    return armature * omega**2, 2 * damping_ratio * armature * omega


def dynamixel_duty_per_rad(position_p_gain: int = 800, counts: int = 4096) -> float:
    """Share of full voltage per radian of error in the position loop of a DYNAMIXEL X.

    The loop multiplies the error in encoder counts by ``gain / 128`` and takes the product as PWM, of which 885 is full
    duty (ROBOTIS e-manual, XM430-W350: Position P Gain(84), default 800, and PWM Limit(36)). For the defaults:
    800 / 128 * 4096 / (2 pi) / 885 = 4.60.
    """
    return position_p_gain / 128 * counts / (2 * math.pi) / 885


def servo_gains(motor: Motor) -> tuple[float, float]:
    """(kp in N m/rad, kd in N m s/rad) of a ``dc_motor`` as delivered, at its nominal voltage.

    Full duty at standstill is the stall torque, so kp = duty per radian * stall torque: 18.9 for the XM430-W350. kd is
    the back-EMF: stall torque / no-load speed.
    """
    return motor.duty_per_rad * motor.peak_torque_nm, motor.peak_torque_nm / motor.no_load_speed_rad_s


def planetary_inertia(rotors_kg_m2: tuple[float, float, float], ratios: tuple[float, float]) -> float:
    """Inertia that a joint feels of a motor with two planetary stages, kg m^2.

    Args:
        rotors_kg_m2: of the motor's rotor, the first stage's carrier and the second stage's carrier.
        ratios: of the first and the second stage; a body's inertia counts with the square of the ratio behind it.
    """
    rotor, first, second = rotors_kg_m2
    return rotor * (ratios[0] * ratios[1]) ** 2 + first * ratios[1] ** 2 + second


def joint(
    name: str,
    motor: str,
    bus_id: int,
    limits_rad: tuple[float, float],
    *,
    home_rad: float = 0.0,
    torque_nm: float | None = None,
    velocity_rad_s: float | None = None,
    kp: float | None = None,
    kd: float | None = None,
    armature: float | None = None,
    friction_nm: float | None = None,
    natural_frequency_hz: float = 10.0,
    damping_ratio: float = 2.0,
    sign: int = 1,
    zero_rad: float = 0.0,
) -> Joint:
    """A row of a joint table; what is not given comes from the motor.

    Gains that are not given: for ``pd`` by :func:`gains_from_bandwidth` from the armature, ``natural_frequency_hz`` and
    ``damping_ratio``; for ``dc_motor`` by :func:`servo_gains`.

    Raises:
        UnknownNameError: there is no such motor.
    """
    if motor not in MOTORS:
        raise unknown_name("motor", motor, MOTORS)
    data = MOTORS[motor]
    armature = data.armature_kg_m2 if armature is None else armature
    torque_nm = data.peak_torque_nm if torque_nm is None else torque_nm
    if data.actuator == "dc_motor":
        from_motor = servo_gains(data)
    else:
        from_motor = gains_from_bandwidth(armature, natural_frequency_hz, damping_ratio)
    return Joint(
        name=name,
        motor=motor,
        bus_id=bus_id,
        limits_rad=limits_rad,
        velocity_rad_s=data.no_load_speed_rad_s if velocity_rad_s is None else velocity_rad_s,
        torque_nm=torque_nm,
        kp=from_motor[0] if kp is None else kp,
        kd=from_motor[1] if kd is None else kd,
        armature=armature,
        friction_nm=data.friction_nm if friction_nm is None else friction_nm,
        home_rad=home_rad,
        sign=sign,
        zero_rad=zero_rad,
    )


def add_motors(*motors: Motor) -> None:
    """Make motors known by their names, from a robot's file whose motors stand in no table yet.

    Raises:
        ValueError: another motor has that name.
    """
    for motor in motors:
        if MOTORS.setdefault(motor.name, motor) != motor:
            raise ValueError(f"There is another motor named {motor.name!r} already; give yours a name of its own.")


def drive(
    name: str,
    torque_nm: float,
    speed_rad_s: float,
    armature: float,
    friction_nm: float,
    battery_v: tuple[float, float, float],
    source: str,
) -> Motor:
    """A torque-controlled drive of a robot, from what is usually known of one.

    Args:
        name: for the joint table.
        torque_nm: peak torque.
        speed_rad_s: without load.
        armature: kg m^2 at the joint.
        friction_nm: dry friction.
        battery_v: nominal, empty and full voltage of the robot's battery.
        source: where the numbers come from, and which are estimates.
    """
    return Motor(
        name=name,
        actuator="pd",
        peak_torque_nm=torque_nm,
        no_load_speed_rad_s=speed_rad_s,
        armature_kg_m2=armature,
        friction_nm=friction_nm,
        nominal_voltage_v=battery_v[0],
        voltage_range_v=battery_v[1:],
        encoder_counts=0,
        source=source,
    )


def degrees(low: float, high: float) -> tuple[float, float]:
    """Limits written in degrees, in radians."""
    return math.radians(low), math.radians(high)


_SERVOS = (
    Motor(
        name="XM430-W350",
        actuator="dc_motor",
        peak_torque_nm=4.1,
        no_load_speed_rad_s=46 * RPM,
        armature_kg_m2=0.045,
        friction_nm=0.03,
        nominal_voltage_v=12.0,
        voltage_range_v=(10.0, 14.8),
        encoder_counts=4096,
        velocity_step_rad_s=0.229 * RPM,
        backlash_rad=math.radians(0.25),
        duty_per_rad=dynamixel_duty_per_rad(),
        source=(
            "ROBOTIS e-manual, XM430-W350: stall 4.1 N m and 2.3 A, 46 rpm without load, both at 12 V; 10 to 14.8 V; "
            "gear 353.5:1; 4096 counts; velocity unit 0.229 rpm; backlash 15 arcmin. Armature and friction: identified "
            "on OP3 servos (Haarnoja et al. 2023, 'Learning agile soccer skills for a bipedal robot'), as in the "
            "Menagerie's OP3."
        ),
    ),
    # P coefficient 32 times the error gain 0.166 of BAM's STS3215 model, which gives a share of full voltage.
    *(
        Motor(
            name=name,
            actuator="dc_motor",
            peak_torque_nm=torque_nm,
            no_load_speed_rad_s=speed_rpm * RPM,
            armature_kg_m2=0.028,
            friction_nm=0.052,
            nominal_voltage_v=voltage_v,
            voltage_range_v=range_v,
            encoder_counts=4096,
            velocity_step_rad_s=2 * math.pi / 4096,
            backlash_rad=math.radians(0.5),
            duty_per_rad=32 * 0.166,
            source=(
                "Feetech's data sheet: stall torque, speed without load, voltage, 4096 counts, backlash at most "
                "0.5 deg. Armature, friction and duty per radian are estimates: Rhoban's BAM fits of an STS3215 (P "
                "coefficient 32) as the SO-101's model uses them; that model's force limit, 3.35 N m, is 14 % above "
                "the data sheet's stall torque at 12 V."
            ),
        )
        for name, voltage_v, torque_nm, speed_rpm, range_v in (
            ("STS3215-7.4V", 7.4, 1.91, 45.0, (4.0, 7.4)),
            ("STS3215-12V", 12.0, 2.94, 45.0, (4.0, 14.0)),
        )
    ),
)


_G1_SOURCE = (
    "Rotor inertias, gear ratios, peak torque and speed as mjlab lists them from Unitree (mujocolab/mjlab, "
    "g1_constants.py); dry friction 0.3 N m from the Menagerie's G1; voltages: Unitree's 13-cell battery at 3.6, 3.0 "
    "and 4.2 V a cell (estimate)."
)
_G1_BATTERY = (46.8, 39.0, 54.6)
_5020 = planetary_inertia((0.139e-4, 0.017e-4, 0.169e-4), (1 + 46 / 18, 1 + 56 / 16))
_7520_14 = planetary_inertia((0.489e-4, 0.098e-4, 0.533e-4), (4.5, 1 + 48 / 22))
_7520_22 = planetary_inertia((0.489e-4, 0.109e-4, 0.738e-4), (4.5, 5.0))
_4010 = planetary_inertia((0.068e-4, 0.0, 0.0), (5.0, 5.0))

_H1_SOURCE = (
    "Peak torque: the Menagerie's H1. Armature 0.1 kg m^2 for every joint is that model's round figure, not a "
    "measurement. Speed limits: Unitree's URDF of the H1. Dry friction is not known and left at 0. Voltages: a battery "
    "of 67.2 V when full, 16 cells (estimate)."
)
_H1_BATTERY = (57.6, 48.0, 67.2)

_T1_SOURCE = (
    "Armature and speed: BoosterRobotics/booster_train, assets/robots/booster.py; peak torque, dry friction 0.1 N m: "
    "the Menagerie's T1; voltages: a 13-cell battery (estimate)."
)
_T1_BATTERY = (48.0, 39.0, 54.6)

_BERKELEY_SOURCE = (
    "Peak torque, speed, rotor inertia times 9^2 and static friction as identified by the robot's makers "
    "(HybridRobotics/isaac_berkeley_humanoid, assets/berkeley_humanoid.py); voltages are an estimate."
)
_BERKELEY_BATTERY = (24.0, 19.8, 25.2)

_DRIVES = (
    drive("Unitree 5020", 25, 37, _5020, 0.3, _G1_BATTERY, _G1_SOURCE),
    # Two 5020 side by side move an ankle or the waist through rods: twice the torque and inertia of one.
    drive("Unitree 2x5020", 50, 37, 2 * _5020, 0.3, _G1_BATTERY, _G1_SOURCE),
    drive("Unitree 7520-14", 88, 32, _7520_14, 0.3, _G1_BATTERY, _G1_SOURCE),
    drive("Unitree 7520-22", 139, 20, _7520_22, 0.3, _G1_BATTERY, _G1_SOURCE),
    drive("Unitree 4010", 5, 22, _4010, 0.3, _G1_BATTERY, _G1_SOURCE),
    drive("Unitree H1 hip", 200, 23, 0.1, 0.0, _H1_BATTERY, _H1_SOURCE),
    drive("Unitree H1 knee", 300, 14, 0.1, 0.0, _H1_BATTERY, _H1_SOURCE),
    drive("Unitree H1 ankle", 40, 9, 0.1, 0.0, _H1_BATTERY, _H1_SOURCE),
    drive("Unitree H1 shoulder", 40, 9, 0.1, 0.0, _H1_BATTERY, _H1_SOURCE),
    drive("Unitree H1 elbow", 18, 20, 0.1, 0.0, _H1_BATTERY, _H1_SOURCE),
    drive("Booster 8112", 45, 16.76, 0.0523908, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Booster 8116", 60, 12.57, 0.0636012, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Booster 6408", 30, 12.57, 0.0478125, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Booster 2x4315", 20, 18.8, 2 * 0.0339552, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Booster 4310", 18, 7.33, 0.0282528, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Booster head", 7, 20.0, 0.001, 0.1, _T1_BATTERY, _T1_SOURCE),
    drive("Berkeley HXX", 20, 23, 6.9e-5 * 81, 0.3, _BERKELEY_BATTERY, _BERKELEY_SOURCE),
    drive("Berkeley HFE", 30, 20, 9.4e-5 * 81, 0.3, _BERKELEY_BATTERY, _BERKELEY_SOURCE),
    drive("Berkeley KFE", 30, 14, 1.5e-4 * 81, 0.8, _BERKELEY_BATTERY, _BERKELEY_SOURCE),
    drive("Berkeley FFE", 20, 23, 6.9e-5 * 81, 1.0, _BERKELEY_BATTERY, _BERKELEY_SOURCE),
    drive("Berkeley FAA", 5, 42, 6.1e-6 * 81, 0.1, _BERKELEY_BATTERY, _BERKELEY_SOURCE),
)

MOTORS: dict[str, Motor] = {motor.name: motor for motor in (*_SERVOS, *_DRIVES)}
"""Motor model -> its data."""
