"""The serial port under both vendors' packet handlers, on a pseudo-terminal."""

from __future__ import annotations

import math
import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports import serial as serial_module
from cadenza.robots.hardware.transports.serial import ByteLog, SerialPort, latency_timer_ms


class Cable:
    def __init__(self) -> None:
        self.ours, self._theirs = os.openpty()
        tty.setraw(self.ours)
        tty.setraw(self._theirs)
        self.name = os.ttyname(self._theirs)

    def unplug(self) -> None:
        for end in (self._theirs, self.ours):
            if end >= 0:
                os.close(end)
        self.ours = self._theirs = -1


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    yield made
    made.unplug()


@pytest.fixture
def port(cable: Cable) -> Iterator[SerialPort]:
    made = SerialPort(cable.name, 1_000_000, margin_s=0.01)
    made.open()
    yield made
    made.close()


def test_bytes_go_both_ways_and_are_watched(cable: Cable, port: SerialPort) -> None:
    log = ByteLog()
    port.taps.append(log)
    assert port.writePort([1, 2, 3]) == 3
    assert os.read(cable.ours, 10) == b"\1\2\3"
    os.write(cable.ours, b"abcdef")
    port.setPacketTimeout(6)
    got = b""
    while len(got) < 4:
        got += port.readPort(4 - len(got))
    assert got == b"abcd", "what was not asked for waits"
    assert log.all("sent") == b"\1\2\3"
    assert log.all("received") == b"abcd"


def test_waiting_ends_when_bytes_come(cable: Cable, port: SerialPort) -> None:
    port.setPacketTimeoutMillis(10_000)
    answer = threading.Timer(0.05, lambda: os.write(cable.ours, b"x"))
    answer.start()
    began = time.monotonic()
    assert port.readPort(1) == b"x"
    assert time.monotonic() - began < 9
    answer.join()


def test_an_answer_has_its_wire_time_and_a_margin() -> None:
    """11 + 14 bytes of 10 bits at 57.6 kbit/s are 4.34 ms, plus 10 ms; the SDK's own port gives 34 ms more."""
    made = SerialPort("/dev/null", 57_600, margin_s=0.01)
    made._sent_bytes = 14
    made.setPacketTimeout(11)
    assert made._timeout == pytest.approx(0.01434, abs=1e-5)
    made.longest_s = 0.1
    made.setPacketTimeoutMillis(800)
    assert made._timeout == 0.1


def test_a_block_bounds_what_answers_may_take_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 10 ms from 5.000 s on; at 5.008 s 2 ms are left of an answer's 10.2; one inside is never longer."""
    now = [5.0]
    monkeypatch.setattr(serial_module.time, "monotonic", lambda: now[0])
    made = SerialPort("/dev/null", 1_000_000, margin_s=0.01)
    made.setPacketTimeout(20)
    assert made._timeout == pytest.approx(0.0102)
    assert made.left_s() == math.inf
    with made.within(0.01):
        now[0] = 5.008
        made.setPacketTimeout(20)
        assert made._timeout == pytest.approx(0.002)
        with made.within(0.001):
            assert made.left_s() == pytest.approx(0.001)
        with made.within(1.0):
            assert made.left_s() == pytest.approx(0.002)
        now[0] = 5.02
        made.setPacketTimeout(20)
        assert made._timeout == 0.0
    made.setPacketTimeout(20)
    assert made._timeout == pytest.approx(0.0102), "what comes later has its time again"


def test_silence_times_out(port: SerialPort) -> None:
    port.setPacketTimeout(11)
    assert port.readPort(11) == b""
    assert port.isPacketTimeout()


def test_two_programs_cannot_share_it(cable: Cable, port: SerialPort) -> None:
    second = SerialPort(cable.name)
    with pytest.raises(HardwareError, match="in use by another program"):
        second.open()
    assert not second.is_open
    port.close()
    second.open()
    second.close()


def test_a_port_that_vanishes_is_an_error_and_no_silence(cable: Cable, port: SerialPort) -> None:
    cable.unplug()
    port.setPacketTimeout(11)
    with pytest.raises(HardwareError, match="is gone"):
        port.readPort(11)
    with pytest.raises(HardwareError, match="is gone"):
        port.writePort(b"x")
    port.close()
    port.close()
    with pytest.raises(HardwareError, match="not open"):
        port.readPort(1)


def test_no_such_port() -> None:
    with pytest.raises(HardwareError, match="no port /dev/not-there"):
        SerialPort("/dev/not-there").open()


def test_late_bytes_are_thrown_away(cable: Cable, port: SerialPort) -> None:
    os.write(cable.ours, b"late")
    later = threading.Timer(0.01, lambda: os.write(cable.ours, b"later"))
    later.start()
    assert port.settle(quiet_s=0.2, at_most_s=2.0) == 9
    later.join()
    os.write(cable.ours, b"old")
    time.sleep(0.01)
    port.clearPort()
    os.write(cable.ours, b"new")
    port.setPacketTimeoutMillis(1000)
    assert port.readPort(3) == b"new"


def test_the_adapters_latency_timer(tmp_path: Path) -> None:
    (tmp_path / "ttyUSB7").mkdir()
    (tmp_path / "ttyUSB7" / "latency_timer").write_text("16\n")
    assert latency_timer_ms("/dev/ttyUSB7", tmp_path) == 16
    assert latency_timer_ms("/dev/ttyUSB8", tmp_path) is None


def test_a_log_forgets_the_oldest() -> None:
    log = ByteLog(most=2)
    for byte in (b"a", b"b", b"c"):
        log(0.0, "sent", byte)
    assert log.all("sent") == b"bc"
