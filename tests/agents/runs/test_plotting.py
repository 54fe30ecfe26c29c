"""Pictures of learning curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cadenza.agents.runs.plotting import _smooth, plot_runs
from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.envs.errors import CadenzaError

Tiny = Callable[..., RunSettings]


def run_with(path: Path, settings: RunSettings, *, episodes: int = 0, evaluations: int = 0) -> Path:
    folder = RunFolder(path)
    folder.create(settings)
    lines = ["step,elapsed_s,return,length,terminated", *(f"{i * 20},{i},{i * 3},20,1" for i in range(episodes))]
    folder.episodes.write_text("\n".join(lines) + "\n" if episodes else "")
    lines = ["step,elapsed_s,return_mean,return_std,length_mean,survived,n"]
    lines += [f"{i * 100},{i},{i},0.5,20,0,5" for i in range(evaluations)]
    folder.evaluations.write_text("\n".join(lines) + "\n" if evaluations else "")
    return path


@pytest.mark.parametrize("over", ["step", "elapsed_s"])
def test_picture(over: str, tiny: Tiny, tmp_path: Path) -> None:
    runs = [
        run_with(tmp_path / "both", tiny(), episodes=40, evaluations=3),
        run_with(tmp_path / "episodes", tiny("sac"), episodes=2),
        run_with(tmp_path / "evaluations", tiny("ppo"), evaluations=1),
        run_with(tmp_path / "nothing", tiny("td3")),
    ]
    picture = tmp_path / "new" / "curves.png"
    plot_runs(runs, picture, over=over, title="Four runs")
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape == (780, 1040, 3)  # 8 x 6 inches at 130 dots
    # The first run's blue (#0072B2, here as BGR) is there.
    assert (np.abs(image.astype(int) - np.array([0xB2, 0x72, 0x00])).sum(-1) < 90).any()


def test_nothing_to_plot(tiny: Tiny, tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", tiny())
    with pytest.raises(CadenzaError, match="nothing to plot yet"):
        plot_runs([run], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="is not a run"):
        plot_runs([tmp_path], tmp_path / "curves.png")


@pytest.mark.parametrize("name", ["file/curves.png", "curves.nonsense"])
def test_destination_that_cannot_be_written(name: str, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = run_with(tmp_path / "run", tiny(), episodes=2)
    with pytest.raises(CadenzaError, match="Cannot write"):
        plot_runs([run], tmp_path / name)


def test_smoothing_is_a_trailing_mean() -> None:
    assert _smooth(np.array([2.0, 4.0, 6.0, 9.0]), window=2).tolist() == [2.0, 3.0, 5.0, 7.5]
