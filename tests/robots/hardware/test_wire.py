"""The pseudo-terminal: baud rates, pacing, unplugging, links, and that time cannot overtake bytes."""

from __future__ import annotations

import os
import select
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.robots.hardware.emulators.dynamixel_table import bench_row
from cadenza.robots.hardware.emulators.faults import FaultSpec, Heard
from cadenza.robots.hardware.emulators.pseudo_terminal import PseudoTerminal
from cadenza.robots.hardware.emulators.wire import Reply, SerialBus, SerialWire
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant


class Echo(SerialBus):
    """Answers each line with the same, and with the simulated time at which it was heard."""

    delay_s = 0.0
    baud = 1_000_000

    def cut(self, waiting: bytearray) -> bytes | None:
        end = waiting.find(b"\n")
        if end < 0:
            return None
        line = bytes(waiting[: end + 1])
        del waiting[: end + 1]
        return line

    def answer(self, heard: Heard, baud: int) -> list[Reply]:
        if baud != self.baud or not heard.reaches(1):
            return []
        return [Reply(b"%.3f " % self.world.now_s + heard.data, 1, self.delay_s)]


class Client:
    """A program at the other end."""

    def __init__(self, path: str, speed: int = termios.B1000000):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)
        self.speed(speed)

    def speed(self, speed: int) -> None:
        attributes = termios.tcgetattr(self.fd)
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)

    def ask(self, data: bytes, wait_s: float = 5.0) -> bytes:
        os.write(self.fd, data)
        return self.read(wait_s)

    def read(self, wait_s: float) -> bytes:
        ready, _, _ = select.select([self.fd], [], [], wait_s)
        return os.read(self.fd, 4096) if ready else b""


@pytest.fixture
def world() -> Iterator[World]:
    world = World(Plant.of_bench([bench_row("XM430-W350", 1)]), lockstep=True)
    world.attach(SerialWire(world, Echo(world)))
    world.start()
    yield world
    world.stop()


def test_a_line_comes_back_and_is_logged(world: World) -> None:
    client = Client(world.wires[0].address)
    assert client.ask(b"one\n") == b"0.000 one\n"
    assert [(entry.way, entry.data) for entry in world.log.since()] == [("in", b"one\n"), ("out", b"0.000 one\n")]


def test_nothing_is_heard_at_another_baud_rate(world: World) -> None:
    client = Client(world.wires[0].address, termios.B57600)
    assert client.ask(b"one\n", 0.2) == b""
    client.speed(termios.B1000000)
    assert client.ask(b"two\n") == b"0.000 two\n"


def test_the_terminal_has_the_speed_of_the_devices_before_anybody_sets_one(world: World) -> None:
    line = world.wires[0]
    assert isinstance(line, SerialWire)
    assert line.baud() == 1_000_000


def test_bytes_sent_before_an_advance_are_heard_before_it(world: World) -> None:
    client = Client(world.wires[0].address)
    for k in range(1, 101):
        os.write(client.fd, b"x\n")
        world.advance(k * 0.01)
        assert client.read(5.0) == b"%.3f x\n" % ((k - 1) * 0.01)


def test_a_delayed_reply_comes_when_simulated_time_has_come(world: World) -> None:
    client = Client(world.wires[0].address)
    world.faults.add(FaultSpec("delay", amount=0.015), 0.0)
    assert client.ask(b"x\n", 0.1) == b""
    world.advance(0.01)
    assert client.read(0.1) == b""
    world.advance(0.02)
    assert client.read(5.0) == b"0.000 x\n"


def test_half_a_packet_is_forgotten_after_silence(world: World) -> None:
    client = Client(world.wires[0].address)
    os.write(client.fd, b"ha")
    world.advance(0.1)
    assert client.ask(b"one\n") == b"0.100 one\n"


def test_unplugging_hangs_up_and_plugging_in_makes_a_new_port(tmp_path: Path) -> None:
    world = World(Plant.of_bench([bench_row("XM430-W350", 1)]), lockstep=True)
    link = tmp_path / "port"
    world.attach(SerialWire(world, Echo(world), link=link))
    world.start()
    try:
        assert world.wires[0].address == str(link)
        client = Client(str(link))
        assert client.ask(b"one\n")
        world.faults.add(FaultSpec("unplug", at_s=1.0, for_s=1.0), 0.0)
        world.advance(1.5)
        assert not link.exists()
        with pytest.raises(OSError, match=r"Errno 5"):
            os.write(client.fd, b"two\n")
        world.advance(2.5)
        assert Client(str(link)).ask(b"three\n") == b"2.500 three\n"
    finally:
        world.stop()
    assert not link.is_symlink()


def test_a_port_is_gone_when_it_is_closed_even_while_a_thread_waits_for_it() -> None:
    terminal = PseudoTerminal()
    client = Client(terminal.address)
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(terminal.wait(60.0)))
    waiting.start()
    time.sleep(0.05)
    terminal.close()
    with pytest.raises(OSError, match=r"Errno 5"):
        os.write(client.fd, b"one\n")
    waiting.join(timeout=5)
    assert heard == [False]
    assert not terminal.is_open
    assert not terminal.wait(0.0)
    terminal.close()


def test_a_link_replaces_a_link_but_nothing_else(tmp_path: Path) -> None:
    world = World(Plant.of_bench([bench_row("XM430-W350", 1)]), lockstep=True)
    (tmp_path / "link").symlink_to("/nowhere")
    SerialWire(world, Echo(world), link=tmp_path / "link").stop()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HardwareError, match="file"):
        SerialWire(world, Echo(world), link=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_real_time_replies_take_their_time_on_the_wire() -> None:
    world = World(Plant.of_bench([bench_row("XM430-W350", 1)]))
    echo = Echo(world)
    echo.baud, echo.delay_s = 57_600, 0.02
    world.attach(SerialWire(world, echo))
    world.start()
    try:
        client = Client(world.wires[0].address, termios.B57600)
        start = time.monotonic()
        got = b""
        os.write(client.fd, b"x" * 60 + b"\n")
        while not got.endswith(b"\n"):
            got += client.read(5.0)
        # 61 bytes there, 67 back at 10 bits a byte, and 20 ms before the answer: at least 42 ms.
        assert time.monotonic() - start > 128 * 10 / 57_600 + 0.02
    finally:
        world.stop()
