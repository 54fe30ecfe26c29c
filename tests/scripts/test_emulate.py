"""``cadenza emulate`` as a program: its line of JSON, its end by signals, and every example of docs/emulators.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.robots.hardware.emulators import launch
from cadenza.robots.hardware.emulators.control import ControlServer, EmulatorControl
from cadenza.robots.hardware.emulators.faults import KINDS as FAULT_KINDS
from cadenza.robots.hardware.emulators.faults import FaultPlan
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts import emulate
from cadenza.scripts.parse import parse


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    program = "import sys; from cadenza.scripts.emulate import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    link = tmp_path / "port"
    process, said = start("dynamixel", "--ids", "1", "2", "--link", str(link))
    assert said["port"] == str(link)
    assert said["kind"] == "dynamixel"
    assert os.ttyname(os.open(link, os.O_RDWR | os.O_NOCTTY)).startswith("/dev/pts/")
    assert [motor["bus_id"] for motor in EmulatorControl(said["control"]).state()["motors"]] == [1, 2]
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == "", "one line only"
    assert "Ctrl-C ends it" in err
    assert not link.is_symlink()
    assert not Path(said["control"]).parent.exists()


def test_shutdown_over_the_control_socket() -> None:
    process, said = start("dynamixel", "--lockstep")
    control = EmulatorControl(said["control"])
    control.advance(0.5)
    control.shutdown()
    assert process.wait(timeout=20) == 0
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()


def test_wrong_kinds_are_refused_with_the_nearest() -> None:
    with pytest.raises(CadenzaError, match="dynamicsel") as error:
        emulate.main(["dynamicsel"])
    assert "dynamixel" in error.value.advice
    assert emulate.main([]) == emulate.main(["--help"]) == 0


@pytest.mark.parametrize("kind", emulate.KINDS)
def test_every_kind_explains_itself(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        emulate.main([kind, "--help"])
    assert done.value.code == 0
    assert f"cadenza emulate {kind}" in capsys.readouterr().out


def test_kinds_are_those_that_can_be_built() -> None:
    assert set(emulate.KINDS) == set(launch.BUILDERS)


def test_options_become_an_order() -> None:
    options = parse(emulate.Dynamixel, "emulate dynamixel", ["--ids", "3", "4", "--return-delay", "0", "--link", "/x"])
    order = emulate.order_from("dynamixel", options)
    assert order == launch.Order("dynamixel", ids=(3, 4), link="/x", more={"powered": False, "return_delay": 0})
    assert launch.Order.from_json(order.to_json()) == order


def test_a_motors_truth_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "truth.json"
    file.write_text('{"armature": 0.035, "friction_nm": 0.08, "kd": 0.8, "gain": 1.2}')
    options = parse(emulate.Feetech, "emulate feetech", ["--ids", "1", "--motor-truth", str(file)])
    order = emulate.order_from("feetech", options)
    assert order.plant == {"armature": 0.035, "friction_nm": 0.08, "kd": 0.8}
    assert order.more == {"gain": 1.2}
    world = launch.build(order)
    assert world.plant.model.dof_armature[0] == 0.035
    world.stop()
    whole = parse(emulate.Dynamixel, "emulate dynamixel", ["--robot", "op3", "--motor-truth", str(file)])
    with pytest.raises(CadenzaError, match="motors of a bench"):
        emulate.order_from("dynamixel", whole)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"armatur": 1}', "Did you mean armature"),
        ('{"kd": -1}', "kd is -1"),
        ('{"kd": NaN}', "kd is nan"),
        ('{"kd": true}', "kd is True"),
        ("[]", "no quantities"),
        ("{", "cannot be read"),
    ],
)
def test_a_wrong_truth_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "truth.json"
    file.write_text(text)
    with pytest.raises(CadenzaError) as caught:
        emulate.motor_truth(file)
    assert said in f"{caught.value} {caught.value.advice}"


# ---------------------------------------------------------------------- docs/emulators.md


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "emulators.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_build_what_they_say(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.json").write_text(next(text for text in blocks(page, "json") if "armature" in text))
    lines = [line.split("#")[0] for line in "".join(blocks(page, "sh")).splitlines()]
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("cadenza emulate")]
    assert len(commands) == 7
    for kind, *arguments in commands:
        if "op3" in arguments and not is_fetched("robotis_op3"):
            continue
        order = emulate.order_from(kind, parse(emulate._ARGUMENTS[kind], f"emulate {kind}", arguments))
        world = launch.build(order)
        state = world.state()
        whole = order.robot is not None and order.joint is None
        assert len(state["motors"]) == (20 if whole else max(len(order.ids), 1))
        assert state["held"] == order.held
        world.stop()


def test_the_pages_fault_plan_and_requests_are_understood(page: str, tmp_path: Path) -> None:
    plan = next(json.loads(block) for block in blocks(page, "json") if "faults" in block)
    assert len(FaultPlan.from_json(plan).to_json()) == 4
    world = launch.build(launch.Order("dynamixel", lockstep=True))
    server = ControlServer(world, tmp_path / "control")
    requests = blocks(page, "jsonl")[0].splitlines()
    assert len(requests) == 9
    for request in requests:
        assert server.answer(request.encode())["ok"], request
    server.stop()
    world.stop()


def test_the_page_names_every_kind_of_fault(page: str) -> None:
    assert [kind for kind in FAULT_KINDS if f"| `{kind}` |" not in page] == []


def test_the_pages_python_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamixel_sdk import PortHandler

    # The SDK gives an answer 34 ms; a machine that runs other tests beside this one may need longer.
    monkeypatch.setattr(PortHandler, "setPacketTimeout", lambda self, _: self.setPacketTimeoutMillis(5_000))
    (example,) = blocks(page, "python")
    names: dict[str, object] = {}
    exec(compile(example, "emulators.md", "exec"), names)
    assert names["position"] == pytest.approx(2500, abs=3)
    assert names["angle_rad"] == pytest.approx((2500 - 2048) * 2 * 3.14159265 / 4096, abs=0.004)
