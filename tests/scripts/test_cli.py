"""The ``cadenza`` command as it is typed: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.main import COMMANDS, run

CADENZA = [sys.executable, "-m", "cadenza.scripts.main"]
SETS = ["learning_starts=60", "batch_size=32", "buffer_size=2000", "hidden_size=32", "critic_nodes=8"]
SCHEDULE = ["--checkpoint-every", "50", "--evaluate-every", "50", "--evaluate-episodes", "1", "--torch-threads", "1"]


def train(env: str, folder: Path, steps: int = 80) -> list[str]:
    return ["train", "symphony", env, "--steps", str(steps), "--run", str(folder), *SCHEDULE, "--set", *SETS]


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "hopper"
    assert run(train("Hopper-v5", folder)) == 0
    return folder


# ------------------------------------------------------------------ help and names


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert run(arguments) == 0
        shown = capsys.readouterr().out
        assert all(command in shown for command in COMMANDS)


def test_help_of_the_installed_command_is_quick() -> None:
    """In a process of its own: nothing heavy is imported to print the help."""
    heavy = "torch, mujoco, gymnasium, stable_baselines3, matplotlib, numpy, cv2, onnx"
    code = (
        "import sys; from cadenza.scripts.main import run; code = run(['--help']);"
        f"print(sorted(set('{heavy}'.split(', ')) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "cadenza COMMAND" in done.stdout
    assert done.stderr.strip() == "[]"
    script = Path(sys.executable).with_name("cadenza")
    if script.exists():
        assert "train" in subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = run([command, "--help"])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 0
    assert f"cadenza {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cadenza ")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for name in ("cadenza/Humanoid-v0", "Hopper-v5", "symphony", "sac", "saya", "learning_rate"):
        assert name in shown
    assert run(["list", "agents"]) == 0
    assert "Hopper-v5" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "wrong", "near"),
    [
        (["trian"], 2, "'trian'", "train"),
        (["[/]"], 2, "'[/]'", "train, evaluate"),
        (["train", "symphony", "cadenza/Humanod-v0"], 1, "cadenza/Humanod-v0", "cadenza/Humanoid-v0"),
        (["train", "symphony", "[/x]"], 1, "[/x]", "cadenza list envs"),
        (["train", "symfony", "Pendulum-v1"], 1, "symfony", "symphony"),
        (["train", "symphony", "Pendulum-v1", "--preset", "sya"], 1, "'sya'", "saya"),
        (["train", "symphony", "Pendulum-v1", "--set", "gama=1"], 1, "'gama'", "gamma"),
        (["train", "symphony", "Pendulum-v1", "--set", "gamma"], 1, "NAME=VALUE", "--set batch_size=64"),
        (["train", "symphony", "CartPole-v1"], 1, "Discrete(2)", "cadenza list envs"),
        (["train", "symphony"], 1, "needs an agent and an environment", "cadenza train symphony"),
        (["train", "symphony", "Pendulum-v1", "--steps", "0"], 1, "total_steps must be at least 1", ""),
        (["train", "--resume", "nowhere"], 1, "nowhere is not a run", "cadenza train"),
        (["train", "--resume", "nowhere", "--preset", "cpu"], 1, "give it alone", "--resume nowhere"),
        (["train", "--resume", "nowhere", "--run", "other"], 1, "give it alone", "--resume nowhere"),
        (["evaluate", "nowhere"], 1, "nowhere is neither a run nor a policy bundle", "cadenza train"),
        (["evaluate", "."], 1, "neither a run nor a policy bundle", "cadenza export"),
        (["evaluate", ".", "--episodes", "0"], 1, "at least 1", ""),
        (["evaluate", ".", "--seed", "-1"], 1, "negative", ""),
        (["plot", "nowhere"], 1, "nowhere is not a run", "cadenza train"),
        (["export", "nowhere"], 1, "neither a run nor a policy bundle", ""),
        (["record"], 1, "either a run", "cadenza record --env"),
        (["record", "nowhere", "--env", "Hopper-v5"], 1, "either a run", ""),
        (["record", "nowhere", "--episodes", "0"], 1, "--episodes must be at least 1", ""),
        (["record", "nowhere", "--seed", "-1"], 1, "--seed must be at least 0", ""),
    ],
)
def test_what_is_wrong_and_what_is_near(
    arguments: list[str], code: int, wrong: str, near: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert "error:" in shown.err
    assert wrong in shown.err
    assert near in shown.err
    assert "Traceback" not in shown.err + shown.out
    assert not list(elsewhere.iterdir()), "an error leaves nothing behind"


def test_mistyped_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["train", "symphony", "Pendulum-v1", "--sted", "3"])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert "--seed" in shown.err + shown.out


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    monkeypatch.setenv("CADENZA_DEBUG", "1")
    with pytest.raises(CadenzaError):
        run(["evaluate", "nowhere"])


# ------------------------------------------------------------------ a run, start to finish


def test_train_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "odd [name]"  # brackets are markup to rich
    assert run(train("Pendulum-v1", folder, steps=61)) == 0
    shown = capsys.readouterr().out
    assert f"cadenza evaluate {folder}" in shown
    assert "done: 61 steps" in shown
    assert run(train("Pendulum-v1", folder, steps=61)) == 1
    assert f"cadenza train --resume {folder}" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder), "--steps", "70"]) == 0
    assert "done: 70 steps" in capsys.readouterr().out


def test_default_run_folder(elsewhere: Path) -> None:
    arguments = train("Pendulum-v1", Path("unused"), steps=61)
    at = arguments.index("--run")
    assert run(arguments[:at] + arguments[at + 2 :]) == 0
    (folder,) = (elsewhere / "runs").iterdir()
    assert folder.name.startswith("symphony-Pendulum-v1-cpu-s0-")


def test_evaluate_export_evaluate(hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle plays the same episodes as the run it came from."""
    files = [tmp_path / "deep" / "run.json", tmp_path / "bundle.json"]
    bundle = tmp_path / "bundle"
    assert run(["evaluate", str(hopper), "--episodes", "2", "--seed", "3", "--json", str(files[0])]) == 0
    shown = capsys.readouterr().out
    assert "forward velocity" in shown
    assert "what the motors would say" in shown
    assert re.search(r"hottest winding, from cold \[°C\] +\d+\.\d +\d+\.\d +\w+_joint\n", shown)
    assert run(["export", str(hopper), "--out", str(bundle)]) == 0
    assert run(["evaluate", str(bundle), "--episodes", "2", "--seed", "3", "--json", str(files[1])]) == 0
    ours, theirs = (json.loads(file.read_text()) for file in files)
    keys = [
        "policy",
        "env",
        "step",
        "seed",
        "n",
        "return_mean",
        "return_std",
        "return_ci95",
        "length_mean",
        "survived",
        "returns",
        "lengths",
    ]
    keys += ["forward_velocity_mean", "measures", "versions", "git_commit", "machine", "wall_clock_s", "command"]
    assert set(keys) <= ours.keys()
    assert (ours["n"], ours["seed"], ours["env"]) == (2, 3, "Hopper-v5")
    assert ours["step"] in (50, 80)
    assert ours["return_mean"] == pytest.approx(sum(ours["returns"]) / 2)
    assert ours["forward_velocity_mean"] == ours["measures"]["x_velocity"]
    assert theirs["lengths"] == ours["lengths"]
    assert theirs["returns"] == pytest.approx(ours["returns"], rel=1e-3)
    assert ours["motors"]["steps"] == sum(ours["lengths"])
    assert theirs["motors"].keys() == ours["motors"].keys()
    for name in ("action_change_mean", "torque_rms_over_rated", "winding_peak_c"):
        assert theirs["motors"][name] == pytest.approx(ours["motors"][name], rel=1e-3), name
    capsys.readouterr()
    assert run(["export", str(hopper), "--out", str(bundle)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(["export", str(hopper), "--out", str(bundle), "--overwrite", "--which", "last"]) == 0
    assert run(["export", str(bundle), "--out", str(tmp_path / "again")]) == 1
    assert "is a bundle already" in capsys.readouterr().err


def test_evaluate_one_episode_writes_strict_json(hopper: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    assert run(["evaluate", str(hopper), "--episodes", "1", "--json", str(file)]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(file.read_text(), parse_constant=refuse)["return_ci95"] is None


def test_evaluate_elsewhere(hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(hopper), "--episodes", "1", "--env", "Humanoid-v5"]) == 1
    assert "same spaces" in capsys.readouterr().err


def test_json_that_cannot_be_written(hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "result.json", tmp_path):
        assert run(["evaluate", str(hopper), "--episodes", "1", "--json", str(path)]) == 1
        assert "Cannot write" in capsys.readouterr().err


def test_plot(hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "curve.png"
    assert run(["plot", str(hopper), str(hopper), "--over", "time", "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out


def test_plot_motors(hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", str(hopper), "--motors"]) == 0
    assert (hopper / "motors.png").read_bytes().startswith(b"\x89PNG")
    assert str(hopper / "motors.png") in capsys.readouterr().out


# ------------------------------------------------------------------ films


@pytest.mark.usefixtures("needs_gl")
def test_record_a_run_in_an_odd_size(hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cadenza.envs.rendering.video import video_info

    film = tmp_path / "film.mp4"
    arguments = ["record", str(hopper), "--out", str(film), "--steps", "10", "--width", "161", "--height", "121"]
    assert run(arguments) == 0
    assert str(film) in capsys.readouterr().out
    info = video_info(film)
    assert info["codec"] == "h264"
    assert info["size"] == (160, 120)
    assert run(["record", str(hopper), "--out", str(film), "--width", "3"]) == 1
    assert run(["record", str(hopper), "--out", str(tmp_path / "film.gif")]) == 1
    assert ".mp4" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_gl")
def test_record_random_actions(elsewhere: Path) -> None:
    arguments = [
        "record",
        "--env",
        "Hopper-v5",
        "--policy",
        "random",
        "--steps",
        "5",
        "--width",
        "64",
        "--height",
        "64",
    ]
    assert run(arguments) == 0
    assert (elsewhere / "rollout.mp4").stat().st_size > 0


# ------------------------------------------------------------------ Ctrl-C


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([*CADENZA, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], pattern: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.rglob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_is_stored(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(train("Pendulum-v1", folder, steps=1_000_000))
    wait_for(process, "checkpoint-*.json", tmp_path)
    os.kill(process.pid, number)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    step = CheckpointStore(folder / "checkpoints").latest()["step"]
    assert f"interrupted at step {step:,}" in shown
    assert f"cadenza train --resume {folder}" in shown
    assert run(["train", "--resume", str(folder), "--steps", str(step + 5)]) == 0
    assert CheckpointStore(folder / "checkpoints").latest()["step"] == step + 5


@pytest.mark.usefixtures("needs_gl")
def test_interrupted_film_is_playable(tmp_path: Path) -> None:
    from cadenza.envs.rendering.video import video_info

    film = tmp_path / "film.mp4"
    size = ["--width", "160", "--height", "120", "--steps", "100000", "--episodes", "1000"]
    process = start(["record", "--env", "Hopper-v5", "--out", str(film), *size])
    wait_for(process, "*.part.mp4", tmp_path)
    os.kill(process.pid, signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "frames so far" in shown
    assert video_info(film)["duration"] > 0
    assert not list(tmp_path.glob("*.part.mp4"))
