"""A pair of pseudo-terminals, raw, with a link to the host's end: the port that emulated devices hang on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import tty
from pathlib import Path

from cadenza.robots.hardware.errors import HardwareError

_TCGETS2 = 0x802C542A  # Linux, asm-generic: termios with the speed as a number, which may be any


class PseudoTerminal:
    """The devices' end of a serial port; open until :meth:`close`.

    Args:
        link: a symbolic link to make to the port; removed in the end.
        speed: what the terminal is set to before anybody opens it, bit/s; other speeds than termios names are left.

    Raises:
        HardwareError: the link cannot be made because something else stands there.
    """

    def __init__(self, link: Path | None = None, speed: int | None = None):
        self._link = link
        self._devices, self._host = os.openpty()
        self._woken, self._wake = os.pipe()
        self._waiting = threading.Lock()
        tty.setraw(self._devices)
        tty.setraw(self._host)
        named = getattr(termios, f"B{speed}", None)
        if named is not None:
            attributes = termios.tcgetattr(self._host)
            attributes[4] = attributes[5] = named
            termios.tcsetattr(self._host, termios.TCSANOW, attributes)
        os.set_blocking(self._devices, False)
        path = os.ttyname(self._host)
        self.address = path if link is None else str(link)
        """What the host opens."""
        if link is not None:
            if link.is_symlink():
                link.unlink()
            try:
                link.symlink_to(path)
            except OSError as error:
                self.close()
                raise HardwareError(
                    f"The link {link} cannot be made: {error.strerror}.", "Choose another path for --link."
                ) from error

    @property
    def is_open(self) -> bool:
        """Whether the port is there."""
        return self._devices >= 0

    def speed(self) -> int:
        """What the host has set, bit/s."""
        answer = fcntl.ioctl(self._host, _TCGETS2, b"\0" * 44)
        return int(struct.unpack("4I20x2I", answer)[5])

    def wait(self, most_s: float) -> bool:
        """Wait until the host has sent something; whether it has. Closing ends the wait at once."""
        with self._waiting:
            if not self.is_open:
                return False
            ready, _, _ = select.select([self._devices, self._woken], [], [], most_s)
            return self._devices in ready

    def read(self) -> bytes:
        """What the host has sent, up to 4 KiB, without waiting; empty where there is nothing more."""
        if not self.is_open:
            return b""
        with contextlib.suppress(OSError):
            return os.read(self._devices, 4096)
        return b""

    def write(self, data: bytes) -> None:
        """Send to the host. One that never reads fills the terminal: bytes are lost then, as on a wire."""
        if self.is_open and data:
            with contextlib.suppress(OSError):
                os.write(self._devices, data)

    def close(self) -> None:
        """Take the port away, as an adapter that is pulled: the host's next write fails."""
        if not self.is_open:
            return
        # A thread that waits keeps the terminal alive: the kernel hangs up only when the wait is over.
        os.write(self._wake, b"x")
        with self._waiting:
            for descriptor in (self._devices, self._host, self._woken, self._wake):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._devices = self._host = self._woken = self._wake = -1
        if self._link is not None and self._link.is_symlink():
            with contextlib.suppress(OSError):
                self._link.unlink()
