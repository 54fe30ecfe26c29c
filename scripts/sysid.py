"""``cadenza sysid``: what a motor really is (inertia, friction, damping, gain), measured through its driver."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.robots.description import Joint
    from cadenza.robots.hardware.bus import MotorBus, MotorSettings
    from cadenza.robots.hardware.clock import Clock
    from cadenza.robots.hardware.identification import Limits, Load, Recording
    from cadenza.robots.hardware.identification_fit import Conditions, Result


@dataclass(frozen=True)
class Sysid:
    """Move one motor by a chirp, by steps and by a sum of sines, and fit its MuJoCo model to what it did.

    The motor moves: nothing is sent before you add --yes. It starts where it stands, stays inside its soft limits, and
    its torque ends with the runs, at any fault, and at Ctrl-C. Clamp the motor, or hang the robot up, so that nothing
    else moves. A lever of known weight on the shaft (--arm-kg-m, --inertia-kg-m2) gives the scale; without one it comes
    from the torque that the motor reports. docs/system-identification.md explains the method and how far to trust it.

    cadenza sysid feetech:/dev/ttyACM0 --motor STS3215-12V --id 1 --inertia-kg-m2 0.004 --arm-kg-m 0.02 --yes
    cadenza sysid dynamixel:/dev/ttyUSB0 --robot op3 --joint r_knee --yes
    """

    bus: Annotated[str, tyro.conf.Positional]
    """e.g. dynamixel:/dev/ttyUSB0@1000000, feetech:/dev/ttyACM0, damiao:can0"""
    robot: str | None = None
    """a robot, hung up; all of its joints on this bus hold still but one"""
    joint: str | None = None
    """that one"""
    alone: bool = False
    """with --robot: leave the torque of all other joints off, e.g. because they are not there"""
    motor: str | None = None
    """model of a motor on a bench, instead of --robot and --joint"""
    id: int = 1
    """bus id of that motor"""
    inertia_kg_m2: float | None = None
    """inertia about the shaft of what is fixed to it; by default of a bench 0 (the armature then holds it too), of a
    robot what its model says"""
    arm_kg_m: float | None = None
    """mass times distance of its centre from the shaft"""
    hangs_at_deg: float = 0.0
    """of a bench: motor angle at which the lever hangs straight down"""
    scale: Literal["auto", "weight", "torque"] = "auto"
    """what fixes the absolute scale: a known weight, or the motor's own torque; auto takes a weight if there is one"""
    rate_hz: float = 50.0
    """of the control loop"""
    duration_s: float = 10.0
    """of each of the three runs"""
    amplitude_rad: float = 0.3
    """largest offset from where it stands"""
    step_rad: float = 0.12
    """largest jump"""
    speed_rad_s: float = 2.0
    """fastest that a chirp asks for"""
    seed: int = 0
    """of the steps and sines"""
    out: Path | None = None
    """the JSON (default: sysid-NAME.json); the picture beside it has the same name"""
    margin_s: float | None = None
    """of a serial port: time that an answer may take beyond its time on the wire"""
    lockstep: Path | None = None
    """control socket of an emulator that was started with --lockstep: its time passes as this loop asks, so that the
    result is the same on any machine"""
    yes: bool = False
    """it may move now"""


def main(arguments: list[str]) -> int:
    """Parse, move, fit, write."""
    options = parse(Sysid, "sysid", arguments)
    row, settings, index = _who(options)
    for name, least, most in (("rate_hz", 10.0, 500.0), ("duration_s", 3.0, 60.0)):
        if not least <= getattr(options, name) <= most:
            raise CadenzaError(f"--{name.replace('_', '-')} must be {least:g} to {most:g}.")
    from cadenza.robots.hardware.identification import Limits

    limits = Limits(options.amplitude_rad, options.step_rad, options.speed_rad_s, settings[index].position_limits_rad)
    if not options.yes:
        raise CadenzaError(
            f"{row.name} ({row.motor}, id {row.bus_id}) would move up to "
            f"{math.degrees(options.amplitude_rad):.0f} deg to either side, at up to {options.speed_rad_s:g} rad/s, "
            f"for {3 * options.duration_s:.0f} s. Nothing was sent.",
            "Clear its way, clamp the motor or hang the robot up, keep a hand at the power switch; then add --yes.",
        )
    clock = _clock(options)
    bus, limit_nm, drag = _open(options, settings, index, clock)
    recordings, held_out, pose = _move(options, bus, index, limits, clock)
    conditions = _conditions(options, row, _load(options, settings, index, pose), limit_nm, drag)
    result = _fit(conditions, recordings, held_out)
    _show(result, conditions)
    destination = options.out or Path(f"sysid-{row.name}.json")
    _write(destination, options, conditions, result, [*recordings, held_out])
    return 0


# ---------------------------------------------------------------------- what is to be moved


def _who(options: Sysid) -> tuple[Joint, list[MotorSettings], int]:
    """The row as its motor sees it, the motors on the bus, and which of them moves."""
    from cadenza.robots import load_humanoid
    from cadenza.robots.hardware.bus import MotorSettings
    from cadenza.robots.hardware.joint_map import motor_settings
    from cadenza.robots.motors import MOTORS
    from cadenza.robots.motors import joint as make_row
    from cadenza.robots.names import unknown_name

    if (options.motor is None) == (options.robot is None) or (options.robot is None) != (options.joint is None):
        raise CadenzaError(
            "sysid takes either a motor on a bench (--motor, --id) or a joint of a robot (--robot, --joint).",
            "cadenza sysid feetech:/dev/ttyACM0 --motor STS3215-12V --id 1\n"
            "cadenza sysid dynamixel:/dev/ttyUSB0 --robot op3 --joint r_knee",
        )
    if options.motor is not None:
        turn = (-math.pi + 0.01, math.pi - 0.01)
        row = make_row(f"motor_{options.id}", options.motor, options.id, turn)
        motor = MOTORS[options.motor]
        top = 10 * motor.no_load_speed_rad_s  # no ramp of the motor's own: the plan limits the speed
        torque = motor.peak_torque_nm
        return row, [MotorSettings(row.name, row.bus_id, row.motor, torque, top, turn, row.kp, row.kd)], 0
    assert options.robot is not None
    assert options.joint is not None
    robot = load_humanoid(options.robot)
    if options.joint not in robot.joint_names:
        raise unknown_name("joint", options.joint, robot.joint_names)
    names = [options.joint] if options.alone else list(robot.joint_names)
    settings = motor_settings(robot, names=names)
    index = names.index(options.joint)
    row = robot.joint(options.joint)
    top = 10 * MOTORS[row.motor].no_load_speed_rad_s
    settings[index] = replace(settings[index], velocity_limit_rad_s=top)
    return row, settings, index


def _clock(options: Sysid) -> Clock:
    from cadenza.robots.hardware.clock import RealClock, VirtualClock

    if options.lockstep is None:
        return RealClock()
    from cadenza.robots.hardware.emulators.control import EmulatorControl

    control = EmulatorControl(options.lockstep)
    clock = VirtualClock(float(control.state()["time_s"]))
    clock.followers.append(control.advance)
    return clock


def _open(
    options: Sysid, settings: list[MotorSettings], index: int, clock: Clock
) -> tuple[MotorBus, float, float | None]:
    """The bus; the moving motor's torque limit at its nominal voltage; what the driver takes off as back-EMF."""
    from cadenza.robots.hardware.opening import open_bus, parse_spec
    from cadenza.robots.motors import MOTORS

    spec, row = parse_spec(options.bus), settings[index]
    # In lockstep no time passes on the wire, however long this machine takes.
    margin_s = 1.0 if options.lockstep is not None and options.margin_s is None else options.margin_s
    more: dict[str, Any] = {} if margin_s is None else {"margin_s": margin_s}
    if spec.kind != "feetech":
        return open_bus(spec, settings, clock, **more), row.torque_limit_nm, None
    from cadenza.robots.hardware.feetech.settings import Setup, torque_share

    setup = Setup(acceleration=0, torque_share=1.0)
    motor = MOTORS[row.motor]
    bus = open_bus(spec, settings, clock, setup=setup, **more)
    share = torque_share(row, setup) / 1000
    return bus, share * motor.peak_torque_nm, motor.peak_torque_nm / motor.no_load_speed_rad_s


def _load(options: Sysid, settings: list[MotorSettings], index: int, pose: list[float]) -> Load:
    """What is on the shaft, by the options or by the robot's model."""
    from cadenza.robots.hardware.identification import Load, limb_load

    hangs, known = math.radians(options.hangs_at_deg), options.inertia_kg_m2 is not None or options.arm_kg_m is not None
    if options.robot is None or known or options.alone:
        return Load(options.inertia_kg_m2 or 0.0, options.arm_kg_m or 0.0, hangs)
    from cadenza.robots import load_humanoid

    robot = load_humanoid(options.robot)
    angles = {}
    for row, angle in zip(settings, pose, strict=True):
        joint = robot.joint(row.name)
        angles[row.name] = joint.sign * angle + joint.zero_rad
    return limb_load(robot, settings[index].name, angles)


def _conditions(options: Sysid, row: Joint, load: Load, limit_nm: float, drag: float | None) -> Conditions:
    from cadenza.robots.hardware.identification_fit import Conditions, Scale

    scale: Scale = "torque"
    if options.scale == "weight" or (options.scale == "auto" and load.arm_kg_m >= 0.005):
        scale = "weight"
    at_shaft = replace(row, sign=1, zero_rad=0.0, home_rad=0.0, limits_rad=(-math.pi, math.pi))
    return Conditions(at_shaft, load, limit_nm, scale, drag)


# ---------------------------------------------------------------------- doing it


def _move(
    options: Sysid, bus: MotorBus, index: int, limits: Limits, clock: Clock
) -> tuple[list[Recording], Recording, list[float]]:
    from rich.progress import Progress

    from cadenza.robots.hardware.identification import plan, powered, record, usual_runs

    runs, test = usual_runs(options.duration_s, options.seed)
    period_s = 1 / options.rate_hz
    recordings = []
    try:
        bus.connect()
        pose = _pose(bus)
        for one in (*runs, test):  # refused before torque is on
            plan(one, pose[index], period_s, limits)
        with powered(bus), Progress(console=out, disable=not out.is_terminal) as bar:
            for one in (*runs, test):
                task = bar.add_task(f"{one.shape:6}", total=1.0)
                recordings.append(record(bus, index, one, limits, clock, period_s, _shown(bar, task)))
    finally:
        bus.close()
    return recordings[:-1], recordings[-1], pose


def _shown(bar: Any, task: Any) -> Callable[[float], None]:
    """Moves one line of a progress bar."""
    return lambda share: bar.update(task, completed=share)


def _pose(bus: MotorBus) -> list[float]:
    """Where all motors stand; a lost packet or two are asked for again."""
    import numpy as np

    for _ in range(5):
        state = bus.read()
        if np.isfinite(state.q).all():
            return [float(angle) for angle in state.q]
    silent = [row.name for row, angle in zip(bus.settings, state.q, strict=True) if not math.isfinite(angle)]
    raise CadenzaError(f"No sample came from {', '.join(silent)}.", "A longer --margin-s, where this machine is busy?")


def _fit(conditions: Conditions, recordings: list[Recording], held_out: Recording) -> Result:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from cadenza.robots.hardware.identification_fit import fit

    columns = (SpinnerColumn(), TextColumn("fitting: {task.completed:.0f} sets of numbers tried"))
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("fit", total=None)
        return fit(conditions, recordings, held_out, lambda count: bar.update(task, completed=count))


def _show(result: Result, conditions: Conditions) -> None:
    from rich.table import Table

    from cadenza.robots.hardware.identification_fit import UNITS

    table = Table("", "measured", "95 % interval", "table", "unit", title=f"{conditions.row.name} as measured")
    for name, one in result.estimates.items():
        table.add_row(name, f"{one.value:.4g}", f"{one.low:.4g} to {one.high:.4g}", f"{one.guess:.4g}", UNITS[name])
    out.print(table)
    where = "the known weight" if result.scale == "weight" else "the torque that the motor reports"
    out.print(f"scale from {where}; supply {result.supply_v:.1f} V, kp at the nominal voltage")
    fitted, held = 1e3 * result.rms_rad, 1e3 * result.held_out_rms_rad
    out.print(f"model less measurement, rms: {fitted:.2f} mrad fitted, {held:.2f} mrad on the run it never saw")
    guess, held = 1e3 * result.guess_rms_rad, 1e3 * result.held_out_guess_rms_rad
    out.print(f"with the table's numbers:    {guess:.2f} mrad,        {held:.2f} mrad")


def _write(path: Path, options: Sysid, conditions: Conditions, result: Result, recordings: list[Recording]) -> None:
    import time

    from cadenza.robots.hardware.identification_fit import as_json

    record = as_json(result, conditions)
    record["bus"], record["date"], record["seed"] = options.bus, time.strftime("%Y-%m-%d"), options.seed
    picture = path.with_suffix(".png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        _draw(picture, conditions, result, recordings)
    except OSError as error:
        raise CadenzaError(f"Cannot write {path}: {error.strerror}.", "Choose another place with --out.") from error
    out.print(f"written: {escape(str(path))}, {escape(str(picture))}")


def _draw(path: Path, conditions: Conditions, result: Result, recordings: list[Recording]) -> None:
    """Measured and fitted angle of each run, and their difference below."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from cadenza.robots.hardware.identification_fit import simulate

    names = {"chirp": "chirp (fitted)", "steps": "steps (fitted)", "sines": "sum of sines (not fitted)"}
    figure, axes = plt.subplots(
        2, len(recordings), figsize=(4.6 * len(recordings), 5.2), sharex="col", sharey="row", height_ratios=[3, 1],
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for column, one in enumerate(recordings):
        top, below = axes[0][column], axes[1][column]
        fitted = simulate(conditions, result.values, one)[0]
        top.step(one.sent_s, np.degrees(one.goal_rad), where="post", color="#9a9a9a", lw=0.8, label="goal")
        top.plot(one.seen_s, np.degrees(one.q), color="#1f6fb4", lw=2.2, label="measured")
        top.plot(one.seen_s, np.degrees(fitted), color="#d1495b", lw=1.0, ls="--", label="fitted model")
        top.set_title(names[one.shape])
        below.plot(one.seen_s, 1e3 * (fitted - one.q), color="#d1495b", lw=0.8)
        below.axhline(0.0, color="#9a9a9a", lw=0.6)
        below.set_xlabel("time [s]")
        for axis in (top, below):
            axis.grid(color="#e9e9e9")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("angle [deg]")
    axes[1][0].set_ylabel("model less\nmeasured [mrad]")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    figure.suptitle(f"{conditions.row.name}: {conditions.row.motor}", x=0.01, ha="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
