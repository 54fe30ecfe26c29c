"""``cadenza motors`` as it is typed, against emulated servos in another process."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "robots" / "hardware"))

from bench import start

from cadenza.envs.errors import CadenzaError
from cadenza.robots.hardware.emulators.launch import Order, Spawned
from cadenza.scripts import motors
from cadenza.scripts.buses import numbers_of, opened


@pytest.fixture(scope="module")
def three() -> Iterator[Spawned]:
    with start(Order("dynamixel", ids=(1, 2, 9), lockstep=True)) as emulator:
        yield emulator


@pytest.fixture
def bus(three: Spawned) -> str:
    three.control.clear_faults()
    return f"dynamixel:{three.port}@1000000"


def torque(emulator: Spawned) -> list[bool]:
    return [motor["torque_enabled"] for motor in emulator.control.state()["motors"]]


def test_scan_shows_who_answers(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert motors.main(["scan", bus]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"│ +1000000 +│ +(\d+) +│ +XM430-W350", shown) == ["1", "2", "9"]


def test_scan_names_a_doubled_address(bus: str, three: Spawned, capsys: pytest.CaptureFixture[str]) -> None:
    three.control.fault("id_clash", devices=[2])
    motors.main(["scan", bus, "--ids", "1-3"])
    shown = capsys.readouterr().out
    assert "XM430-W350" in shown
    assert re.search(r"│ +2 +│ +XM430", shown) is None, "a garbled answer is nobody's"


def test_scan_of_nothing(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert motors.main(["scan", bus, "--ids", "50-52"]) == 1
    assert "Nobody answers" in capsys.readouterr().out


def test_ping(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert motors.main(["ping", bus, "9"]) == 0
    assert capsys.readouterr().out.startswith("9: XM430-W350, firmware ")
    assert motors.main(["ping", bus, "10"]) == 1


@pytest.mark.parametrize("change", [["set-id", "2", "7"], ["set-baud", "2", "57600"]])
def test_nothing_is_changed_where_several_answer(bus: str, change: list[str]) -> None:
    with pytest.raises(CadenzaError, match="Several motors answer"):
        motors.main([change[0], bus, *change[1:]])
    assert motors.main(["ping", bus, "2"]) == 0


def test_read_and_write(bus: str, three: Spawned, capsys: pytest.CaptureFixture[str]) -> None:
    assert motors.main(["read", bus, "1", "temperature_limit", "max_voltage_limit"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"temperature_limit +│ +80 ", shown)
    assert re.search(r"max_voltage_limit +│ +160 ", shown)
    assert motors.main(["read", bus, "1"]) == 0
    assert "present_position" in capsys.readouterr().out
    assert motors.main(["write", bus, "1", "temperature_limit", "75"]) == 0
    assert "80 -> 75" in capsys.readouterr().out
    with pytest.raises(CadenzaError, match=r"has no .temperature.\."):
        motors.main(["read", bus, "1", "temperature"])


def test_torque_is_never_switched_on(bus: str, three: Spawned) -> None:
    with pytest.raises(CadenzaError, match="never switches torque on"):
        motors.main(["write", bus, "1", "torque_enable", "1"])
    for command in (["monitor", bus, "--once"], ["scan", bus, "--ids", "1-3"], ["read", bus, "1", "id"]):
        motors.main(command)
    assert torque(three) == [False] * 3


def test_goals_are_refused_under_torque(bus: str, three: Spawned) -> None:
    with opened(bus) as somebody:
        somebody.write_register(1, "torque_enable", 1)
    try:
        with pytest.raises(CadenzaError, match="Torque is on"):
            motors.main(["write", bus, "1", "goal_position", "3000"])
    finally:
        assert motors.main(["write", bus, "1", "torque_enable", "0"]) == 0


def test_monitor_prints_one_table(bus: str, three: Spawned, capsys: pytest.CaptureFixture[str]) -> None:
    three.control.set(2, angle_rad=0.5, temperature_c=44.0)
    assert motors.main(["monitor", bus, "--once", "--ids", "1,2"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"id 2 +│ +2 │ +28.7 │ +0.00 │ +0.00 │ +44 │ +12.0 │", shown)
    assert "id 9" not in shown


def test_monitor_of_a_robot_names_what_is_missing(bus: str) -> None:
    with pytest.raises(CadenzaError, match=r"r_sho_roll \(id 3\) does not answer"):
        motors.main(["monitor", bus, "--once", "--robot", "op3", "--ids", "1-3"])


def test_a_tripped_watchdog_is_cleared_by_order(bus: str, three: Spawned, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(bus) as somebody:
        for number in (1, 9):
            somebody.write_register(number, "bus_watchdog", 5)
            somebody.write_register(number, "torque_enable", 1)
        three.control.ask("advance", by_s=0.2)
        assert somebody.read_register(9, "bus_watchdog") == -1
    with pytest.raises(CadenzaError, match="nobody answers at address 3"):
        motors.main(["clear", bus, "1-3,9"])
    assert "9 is cleared" in capsys.readouterr().out
    with opened(bus) as somebody:
        assert [somebody.read_register(number, "bus_watchdog") for number in (1, 9)] == [0, 0]
    assert torque(three) == [False] * 3


def test_power_needs_the_board(bus: str) -> None:
    with pytest.raises(CadenzaError, match="No OpenCR"):
        motors.main(["power", bus])


def test_a_bus_of_another_kind_is_not_set_up_here() -> None:
    with pytest.raises(CadenzaError, match="maker's tool"):
        motors.main(["set-id", "damiao:virtual:nobody", "1", "2"])


def test_addresses() -> None:
    assert numbers_of("1-3,200") == [1, 2, 3, 200]
    assert len(numbers_of("")) == 253
    with pytest.raises(CadenzaError, match="1-20,200"):
        numbers_of("one")


def documented(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_every_command_of_the_page_works_in_its_order(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In short form: few addresses, one table. One servo as delivered; the board's commands want an OP3's port."""
    commands = documented(repository / "docs" / "motors.md")
    assert {words[2] for words in commands if words[1] == "motors"} == {
        "scan", "ping", "set-id", "set-baud", "read", "write", "monitor", "clear", "reboot", "power",
    }  # fmt: skip
    with start(Order("dynamixel", ids=(1,), baud=57_600)) as servo:
        for words in commands:
            if words[1] != "motors" or words[2] == "power":
                continue
            typed = [word.replace("/dev/ttyUSB0", servo.port) for word in words[2:]]
            typed += {"scan": ["--ids", "1-3"], "monitor": ["--once"]}.get(words[2], [])
            assert motors.main(typed) == 0, words
        assert "led of 7: 0 -> 1" in capsys.readouterr().out


@pytest.mark.slow
def test_an_op3_gets_its_supply(capsys: pytest.CaptureFixture[str]) -> None:
    with start(Order("dynamixel", robot="op3", hung_up=True)) as op3:
        bus = f"dynamixel:{op3.port}"
        assert motors.main(["scan", f"{bus}@2000000"]) == 0
        assert "Only an OpenCR answers" in capsys.readouterr().out
        assert motors.main(["power", bus, "on"]) == 0
        assert motors.main(["monitor", bus, "--robot", "op3", "--once"]) == 0
        assert "r_ank_roll" in capsys.readouterr().out
