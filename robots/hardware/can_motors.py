"""Torque-controlled drives with a CAN bus: rows for :data:`cadenza.robots.motors.MOTORS`; importing this adds them.

Ranges of their wire protocols are no motor data and do not stand here: a Damiao drive is asked for them, a RobStride
drive's must be named by whoever connects it (canbus/ranges.py).
"""

from __future__ import annotations

from dataclasses import replace

from cadenza.robots.motors import RPM, add_motors, drive

_DAMIAO_SOURCE = (
    "Peak and rated torque, speed without load at 24 V, supply, gear ratio and rotor inertia: Seeed Studio's table of "
    "Damiao's 43 series (wiki.seeedstudio.com, damiao_series); armature = rotor inertia * ratio^2. Dry friction is an "
    "estimate, no source was found."
)
_CYBERGEAR_SOURCE = (
    "Peak and rated torque, speed without load, supply and gear ratio: Xiaomi's CyberGear manual, sections 1.2 to 1.4, "
    "in the translation belovictor/cybergear-docs. Armature and dry friction are estimates: the manual has neither."
)
_RS02_SOURCE = (
    "Peak and rated torque, speed without load, supply and gear ratio as quoted from RobStride's RS02 manual by "
    "openelab.io (ROBSTRIDE02 technical guide). Armature and dry friction are estimates: no source was found."
)

GEAR_RATIOS: dict[str, float] = {"DM4310": 10.0, "DM4340": 40.0, "RS-02": 7.75, "CyberGear": 7.75}
"""Of the motors below; sources as theirs."""

CAN_MOTORS = (
    replace(
        drive("DM4310", 7.0, 200 * RPM, 1.8e-5 * 10**2, 0.05, (24.0, 15.0, 32.0), _DAMIAO_SOURCE), rated_torque_nm=3.0
    ),
    replace(
        drive("DM4340", 27.0, 52.5 * RPM, 2.0e-5 * 40**2, 0.2, (24.0, 15.0, 32.0), _DAMIAO_SOURCE), rated_torque_nm=9.0
    ),
    replace(drive("RS-02", 17.0, 410 * RPM, 0.004, 0.1, (48.0, 24.0, 60.0), _RS02_SOURCE), rated_torque_nm=6.0),
    replace(
        drive("CyberGear", 12.0, 296 * RPM, 0.002, 0.08, (24.0, 16.0, 28.0), _CYBERGEAR_SOURCE), rated_torque_nm=4.0
    ),
)

add_motors(*CAN_MOTORS)
