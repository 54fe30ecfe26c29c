"""Feetech's SDK, and the serial port that its packet handler runs on.

The port is :class:`cadenza.robots.hardware.transports.serial.SerialPort` in place of the SDK's own ``PortHandler``,
which (1.0.0, ``port_handler.py``) allows every reply 34 ms beyond its time on the wire, measures that on the wall
clock, spins while it waits, and leaves late bytes of one exchange in the buffer, where the next one takes them for its
answer.
"""

from __future__ import annotations

from typing import Any

from cadenza.robots.hardware.errors import MissingSdkError
from cadenza.robots.hardware.transports.serial import SerialPort


def sdk() -> Any:
    """The module ``scservo_sdk`` of the package feetech-servo-sdk. (ftservo-python-sdk installs a module of that name
    too, with other methods: only one of the two can be installed.)

    Raises:
        MissingSdkError: it is not installed, or it is the other one.
    """
    try:
        import scservo_sdk
    except ImportError as error:
        raise MissingSdkError("scservo_sdk", "feetech") from error
    if not hasattr(scservo_sdk, "PacketHandler"):
        raise MissingSdkError("scservo_sdk.PacketHandler", "feetech")
    return scservo_sdk


def serial_port(device: str, baud: int = 1_000_000, margin_s: float = 0.004) -> SerialPort:
    """A port that is not open yet; see :class:`SerialPort`."""
    return SerialPort(device, baud, margin_s=margin_s, extra="feetech")
