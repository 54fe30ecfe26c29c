"""``cadenza replay``: a dump of every kind is shown; what is no dump is refused in words."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cadenza.envs.dumps import read_dump, write_dump
from cadenza.envs.errors import CadenzaError
from cadenza.envs.guard import FiniteGuard
from cadenza.envs.registration import make_env, make_vec_env
from cadenza.robots import load_humanoid
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.main import run


@pytest.fixture
def hopper_dump(tmp_path: Path) -> Path:
    """Of a guard around Hopper whose third step is poisoned."""
    path = tmp_path / "non_finite.npz"
    env = FiniteGuard(make_env("Hopper-v5", reset_noise_scale=0.0), path)
    env.reset(seed=0)
    for step in range(3):
        if step == 2:
            env.unwrapped.data.qvel[4] = np.nan
        env.step(np.full(3, 0.25 * step, np.float32))
    env.close()
    return path


def test_the_last_states_are_shown(hopper_dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(hopper_dump)]) == 0
    shown = capsys.readouterr().out
    assert "Hopper-v5, 3 steps" in shown
    assert "reset_noise_scale = 0.0" in shown
    assert "qvel[4]" in shown
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["-2", "-1", "0"]
    assert [row[3] for row in rows] == ["0", "0.25", "0.5"]
    assert [row[4] for row in rows] == ["-", "-", "qvel[4]"]


@pytest.mark.usefixtures("needs_gl")
def test_pictures_of_the_states(hopper_dump: Path, tmp_path: Path) -> None:
    path = tmp_path / "made" / "states.png"
    assert run(["replay", str(hopper_dump), "--out", str(path), "--frames", "2"]) == 0
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 320
    assert picture.shape[1] // 240 == 2
    assert picture[:320].std() > 10


@pytest.mark.usefixtures("needs_gl")
def test_a_copy_of_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not is_fetched(load_humanoid("op3").menagerie):
        pytest.skip("robotis_op3 is not on this computer: make robots")
    path = tmp_path / "non_finite.npz"
    env = make_vec_env("cadenza/OP3Walk-v0", 2, dump_path=path, threads=1, history=2)
    assert env is not None
    env.seed(0)
    env.reset()
    env.step(np.zeros((2, 20), np.float32))
    env.step(np.array([[0.0] * 20, [np.inf] * 20], np.float32))
    assert read_dump(path).env_kwargs == {"history": 2}
    assert run(["replay", str(path), "--out", str(tmp_path / "states.png")]) == 0
    shown = capsys.readouterr().out
    assert "cadenza/OP3Walk-v0, 2 steps" in shown
    assert "action[0, 1, 2 and 17 more]" in shown
    assert (tmp_path / "states.png").stat().st_size > 1000


def test_observations_have_a_table_and_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump.npz"
    steps = [{"observation": np.array([1.0, np.nan]), "action": np.array([0.5])}]
    write_dump(path, {"env_id": "Pendulum-v1", "env_kwargs": {}}, steps)
    assert run(["replay", str(path)]) == 0
    assert "observation[1]" in capsys.readouterr().out
    assert run(["replay", str(path), "--out", str(tmp_path / "x.png")]) == 1
    assert "nothing to draw" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_gl")
def test_a_dump_of_another_environment(hopper_dump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["replay", str(hopper_dump), "--env", "InvertedPendulum-v5", "--out", str(tmp_path / "x.png")]
    assert run(command) == 1
    assert "InvertedPendulum-v5 has others" in capsys.readouterr().err


def test_what_is_no_dump_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, other, broken, uneven = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz", "d.npz"))
    text.write_text("not a zip")
    np.savez(other, weights=np.zeros(3))
    np.savez(broken, qpos=np.zeros((2, 7)), action=np.array([{}, {}], dtype=object), allow_pickle=True)
    np.savez(uneven, qpos=np.zeros((2, 7)), action=np.zeros((3, 1)))
    for path, said in (
        (tmp_path / "none.npz", "There is no file"),
        (text, "no .npz"),
        (other, "it holds weights, not states and actions"),
        (broken, "no .npz of plain arrays"),
        (uneven, "different lengths"),
    ):
        assert run(["replay", str(path)]) == 1
        shown = " ".join(capsys.readouterr().err.split())
        assert said in shown
        assert "RUN/non_finite.npz" in shown


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--out", "states.gif"], "--out writes a .png"), (["--frames", "0"], "at least 1")]
)
def test_wrong_options(arguments: list[str], said: str, hopper_dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(hopper_dump), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_no_viewer_without_a_display(
    hopper_dump: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run(["replay", str(hopper_dump), "--view"]) == 1
    assert "no display" in capsys.readouterr().err


def test_a_dump_that_cannot_name_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "dump.npz"
    np.savez(path, qpos=np.zeros((1, 7)), qvel=np.zeros((1, 6)), action=np.zeros((1, 1)), about=np.array("{"))
    with pytest.raises(CadenzaError, match="does not say what environment"):
        read_dump(path)
    np.savez(path, qpos=np.zeros((1, 7)), qvel=np.zeros((1, 6)), action=np.zeros((1, 1)))
    assert read_dump(path).env_id == ""
