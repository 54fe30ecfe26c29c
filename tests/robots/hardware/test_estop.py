from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.estop import EStop, GamepadStop, KeyboardStop, SignalStop, SocketStop


def eventually(what: Callable[[], bool]) -> None:
    """Wait for a thread; generous, because a loaded machine may not run it for long."""
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


# ---------------------------------------------------------------------- the flag


def test_it_latches_and_only_a_stronger_trip_changes_it() -> None:
    estop = EStop()
    assert not estop.tripped
    assert estop.reason == ""
    estop.trip(1, "first")
    estop.trip(1, "second")
    assert (estop.tripped, estop.category, estop.reason) == (True, 1, "first")
    estop.trip(0, "third")
    estop.trip(1, "fourth")
    assert (estop.category, estop.reason) == (0, "third")
    with pytest.raises(RefusedError, match="latched: third"):
        estop.require_clear()
    estop.reset()
    assert not estop.tripped
    estop.require_clear()


@pytest.mark.parametrize("category", [2, -1, 7])
def test_a_category_that_is_none_for_an_emergency_counts_as_0(category: int) -> None:
    estop = EStop()
    estop.trip(category, "odd")
    assert estop.category == 0


# ---------------------------------------------------------------------- keyboard


@pytest.mark.parametrize("key", [" ", "q"])
def test_a_key_stops_and_again_stops_at_once(key: str) -> None:
    ours, theirs = pty.openpty()
    estop = EStop()
    with KeyboardStop(estop, stream=theirs):
        os.write(ours, key.encode())
        eventually(lambda: estop.tripped)
        assert estop.category == 1
        os.write(ours, key.encode())
        eventually(lambda: estop.category == 0)
    os.close(ours)
    os.close(theirs)


def test_other_keys_go_to_the_program_and_the_terminal_is_put_back() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    estop, keys = EStop(), list[str]()
    with KeyboardStop(estop, stream=theirs, on_key=keys.append):
        assert not termios.tcgetattr(theirs)[3] & termios.ICANON, "no need to press return"
        assert not termios.tcgetattr(theirs)[3] & termios.ECHO
        os.write(ours, b"g")
        eventually(lambda: keys == ["g"])
    assert termios.tcgetattr(theirs) == before
    assert not estop.tripped
    assert estop.sources == []
    os.close(ours)
    os.close(theirs)


def test_the_terminal_is_put_back_after_an_error_too() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with pytest.raises(RuntimeError), KeyboardStop(EStop(), stream=theirs):
        raise RuntimeError
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_a_terminal_that_goes_away_stops() -> None:
    ours, theirs = pty.openpty()
    estop = EStop()
    with KeyboardStop(estop, stream=theirs):
        os.close(ours)
        eventually(lambda: estop.tripped)
    assert estop.reason == "the terminal was closed"
    os.close(theirs)


def test_a_file_is_no_keyboard(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("q")
    with open(tmp_path / "f") as file, pytest.raises(HardwareError, match="no terminal"):
        KeyboardStop(EStop(), stream=file.fileno()).__enter__()


# ---------------------------------------------------------------------- gamepad


def event(number: int, value: int, kind: int = 0x01) -> bytes:
    """As the kernel writes it: time ms (u32), value (s16), type (u8), number (u8)."""
    return struct.pack("=IhBB", 1234, value, kind, number)


class Pad:
    """A pipe in place of /dev/input/js0."""

    def __init__(self, folder: Path):
        self.path = folder / "js0"
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR)

    def send(self, *events: bytes) -> None:
        os.write(self._fd, b"".join(events))

    def unplug(self) -> None:
        os.close(self._fd)


def test_a_button_of_a_gamepad_stops_but_axes_and_first_reports_do_not(tmp_path: Path) -> None:
    pad, estop = Pad(tmp_path), EStop()
    with GamepadStop(estop, pad.path, stop_buttons=(1, 2)):
        pad.send(event(1, 1, 0x81), event(1, 32767, 0x02), event(0, 1))
        time.sleep(0.05)
        assert not estop.tripped, "state at plugging in, an axis, another button"
        packet = event(2, 1)
        pad.send(packet[:3])
        pad.send(packet[3:])
        eventually(lambda: estop.tripped)
    assert estop.reason == "button 2 of the gamepad"


def test_without_a_choice_every_button_stops(tmp_path: Path) -> None:
    pad, estop = Pad(tmp_path), EStop()
    with GamepadStop(estop, pad.path):
        pad.send(event(9, 1))
        eventually(lambda: estop.tripped)


def test_a_dead_man_must_be_held_to_start_and_stops_when_let_go(tmp_path: Path) -> None:
    pad, estop = Pad(tmp_path), EStop()
    with GamepadStop(estop, pad.path, dead_man=5):
        assert estop.missing() == ["hold button 5 of the gamepad"]
        with pytest.raises(RefusedError, match="hold button 5"):
            estop.require_clear()
        pad.send(event(5, 1))
        eventually(lambda: not estop.missing())
        assert not estop.tripped
        pad.send(event(5, 0))
        eventually(lambda: estop.tripped)
        assert estop.reason == "the dead-man button was let go"
        with pytest.raises(RefusedError, match="cannot be reset"):
            estop.reset()
        pad.send(event(5, 1))
        eventually(lambda: not estop.missing())
        assert estop.tripped, "holding it again is no reset"
        estop.reset()


def test_unplugging_stops_where_there_is_a_dead_man(tmp_path: Path) -> None:
    pad, estop = Pad(tmp_path), EStop()
    with GamepadStop(estop, pad.path, dead_man=5):
        pad.send(event(5, 1))
        eventually(lambda: not estop.missing())
        pad.unplug()
        eventually(lambda: estop.tripped)
        assert estop.reason == "the gamepad with the dead-man button is gone"
        assert estop.missing()


def test_unplugging_without_a_dead_man_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pad, estop = Pad(tmp_path), EStop()
    with GamepadStop(estop, pad.path):
        pad.unplug()
        eventually(lambda: "is gone" in caplog.text)
    assert not estop.tripped


def test_a_gamepad_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="No gamepad at"):
        GamepadStop(EStop(), tmp_path / "js7").__enter__()


# ---------------------------------------------------------------------- socket


def test_any_byte_on_a_unix_socket_stops(tmp_path: Path) -> None:
    estop, path = EStop(), tmp_path / "stop.sock"
    with SocketStop(estop, path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert client.recv(100).startswith(b"cadenza stop")
        assert not estop.tripped
        client.sendall(b"\0")
        eventually(lambda: estop.tripped)
    assert not path.exists()


def test_closing_a_connection_alone_stops_nothing() -> None:
    estop = EStop()
    with SocketStop(estop, ("127.0.0.1", 0)) as source:
        with socket.create_connection(("127.0.0.1", source.port)) as client:
            client.recv(100)
        eventually(lambda: not source._clients)
        assert not estop.tripped
        with socket.create_connection(("127.0.0.1", source.port)) as client:
            client.sendall(b"x")
            eventually(lambda: estop.tripped)


def test_hold_to_run_needs_a_connection_and_stops_with_the_last_one() -> None:
    estop = EStop()
    with SocketStop(estop, ("127.0.0.1", 0), hold_to_run=True) as source:
        assert estop.missing() == ["connect to the stop socket"]
        first = socket.create_connection(("127.0.0.1", source.port))
        second = socket.create_connection(("127.0.0.1", source.port))
        eventually(lambda: len(source._clients) == 2)
        assert not estop.missing()
        first.close()
        eventually(lambda: len(source._clients) == 1)
        assert not estop.tripped
        # A client that is killed resets the connection.
        second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        second.close()
        eventually(lambda: estop.tripped)
    assert "connection that holds" in estop.reason


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "stop.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with SocketStop(EStop(), path), pytest.raises(HardwareError, match="Cannot open the stop socket"):
        SocketStop(EStop(), path).__enter__()


def test_a_source_that_fails_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    estop = EStop()
    source = SocketStop(estop, ("127.0.0.1", 0))

    def fail() -> bool:
        raise OSError("out of files")

    monkeypatch.setattr(source, "_wait", fail)
    with source:
        eventually(lambda: estop.tripped)
    assert "the stop by socket failed: out of files" in estop.reason


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_by_category_1_and_again_by_0(number: signal.Signals) -> None:
    estop = EStop()
    before = signal.getsignal(number)
    with SignalStop(estop):
        os.kill(os.getpid(), number)
        assert estop.category == 1
        assert estop.tripped
        os.kill(os.getpid(), signal.SIGINT)
        assert estop.category == 0
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the third does not end a program that hangs")
    assert signal.getsignal(number) == before
