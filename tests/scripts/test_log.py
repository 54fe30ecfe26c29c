"""``cadenza log summary``: tables and figures of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.scripts.main import COMMANDS, run


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deploy", "log"):
        monkeypatch.setitem(COMMANDS, name, COMMANDS.get(name, ""))


@pytest.fixture(scope="module")
def log(small_bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    COMMANDS.setdefault("deploy", "")
    path = tmp_path_factory.mktemp("logs") / "run.mcap"
    command = ["deploy", str(small_bundle("walk")), "--lockstep", "--hung-up", "--yes", "--seconds", "1"]
    assert run([*command, "--command", "0.1", "0", "0", "--log", str(path)]) == 0
    return path


def test_a_summary_tells_what_happened(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "run.json"
    assert run(["log", "summary", str(log), "--json", str(figures), "--plot", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    for words in (
        "walk on simulation",
        "the policy drove",
        "joints that stand out",
        "stop category 1: the time is over",
    ):
        assert words in shown
    record = json.loads(figures.read_text())
    assert (record["missed_ticks"], record["complete"]) == (0, True)
    assert 125 <= record["active_ticks"] <= 127, "1 s as told, and 1.5 s told to stand"
    assert [state for state, _ in record["states"]] == ["homing", "active", "stopping"]
    assert record["metadata"]["command"] == [0.1, 0.0, 0.0]
    assert len(record["joints"]) == 20
    assert all(joint["tracking_rms_rad"] < 0.5 for joint in record["joints"])
    assert (tmp_path / "run-joints.png").is_file()


def test_every_joint_on_request(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "summary", str(log), "--joints"]) == 0
    shown = capsys.readouterr().out
    assert "r_sho_pitch" in shown
    assert "head_tilt" in shown


def test_a_log_without_an_end_says_so(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = log.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    assert run(["log", "summary", str(tmp_path / "cut.mcap")]) == 0
    assert "its program was killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["summary", "nowhere.mcap"], "Cannot read nowhere.mcap"),
        (["summary", "nowhere.mcap", "--window", "0"], "--window must be above 0"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["summary", "--help"]])
def test_help_teaches(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(["log", *arguments])
    assert exit_.value.code == 0
    assert "--plot" in capsys.readouterr().out
