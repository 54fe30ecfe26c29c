"""A motor bus from one line of text, as users write it: ``dynamixel:/dev/ttyUSB0@2000000``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.names import nearest

if TYPE_CHECKING:
    from cadenza.robots.hardware.bus import MotorBus, MotorSettings
    from cadenza.robots.hardware.clock import Clock
    from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions

SERIAL_BAUD = {"dynamixel": 2_000_000, "feetech": 1_000_000}
"""Speed where a spec names none: the OP3's; an STS3215's as delivered."""
KINDS = ("dynamixel", "feetech", "damiao", "robstride")
_EXAMPLES = (
    "dynamixel:/dev/ttyUSB0\ndynamixel:/dev/ttyUSB0@2000000\nfeetech:/dev/ttyACM0\n"
    "damiao:can0\nrobstride:socketcan:can0\ndamiao:udp_multicast:239.74.163.2"
)


@dataclass(frozen=True)
class BusSpec:
    """Where motors are."""

    kind: str
    """A name of :data:`KINDS`."""
    port: str
    """Serial port, or CAN channel."""
    baud: int | None = None
    """bit/s of a serial port, or of CAN where the interface sets it."""
    interface: str | None = None
    """Kind of a CAN channel, as :class:`CanSpec` has them; None: what its name suggests."""

    def __str__(self) -> str:
        inner = f"{self.interface}:{self.port}" if self.interface else self.port
        return f"{self.kind}:{inner}" + (f"@{self.baud}" if self.baud else "")


def parse_spec(text: str) -> BusSpec:
    """``KIND:PORT``, ``KIND:PORT@BAUD``; for CAN also ``KIND:INTERFACE:CHANNEL``.

    Raises:
        HardwareError: it is none; the advice shows some.
    """
    kind, colon, rest = text.partition(":")
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        raise HardwareError(
            f"{text!r} names no bus that Cadenza knows.",
            (f"Did you mean {near[0]}? " if near else "") + f"Buses are written like this:\n{_EXAMPLES}",
        )
    where, at, speed = rest.rpartition("@")
    if not at:
        where, speed = rest, ""
    if not colon or not where or (at and not speed.isdecimal()):
        raise HardwareError(f"{text!r} is no bus.", f"Buses are written like this:\n{_EXAMPLES}")
    baud = int(speed) if speed else None
    if kind in SERIAL_BAUD:
        return BusSpec(kind, where, baud)
    interface, colon, channel = where.partition(":")
    return BusSpec(kind, channel, baud, interface) if colon else BusSpec(kind, where, baud)


def open_bus(
    spec: BusSpec | str,
    settings: Sequence[MotorSettings] = (),
    clock: Clock | None = None,
    *,
    margin_s: float | None = None,
    dynamixel: DynamixelOptions | None = None,
    **more: Any,
) -> MotorBus:
    """The bus of a spec, not yet connected: nothing is opened or sent before :meth:`MotorBus.connect`.

    Args:
        spec: which.
        settings: its motors; none for one that only scans and sets up.
        clock: on which samples age.
        margin_s: of a serial port, see :class:`SerialPort`.
        dynamixel: options of a DYNAMIXEL bus.
        more: passed on to the class of a Feetech or CAN bus; ``ranges`` of RobStride drives go to their codec.

    Raises:
        HardwareError: the spec is none.
        MissingSdkError: the vendor's package is not installed (some buses find out in ``connect``).
    """
    found = parse_spec(spec) if isinstance(spec, str) else spec
    if found.kind in SERIAL_BAUD:
        from cadenza.robots.hardware.transports.serial import SerialPort

        margin = {} if margin_s is None else {"margin_s": margin_s}
        port = SerialPort(found.port, found.baud or SERIAL_BAUD[found.kind], extra=found.kind, **margin)
        if found.kind == "dynamixel":
            from cadenza.robots.hardware.dynamixel.bus import DynamixelBus

            return DynamixelBus(settings, port, clock, dynamixel)
        from cadenza.robots.hardware.feetech.bus import FeetechBus

        feetech: Any = FeetechBus(port=port, settings=settings, clock=clock, **more)
        made: MotorBus = feetech
        return made
    from cadenza.robots.hardware.canbus.bus import CanBus

    can: Any = CanBus(_channel(found), settings, _codec(found.kind, more), clock=clock, **more)
    opened: MotorBus = can
    return opened


def _channel(spec: BusSpec) -> Any:
    from dataclasses import replace

    from cadenza.robots.hardware.transports.canport import CanPort, CanSpec

    channel = CanSpec.parse(f"{spec.interface}:{spec.port}" if spec.interface else spec.port)
    return CanPort(channel if spec.baud is None else replace(channel, bitrate=spec.baud))


def _codec(kind: str, more: dict[str, Any]) -> Any:
    """A maker's frames; takes ``ranges`` and ``host_id`` of a RobStride bus out of ``more``."""
    if kind == "damiao":
        from cadenza.robots.hardware.canbus.damiao import DamiaoCodec

        return DamiaoCodec()
    from cadenza.robots.hardware.canbus.robstride import RobStrideCodec

    given = {name: more.pop(name) for name in ("host_id",) if name in more}
    return RobStrideCodec(more.pop("ranges", {}), **given)
