"""``cadenza calibrate``: sweep a robot's joints by hand, show it its zero pose, write its calibration file."""

from __future__ import annotations

import datetime
import math
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.buses import opened
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from rich.table import Table

    from cadenza.robots.description import LeggedRobot
    from cadenza.robots.hardware.bus import MotorBus, MotorSettings
    from cadenza.robots.hardware.sweeping import Sweep


@dataclass(frozen=True)
class Calibrate:
    """Write the calibration file of one robot. Torque stays off: you move the joints.

    cadenza calibrate dynamixel:/dev/ttyUSB0 --robot op3 --out my_op3.json
    cadenza calibrate dynamixel:/dev/ttyUSB0 --robot op3 --out my_op3.json --keep-zero

    First every joint is moved by hand from stop to stop, in any order; the table shows what has been covered. Enter
    ends that. Then the robot is put into its zero pose, all joints at 0, and Enter is pressed again. What was hardly
    moved, a range across the place where an encoder wraps, a motor that seems to turn the wrong way: refused, by name,
    and nothing is written.
    """

    bus: Annotated[str, tyro.conf.Positional]
    """e.g. dynamixel:/dev/ttyUSB0, see `cadenza motors --help`"""
    robot: str
    """whose joint table (cadenza list robots)"""
    out: Path
    """the file to write; --overwrite where it exists"""
    unit: str = ""
    """what you call this robot"""
    keep_zero: bool = False
    """no zero pose: the zeros of the joint table hold (an OP3 is built so)"""
    flip: tuple[str, ...] = ()
    """joints whose motors turn the other way than the joint table says"""
    overwrite: bool = False
    """replace the file"""
    rate_hz: float = 20.0
    """readings a second"""


def main(arguments: list[str]) -> int:
    """Parse, sweep, write."""
    options = parse(Calibrate, "calibrate", arguments)
    if options.out.exists() and not options.overwrite:
        raise CadenzaError(f"{options.out} exists.", "Add --overwrite to replace it.")
    if not math.isfinite(options.rate_hz) or options.rate_hz <= 0:
        raise CadenzaError(f"--rate-hz must be positive, got {options.rate_hz}.")
    from cadenza.robots import load_humanoid
    from cadenza.robots.hardware.sweeping import Sweep, calibrate, check_sweep
    from cadenza.robots.names import unknown_name

    robot = load_humanoid(options.robot)
    for name in options.flip:
        if name not in robot.joint_names:
            raise unknown_name("joint", name, robot.joint_names)
    with opened(options.bus, settings_of(robot)) as bus:
        identities = bus.connect()
        refuse_torque(bus, robot)
        sweep = Sweep(len(robot.joints))
        _follow(
            bus, options.rate_hz, sweep, lambda: sweep_table(robot, sweep),
            "Move every joint by hand from stop to stop. Enter when all are green.",
        )  # fmt: skip
        check_sweep(robot, sweep)
        zero_pose = None
        if not options.keep_zero:
            at_rest = Sweep(len(robot.joints))
            _follow(
                bus, options.rate_hz, at_rest, lambda: sweep_table(robot, at_rest, only_now=True),
                f"Put {robot.title} into its zero pose, all joints at 0, and hold it still. Enter when it is.",
            )  # fmt: skip
            zero_pose = bus.read().q
    made = calibrate(
        robot, identities, sweep, zero_pose, date=datetime.date.today().isoformat(), unit=options.unit,
        flip=options.flip,
    )  # fmt: skip
    made.save(options.out)
    out.print(f"written: {escape(str(options.out))}")
    return 0


def settings_of(robot: LeggedRobot) -> list[MotorSettings]:
    """A robot's motors, for a bus that only reads them."""
    from cadenza.robots.hardware.bus import MotorSettings

    turn = (-math.pi + 1e-3, math.pi - 1e-3)
    return [MotorSettings(row.name, row.bus_id, row.motor, 0.0, 0.0, turn, 0.0, 0.0) for row in robot.joints]


def refuse_torque(bus: MotorBus, robot: LeggedRobot) -> None:
    """Joints cannot be moved by hand against their motors.

    Raises:
        CadenzaError: torque is on somewhere.
    """
    on = [row.name for row in robot.joints if _torque(bus, row.bus_id)]
    if on:
        raise CadenzaError(
            f"Torque is on: {', '.join(on)}.", "End what drives this robot, or switch its motors off and on again."
        )


def _torque(bus: MotorBus, bus_id: int) -> bool:
    try:
        return bool(bus.read_register(bus_id, "torque_enable"))
    except CadenzaError:  # kinds without such a register tell no torque
        return False


def _follow(bus: MotorBus, rate_hz: float, sweep: Sweep, table: Callable[[], Table], what: str) -> None:
    """Read until a line comes in, showing a live table on a terminal."""
    out.print(what)
    if not out.is_terminal:
        while not _enter(1 / rate_hz):
            sweep.see(bus.read())
        sweep.see(bus.read())
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        shown = 0.0
        while not _enter(1 / rate_hz):
            sweep.see(bus.read())
            if time.monotonic() - shown > 0.1:
                live.update(table(), refresh=True)
                shown = time.monotonic()
        sweep.see(bus.read())
        live.update(table(), refresh=True)


def _enter(wait_s: float) -> bool:
    """Whether a line came in within a time; the end of input counts as one."""
    source: Any = sys.stdin
    if not select.select([source], [], [], wait_s)[0]:
        return False
    line: str = source.readline()
    if not line:
        raise CadenzaError("Input ended before the robot was calibrated; nothing was written.")
    return True


def sweep_table(robot: LeggedRobot, sweep: Sweep, *, only_now: bool = False) -> Table:
    """What has been covered, at the motors, in degrees."""
    from rich.table import Table

    from cadenza.robots.hardware.sweeping import enough

    if only_now:
        table = Table("joint", "id", "now")
        for i, row in enumerate(robot.joints):
            table.add_row(escape(row.name), str(row.bus_id), _degrees(sweep.now[i]))
        return table
    table = Table("joint", "id", "now", "lowest", "highest", "swept", "of at least")
    for i, row in enumerate(robot.joints):
        colour = "red" if sweep.crossed[i] else "green" if sweep.width[i] >= enough(row) else "yellow"
        note = " wraps!" if sweep.crossed[i] else ""
        table.add_row(
            escape(row.name), str(row.bus_id), _degrees(sweep.now[i]), _degrees(sweep.low[i]), _degrees(sweep.high[i]),
            f"[{colour}]{_degrees(sweep.width[i])}{note}[/]", _degrees(enough(row)),
        )  # fmt: skip
    return table


def _degrees(value: float) -> str:
    return f"{math.degrees(value):.0f}" if math.isfinite(value) else "-"
