"""A CAN bus from words: kind of drive, channel, ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.bus import CanBus
from cadenza.robots.hardware.canbus.codec import Codec
from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.canbus.ranges import RangeSet, candidate
from cadenza.robots.hardware.canbus.robstride import RobStrideCodec
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.transports.canport import CanPort, CanSpec
from cadenza.robots.names import unknown_name

KINDS = ("damiao", "robstride")


def parse_ranges(text: str) -> dict[str, RangeSet]:
    """``RS-02=robstride-sdk;left_knee=12.566,44,17,500,5``: by model or joint, a named source or five numbers.

    Raises:
        RefusedError: it is no such list.
        UnknownNameError: no such model or source.
    """
    found: dict[str, RangeSet] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not name or not value:
            raise RefusedError(f"{part!r} names no ranges.", "RS-02=robstride-sdk or RS-02=12.566,44,17,500,5")
        found[name] = RangeSet.parse(value) if "," in value else candidate(name, value)
    return found


def can_bus(
    kind: str,
    channel: CanSpec | str,
    settings: Sequence[MotorSettings] = (),
    *,
    ranges: Mapping[str, RangeSet] | str = "",
    clock: Clock | None = None,
    margin_s: float = 0.004,
    reuse_s: float = 0.006,
) -> CanBus:
    """A bus, not yet connected.

    Args:
        kind: one of :data:`KINDS`; ``robstride`` stands for CyberGears too.
        channel: as in :meth:`CanSpec.parse`.
        settings: the motors; none for a bus that only scans.
        ranges: of RobStride drives, by joint or model, see :func:`parse_ranges`; Damiao drives are asked for theirs.
        clock: for the age of samples.
        margin_s: see :class:`CanBus`.
        reuse_s: see :class:`CanBus`.

    Raises:
        UnknownNameError: no such kind.
        RefusedError: a RobStride drive without ranges, or ids that alias.
        HardwareError: the channel is none, or ranges were given for Damiao drives.
    """
    chosen = parse_ranges(ranges) if isinstance(ranges, str) else ranges
    codec: Codec
    if kind == "damiao":
        if chosen:
            raise HardwareError("Damiao drives say themselves which ranges they have.", "Leave the ranges away.")
        codec = DamiaoCodec()
    elif kind == "robstride":
        codec = RobStrideCodec(chosen)
    else:
        raise unknown_name("kind of CAN drive", kind, KINDS)
    port = CanPort(CanSpec.parse(channel) if isinstance(channel, str) else channel)
    return CanBus(port, settings, codec, clock=clock, margin_s=margin_s, reuse_s=reuse_s)
