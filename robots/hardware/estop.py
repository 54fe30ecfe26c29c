"""The software emergency stop: one latched flag, read in every tick, that keys, gamepads, sockets and signals trip.

It is a protective stop by a program, not an emergency stop in the sense of a safety function: it needs this process,
its computer and the bus to work. The emergency stop of a robot is a switch in the supply of its motors.

Each source is a context manager; its thread only ever trips the flag. A *dead-man* source must also be held for the
robot to be started at all: see :meth:`EStop.missing`.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from cadenza.robots.hardware.errors import HardwareError, RefusedError

log = logging.getLogger(__name__)

_POLL_S = 0.05


class Source(Protocol):
    """Something that trips an emergency stop."""

    def missing(self) -> str:
        """What an operator must still do before the robot may start, e.g. hold a button; empty: nothing."""


class EStop:
    """The flag. It may be tripped from any thread and from a signal handler; only :meth:`reset` clears it."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._tripped: tuple[int, str] | None = None

    @property
    def tripped(self) -> bool:
        """Latched."""
        return self._tripped is not None

    @property
    def category(self) -> int:
        """Of the strongest trip, 0 or 1; 1 while none happened."""
        tripped = self._tripped
        return 1 if tripped is None else tripped[0]

    @property
    def reason(self) -> str:
        """Of the trip that decided the category; empty while none happened."""
        tripped = self._tripped
        return "" if tripped is None else tripped[1]

    def trip(self, category: int, reason: str) -> None:
        """Latch. A later trip counts only if it is stronger; one of another category than 0 and 1 counts as 0.

        No lock: a signal handler may run in the middle of it, and either order of two trips leaves one of them.
        """
        category = category if category in (0, 1) else 0
        now = self._tripped
        if now is None or category < now[0]:
            self._tripped = (category, reason)

    def missing(self) -> list[str]:
        """What must still be done before a robot may start: dead-man switches that nobody holds."""
        return [what for what in (source.missing() for source in self.sources) if what]

    def require_clear(self) -> None:
        """Whether a robot may start.

        Raises:
            RefusedError: it is latched, or a dead-man switch is not held.
        """
        if self.tripped:
            raise RefusedError(f"The emergency stop is latched: {self.reason}.", "Reset it first.")
        missing = self.missing()
        if missing:
            raise RefusedError(f"The dead-man switch is not held: {'; '.join(missing)}.")

    def reset(self) -> None:
        """Unlatch, by an operator's order only. Moves nothing.

        Raises:
            RefusedError: a dead-man switch is not held.
        """
        missing = self.missing()
        if missing:
            raise RefusedError(f"The emergency stop cannot be reset: {'; '.join(missing)}.")
        self._tripped = None


class _Watcher:
    """A source with a thread that waits for bytes."""

    def __init__(self, estop: EStop, name: str):
        self.estop, self.name = estop, name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def missing(self) -> str:
        return ""

    def __enter__(self) -> Self:
        self._open()
        self.estop.sources.append(self)
        self._thread = threading.Thread(target=self._watch, name=f"estop {self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self in self.estop.sources:
            self.estop.sources.remove(self)
        self._close()

    def _watch(self) -> None:
        try:
            while not self._stopping.is_set() and self._wait():
                pass
        except Exception as error:
            # A source that dies unnoticed would be one that everybody relies on and that does nothing.
            log.exception("The stop by %s failed", self.name)
            self.estop.trip(1, f"the stop by {self.name} failed: {error}")

    def _open(self) -> None:
        raise NotImplementedError

    def _wait(self) -> bool:
        """Wait at most ``_POLL_S``; False ends the watching."""
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class KeyboardStop(_Watcher):
    """Keys of a terminal: space or ``q`` stops, twice at once. The terminal is put back as it was.

    Args:
        estop: the flag.
        keys: that stop.
        stream: file descriptor of a terminal; None takes the standard input.
        on_key: called from the thread with every other key, e.g. to release a robot.

    Raises:
        HardwareError: on entering, where the input is no terminal.
    """

    def __init__(
        self,
        estop: EStop,
        keys: str = " q",
        stream: int | None = None,
        on_key: Callable[[str], None] | None = None,
    ):
        super().__init__(estop, "keyboard")
        self.keys, self._fd, self._on_key = keys, stream, on_key
        self._pressed = 0
        self._before: list[Any] | None = None

    def _open(self) -> None:
        import termios
        import tty

        if self._fd is None:
            try:
                self._fd = sys.stdin.fileno()
            except (OSError, ValueError) as error:
                raise HardwareError("There is no keyboard to stop with: no input.", "Run it in a terminal.") from error
        if not os.isatty(self._fd):
            raise HardwareError("There is no keyboard to stop with: no terminal.", "Run it in a terminal.")
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)

    def _wait(self) -> bool:
        assert self._fd is not None
        if not select.select([self._fd], [], [], _POLL_S)[0]:
            return True
        try:
            pressed = os.read(self._fd, 64).decode("utf-8", "replace")
        except OSError:
            pressed = ""
        if not pressed:
            self.estop.trip(1, "the terminal was closed")
            return False
        for key in pressed:
            if key in self.keys:
                self._pressed += 1
                category = 1 if self._pressed == 1 or not self.estop.tripped else 0
                self.estop.trip(category, f"key {'space' if key == ' ' else key}")
            elif self._on_key is not None:
                self._on_key(key)
        return True

    def _close(self) -> None:
        import termios

        if self._before is not None and self._fd is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            except termios.error as error:
                log.warning("The terminal could not be put back: %s", error)
            self._before = None


class GamepadStop(_Watcher):
    """A gamepad by Linux's joystick interface (kernel documentation, ``input/joydev/joystick-api``).

    Args:
        estop: the flag.
        path: of the device.
        stop_buttons: any of them stops; empty: every button but the dead-man's.
        dead_man: number of a button that must be held; letting go, or unplugging the gamepad, stops. None: no button.
    """

    _EVENT = struct.Struct("=IhBB")  # time ms, value, type, number
    _BUTTON, _INITIAL = 0x01, 0x80

    def __init__(
        self,
        estop: EStop,
        path: str | Path = "/dev/input/js0",
        *,
        stop_buttons: tuple[int, ...] = (),
        dead_man: int | None = None,
    ):
        super().__init__(estop, "gamepad")
        self.path, self.stop_buttons, self.dead_man = Path(path), stop_buttons, dead_man
        self._held = False
        self._fd = -1
        self._rest = b""

    def missing(self) -> str:
        if self.dead_man is None or self._held:
            return ""
        return f"hold button {self.dead_man} of the gamepad"

    def _open(self) -> None:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HardwareError(
                f"No gamepad at {self.path}: {error.strerror}.", "Plug it in, or name its /dev/input/js* file."
            ) from error

    def _wait(self) -> bool:
        if not select.select([self._fd], [], [], _POLL_S)[0]:
            return True
        try:
            data = os.read(self._fd, 64 * self._EVENT.size)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self._unplugged()
            return False
        data = self._rest + data
        whole = len(data) - len(data) % self._EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in self._EVENT.iter_unpack(data[:whole]):
            if kind & ~self._INITIAL == self._BUTTON:
                self._button(number, bool(value), initial=bool(kind & self._INITIAL))
        return True

    def _button(self, number: int, pressed: bool, *, initial: bool) -> None:
        if number == self.dead_man:
            if self._held and not pressed:
                self.estop.trip(1, "the dead-man button was let go")
            self._held = pressed
        elif pressed and not initial and (not self.stop_buttons or number in self.stop_buttons):
            self.estop.trip(1, f"button {number} of the gamepad")

    def _unplugged(self) -> None:
        self._held = False
        if self.dead_man is not None:
            self.estop.trip(1, "the gamepad with the dead-man button is gone")
        else:
            log.warning("The gamepad at %s is gone; it stops nothing any more.", self.path)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class SocketStop(_Watcher):
    """Any byte that comes over a socket stops; with ``hold_to_run`` the end of a connection does too.

    Whoever connects gets one line that tells what this is.

    Args:
        estop: the flag.
        address: path of a Unix socket, or (host, port); port 0 takes a free one. Only this computer is served unless
            a host says otherwise: there is no password, and all that anybody can do is to stop.
        hold_to_run: the robot starts only while somebody is connected, and stops when the last one goes.
    """

    def __init__(self, estop: EStop, address: str | Path | tuple[str, int], *, hold_to_run: bool = False):
        super().__init__(estop, "socket")
        self.address, self.hold_to_run = address, hold_to_run
        self._server: socket.socket | None = None
        self._clients: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Of a TCP socket that is open."""
        assert self._server is not None
        return int(self._server.getsockname()[1])

    def missing(self) -> str:
        return "connect to the stop socket" if self.hold_to_run and not self._clients else ""

    def _open(self) -> None:
        unix = not isinstance(self.address, tuple)
        server = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if isinstance(self.address, tuple):
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(self.address)
            else:
                _remove_dead_socket(Path(self.address))
                server.bind(str(self.address))
            server.listen(4)
        except OSError as error:
            server.close()
            raise HardwareError(f"Cannot open the stop socket {self.address}: {error}.") from error
        server.setblocking(False)
        self._server = server

    def _wait(self) -> bool:
        assert self._server is not None
        for ready in select.select([self._server, *self._clients], [], [], _POLL_S)[0]:
            if ready is self._server:
                self._accept()
                continue
            try:
                data = ready.recv(256)
            except OSError:
                data = b""
            if data:
                self.estop.trip(1, "a byte on the stop socket")
                continue
            self._clients.remove(ready)
            ready.close()
            if self.hold_to_run and not self._clients:
                self.estop.trip(1, "the connection that holds the robot running ended")
        return True

    def _accept(self) -> None:
        assert self._server is not None
        try:
            client, _ = self._server.accept()
            client.setblocking(False)
            client.sendall(b"cadenza stop: any byte stops the robot\n")
        except OSError as error:  # it left again at once; that must not end the watching of others
            log.warning("A client of the stop socket failed: %s", error)
        else:
            self._clients.append(client)

    def _close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
            if not isinstance(self.address, tuple):
                Path(self.address).unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    """Remove what a killed process left; a socket that somebody serves stays, and binding to it fails."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


class SignalStop:
    """Ctrl-C once stops by category 1, twice by 0; SIGTERM and SIGHUP count like it. Main thread only.

    The signals' handlers are put back on leaving. A third one raises KeyboardInterrupt, for a program that hangs.

    Args:
        estop: the flag.
        gently: asked first at the first signal, with its name: whether an orderly end takes the place of the stop. It
            runs in a signal handler.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, estop: EStop, gently: Callable[[str], bool] = lambda name: False):
        self.estop, self._gently = estop, gently
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    def missing(self) -> str:
        return ""

    def __enter__(self) -> Self:
        for one in self._SIGNALS:
            self._before[one] = signal.signal(one, self._handle)
        self.estop.sources.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, before in self._before.items():
            signal.signal(one, before if before is not None else signal.SIG_DFL)
        self._before.clear()
        self.estop.sources.remove(self)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._count > 1:
            self.estop.trip(0, f"{name}, again")
        elif not self._gently(name):
            self.estop.trip(1, name)
        if self._count > 2:
            raise KeyboardInterrupt
