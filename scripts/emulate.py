"""``cadenza emulate``: motors that exist only as a program, behind a serial port or a CAN channel."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import nearest
from cadenza.scripts.console import err, escape, out
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.robots.hardware.emulators.launch import Order
    from cadenza.robots.hardware.emulators.world import World

KINDS = {
    "dynamixel": "DYNAMIXEL X servos, protocol 2.0, and the OP3's OpenCR, on a serial port",
    "feetech": "Feetech STS3215 servos on a serial port",
    "damiao": "Damiao drives (MIT mode) on a CAN channel",
    "robstride": "RobStride and CyberGear drives on a CAN channel",
}


@dataclass(frozen=True)
class _Common:
    robot: str | None = None
    """a robot with a joint table (`cadenza list robots`); without: motors on a bench"""
    joint: str | None = None
    """only this joint of the robot, on a bench with a lever on its shaft"""
    motor: str | None = None
    """model of the motors of a bench"""
    ids: tuple[int, ...] = ()
    """bus ids of the motors of a bench"""
    hung_up: bool = False
    """fix the robot's base in the air"""
    held: bool = False
    """hold the robot over the floor until `release` on the control socket"""
    lockstep: bool = False
    """time passes only over the control socket; without: it follows the wall clock"""
    faults: Path | None = None
    """fault plan, a JSON file; docs/emulators.md shows one"""
    seed: int = 0
    """of whatever is drawn at random"""
    control: Path | None = None
    """path of the control socket (default: in a new folder below /tmp)"""
    arm_kg_m: float = 0.0
    """of a bench: mass times distance of the lever's centre of mass from the shaft; it hangs down at 0 rad"""
    inertia_kg_m2: float = 0.002
    """of a bench: inertia of the lever about the shaft"""
    motor_truth: Path | None = None
    """of a bench: a JSON file with what its motors really are, unlike the table, for `cadenza sysid` to find:
    armature, friction_nm, kd, torque_nm; of serial servos gain too, a factor"""


@dataclass(frozen=True)
class _Serial(_Common):
    baud: int | None = None
    """baud rate in the devices' registers (default: what is usual for them)"""
    link: Path | None = None
    """make a symbolic link to the serial port here"""


@dataclass(frozen=True)
class Dynamixel(_Serial):
    """DYNAMIXEL X servos on a pseudo-terminal, with physics on their shafts.

    The port's path and that of the control socket come as one line of JSON on standard output; the rest is for people
    and goes to standard error. Ctrl-C ends it.

    cadenza emulate dynamixel --robot op3
    cadenza emulate dynamixel --robot op3 --hung-up --lockstep
    cadenza emulate dynamixel --robot op3 --joint r_knee --arm-kg-m 0.05
    cadenza emulate dynamixel --motor XM430-W350 --ids 1 2 3 --link /tmp/servos
    cadenza emulate dynamixel --motor XL330-M288 --baud 57600 --faults faults.json
    """

    powered: bool = False
    """of a whole robot: servos have power from the start, without the OpenCR being told to switch it on"""
    return_delay: int = 250
    """Return Delay Time(9) that the servos are found with, in 2 us; 250 as delivered"""


@dataclass(frozen=True)
class Feetech(_Serial):
    """Feetech STS3215 servos on a pseudo-terminal, with physics on their shafts.

    cadenza emulate feetech --ids 1 2 3 4 5 6
    """


@dataclass(frozen=True)
class _Can(_Common):
    interface: str | None = None
    """python-can's interface (default: udp_multicast)"""
    channel: str | None = None
    """of that interface"""
    baud: int | None = None
    """bit rate of the bus (default: 1,000,000)"""
    ranges: tuple[float, ...] = ()
    """full scale of the drives' codes, from the unit's manual (damiao: p v t; robstride: p v t kp kd)"""
    link: Path | None = None
    """make a symbolic link to the serial port here, where the interface is one on a serial port (slcan)"""


@dataclass(frozen=True)
class Damiao(_Can):
    """Damiao drives in MIT mode on a CAN channel, with physics on their shafts.

    cadenza emulate damiao --ids 1 2 3 4 5 6 7
    """


@dataclass(frozen=True)
class Robstride(_Can):
    """RobStride and CyberGear drives (private protocol) on a CAN channel, with physics on their shafts.

    cadenza emulate robstride --ids 1 2 3
    """


_ARGUMENTS: dict[str, type[_Common]] = {
    "dynamixel": Dynamixel, "feetech": Feetech, "damiao": Damiao, "robstride": Robstride,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Parse and emulate until told to end."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _help()
        return 0
    kind, rest = arguments[0], arguments[1:]
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        raise CadenzaError(
            f"There is no emulator named {kind!r}.",
            f"Did you mean {near[0]}?" if near else f"There are: {', '.join(KINDS)}.",
        )
    options = parse(_ARGUMENTS[kind], f"emulate {kind}", rest)
    from cadenza.robots.hardware.emulators import launch

    return launch.run(order_from(kind, options), _tell)


def order_from(kind: str, options: _Common) -> Order:
    """What the command line asks for."""
    from cadenza.robots.hardware.emulators.launch import Order

    known = {one.name for one in fields(Order)}
    given: dict[str, Any] = {one.name: getattr(options, one.name) for one in fields(options)}
    given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    truth = motor_truth(options.motor_truth) if options.motor_truth is not None else {}
    given.pop("motor_truth")
    more = {name: given.pop(name) for name in list(given) if name not in known}
    more = {name: value for name, value in more.items() if value != ()}
    if "gain" in truth:
        more["gain"] = truth.pop("gain")
    if truth and options.robot is not None and options.joint is None:
        raise CadenzaError("--motor-truth describes the motors of a bench.", "Add --joint, or leave --robot away.")
    return Order(kind=kind, **given, plant=truth, more=more)


TRUTHS = ("armature", "friction_nm", "kd", "torque_nm", "gain")


def motor_truth(path: Path) -> dict[str, float]:
    """What a file says that motors really are.

    Raises:
        CadenzaError: no such file, no JSON, a quantity that does not exist, or a number below 0.
    """
    import json
    import math

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CadenzaError(f"--motor-truth {path} cannot be read: {error}.", f"An example: {_EXAMPLE}") from error
    if not isinstance(found, dict) or not found:
        raise CadenzaError(f"{path} holds no quantities.", f"An example: {_EXAMPLE}")
    for name, value in found.items():
        if name not in TRUTHS:
            near = nearest(name, TRUTHS)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(TRUTHS)}."
            raise CadenzaError(f"{path}: there is no quantity {name!r}.", hint)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise CadenzaError(f"{path}: {name} is {value!r}.", "It must be a number of at least 0.")
    return {name: float(value) for name, value in found.items()}


_EXAMPLE = '{"armature": 0.035, "friction_nm": 0.08, "kd": 0.8, "gain": 1.2}'


def _tell(world: World, control: Path) -> None:
    from rich.table import Table

    table = Table(title=f"emulated motors on {world.wires[0].address}", title_justify="left")
    for title in ("id", "joint", "angle / deg", "supply / V", "degC"):
        table.add_column(title, justify="left" if title == "joint" else "right")
    state = world.state()
    for motor in state["motors"]:
        table.add_row(
            str(motor["bus_id"]), escape(motor["name"]), f"{motor['angle_rad'] * 57.29578:.1f}",
            f"{motor['supply_v']:.1f}", f"{motor['temperature_c']:.0f}",
        )  # fmt: skip
    err.print(table)
    time_says = "passes only over the control socket (lockstep)" if world.lockstep else "follows the wall clock"
    err.print(f"time {time_says}; control socket: {escape(str(control))}")
    err.print("Ctrl-C ends it.")


def _help() -> None:
    out.print("usage: cadenza emulate KIND [OPTIONS]      cadenza emulate KIND --help explains one\n")
    for name, summary in KINDS.items():
        out.print(f"  [bold]{name:10}[/] {summary}")
    out.print("\nStart here:")
    out.print("  cadenza emulate dynamixel --robot op3")
    out.print("  cadenza emulate dynamixel --motor XM430-W350 --ids 1 2 3")
