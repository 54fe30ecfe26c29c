"""``cadenza demos``: collect, inspect, export; what the page of demonstrations promises."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.agents.demos import DemoSet
from cadenza.scripts.main import COMMANDS, run

pytest.importorskip("pyarrow")


def test_collect_inspect_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "reach"
    collect = ["demos", "collect", "--env", "Reacher-v5", "--out", str(folder), "--seed", "3"]
    assert run([*collect, "--episodes", "3", "--expert-set", "noise=0.02"]) == 0
    shown = capsys.readouterr().out
    assert "3 episodes" in shown
    assert re.search(r"\d+\.\d a minute", shown)
    assert run([*collect, "--episodes", "5", "--expert-set", "noise=0.02"]) == 0
    assert "has 5 of 5 episodes" in capsys.readouterr().out
    assert [info.seed for info in DemoSet(folder).episodes] == [3, 4, 5, 6, 7]

    figures = tmp_path / "figures.json"
    assert run(["demos", "inspect", str(folder), "--plot", str(tmp_path / "p.png"), "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    for words in ("50.00 Hz measured, 50 Hz nominal", "bring the fingertip to the target (5)", "action.1", "none"):
        assert words in shown
    record = json.loads(figures.read_text())
    assert (record["episodes"], record["steps"], record["corrupt"]) == (5, 250, [])
    assert (tmp_path / "p.png").is_file()

    assert run(["demos", "export", str(folder), "--format", "lerobot", "--out", str(tmp_path / "lerobot")]) == 0
    assert json.loads((tmp_path / "lerobot/meta/info.json").read_text())["total_frames"] == 250
    pytest.importorskip("minari")
    minari = ["--format", "minari", "--out", str(tmp_path / "minari"), "--name", "reach-v2"]
    assert run(["demos", "export", str(folder), *minari]) == 0
    assert (tmp_path / "minari/reach-v2/data/main_data.hdf5").is_file()


def test_damage_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "reach"
    assert run(["demos", "collect", "--env", "Reacher-v5", "--out", str(folder), "--episodes", "3"]) == 0
    path = DemoSet(folder).episodes[1].path
    path.write_bytes(path.read_bytes()[:-9])
    assert run(["demos", "inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "1, left out" in shown
    assert "left out: episode-000001.parquet" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere"], "no set of demonstrations"),
        (["export", "nowhere", "--format", "lerobot", "--out", "x"], "no set of demonstrations"),
        (["collect", "--env", "Hopper-v5", "--out", "x"], "no expert for Hopper-v5"),
        (["collect", "--env", "Reacher-v5", "--out", "x", "--expert", "reachr"], "reachr"),
        (["collect", "--env", "Reacher-v5", "--out", "x", "--episodes", "0"], "--episodes must be at least 1"),
        (["collect", "--env", "Reacher-v5", "--out", "x", "--set", "nonsense=3"], "cannot be made with the settings"),
        (["collect", "--env", "Reacher-v5", "--out", "x", "--expert-set", "nosie=3"], "nosie"),
        (["from-log", "nowhere.mcap", "--out", "x"], "Cannot read"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], words: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demos", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []


def test_without_a_verb_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["demos"])
    assert "demos" in COMMANDS


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_complete(workers: int, tmp_path: Path) -> None:
    """As a terminal sends it: to the whole group of processes."""
    command = ["demos", "collect", "--env", "Reacher-v5", "--out", str(tmp_path / "set"), "--workers", str(workers)]
    code = "import sys; from cadenza.scripts.main import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--episodes", "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list((tmp_path / "set/episodes").glob("*.parquet"))) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    try:
        shown, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, shown
    assert "every complete episode is stored; the same command goes on" in shown
    demos = DemoSet(tmp_path / "set")
    assert demos.corrupt == []
    assert f"has {len(demos)} of 100000 episodes" in shown
    more = len(demos) + 2
    assert run([*command, "--episodes", str(more)]) == 0
    assert [info.index for info in DemoSet(tmp_path / "set").episodes] == list(range(more))


def in_group(group: int) -> list[int]:
    """Processes of a group that still do something."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM is as Ctrl-C; after a SIGKILL the workers find out by themselves."""
    command = ["demos", "collect", "--env", "Reacher-v5", "--out", str(tmp_path / "set"), "--workers", "2"]
    code = "import sys; from cadenza.scripts.main import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--episodes", "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while len(list((tmp_path / "set/episodes").glob("*.parquet"))) < 4 and time.monotonic() < until:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        assert len(in_group(process.pid)) >= 3
        os.kill(process.pid, number)
        until = time.monotonic() + 120
        while in_group(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert in_group(process.pid) == []
        shown, _ = process.communicate(timeout=120)
    finally:
        if in_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    if number == signal.SIGTERM:
        assert process.returncode == 130, shown
        assert "every complete episode is stored; the same command goes on" in shown
    assert DemoSet(tmp_path / "set").corrupt == []


@pytest.mark.slow
def test_a_log_becomes_a_set(
    small_bundle: Callable[[str], Path], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mcap")
    deploy = ["deploy", str(small_bundle("walk")), "--lockstep", "--hung-up", "--yes", "--seconds", "1"]
    assert run([*deploy, "--log", "walk.mcap"]) == 0
    assert run(["demos", "from-log", "walk.mcap", "--out", "walked"]) == 0
    assert "1 episodes" in capsys.readouterr().out
    demos = DemoSet(elsewhere / "walked")
    assert demos.schema.rate_hz == 50.0
    assert demos.schema.action.names is not None
    assert "r_knee" in demos.schema.action.names
    assert {"joint_position", "gyro", "gravity"} <= set(demos.schema.observation)
    assert run(["demos", "export", "walked", "--format", "lerobot", "--out", "walked-lerobot"]) == 0


# ------------------------------------------------------------------ the page


def page(repository: Path) -> str:
    return (repository / "docs/demonstrations.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page(repository: Path, elsewhere: Path) -> None:
    lines = [line.split("#")[0].strip() for block in blocks(page(repository), "sh") for line in block.splitlines()]
    mine = [line for line in lines if line.startswith("cadenza demos") and "reach" in line]
    assert [line.split()[2] for line in mine] == ["collect", "inspect", "export", "export"]
    for line in mine:
        assert run(shlex.split(line.replace("--episodes 100", "--episodes 3"))[1:]) == 0, line
    for example in blocks(page(repository), "python"):
        exec(compile(example, "docs/demonstrations.md", "exec"), {})
    assert len(DemoSet(elsewhere / "demos/mine")) == 1
