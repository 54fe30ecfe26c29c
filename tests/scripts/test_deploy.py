"""``cadenza deploy``: the whole path, from a bundle to motors in a simulation and in another process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.log_summary import read_log
from cadenza.controllers.loop import ControlLoop
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.rigs import SIM, emulator_kind, open_rig
from cadenza.robots import load_humanoid
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.stopping import stop_policy
from cadenza.scripts import deploy
from cadenza.scripts.main import COMMANDS, run

ROBOT = load_humanoid("op3")
SHORT = ["--lockstep", "--yes", "--seconds", "0.4"]


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "deploy", COMMANDS.get("deploy", ""))
    monkeypatch.setitem(COMMANDS, "log", COMMANDS.get("log", ""))


def test_a_policy_drives_a_simulation_and_leaves_a_log(
    small_bundle: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, figures = tmp_path / "run.mcap", tmp_path / "run.json"
    command = ["deploy", str(small_bundle("walk")), "--command", "0.1", "0", "0", "--log", str(log)]
    assert run([*command, *SHORT, "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "proving that their watchdogs trip",
        "homing -> active",
        "inactive: the time is over",
        "20 ticks driven",
    ):
        assert words in shown
    record = json.loads(figures.read_text())
    assert (record["active_ticks"], record["missed_ticks"], record["lifecycle"]) == (20, 0, "inactive")
    found = read_log(log)
    assert found.complete
    stand = round(stop_policy(ROBOT).stand_s / 0.02)
    assert found.state.count("active") == pytest.approx(20 + stand, abs=1)
    assert found.joint_names == ROBOT.joint_names
    manifest = json.loads((small_bundle("walk") / "manifest.json").read_text())
    assert found.metadata["bundle_sha256"] == manifest["sha256"]["policy.onnx"]
    assert found.metadata["deployment_sha256"] == manifest["deployment"]["sha256"]
    assert {"git_commit", "versions", "calibration", "robot", "bus"} <= set(found.metadata)
    driven = np.array([state == "active" for state in found.state])
    told = found.command[driven][:, 0]
    np.testing.assert_allclose(told[2:20], 0.1)
    np.testing.assert_allclose(told[22:], 0.0, err_msg="in the end it is told to stand")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("deployment"), "does not say how to run it on motors"),
        (lambda data: data["joint_order"].reverse(), "order of joints"),
        (lambda data: data.update(control_rate_hz=100.0), "rate: 50 Hz by its deployment facts, 100 Hz"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_before_anything_moves(
    small_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(small_bundle("stand"), folder)
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))
    assert run(["deploy", str(folder), *SHORT]) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert "connecting" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "There is no policy bundle 'nowhere'"),
        (["BUNDLE", "--robot", "op4"], "Did you mean op3"),
        (["BUNDLE", "--bus", "dynamixl:/dev/x"], "--yes lets real motors move"),
        (["BUNDLE", "--bus", "dynamixl:/dev/x", "--i-am-at-the-stop"], "--lockstep away"),
        (["BUNDLE", "--seconds", "-1"], "--seconds must be above 0"),
        (["BUNDLE", "--torque-share", "1.5"], "above 0 and not above 1: torque 1.5, speed 1"),
        (["BUNDLE", "--speed-share", "0"], "above 0 and not above 1: torque 1, speed 0"),
        (["BUNDLE", "--log", "run.txt"], "writes a .mcap"),
        (["BUNDLE", "--faults", "f.json"], "Only emulated motors take a fault plan"),
        (["BUNDLE", "--hold-to-run"], "--hold-to-run needs a socket"),
        (["BUNDLE", "--command", "9", "0", "0"], "takes no velocity command"),
        (["BUNDLE", "--robot", "unitree_g1"], "robot: 'op3' in the bundle, 'unitree_g1' here"),
    ],
)
def test_mistakes_are_explained(
    small_bundle: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    arguments = [str(small_bundle("stand")) if word == "BUNDLE" else word for word in arguments]
    assert run(["deploy", "--yes", "--lockstep", *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("share", "value", "limit"), [("torque", "0.5", "torque"), ("speed", "0.5", "slew")])
def test_a_first_try_has_lower_limits(tmp_path: Path, share: str, value: str, limit: str) -> None:
    held = []
    for given in ("1", value):
        log, figures = tmp_path / f"{given}.mcap", tmp_path / f"{given}.json"
        command = ["deploy", "op3-stand", "--hung-up", *SHORT, "--json", str(figures), "--log", str(log)]
        assert run([*command, f"--{share}-share", given]) == 0
        record = json.loads(figures.read_text())
        assert record[f"{share}_share"] == float(given)
        assert json.loads(read_log(log).metadata["limit_shares"])[share] == float(given)
        held.append(record["limited_ticks"].get(limit, 0))
    assert held[0] == 0 < held[1]


def test_a_run_is_filmed(small_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cadenza.envs.rendering.video import video_info

    film = tmp_path / "run.mp4"
    assert run(["deploy", str(small_bundle("stand")), *SHORT, "--video", str(film)]) == 0
    info = video_info(film)
    assert (info["codec"], info["size"]) == ("h264", (640, 480))
    assert info["duration"] > 3.0  # the way home is in it
    shown = capsys.readouterr().out
    frames = int(re.search(r"drawing run.mp4: (\d+) of \1 frames", shown)[1])  # type: ignore[index]
    assert frames == pytest.approx(25 * info["duration"], abs=2)
    for more, said in ((["--bus", "dynamixel:/dev/null"], "Film it with a camera"), ([], "writes an .mp4")):
        path = film if more else tmp_path / "run.gif"
        assert run(["deploy", str(small_bundle("stand")), "--yes", "--video", str(path), *more]) == 1
        assert said in capsys.readouterr().err


def test_real_motors_need_a_word_and_a_calibration(small_bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["deploy", str(small_bundle("stand")), "--bus", "dynamixel:/dev/null"]
    assert run(command) == 1
    assert "Nobody can press Enter" in capsys.readouterr().err
    assert run([*command, "--yes", "--i-am-at-the-stop"]) == 1
    assert "need the calibration file" in capsys.readouterr().err


def test_what_safety_stops_has_its_own_exit_code(
    small_bundle: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cadenza.robots.hardware.sim import SimPort

    read = SimPort.read
    count = 0

    def goes_mute(self: SimPort) -> Any:
        nonlocal count
        count += 1
        if count > 250:
            self.faults.mute.add("r_knee")
        return read(self)

    monkeypatch.setattr(SimPort, "read", goes_mute)
    command = ["deploy", str(small_bundle("stand")), "--lockstep", "--yes", "--seconds", "3"]
    assert run(command) == deploy.STOPPED_BY_SAFETY
    assert "no usable feedback from r_knee" in capsys.readouterr().out


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(["deploy", "--help"])
    assert exit_.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("cadenza deploy op3-walk --bus sim", "None of these stops is an emergency stop", "Exit codes"):
        assert words in shown


def test_enter_is_a_word_once_it_is_waited_for() -> None:
    word, given = deploy.Word(), deploy.Word(given=True)
    press = deploy._saying((word, given))
    press("\n")
    assert not word(), "pressed before the question"
    press("x")
    assert not word()
    press("\r")
    assert word()
    assert given()


def test_a_robot_is_held_at_the_end_until_somebody_says_so(
    small_bundle: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    class Late(deploy.Word):
        def __call__(self) -> bool:
            asked.append(None)
            return self._given or len(asked) > 200

    monkeypatch.setattr(deploy, "Word", Late)
    assert run(["deploy", str(small_bundle("stand")), *SHORT, "--hung-up", "--hold-at-end"]) == 0
    shown = capsys.readouterr().out
    assert "held with power until somebody says so" in shown
    assert len(asked) > 200


def child(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    code = (
        "import sys; from cadenza.scripts.main import COMMANDS, run; COMMANDS.setdefault('deploy', ''); "
        "sys.exit(run(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "deploy", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if words in line:
            return shown
    raise AssertionError(shown)


@pytest.mark.parametrize("stop", ["once", "socket"])
def test_a_running_policy_can_be_stopped_from_outside(small_bundle: Any, tmp_path: Path, stop: str) -> None:
    door = f"{tmp_path}/stop"
    process = child(str(small_bundle("stand")), "--hung-up", "--yes", "--stop-socket", door)
    try:
        shown = until(process, "homing -> active")
        if stop == "once":
            process.send_signal(signal.SIGINT)
        else:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(door)
                client.sendall(b"x")
                time.sleep(0.2)
        assert process.stdout is not None
        shown += process.stdout.read()
        code = process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert code == (deploy.INTERRUPTED if stop == "once" else deploy.STOPPED_BY_SAFETY), shown
    assert "active -> stopping" in shown
    assert ("stopping -> inactive" if stop == "once" else "stopping -> estopped") in shown


# ---------------------------------------------------------------------- parity


def driven(bus: str, folder: Path, ticks: int, hung_up: bool, start_s: float) -> list[tuple[Any, ...]]:
    """States and goals of a policy's run in lockstep on a bus, from ``start_s`` on its clock."""
    rows: list[tuple[Any, ...]] = []

    def note(state: Any, applied: Any) -> None:
        sent = applied.sent.command.q.copy() if applied is not None and applied.sent is not None else None
        rows.append((state.joints.q.copy(), state.joints.dq.copy(), state.imu.gyro, state.imu.gravity, sent))

    runner = PolicyRunner(PolicyBundle.load(folder))
    with (
        open_rig(bus, ROBOT, lockstep=True, hung_up=hung_up) as rig,
        RobotHardware(rig.port, ROBOT, homing_s=0.5) as hardware,
    ):
        hardware.connect()
        hardware.configure(prove_watchdog=False)  # it lets time pass, for real motors alone
        rig.clock.sleep_until(start_s)
        ControlLoop(hardware, runner, at_home=rig.put_down, at_tick=note).run(ticks * 0.02)
    return rows


@pytest.mark.parametrize(
    ("task", "ticks", "hung_up"),
    [
        ("walk", 150, True),
        ("stand", 150, False),
        pytest.param("stand", 1000, False, marks=pytest.mark.slow),
        pytest.param("walk", 1000, True, marks=pytest.mark.slow),
    ],
)
def test_a_simulation_and_emulated_servos_are_one_robot(
    small_bundle: Any, task: str, ticks: int, hung_up: bool
) -> None:
    """SimPort in this process; driver, wire and emulator in another. Equal within one step of every quantity."""
    folder = small_bundle(task)
    ours = driven(SIM, folder, ticks, hung_up, 1.0)
    theirs = driven("emulated", folder, ticks, hung_up, 1.0)
    assert abs(len(ours) - len(theirs)) <= 3
    count = min(len(ours), len(theirs))
    if task == "walk":
        assert count > ticks
    step = 2 * np.pi / 4096
    for what, index, most in (("q", 0, step), ("dq", 1, 0.0239691), ("gyro", 2, 0.00107), ("gravity", 3, 0.00175),
                              ("goal", 4, step)):  # fmt: skip
        pairs = [(a[index], b[index]) for a, b in zip(ours[:count], theirs[:count], strict=True)]
        off = max(float(np.abs(a - b).max()) for a, b in pairs if a is not None and b is not None)
        assert off <= most * 1.01, f"{what} differs by {off:.6f}"


@pytest.mark.slow
def test_an_emulated_robot_in_real_time_ends_with_torque_off(small_bundle: Any, tmp_path: Path) -> None:
    """On a busy machine it may be stopped by the safety layer; it must not hang, nor end with torque on."""
    code = run(
        ["deploy", str(small_bundle("stand")), "--bus", "emulated", "--hung-up", "--yes", "--seconds", "2",
         "--log", str(tmp_path / "a.mcap")]
    )  # fmt: skip
    assert code in (0, deploy.STOPPED_BY_SAFETY)
    assert read_log(tmp_path / "a.mcap").complete


def test_only_robots_whose_motors_have_an_emulator_are_emulated() -> None:
    assert emulator_kind(ROBOT) == "dynamixel"
    with pytest.raises(HardwareError, match="No emulator speaks like the motors of"):
        emulator_kind(load_humanoid("unitree_g1"))


def test_a_calibration_of_another_robot_is_refused(op3_is_here: None, tmp_path: Path) -> None:
    from cadenza.robots.hardware.calibration import Calibration

    path = tmp_path / "g1.json"
    Calibration.for_robot(load_humanoid("booster_t1")).save(path)
    with pytest.raises(RefusedError, match="'booster_t1', not of 'op3'"), open_rig(SIM, ROBOT, calibration=path):
        pass
    assert os.path.exists(path)


# ---------------------------------------------------------------------- the documented path

TRAINING = "--steps 120 --evaluate-every 100 --preset demo --set learning_starts=60 buffer_size=200"
SMALLER = {
    "--steps 300000 --n-envs 8": TRAINING,
    "--seconds 10": "--seconds 0.3",
    "--lockstep": "--lockstep --hung-up",
}


@pytest.mark.parametrize("first", ["deploy", pytest.param("train", marks=pytest.mark.slow)])
def test_the_documented_path_from_training_to_motors(
    small_bundle: Any, repository: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """docs/deploy.md, as written but for the amount of work; the short form takes a bundle that is there."""
    from cadenza.agents import deployment_facts

    monkeypatch.setattr(deployment_facts, "PROOF_STEPS", 60)
    page = (repository / "docs" / "deploy.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    names = [line.split()[1] for line in lines]
    assert names == ["train", "export", "deploy", "deploy", "log"]
    if first == "deploy":
        shutil.copytree(small_bundle("stand"), elsewhere / "stand")
    for line in lines[names.index(first) :]:
        for full, small in SMALLER.items():
            line = line.replace(full, small)
        assert run(shlex.split(line)[1:]) == 0, line
    assert read_log(elsewhere / "stand.mcap").complete
    for name in ("joints", "timing", "temperatures"):
        assert (elsewhere / f"stand-{name}.png").stat().st_size > 10_000
