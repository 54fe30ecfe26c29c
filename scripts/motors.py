"""``cadenza motors``: look at motors on a bus and set them up, one at a time. Never switches torque on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.buses import (
    SCAN_PATIENCE_S,
    alone,
    answering,
    baud_codes,
    numbers_of,
    only_serial,
    opened,
    speeds,
    state_table,
    watched,
)
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.robots.hardware.bus import MotorBus

Bus = Annotated[str, tyro.conf.Positional]
Id = Annotated[int, tyro.conf.Positional]
_LOCKED = ("goal", "torque")
"""Registers that begin so set something in motion, or may."""


@dataclass(frozen=True)
class Scan:
    """Who answers, at every speed a motor of this kind may have, or at the one that BUS names."""

    bus: Bus
    """e.g. dynamixel:/dev/ttyUSB0, feetech:/dev/ttyACM0@1000000, damiao:can0"""
    ids: str = ""
    """addresses to ask, e.g. 1-20,200; by default all"""


@dataclass(frozen=True)
class Ping:
    """Whether one motor answers, and what it is."""

    bus: Bus
    """see scan"""
    id: Id
    """its address"""


@dataclass(frozen=True)
class SetId:
    """Give a motor another address. Connect it alone: nothing is changed where several answer."""

    bus: Bus
    """see scan"""
    id: Id
    """the address that it has"""
    new: Id
    """the address that it is to have"""


@dataclass(frozen=True)
class SetBaud:
    """Give a motor another speed. Connect it alone: nothing is changed where several answer."""

    bus: Bus
    """see scan"""
    id: Id
    """its address"""
    new: Id
    """bit/s, e.g. 2000000"""


@dataclass(frozen=True)
class Monitor:
    """A live table of position, speed, torque, temperature, voltage and faults; Ctrl-C ends it."""

    bus: Bus
    """see scan"""
    robot: str | None = None
    """names and addresses from this robot's joint table; by default whoever answers"""
    ids: str = ""
    """only these addresses, e.g. 1-6"""
    rate_hz: float = 10.0
    """readings a second"""
    once: bool = False
    """print one table and end"""


@dataclass(frozen=True)
class Reboot:
    """Restart a motor: its torque is off afterwards, latched errors are gone, what is not in EEPROM is lost."""

    bus: Bus
    """see scan"""
    id: Id
    """its address"""


@dataclass(frozen=True)
class Clear:
    """Acknowledge faults and tripped watchdogs; the torque of these motors goes off first."""

    bus: Bus
    """see scan"""
    ids: Annotated[str, tyro.conf.Positional]
    """addresses, e.g. 7 or 1-20"""


@dataclass(frozen=True)
class Read:
    """Registers of a motor by the names of its maker's table, in the maker's counts."""

    bus: Bus
    """see scan"""
    id: Id
    """its address"""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """registers; of a DYNAMIXEL by default all"""


@dataclass(frozen=True)
class Write:
    """Write a register of a motor and read it back. Torque and, under torque, goals are refused."""

    bus: Bus
    """see scan"""
    id: Id
    """its address"""
    name: Annotated[str, tyro.conf.Positional]
    """register"""
    value: Annotated[float, tyro.conf.Positional]
    """in the maker's counts"""


@dataclass(frozen=True)
class Power:
    """Supply of the servos of an OP3, which its OpenCR switches. Off: they fall limp."""

    bus: Bus
    """see scan"""
    state: Annotated[Literal["on", "off", "show"], tyro.conf.Positional] = "show"
    """what it is to be"""


@dataclass(frozen=True)
class Motors:
    """Look at motors on a bus, and set them up one at a time. Torque is never switched on.

    cadenza motors scan dynamixel:/dev/ttyUSB0
    cadenza motors ping dynamixel:/dev/ttyUSB0 3
    cadenza motors set-id dynamixel:/dev/ttyUSB0 1 7
    cadenza motors set-baud dynamixel:/dev/ttyUSB0@57600 7 2000000
    cadenza motors monitor dynamixel:/dev/ttyUSB0 --robot op3
    cadenza motors read dynamixel:/dev/ttyUSB0 7 temperature_limit
    cadenza motors write dynamixel:/dev/ttyUSB0 7 led 1
    cadenza motors clear dynamixel:/dev/ttyUSB0 7
    cadenza motors reboot dynamixel:/dev/ttyUSB0 7
    cadenza motors power dynamixel:/dev/ttyUSB0 on

    BUS is KIND:PORT or KIND:PORT@BAUD; kinds are dynamixel, feetech, damiao and robstride. docs/motors.md has a walk
    through a robot's first connection.
    """

    what: (
        Annotated[Scan, tyro.conf.subcommand("scan")]
        | Annotated[Ping, tyro.conf.subcommand("ping")]
        | Annotated[SetId, tyro.conf.subcommand("set-id")]
        | Annotated[SetBaud, tyro.conf.subcommand("set-baud")]
        | Annotated[Monitor, tyro.conf.subcommand("monitor")]
        | Annotated[Reboot, tyro.conf.subcommand("reboot")]
        | Annotated[Clear, tyro.conf.subcommand("clear")]
        | Annotated[Read, tyro.conf.subcommand("read")]
        | Annotated[Write, tyro.conf.subcommand("write")]
        | Annotated[Power, tyro.conf.subcommand("power")]
    )
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse and do it; 1 where nobody answers."""
    if not arguments:
        arguments = ["--help"]
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Motors), "motors", arguments
    ).what
    doing: dict[type, Any] = {
        Scan: _scan, Ping: _ping, SetId: _set_id, SetBaud: _set_baud, Monitor: _monitor, Reboot: _reboot,
        Clear: _clear, Read: _read, Write: _write, Power: _power,
    }  # fmt: skip
    return int(doing[type(what)](what))


def _scan(options: Scan) -> int:
    from rich.progress import Progress
    from rich.table import Table

    from cadenza.robots.hardware.opening import parse_spec

    spec = parse_spec(options.bus)
    table = Table("bit/s", "id", "model", "firmware", "")
    count = 0
    with Progress(console=out, disable=not out.is_terminal, transient=True) as bar:
        for baud in bar.track(speeds(spec), description="scanning"):
            with opened(replace(spec, baud=baud), patience_s=SCAN_PATIENCE_S) as bus:
                found, doubled = answering(bus, options.ids)
            for one in found:
                note = "[bold red]two motors with this id[/]" if one.bus_id in doubled else ""
                table.add_row(str(baud or ""), str(one.bus_id), escape(one.model), escape(one.firmware), note)
            for number in sorted(doubled - {one.bus_id for one in found}):
                table.add_row(str(baud or ""), str(number), "?", "", "[bold red]two motors with this id[/]")
            count += len(found) + len(doubled - {one.bus_id for one in found})
            if [one.model for one in found] == ["OpenCR"]:
                out.print("Only an OpenCR answers: `cadenza motors power BUS on` gives the servos their supply.")
    if not count:
        out.print("Nobody answers. Is the supply on, and the cable in the right socket?")
        return 1
    out.print(table)
    return 0


def _ping(options: Ping) -> int:
    with opened(options.bus) as bus:
        found = bus.ping(options.id)
    if found is None:
        out.print(f"Nobody answers at address {options.id}.")
        return 1
    serial = f", serial {found.serial}" if found.serial else ""
    out.print(f"{options.id}: {escape(found.model)}, firmware {escape(found.firmware)}{escape(serial)}")
    return 0


def _set_id(options: SetId) -> int:
    only_serial(options.bus)
    if not 0 <= options.new <= 252:
        raise CadenzaError(f"An address is 0 to 252, not {options.new}.")
    with opened(options.bus, patience_s=SCAN_PATIENCE_S) as bus:
        alone(bus, options.id)
        _change(bus, options.id, "id", options.new)
        if bus.ping(options.new) is None:
            raise CadenzaError(f"Nobody answers at address {options.new} after the change.", "Scan the bus.")
    out.print(f"address {options.id} is now {options.new}")
    return 0


def _set_baud(options: SetBaud) -> int:
    from cadenza.robots.hardware.opening import parse_spec

    spec = parse_spec(options.bus)
    codes = baud_codes(spec)
    if options.new not in codes:
        raise CadenzaError(f"{options.new} bit/s is not one of: {', '.join(map(str, sorted(codes)))}.")
    with opened(spec, patience_s=SCAN_PATIENCE_S) as bus:
        alone(bus, options.id)
        _change(bus, options.id, "baud_rate", codes[options.new])
    with opened(replace(spec, baud=options.new)) as bus:
        if bus.ping(options.id) is None:
            raise CadenzaError(f"Nobody answers at {options.new} bit/s after the change.", "Scan the bus.")
    out.print(f"address {options.id} now speaks {options.new} bit/s")
    return 0


def _change(bus: MotorBus, bus_id: int, name: str, value: int) -> None:
    """Write a register after which a motor is no longer heard where it was: reading it back fails then."""
    from cadenza.robots.hardware.errors import HardwareError

    try:
        bus.write_register(bus_id, name, value)
    except HardwareError:
        if bus.ping(bus_id) is not None:
            raise


def _monitor(options: Monitor) -> int:
    if not math.isfinite(options.rate_hz) or options.rate_hz <= 0:
        raise CadenzaError(f"--rate-hz must be positive, got {options.rate_hz}.")
    settings = watched(options.bus, options.robot, options.ids)
    if not settings:
        out.print("Nobody answers.")
        return 1
    with opened(options.bus, settings) as bus:
        bus.connect()
        bus.read()
        if options.once:
            out.print(state_table(settings, bus.read()))
            return 0
        from rich.live import Live

        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(state_table(settings, bus.read()), refresh=True)
                time.sleep(1 / options.rate_hz)


def _reboot(options: Reboot) -> int:
    with opened(options.bus) as bus:
        if bus.ping(options.id) is None:
            raise CadenzaError(f"Nobody answers at address {options.id}.")
        bus.reboot(options.id)
    out.print(f"{options.id} has restarted; its torque is off")
    return 0


def _clear(options: Clear) -> int:
    """All that can be cleared are; those that cannot are named in the end."""
    wrong = []
    with opened(options.bus) as bus:
        for number in numbers_of(options.ids):
            try:
                if bus.ping(number) is None:
                    raise CadenzaError(f"nobody answers at address {number}")
                bus.clear_fault(number)
                out.print(f"{number} is cleared; its torque is off")
            except CadenzaError as error:
                wrong.append(str(error))
    if wrong:
        raise CadenzaError(f"Not all were cleared: {'; '.join(wrong)}.")
    return 0


def _read(options: Read) -> int:
    from rich.table import Table

    with opened(options.bus) as bus:
        names, units = list(options.names), {}
        if hasattr(bus, "registers"):
            units = {item.name: item.unit for item in bus.registers(options.id)}
            names = names or list(units)
        if not names:
            raise CadenzaError("Which registers? This kind of bus has no list of all of them.")
        table = Table("register", "counts", "of")
        table.columns[1].justify = "right"
        for name in names:
            table.add_row(name, f"{bus.read_register(options.id, name):g}", units.get(name, ""))
    out.print(table)
    return 0


def _write(options: Write) -> int:
    with opened(options.bus) as bus:
        if options.name.startswith("torque") and options.value:
            raise CadenzaError(
                "`cadenza motors` never switches torque on.", "`cadenza deploy` does, with limits and a watchdog."
            )
        if options.name.startswith(_LOCKED) and options.value and bus.read_register(options.id, "torque_enable"):
            raise CadenzaError(
                f"Torque is on: writing {options.name} would move motor {options.id}.",
                f"Switch it off first: cadenza motors write {options.bus} {options.id} torque_enable 0",
            )
        before = bus.read_register(options.id, options.name)
        bus.write_register(options.id, options.name, options.value)
        after = bus.read_register(options.id, options.name)
    out.print(f"{options.name} of {options.id}: {before:g} -> {after:g}")
    return 0


def _power(options: Power) -> int:
    from cadenza.robots.hardware.dynamixel.opencr import OpenCr
    from cadenza.robots.hardware.opening import parse_spec

    if parse_spec(options.bus).kind != "dynamixel":
        raise CadenzaError("Only an OP3's OpenCR, on a DYNAMIXEL bus, switches its servos' supply.")
    with opened(options.bus) as bus:
        shared: Any = bus
        board = OpenCr(shared.port)
        board.connect()
        if options.state != "show":
            board.switch_power(options.state == "on")
        out.print(f"the servos' supply is {'on' if board.powered() else 'off'}")
    return 0
