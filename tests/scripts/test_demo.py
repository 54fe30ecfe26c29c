"""The demo, made small: it trains for real, measures, draws and films; and it never removes what it did not make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cadenza.agents.runs.metrics import read_table
from cadenza.scripts.main import run

SMALL = ["--env", "Hopper-v5", "--steps", "2300", "--episodes", "2"]


@pytest.mark.usefixtures("needs_gl")
def test_demo_trains_measures_and_films(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cadenza.envs.rendering.video import video_info

    assert run(["demo", *SMALL]) == 0
    folder = elsewhere / "runs" / "demo"
    figures = json.loads((folder / "demo.json").read_text())
    assert (figures["before"]["n"], figures["after"]["n"]) == (2, 2)
    assert figures["before"]["returns"] != figures["after"]["returns"]  # the weights did move
    assert [row["step"] for row in read_table(folder / "evaluations.csv")] == ["2300"]
    assert video_info(folder / "before_after.mp4")["codec"] == "h264"
    assert (folder / "learning_curve.png").stat().st_size > 5_000
    printed = capsys.readouterr().out
    assert "before_after.mp4" in printed
    assert "learning_curve.png" in printed


def test_demo_leaves_other_folders_alone(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = elsewhere / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("precious")
    assert run(["demo", *SMALL, "--run", str(other)]) == 1
    assert (other / "chapter.tex").read_text() == "precious"
    assert "not made by the demo" in capsys.readouterr().err


def test_demo_without_a_graphics_library_still_trains(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cadenza.envs.rendering import gl

    def missing() -> str:
        raise gl.NoGraphicsLibraryError

    monkeypatch.setattr(gl, "ensure_gl_backend", missing)
    assert run(["demo", *SMALL]) == 0
    assert not (elsewhere / "runs" / "demo" / "before_after.mp4").exists()
    assert "sudo apt-get install libegl1 libgl1" in capsys.readouterr().out
