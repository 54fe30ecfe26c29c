"""What the commands about motors share: buses that close themselves, who answers, tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from rich.table import Table

    from cadenza.robots.hardware.bus import MotorBus, MotorSettings
    from cadenza.robots.hardware.opening import BusSpec
    from cadenza.robots.hardware.types import Identity, JointState

PATIENCE_S = 0.1
"""Beyond its wire time an answer may take this long: set-up is in no hurry, and a busy computer is no silent motor."""
SCAN_PATIENCE_S = 0.02
"""The same where every address is asked: each one that is free costs it twice."""


@contextmanager
def opened(
    spec: BusSpec | str, settings: Sequence[MotorSettings] = (), patience_s: float = PATIENCE_S
) -> Iterator[MotorBus]:
    """A bus that is closed in the end."""
    from cadenza.robots.hardware.opening import SERIAL_BAUD, open_bus, parse_spec

    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    bus = open_bus(parsed, settings, margin_s=patience_s if parsed.kind in SERIAL_BAUD else None)
    try:
        yield bus
    finally:
        bus.close()


def numbers_of(text: str, highest: int = 252) -> list[int]:
    """``1-3,200`` -> [1, 2, 3, 200]; empty: all.

    Raises:
        CadenzaError: it is no such list.
    """
    if not text:
        return list(range(highest + 1))
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise CadenzaError(f"--ids takes addresses like 1-20,200, got {text!r}.")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def answering(bus: MotorBus, ids: str = "") -> tuple[list[Identity], set[int]]:
    """Who answers, and the addresses at which more than one seems to."""
    if not ids and hasattr(bus, "sweep"):
        found: tuple[list[Identity], set[int]] = bus.sweep()
        return found
    from rich.progress import Progress

    wanted, who = numbers_of(ids), []
    with Progress(console=out, disable=not out.is_terminal, transient=True) as bar:
        for number in bar.track(wanted, description="asking"):
            who += bus.scan([number])
    return who, set()


def alone(bus: MotorBus, bus_id: int) -> Identity:
    """The motor at an address, which must be the only one on its bus.

    Raises:
        CadenzaError: it does not answer, or others do.
    """
    found, doubled = answering(bus)
    others = [str(one.bus_id) for one in found if one.bus_id != bus_id]
    if others or doubled:
        who = f"{', '.join(others)} too" if others else "two motors at one address"
        raise CadenzaError(
            f"Several motors answer ({who}); nothing was changed.",
            "Connect only the one that is to be changed: two with one address can then not come about.",
        )
    if not found:
        raise CadenzaError(f"Nobody answers at address {bus_id}.", "`cadenza motors scan BUS` tries every speed.")
    return found[0]


def speeds(spec: BusSpec) -> Sequence[int | None]:
    """Those to try: the spec's, or all that its kind has."""
    from cadenza.robots.hardware.opening import SERIAL_BAUD

    if spec.baud is not None:
        return [spec.baud]
    if spec.kind in SERIAL_BAUD:
        return sorted(baud_codes(spec))
    return [None]


def only_serial(text: str) -> BusSpec:
    """The spec of a serial bus.

    Raises:
        CadenzaError: it is another kind.
    """
    from cadenza.robots.hardware.opening import SERIAL_BAUD, parse_spec

    spec = parse_spec(text)
    if spec.kind not in SERIAL_BAUD:
        raise CadenzaError(f"A {spec.kind} motor is set up with its maker's tool.", "This command is for serial buses.")
    return spec


def baud_codes(spec: BusSpec) -> dict[int, int]:
    """bit/s -> value of the register, of a serial bus."""
    only_serial(str(spec))
    if spec.kind == "dynamixel":
        from cadenza.robots.hardware.dynamixel.table import BAUD_CODES

        return BAUD_CODES
    from cadenza.robots.hardware.feetech import table

    return {rate: code for code, rate in table.BAUD_RATES.items()}


def watched(spec: str, robot: str | None, ids: str) -> list[MotorSettings]:
    """Motors of a robot's joint table, or whoever answers."""
    from cadenza.robots.hardware.bus import MotorSettings
    from cadenza.robots.hardware.calibration import same_model
    from cadenza.robots.motors import MOTORS

    turn = (-math.pi + 1e-3, math.pi - 1e-3)
    only = set(numbers_of(ids)) if ids else None
    if robot is not None:
        from cadenza.robots import load_humanoid

        rows = [(row.name, row.bus_id, row.motor) for row in load_humanoid(robot).joints]
    else:
        with opened(spec, patience_s=SCAN_PATIENCE_S) as bus:
            found, _ = answering(bus, ids)
        rows = [
            (f"id {one.bus_id}", one.bus_id, next((m for m in MOTORS if same_model(m, one.model)), one.model))
            for one in found
            if one.model != "OpenCR"
        ]
    return [
        MotorSettings(name, number, motor, 0.0, 0.0, turn, 0.0, 0.0)
        for name, number, motor in rows
        if only is None or number in only
    ]


def state_table(settings: Sequence[MotorSettings], state: JointState) -> Table:
    """One reading as a table."""
    from rich.table import Table

    from cadenza.robots.hardware.types import Fault

    table = Table("joint", "id", "deg", "rad/s", "N m", "degC", "V", "age ms", "faults")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for i, row in enumerate(settings):
        faults = [str(fault.name).lower() for fault in Fault if fault and int(state.fault[i]) & fault]
        numbers = (
            (math.degrees(state.q[i]), 1), (state.dq[i], 2), (state.tau[i], 2), (state.temperature[i], 0),
            (state.voltage[i], 1), (1e3 * state.age[i], 0),
        )  # fmt: skip
        table.add_row(
            escape(row.name), str(row.bus_id), *(_number(value, digits) for value, digits in numbers),
            f"[bold red]{', '.join(faults)}[/]" if faults else "",
        )  # fmt: skip
    return table


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
