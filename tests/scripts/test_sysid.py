"""``cadenza sysid`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.robots.hardware.emulators.launch import Order, spawn
from cadenza.robots.motors import MOTORS, servo_gains
from cadenza.scripts.sysid import main

BENCH = ["--motor", "STS3215-12V", "--id", "1"]
TRUTH = {"armature": 0.035, "friction_nm": 0.08, "kd": 0.8}


def test_help_says_that_it_moves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "The motor moves" in shown
    for option in ("--yes", "--arm-kg-m", "--amplitude-rad", "--lockstep"):
        assert option in shown


def test_nothing_is_opened_without_yes(tmp_path: Path) -> None:
    port = tmp_path / "no-such-port"
    with pytest.raises(CadenzaError, match=r"up to 17 deg .* 2 rad/s, for 30 s. Nothing was sent") as caught:
        main([f"feetech:{port}", *BENCH])
    assert "--yes" in caught.value.advice
    with pytest.raises(CadenzaError, match="no-such-port"):  # with it, the port is tried
        main([f"feetech:{port}", *BENCH, "--yes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either a motor on a bench"),
        (["--robot", "op3"], "either a motor on a bench"),
        ([*BENCH, "--robot", "op3", "--joint", "r_knee"], "either a motor on a bench"),
        (["--robot", "op3", "--joint", "r_kne"], "no joint named 'r_kne'"),
        (["--motor", "STS9999"], "no motor named 'STS9999'"),
        ([*BENCH, "--amplitude-rad", "9"], "amplitude_rad is 9"),
        ([*BENCH, "--rate-hz", "1"], "--rate-hz must be 10 to 500"),
    ],
)
def test_wrong_orders_say_what_is_wrong(arguments: list[str], said: str) -> None:
    with pytest.raises(CadenzaError, match=said):
        main(["feetech:/dev/null", *arguments])


def test_a_joint_of_a_robot_is_asked_for_by_name() -> None:
    with pytest.raises(CadenzaError, match=r"r_knee \(XM430-W350, id 13\) would move"):
        main(["dynamixel:/dev/null", "--robot", "op3", "--joint", "r_knee"])


@pytest.mark.slow
def test_an_emulated_servo_in_another_process_gives_its_parameters_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lever = {"arm_kg_m": 0.05, "inertia_kg_m2": 0.02}
    order = Order("feetech", ids=(1,), lockstep=True, plant=TRUTH, more={"gain": 1.2}, **lever)  # type: ignore[arg-type]
    destination = tmp_path / "found.json"
    with spawn(order) as emulator:
        code = main(
            [f"feetech:{emulator.port}", *BENCH, "--arm-kg-m", "0.05", "--inertia-kg-m2", "0.02", "--duration-s", "5",
             "--lockstep", str(emulator.control.path), "--out", str(destination), "--yes"]
        )  # fmt: skip
        assert not emulator.control.motor(1)["torque_enabled"]
    assert code == 0
    assert "run it never saw" in capsys.readouterr().out
    written = json.loads(destination.read_text())
    kp, _ = servo_gains(MOTORS["STS3215-12V"])
    for name, value in {**TRUTH, "kp": 1.2 * kp}.items():
        assert written["row"][name] == pytest.approx(value, rel=0.1), name
    assert destination.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
