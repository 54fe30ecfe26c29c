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

    By the ROBOTIS e-manual of the XM430-W350 the controller's gain is Position P Gain(84) / 128, 800 as delivered; its
    output is a PWM, of which 885 is full duty (PWM Limit(36)). That the error enters in encoder counts and the product
    is in those PWM units is our assumption: the manual names neither. For the defaults: 800 / 128 * 4096 / (2 pi) / 885
    = 4.60. Rhoban's BAM assumes the same units and found a divisor of 256 on an XL330 (``bam/xl330/actuator.py``); an
    XM430 like that would have half this gain.
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


_STS3215_SOURCE = (
    "Armature and friction: the SO-101's model (TheRobotStudio/SO-ARM100, Simulation/SO101/joints_properties.xml, "
    "there taken from Open_Duck_Playground); the M1 fit of Rhoban's BAM, of a 7.4 V servo, has 0.0261 kg m^2 and "
    "0.0515 N m. Duty per radian: BAM's gain 0.166, read off an oscilloscope on STS3215s (bam/feetech/actuator.py), at "
    "P coefficient 32. At 12 V all three are assumed, not measured. Stall torque is in doubt: BAM's fit implies "
    "3.5 N m at 7.4 V (kt V / R), and the SO-101's model allows 3.35 N m."
)
_STS3215_7_4V_SOURCE = (
    "Stall torque 19.5 kgf cm, 4 to 7.4 V, 4096 counts: a seller's listing of the 7.4 V model and another's notes on "
    "Feetech's page; Feetech's data sheet was not read. Speed without load: both say 0.192 s for 60 deg at 7.4 V, "
    "which is 52 rpm, as DFRobot's listing does; Open_Duck_Mini_Runtime issue 7 has 5.24 rad/s (50 rpm) from BAM's "
    "fit. Backlash as for 12 V (assumed)."
)
_STS3215_12V_SOURCE = (
    "Stall torque 30 kgf cm, 0.222 s for 60 deg (45 rpm) and 4 to 14 V: a copy of Feetech's page of the ST-3215-C018, "
    "which adds that its PDF says 12 V only. 4096 counts and backlash of at most 0.5 deg: the data sheet as quoted in "
    "TheRobotStudio/SO-ARM100 issue 134, whose author measured 35 kgf cm, 46 rpm and about 1 deg."
)

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
            "gear 353.5:1; 4096 counts; velocity unit 0.229 rpm; backlash 15 arcmin. Armature and friction: the "
            "Menagerie's OP3. They are quoted elsewhere as what Haarnoja et al. identified on an OP3 servo ('Learning "
            "agile soccer skills for a bipedal robot', arXiv 2304.13653); the paper itself was not read. Duty per "
            "radian: assumed units, not measured (dynamixel_duty_per_rad)."
        ),
    ),
    # P coefficient 32 times the error gain 0.166 of BAM's STS3215 actuator, which gives a share of full voltage.
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
            source=f"{data_sheet} {_STS3215_SOURCE}",
        )
        for name, voltage_v, torque_nm, speed_rpm, range_v, data_sheet in (
            ("STS3215-7.4V", 7.4, 1.91, 52.0, (4.0, 7.4), _STS3215_7_4V_SOURCE),
            ("STS3215-12V", 12.0, 2.94, 45.0, (4.0, 14.0), _STS3215_12V_SOURCE),
        )
    ),
)


_G1_SOURCE = (
    "Rotor inertias, gear ratios, peak torque and speed as mjlab lists them from Unitree (mujocolab/mjlab, "
    "g1_constants.py); dry friction 0.3 N m: the Menagerie's G1, which names no origin. Voltages: Unitree's manual of "
    "the G1 battery, rated 46.8 V and charged to 54.6 V; 39 V when empty is an estimate, 3.0 V for each of 13 cells."
)
_G1_BATTERY = (46.8, 39.0, 54.6)
_5020 = planetary_inertia((0.139e-4, 0.017e-4, 0.169e-4), (1 + 46 / 18, 1 + 56 / 16))
_7520_14 = planetary_inertia((0.489e-4, 0.098e-4, 0.533e-4), (4.5, 1 + 48 / 22))
_7520_22 = planetary_inertia((0.489e-4, 0.109e-4, 0.738e-4), (4.5, 5.0))
_4010 = planetary_inertia((0.068e-4, 0.0, 0.0), (5.0, 5.0))

_H1_SOURCE = (
    "Peak torque and speed limits: Unitree's URDF (unitreerobotics/unitree_ros, h1_description/urdf/h1.urdf); the "
    "Menagerie's H1 has the same torques. Armature 0.1 kg m^2 for every joint is the Menagerie's round figure, not a "
    "measurement. Dry friction is not known and left at 0. Voltages, of 16 cells: assumed, no source was found."
)
_H1_BATTERY = (57.6, 48.0, 67.2)

_T1_SOURCE = (
    "Armature and speed: Booster's training code (BoosterRobotics/booster_train, assets/robots/booster.py), read in "
    "others' copies of that file. Peak torque: the Menagerie's T1, from Booster's URDF; the training code has 25 N m "
    "instead of 30 and 24 instead of 20. Dry friction 0.1 N m: the Menagerie's, by its own words not identified. "
    "Voltages, of 13 cells: assumed, no source was found."
)
_T1_BATTERY = (48.0, 39.0, 54.6)

_BERKELEY_SOURCE = (
    "Peak torque, speed, rotor inertia times 9^2 and static friction as identified by the robot's makers "
    "(HybridRobotics/isaac_berkeley_humanoid, assets/berkeley_humanoid.py). Voltages, of 6 cells: assumed, no source "
    "was found."
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
