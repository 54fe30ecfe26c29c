"""A CAN bus from words: kind of drive, channel, ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.bus import CanBus
from cadenza.robots.hardware.canbus.codec import Codec
from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.canbus.ranges import RangeSet, parse_ranges
from cadenza.robots.hardware.canbus.robstride import RobStrideCodec
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.canport import CanPort, CanSpec
from cadenza.robots.names import unknown_name

KINDS = ("damiao", "robstride")


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
