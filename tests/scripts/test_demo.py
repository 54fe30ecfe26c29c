"""The demo, made small: it trains for real, measures, draws and films; and it never removes what it did not make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cadenza.agents.runs.metrics import read_table
from cadenza.controllers.shipped import CARD_FORMAT, POLICIES_VARIABLE
from cadenza.scripts.main import run

SMALL = ["--env", "Hopper-v5", "--steps", "2300", "--episodes", "2"]


@pytest.fixture(autouse=True)
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of shipped policies: an empty one, whatever ships."""
    folder = tmp_path / "policies"
    monkeypatch.setenv(POLICIES_VARIABLE, str(folder))
    return folder


def ship(path: Path, env_id: str, step: int = 0, card: dict[str, float] | None = None) -> None:
    """An untrained policy as a bundle; with ``card`` (return_mean, elapsed_s) as if it had been measured."""
    from stable_baselines3 import SAC

    from cadenza.agents.export import export_bundle
    from cadenza.envs.registration import make_env

    model = SAC("MlpPolicy", make_env(env_id), policy_kwargs={"net_arch": [8]}, buffer_size=1, seed=1)
    model.num_timesteps = step
    export_bundle(model, path, env_id=env_id, env_kwargs={}, agent="sac")
    if card is not None:
        sha256 = json.loads((path / "manifest.json").read_text())["sha256"]["policy.onnx"]
        evaluation, training = {"return_mean": card["return_mean"]}, {"elapsed_s": card["elapsed_s"]}
        record = {
            "format": CARD_FORMAT, "policy_sha256": sha256, "evaluation": evaluation, "training": training,
        }  # fmt: skip
        (path / "card.json").write_text(json.dumps(record))


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
    assert figures["shipped"] is None
    assert "ships" not in printed
    assert not list(folder.glob("beside_*"))


@pytest.mark.usefixtures("needs_gl")
def test_demo_shows_a_shipped_policy_beside_the_new_one(
    elsewhere: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cadenza.envs.rendering.video import read_frames, video_info

    ship(policies / "leaper", "Hopper-v5", 123_456, {"return_mean": 3000.0, "elapsed_s": 7500.0})
    assert run(["demo", *SMALL]) == 0
    folder = elsewhere / "runs" / "demo"
    shipped = json.loads((folder / "demo.json").read_text())["shipped"]
    assert (shipped["name"], shipped["env"], shipped["step"]) == ("leaper", "Hopper-v5", 123_456)
    assert (shipped["training_s"], shipped["n"]) == (7500.0, 2)
    assert shipped["return_mean"] != 3000.0  # measured here and now
    film = folder / "beside_leaper.mp4"
    assert video_info(film)["size"] == (962, 480)
    left, right = np.split(read_frames(film, [-1])[0].astype(int)[:, [*range(480), *range(482, 962)]], 2, axis=1)
    assert abs(left[:60] - right[:60]).max() > 150  # other captions
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if "leaper (ships)" in line]
    assert "2 h 05 min" in row
    assert f"{shipped['return_mean']:,.0f} ±" in row
    assert "beside_leaper.mp4" in printed


def test_demo_does_without_a_shipped_policy_that_is_damaged(
    elsewhere: Path, policies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cadenza.scripts import demo

    monkeypatch.setattr(demo, "_graphics", lambda: False)
    ship(policies / "leaper", "Hopper-v5")
    (policies / "leaper" / "policy.onnx").write_bytes(b"damaged")
    assert run(["demo", *SMALL]) == 0
    assert "no shipped policy to compare with" in capsys.readouterr().out
    assert json.loads((elsewhere / "runs" / "demo" / "demo.json").read_text())["shipped"] is None


def test_the_shipped_policy_fits_the_task(policies: Path) -> None:
    """Of this task before another of the same robot; the better one; never one of another robot."""
    from cadenza.scripts.beside import choose

    def chosen(env_id: str, actions: int) -> str | None:
        found = choose(env_id, (actions,))
        return None if found is None else found.name

    assert chosen("cadenza/Humanoid-v0", 17) is None
    ship(policies / "pendulum", "Pendulum-v1", 0, {"return_mean": 9999.0, "elapsed_s": 1.0})
    assert chosen("cadenza/Humanoid-v0", 17) is None
    ship(policies / "cousin", "Humanoid-v5", 0, {"return_mean": 5000.0, "elapsed_s": 1.0})
    assert chosen("cadenza/Humanoid-v0", 17) == "cousin"
    ship(policies / "bare", "cadenza/Humanoid-v0")
    assert chosen("cadenza/Humanoid-v0", 17) == "bare"
    ship(policies / "a-poor", "cadenza/Humanoid-v0", 0, {"return_mean": 100.0, "elapsed_s": 1.0})
    ship(policies / "good", "cadenza/Humanoid-v0", 0, {"return_mean": 200.0, "elapsed_s": 1.0})
    ship(policies / "z-poor", "cadenza/Humanoid-v0", 0, {"return_mean": 100.0, "elapsed_s": 1.0})
    assert chosen("cadenza/Humanoid-v0", 17) == "good"


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
