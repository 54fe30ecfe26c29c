"""The control socket: every command, every refusal, and what a client hears when the emulator is gone."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_dynamixels import Bench

from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.emulators.control import ControlServer, EmulatorControl
from cadenza.robots.hardware.emulators.dynamixel_packet import Instruction
from cadenza.robots.hardware.errors import HardwareError


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(ids=(1, 2))
    yield bench
    bench.close()


@pytest.fixture
def server(bench: Bench, tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(bench.world, tmp_path / "control")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def control(server: ControlServer) -> Iterator[EmulatorControl]:
    control = EmulatorControl(server.path)
    yield control
    control.close()


def test_a_virtual_clock_takes_the_world_along(bench: Bench, control: EmulatorControl) -> None:
    clock = VirtualClock()
    clock.followers.append(control.advance)
    clock.sleep_until(0.25)
    assert bench.world.now_s == clock.now() == 0.25
    assert control.ask("advance", by_s=0.1)["time_s"] == pytest.approx(0.35)


def test_state_is_the_truth(bench: Bench, control: EmulatorControl) -> None:
    bench.world.plant.data.qpos[1] = 0.5
    bench.world.steps += 1
    bench.put("torque_enable", 1, 2)
    motor = control.motor(2)
    assert motor["angle_rad"] == pytest.approx(0.5)
    assert (motor["torque_enabled"], motor["supply_v"], motor["temperature_c"]) == (True, 12.0, 25.0)
    assert motor["watchdog"] == {"limit_s": 0.0, "tripped": False}
    with pytest.raises(HardwareError, match="9"):
        control.motor(9)


def test_faults_come_and_go(bench: Bench, control: EmulatorControl) -> None:
    control.fault("mute", devices=[1], for_s=10)
    assert bench.send(1, Instruction.PING) == []
    assert len(bench.send(2, Instruction.PING)) == 1
    assert [fault["kind"] for fault in control.state()["faults"]] == ["mute"]
    assert control.clear_faults("drop") == 0
    assert control.clear_faults() == 1
    assert len(bench.send(1, Instruction.PING)) == 1
    with pytest.raises(HardwareError, match="mutter") as error:
        control.fault("mutter")
    assert "mute" in error.value.advice


def test_supply_and_temperature_can_be_set(bench: Bench, control: EmulatorControl) -> None:
    control.set(1, supply_v=11.1, temperature_c=60)
    control.set(temperature_c=50)
    control.advance(0.01)
    assert [control.motor(i)["supply_v"] for i in (1, 2)] == pytest.approx([11.1, 12.0])
    assert control.motor(1)["temperature_c"] == pytest.approx(50, abs=0.1)
    with pytest.raises(HardwareError, match="colour"):
        control.set(1, colour=3)
    with pytest.raises(HardwareError, match="Nothing to set"):
        control.set(1)


def test_the_log_has_bytes_and_times(bench: Bench, control: EmulatorControl) -> None:
    bench.world.log.add(0.5, "in", "dynamixel", b"\xff\x00")
    entries = control.log()
    assert [(entry["at_s"], entry["way"], entry["data"]) for entry in entries] == [(0.5, "in", b"\xff\x00")]
    assert control.log(entries[-1]["number"] + 1) == []


def test_nonsense_is_refused_and_the_connection_lives(server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.path))
        lines = raw.makefile("rb")
        for nonsense in (
            b"{",
            b"[]",
            b"{}",
            b'{"do": "advanse"}',
            b'{"do": "advance"}',
            b'{"do": "advance", "until_s": "x"}',
        ):
            raw.sendall(nonsense + b"\n")
            answer = json.loads(lines.readline())
            assert answer["ok"] is False
            assert answer["error"]
            assert answer["advice"]
        raw.sendall(b'{"do": "state"}\n')
        assert json.loads(lines.readline())["ok"] is True


def test_time_cannot_be_driven_in_real_time(tmp_path: Path) -> None:
    from cadenza.robots.hardware.emulators.launch import Order, build

    world = build(Order("dynamixel"))
    server = ControlServer(world, tmp_path / "control")
    server.start()
    control = EmulatorControl(server.path)
    with pytest.raises(HardwareError, match="real time"):
        control.advance(1.0)
    server.stop()
    with pytest.raises(HardwareError, match="gone"):
        control.state()
    world.stop()


def test_errors_name_the_socket(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(HardwareError, match="nothing"):
        EmulatorControl(tmp_path / "nothing")
    with pytest.raises(HardwareError, match="cannot be made"):
        ControlServer(bench.world, tmp_path / "missing" / "control")


def test_a_silent_emulator_times_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
        dead.listen()
        control = EmulatorControl(tmp_path / "dead", timeout_s=0.1)
        with pytest.raises(HardwareError, match="did not answer"):
            control.state()


def test_shutdown_is_answered_first(bench: Bench, tmp_path: Path) -> None:
    ended = threading.Event()
    server = ControlServer(bench.world, tmp_path / "control", on_shutdown=ended.set)
    server.start()
    EmulatorControl(server.path).shutdown()
    assert ended.wait(5.0)
    server.stop()
    time.sleep(0)
    assert not server.path.exists()
