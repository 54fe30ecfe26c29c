"""A CAN channel over python-can: frames out, frames in, a log of both, and errors that say what is gone.

Four kinds of channel are meant here: ``socketcan`` (a real interface, ``ip link set can0 up type can bitrate
1000000``), ``slcan`` (an adapter, or an emulator's pseudo-terminal, that speaks the serial-line protocol),
``udp_multicast`` (between processes of one machine, no hardware; needs msgpack) and ``virtual`` (inside one process).

A bus that went off (SocketCAN's error class CAN_ERR_BUSOFF, linux/can/error.h) and a channel that vanished raise
:class:`HardwareError`; other error frames are passed on and counted by whoever reads.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cadenza.robots.hardware.errors import HardwareError, MissingSdkError

log = logging.getLogger(__name__)

INTERFACES = ("socketcan", "slcan", "udp_multicast", "virtual")
DEFAULT_GROUP = "239.74.163.2"
"""Multicast group that python-can suggests for IPv4."""
DEFAULT_PORT = 43113
"""Its port. Two buses of one machine need two ports: a socket hears all groups that anybody has joined on its port."""
_ERROR_BUS_OFF = 0x40  # linux/can/error.h
_SEND_TIMEOUT_S = 0.05

Direction = Literal["sent", "received"]


@dataclass(frozen=True)
class Frame:
    """A CAN 2.0 data frame, or an error frame from the adapter."""

    id: int
    """Arbitration id, 11 or 29 bits; of an error frame its class."""
    data: bytes = b""
    extended: bool = False
    """29-bit id."""
    error: bool = False


Tap = Callable[[float, Direction, Frame], None]


@dataclass(frozen=True)
class Chunk:
    """A frame that went over a channel."""

    at_s: float
    """On the machine's monotonic clock."""
    direction: Direction
    frame: Frame


class FrameLog:
    """The newest frames of a channel, when it is one of its :attr:`CanPort.taps`.

    Args:
        most: how many are kept; None keeps all.
    """

    def __init__(self, most: int | None = 10_000):
        self.chunks: deque[Chunk] = deque(maxlen=most)

    def __call__(self, at_s: float, direction: Direction, frame: Frame) -> None:
        self.chunks.append(Chunk(at_s, direction, frame))

    def frames(self, direction: Direction) -> list[Frame]:
        """What is kept of one direction, oldest first."""
        return [chunk.frame for chunk in self.chunks if chunk.direction == direction]


@dataclass(frozen=True)
class CanSpec:
    """Which channel to open.

    Raises:
        HardwareError: no such kind of channel.
    """

    interface: str
    """One of :data:`INTERFACES`."""
    channel: str
    """``can0``; path of a serial port; a multicast group; any name for ``virtual``."""
    port: int = DEFAULT_PORT
    """Of ``udp_multicast``."""
    bitrate: int = 1_000_000
    """Set on the adapter by ``slcan``; ``socketcan`` takes what ``ip link`` has set."""
    settle_s: float = 0.1
    """An slcan adapter is left alone for this long after its serial port was opened."""

    def __post_init__(self) -> None:
        if self.interface not in INTERFACES:
            raise HardwareError(
                f"There is no kind of CAN channel named {self.interface!r}.", f"There are: {', '.join(INTERFACES)}."
            )
        if not self.channel:
            raise HardwareError(f"A {self.interface} channel needs a name.", "socketcan:can0, slcan:/dev/ttyACM0")

    @classmethod
    def parse(cls, text: str) -> CanSpec:
        """``socketcan:can0`` or ``can0``, ``slcan:/dev/ttyACM0`` or ``/dev/ttyACM0``, ``udp_multicast:239.74.163.2``
        or ``udp_multicast:239.74.163.2:43113``, ``virtual:NAME``; ``udp_multicast`` alone takes the usual group.

        Raises:
            HardwareError: none of these.
        """
        interface, _, rest = text.partition(":")
        if interface == "udp_multicast":
            if rest.startswith("["):
                group, _, tail = rest[1:].partition("]")
                port = tail.removeprefix(":")
            elif rest.count(":") > 1:  # IPv6 without a port
                group, port = rest, ""
            else:
                group, _, port = rest.partition(":")
            if port and not (port.isdigit() and 0 < int(port) < 65536):
                raise HardwareError(f"{port!r} is no UDP port.", "udp_multicast:239.74.163.2:43113")
            return cls("udp_multicast", group or DEFAULT_GROUP, int(port or DEFAULT_PORT))
        if interface in INTERFACES:
            return cls(interface, rest)
        if text.startswith("/"):
            return cls("slcan", text)
        if not rest and text:
            return cls("socketcan", text)
        raise HardwareError(
            f"{text!r} names no CAN channel.",
            "socketcan:can0, slcan:/dev/ttyACM0, udp_multicast:239.74.163.2:43113 or virtual:NAME.",
        )

    def __str__(self) -> str:
        if self.interface == "udp_multicast":
            group = f"[{self.channel}]" if ":" in self.channel else self.channel
            return f"{self.interface}:{group}:{self.port}"
        return f"{self.interface}:{self.channel}"


class CanPort:
    """One channel; made closed.

    Args:
        spec: which.
    """

    def __init__(self, spec: CanSpec):
        self.spec = spec
        self.taps: list[Tap] = []
        """Called with the monotonic time, the direction and each frame."""
        self._bus: Any = None
        self._can: Any = None
        self._mine = ""
        self._gone: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.spec)

    @property
    def is_open(self) -> bool:
        """Between :meth:`open` and :meth:`close`."""
        return self._bus is not None

    def open(self) -> None:
        """Open it; does nothing where it is open.

        Raises:
            HardwareError: it is not there or cannot be used.
            MissingSdkError: python-can, or what it needs for this kind of channel, is not installed.
        """
        if self._bus is not None:
            return
        try:
            import can
        except ImportError as error:
            raise MissingSdkError("can", "can") from error
        self._can = can
        try:
            self._bus = can.Bus(**_arguments(self.spec))
        except can.CanInterfaceNotImplementedError as error:
            if "msgpack" in str(error):
                raise MissingSdkError("msgpack", "can") from error
            raise _cannot_open(self.spec, error) from error
        except (can.CanError, OSError, ValueError) as error:
            raise _cannot_open(self.spec, error) from error
        self._mine = f"host-{id(self)}-{time.monotonic_ns()}"
        self._gone = ""

    def close(self) -> None:
        """Close it; may be called twice, never raises."""
        bus, self._bus = self._bus, None
        if bus is not None:
            try:
                bus.shutdown()
            except Exception as error:  # whatever a vendor's back end raises on a cable that is gone
                log.debug("closing %s: %s", self.name, error)

    def send(self, frame: Frame) -> None:
        """Send a data frame.

        Raises:
            HardwareError: the channel is closed or gone, the bus is off, or the frame does not get out.
        """
        bus = self._require()
        message = self._can.Message(
            arbitration_id=frame.id, data=frame.data, is_extended_id=frame.extended,
            channel=self._mine if self.spec.interface == "udp_multicast" else None,
        )  # fmt: skip
        self._tap("sent", frame)
        try:
            bus.send(message, timeout=_SEND_TIMEOUT_S)
        except Exception as error:  # a back end raises what it likes on a cable that is gone, e.g. termios.error
            raise self._lost(error) from error

    def receive(self, until_s: float) -> Frame | None:
        """The next frame, or None where none has come by that time of ``time.monotonic()``; one that is past takes
        what has arrived.

        Raises:
            HardwareError: the channel is closed or gone, or the bus is off.
        """
        bus = self._require()
        while True:
            try:
                message = bus.recv(timeout=max(until_s - time.monotonic(), 0.0))
            except Exception as error:  # as in send
                if isinstance(error, self._can.CanOperationError) and "unpack" in str(error):
                    return Frame(0, error=True)  # a datagram of somebody else on the same multicast port
                raise self._lost(error) from error
            if message is None:
                return None
            # A multicast socket hears its own frames; a CAN controller does not.
            if message.channel == self._mine:
                continue
            if message.is_remote_frame or message.is_fd:
                continue
            frame = Frame(
                message.arbitration_id, bytes(message.data), message.is_extended_id, bool(message.is_error_frame)
            )
            self._tap("received", frame)
            if frame.error and frame.id & _ERROR_BUS_OFF:
                self._gone = "the bus is off"
                raise self._off()
            return frame

    # ------------------------------------------------------------------ inside

    def _require(self) -> Any:
        if self._bus is None:
            raise HardwareError(f"The CAN channel {self.name} is not open.", "Call connect() first.")
        if self._gone:
            raise self._off()
        return self._bus

    def _off(self) -> HardwareError:
        return HardwareError(
            f"The CAN channel {self.name} carries nothing any more: {self._gone}.",
            "Check cable, termination (120 ohm at both ends) and bit rate; then open it again. "
            "Motors without an armed watchdog keep their last command.",
        )

    def _lost(self, error: Exception) -> HardwareError:
        code = getattr(error, "errno", None) or getattr(error, "error_code", None)
        text = str(error) or type(error).__name__
        if code == errno.ENOBUFS or isinstance(error, self._can.CanTimeoutError):
            return HardwareError(
                f"Frames do not get out on {self.name}: {text}.",
                "Nobody acknowledges them. Are the motors powered, and is the bit rate theirs?",
            )
        self._gone = text
        return self._off()

    def _tap(self, direction: Direction, frame: Frame) -> None:
        if self.taps:
            at_s = time.monotonic()
            for tap in self.taps:
                tap(at_s, direction, frame)


def open_can(spec: CanSpec | str) -> CanPort:
    """An open channel.

    Args:
        spec: which; a string as in :meth:`CanSpec.parse`.

    Raises:
        HardwareError: it is not there or cannot be used.
        MissingSdkError: python-can, or what it needs for this kind of channel, is not installed.
    """
    port = CanPort(CanSpec.parse(spec) if isinstance(spec, str) else spec)
    port.open()
    return port


def _arguments(spec: CanSpec) -> dict[str, Any]:
    # python-can would otherwise merge ~/.canrc and CAN_* variables of the environment.
    common: dict[str, Any] = {"interface": spec.interface, "channel": spec.channel, "ignore_config": True}
    if spec.interface == "udp_multicast":
        return {**common, "port": spec.port, "fd": False}
    if spec.interface == "slcan":
        return {**common, "bitrate": spec.bitrate, "sleep_after_open": spec.settle_s, "timeout": 0.001}
    return common


def _cannot_open(spec: CanSpec, error: Exception) -> HardwareError:
    text = str(error) or type(error).__name__
    if spec.interface == "socketcan":
        advice = (
            f"Is it up? sudo ip link set {spec.channel} up type can bitrate {spec.bitrate}; "
            "`ip -details link show type can` lists what there is."
        )
    elif spec.interface == "slcan":
        advice = "Is the adapter plugged in, and are you in the group dialout?"
    elif spec.interface == "udp_multicast":
        advice = f"A multicast group is an address from 224.0.0.0 to 239.255.255.255, e.g. {DEFAULT_GROUP}."
    else:
        advice = ""
    return HardwareError(f"The CAN channel {spec} cannot be opened: {text}.", advice)
