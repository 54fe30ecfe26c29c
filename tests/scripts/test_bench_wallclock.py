"""``cadenza bench wallclock``: interrupted, continued, refused, and what it writes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cadenza.scripts.bench.wallclock import _Display
from cadenza.scripts.main import run

SHORT = ["--env", "InvertedPendulum-v5", "--seeds", "1", "--episodes", "2", "--final-episodes", "3"]
AGENTS = ["--agents", "ppo", "symphony:demo"]


def command(out: Path, *more: str) -> list[str]:
    times = ["--minutes", "0.025", "--evaluate-every-minutes", "0.002"]
    return ["bench", "wallclock", *SHORT, *AGENTS, *times, "--out", str(out), *more]


def test_interrupted_and_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the second agent trains: the first is not trained again, the second goes on from its checkpoint."""
    tell = _Display.tell

    def press(self: Any, run: Any, event: dict[str, Any]) -> None:
        tell(self, run, event)
        if run.agent == "symphony:demo" and event["event"] == "evaluation":
            raise KeyboardInterrupt

    monkeypatch.setattr(_Display, "tell", press)
    given = ["--torch-threads", "1"]
    assert run(command(tmp_path, *given)) == 130
    assert "The same command goes on" in capsys.readouterr().out
    folders = {name: tmp_path / "runs" / f"{name}-s0" for name in ("ppo", "symphony-demo")}
    first = json.loads((folders["ppo"] / "final.json").read_text())
    assert first["train_s"] >= first["budget_s"] == 1.5
    assert not (folders["symphony-demo"] / "final.json").exists()
    (stored,) = (folders["symphony-demo"] / "checkpoints").glob("checkpoint-*.json")
    assert json.loads(stored.read_text())["extra"]["train_s"] < 1.5
    assert "1 of 2 runs are still to come" in (tmp_path / "wallclock.md").read_text()

    monkeypatch.setattr(_Display, "tell", tell)
    assert run(command(tmp_path)) == 0  # each run keeps its number of threads, so measuring is the same benchmark
    shown = capsys.readouterr().out
    assert f"ppo, seed 0: done before, {first['step']:,} steps" in shown
    assert "symphony:demo, seed 0: training from 0.0 min" in shown
    assert json.loads((folders["ppo"] / "final.json").read_text()) == first
    (resumed,) = json.loads((folders["symphony-demo"] / "config.json").read_text())["resumed"]
    assert resumed["step"] == int(stored.stem.removeprefix("checkpoint-"))

    with open(tmp_path / "wallclock.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for agent in ("ppo", "symphony:demo"):
        own = [row for row in rows if row["agent"] == agent]
        assert [row["phase"] for row in own] == ["training"] * (len(own) - 1) + ["final"]
        assert len(own) >= 2
        clocks = [float(row["train_s"]) for row in own]
        assert clocks == sorted(clocks)
        assert clocks[-1] >= 1.5
        assert [len(row["returns"].split()) for row in own] == [2] * (len(own) - 1) + [3]
        assert [row["n"] for row in own] == ["2"] * (len(own) - 1) + ["3"]
    page = (tmp_path / "wallclock.md").read_text()
    assert "still to come" not in page
    assert "- `symphony:demo`:" in page
    assert "n = 3" in page
    record = json.loads((tmp_path / "wallclock.json").read_text())
    assert [(entry["agent"], entry["seed"], entry["normalize"]) for entry in record["runs"]] == [
        ("ppo", 0, True), ("symphony:demo", 0, False),
    ]  # fmt: skip
    assert [entry["preset_settings"] and entry["preset_settings"]["batch_size"] for entry in record["runs"]] == [
        None,
        64,
    ]
    assert "Not today's preset" not in page
    assert record["command"].startswith("cadenza bench wallclock --env InvertedPendulum-v5")
    assert record["plan"]["minutes"] == 0.025
    assert [(entry["torch_threads"], entry["threads"]) for entry in record["runs"]] == [
        (1, {"number": 1, "chosen": "given"})
    ] * 2
    assert {"versions", "machine", "git_commit", "load_average_at_report"} <= record.keys()
    assert (tmp_path / "wallclock.png").read_bytes().startswith(b"\x89PNG")

    # What is there is not mixed with a shorter budget or other settings.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for more, said in (
        (["--minutes", "0.01"], "longer than --minutes 0.01"),
        (["--episodes", "5"], "other settings"),
        (["--torch-threads", "2"], "torch_threads: there 1, asked 2"),
    ):
        assert run(command(tmp_path, *more)) == 1
        assert said in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    # Nor is what trained on after its final evaluation: an extension that was interrupted.
    final = next(tmp_path.glob("runs/*/final.json"))
    record = json.loads(final.read_text())
    final.write_text(json.dumps({**record, "step": record["step"] - 1}))
    assert run(command(tmp_path)) == 1
    assert "longer than --minutes 0.025" in capsys.readouterr().err


def test_a_run_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "wallclock", "--agents", "ppo", "--env", "CartPole-v1", "--out", str(tmp_path)]) == 1
    assert "CartPole-v1 has the action space Discrete" in capsys.readouterr().err


@pytest.mark.slow
def test_more_minutes_extend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command(tmp_path, "--agents", "ppo")) == 0
    short = json.loads((tmp_path / "runs" / "ppo-s0" / "final.json").read_text())
    capsys.readouterr()
    assert run(command(tmp_path, "--agents", "ppo", "--minutes", "0.05")) == 0
    assert "training from 0.0 min" in capsys.readouterr().out
    final = json.loads((tmp_path / "runs" / "ppo-s0" / "final.json").read_text())
    assert (final["budget_s"], final["step"] > short["step"]) == (3.0, True)
    if len(os.sched_getaffinity(0)) > 1:  # measured once, when the run began
        assert final["threads"]["chosen"] == "measured"
        assert final["torch_threads"] == final["threads"]["number"]
    assert final["threads"] == short["threads"]
