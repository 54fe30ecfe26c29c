"""A serial port as the packet handlers of dynamixel-sdk and scservo_sdk expect it, without their waiting times.

Both vendors' libraries come with a ``PortHandler`` that adds 16 ms twice to the time in which an answer must arrive (34
ms for every motor that is absent), polls the port in a busy loop, and lets two programs open it at once. The class here
has the same methods, so their packet code runs on it unchanged, but

* an answer must arrive within its time on the wire, plus that of the request, plus a small margin;
* it sleeps until bytes arrive;
* it is opened for one program alone;
* every byte sent and received can be watched (:attr:`SerialPort.taps`), for logs and tests;
* a port that vanished raises :class:`HardwareError`, so it is never taken for a motor that is silent.

For Linux and macOS.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cadenza.robots.hardware.errors import HardwareError, MissingSdkError

log = logging.getLogger(__name__)

BAUDS = (9600, 57600, 115200, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
"""What motors on serial buses speak, bit/s."""
_BITS_PER_BYTE = 10  # start, eight, stop

Direction = Literal["sent", "received"]
Tap = Callable[[float, Direction, bytes], None]


@dataclass(frozen=True)
class Chunk:
    """Bytes that went over a port at once."""

    at_s: float
    """On the machine's monotonic clock."""
    direction: Direction
    data: bytes


class ByteLog:
    """The newest bytes of a port, when it is one of its :attr:`SerialPort.taps`.

    Args:
        most: how many chunks are kept; None keeps all.
    """

    def __init__(self, most: int | None = 10_000):
        self.chunks: deque[Chunk] = deque(maxlen=most)

    def __call__(self, at_s: float, direction: Direction, data: bytes) -> None:
        self.chunks.append(Chunk(at_s, direction, data))

    def all(self, direction: Direction) -> bytes:
        """All that is kept of one direction, joined."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.direction == direction)


class SerialPort:
    """A serial port for one program, with the methods that both vendors' packet handlers call.

    Their names in camel case are the vendors'; ours are :meth:`open`, :meth:`close`, :meth:`settle`.

    Args:
        name: path of the device.
        baud: bit/s.
        margin_s: what an answer may take beyond its time on the wire: the motor's reaction, the adapter, and this
            computer's scheduler. Longer where the machine is busy; it is what each absent motor costs.
        extra: installs pyserial, for the message where that is missing.
    """

    def __init__(self, name: str, baud: int = 1_000_000, *, margin_s: float = 0.004, extra: str = "dynamixel"):
        self.name, self.baud, self.margin_s = name, baud, margin_s
        self.taps: list[Tap] = []
        """Called with the monotonic time, the direction and the bytes of each chunk."""
        self.allowance_s = 0.0
        """Added to every deadline until changed, e.g. for many motors that each wait before they answer."""
        self.longest_s: float | None = None
        """Caps deadlines that a packet handler sets in milliseconds."""
        self._extra = extra
        self._serial: Any = None
        self._fd = -1
        self._began = self._timeout = 0.0
        self._latest = math.inf
        self._sent_bytes = 0
        # Attributes that the vendors' packet handlers read and write.
        self.is_open = False
        self.is_using = False
        self.baudrate = baud
        self.port_name = name

    # ------------------------------------------------------------------ ours

    def open(self) -> None:
        """Open it for this program alone; does nothing where it is open.

        Raises:
            HardwareError: it is not there, taken, not ours to use, or cannot have that speed.
            MissingSdkError: pyserial is not installed.
        """
        if self.is_open:
            return
        try:
            import serial
        except ImportError as error:
            raise MissingSdkError("serial", self._extra) from error
        try:
            # exclusive: an advisory lock, which holds against root too; TIOCEXCL below also stops other programs.
            self._serial = serial.Serial(self.name, self.baud, timeout=0, exclusive=True)
        except (OSError, ValueError) as error:
            raise _cannot_open(self.name, self.baud, error) from error
        self._fd = self._serial.fileno()
        _claim(self._fd)
        self.is_open = True
        self.is_using = False
        _hint_latency(self._serial, self.name)

    def close(self) -> None:
        """Close it; may be called twice, never raises."""
        if self._serial is not None:
            try:
                self._serial.close()
            except OSError as error:
                log.debug("closing %s: %s", self.name, error)
        self._serial, self._fd, self.is_open, self.is_using = None, -1, False, False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A block in which no answer is waited for beyond so long from now, nor beyond such a block around it."""
        before, self._latest = self._latest, min(self._latest, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._latest = before

    def left_s(self) -> float:
        """What is left of the time that :meth:`within` allows; infinite outside of it."""
        return self._latest - time.monotonic()

    def settle(self, quiet_s: float = 0.002, at_most_s: float = 0.02) -> int:
        """Throw away what still arrives, until nothing has for ``quiet_s``; how many bytes there were.

        After an answer that came too late or garbled: its rest must not be taken for the next one.
        """
        until, thrown = min(time.monotonic() + at_most_s, self._latest), 0
        while time.monotonic() < until and self._wait(quiet_s):
            thrown += len(self._take(4096))
        return thrown

    # ------------------------------------------------------------------ what the vendors' packet handlers call

    def openPort(self) -> bool:
        self.open()
        return True

    def closePort(self) -> None:
        self.close()

    def clearPort(self) -> None:
        """Throw away what has arrived."""
        while self._take(4096):
            pass

    def setPortName(self, port_name: str) -> None:
        self.name = self.port_name = port_name

    def getPortName(self) -> str:
        return self.name

    def setBaudRate(self, baudrate: int) -> bool:
        """Change the speed, also while it is open.

        Raises:
            HardwareError: the port cannot have it.
        """
        self.baud = self.baudrate = baudrate
        if self._serial is not None:
            try:
                self._serial.baudrate = baudrate
            except (OSError, ValueError) as error:
                raise _cannot_open(self.name, baudrate, error) from error
        return True

    def getBaudRate(self) -> int:
        return self.baud

    def getBytesAvailable(self) -> int:
        return int(self._serial.in_waiting) if self._serial is not None else 0

    def readPort(self, length: int) -> bytes:
        """Up to ``length`` bytes; where there are none yet, those that arrive before the packet's deadline."""
        if length <= 0:
            return b""
        data = self._take(length)
        if data:
            return data
        left = self._began + self._timeout - time.monotonic()
        return self._take(length) if left > 0 and self._wait(left) else b""

    def writePort(self, packet: Any) -> int:
        """Send bytes, or a list of their values; how many."""
        data = bytes(packet)
        view = memoryview(data)
        self._require_open()
        self._tap("sent", data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                select.select([], [self._fd], [], 0.1)
            except OSError as error:
                raise self._vanished(error) from error
        self._sent_bytes = len(data)
        return len(data)

    def setPacketTimeout(self, packet_length: int) -> None:
        """An answer of that many bytes must be complete by its wire time and the request's, plus the margin."""
        on_wire = (packet_length + self._sent_bytes) * _BITS_PER_BYTE / self.baud
        self._began = time.monotonic()
        self._timeout = min(on_wire + self.margin_s + self.allowance_s, max(self._latest - self._began, 0.0))

    def setPacketTimeoutMillis(self, msec: float) -> None:
        seconds = msec / 1e3 if self.longest_s is None else min(msec / 1e3, self.longest_s)
        self._began, self._timeout = time.monotonic(), seconds

    def isPacketTimeout(self) -> bool:
        return time.monotonic() - self._began > self._timeout

    def getCurrentTime(self) -> float:
        """Milliseconds, monotonic."""
        return time.monotonic() * 1e3

    def getTimeSinceStart(self) -> float:
        """Milliseconds."""
        return (time.monotonic() - self._began) * 1e3

    # ------------------------------------------------------------------ inside

    def _take(self, most: int) -> bytes:
        data = self._read(most)
        if not data and self._wait(0.0):
            data = self._read(most)  # it may have come since the first look
            if not data and self._wait(0.0):
                # Readable, yet empty twice: the end of a file that a port has no other way to have.
                raise self._vanished(OSError(errno.EIO, os.strerror(errno.EIO)))
        if data:
            self._tap("received", data)
        return data

    def _read(self, most: int) -> bytes:
        self._require_open()
        try:
            return os.read(self._fd, most)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._vanished(error) from error

    def _wait(self, at_most_s: float) -> bool:
        self._require_open()
        return bool(select.select([self._fd], [], [], max(at_most_s, 0.0))[0])

    def _tap(self, direction: Direction, data: bytes) -> None:
        if self.taps:
            at_s = time.monotonic()
            for tap in self.taps:
                tap(at_s, direction, data)

    def _require_open(self) -> None:
        if self._fd < 0:
            raise HardwareError(f"The port {self.name} is not open.", "Call connect() first.")

    def _vanished(self, error: OSError) -> HardwareError:
        self.is_using = False
        return HardwareError(
            f"The port {self.name} is gone ({error.strerror or error}).",
            "Is the adapter still plugged in? Motors without a watchdog of their own keep their last goal.",
        )


def latency_timer_ms(name: str, sysfs: Path = Path("/sys/bus/usb-serial/devices")) -> int | None:
    """How long a USB adapter may hold back a byte before it passes it on, ms; None where it does not say.

    FTDI's chips wait 16 ms as delivered (FTDI AN232B-04), which caps a loop of request and answer at about 60 Hz.
    """
    file = sysfs / Path(name).resolve().name / "latency_timer"
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _hint_latency(port: Any, name: str) -> None:
    held = latency_timer_ms(name)
    if held is None or held <= 1:
        return
    try:
        port.set_low_latency_mode(True)
    except (OSError, ValueError, AttributeError) as error:
        log.debug("low latency on %s: %s", name, error)
    held = latency_timer_ms(name)
    if held is not None and held > 1:
        log.warning(
            "%s holds back each answer for up to %d ms. As root: echo 1 > /sys/bus/usb-serial/devices/%s/latency_timer",
            name, held, Path(name).resolve().name,
        )  # fmt: skip


def _claim(fd: int) -> None:
    import fcntl
    import termios

    try:
        fcntl.ioctl(fd, termios.TIOCEXCL)
    except OSError as error:
        log.debug("TIOCEXCL: %s", error)


def _cannot_open(name: str, baud: int, error: Exception) -> HardwareError:
    code = getattr(error, "errno", None)
    text = str(error)
    if code == errno.ENOENT or "No such file" in text:
        return HardwareError(f"There is no port {name}.", _ports_that_exist())
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text or "busy" in text:
        return HardwareError(
            f"The port {name} is in use by another program.",
            f"Which one: fuser {name}. Two programs garble each other.",
        )
    if code in (errno.EACCES, errno.EPERM):
        return HardwareError(
            f"You may not use the port {name}.", "sudo usermod -aG dialout $USER, then log in again (Debian, Ubuntu)."
        )
    return HardwareError(f"Cannot open {name} at {baud} bit/s: {text}.", "Does this adapter have that speed?")


def _ports_that_exist() -> str:
    from serial.tools.list_ports import comports

    names = sorted(port.device for port in comports())
    return f"There are: {', '.join(names)}." if names else "No serial port was found: is the adapter plugged in?"
