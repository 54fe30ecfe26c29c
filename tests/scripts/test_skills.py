"""``cadenza skills`` and ``cadenza bench skills`` on a small table top: what they print, write and refuse."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest

from cadenza.scripts.main import run

ENV_ID = "CadenzaScriptPuck-v0"
SMALL = "n_steps=16 batch_size=32 n_epochs=1 hidden=[16] phi_hidden=[16] phi_epochs=1"


@pytest.fixture(scope="session")
def puck_module(repository: Path) -> Any:
    spec = importlib.util.spec_from_file_location("cadenza_script_puck", repository / "tests/agents/slim/puck.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _registered(puck_module: Any) -> Iterator[None]:
    gym.register(ENV_ID, entry_point=puck_module.Puck, max_episode_steps=25)
    yield
    del gym.registry[ENV_ID]


def command(line: str) -> int:
    return run(shlex.split(line)[1:])


@pytest.fixture(scope="session")
def trained(_registered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, made by the command line."""
    folder = tmp_path_factory.mktemp("skills") / "play"
    options = f"--n-envs 2 --steps 128 --evaluate-every 64 --evaluate-episodes 2 --torch-threads 1 --run {folder}"
    assert command(f"cadenza train slim {ENV_ID} {options} --set {SMALL}") == 0
    return folder


# ------------------------------------------------------------------ the run


def test_training_writes_what_other_runs_have(trained: Path) -> None:
    from cadenza.agents.runs.metrics import read_table

    rows = read_table(trained / "evaluations.csv")
    assert [row["step"] for row in rows] == ["64", "128"]
    assert {"displacement_mean_m", "unsafe_steps_per_1000", "cells", "return_mean"} <= set(rows[0])
    assert not (trained / "best" / "policy.pt").exists()  # which skills are best no single return says
    assert list(trained.glob("tensorboard/*"))
    record = json.loads((trained / "config.json").read_text())
    assert record["settings"]["preset"] == "slim"
    assert record["preset_settings"]["objective"] == "lsd"


def test_the_other_commands_take_the_run(trained: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(f"cadenza evaluate {trained} --episodes 2 --json evaluation.json") == 0
    found = json.loads((elsewhere / "evaluation.json").read_text())
    assert found["n"] == 2
    assert "object_displacement_m" in found["measures"]
    assert command(f"cadenza plot {trained} --out curve.png") == 0
    assert command(f"cadenza train --resume {trained}") == 0
    assert f"cadenza skills map {trained}" in capsys.readouterr().out.replace("\n", "")


def test_presets_and_agents_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from cadenza.agents.slim.presets import PRESETS, SUMMARIES

    assert set(SUMMARIES) == set(PRESETS)
    assert run(["list", "presets"]) == 0
    shown = capsys.readouterr().out
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^ +{name} +{re.escape(summary)}$", shown, re.MULTILINE), name
    assert run(["list", "agents"]) == 0
    assert re.search(r"^ +slim .*\n +multi_critic_ppo ", capsys.readouterr().out, re.MULTILINE)


# ------------------------------------------------------------------ looking


def test_evaluate(trained: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"cadenza skills evaluate {trained} --skills 6 --repeated 2 --repeats 2 --n-envs 3 --json skills.json"
    assert command(line) == 0
    record = json.loads((elsewhere / "skills.json").read_text())
    shown = capsys.readouterr().out
    assert str(trained.parent) not in json.dumps(record)
    assert record["environment_steps"] <= 10 * 25
    assert len(record["displacements_m"]) == len(record["z"]) == 6
    for name, (value, low, high) in record["figures"].items():
        assert low <= value <= high or name in ("coverage", "cells")
        assert re.search(rf"{name} +{value:.3f} +{low:.3f} to +{high:.3f}", shown), name
    assert "[m]" in shown


def test_map(trained: Path, elsewhere: Path) -> None:
    assert command(f"cadenza skills map {trained} --skills 5 --repeats 2 --n-envs 4 --out map.png") == 0
    image = cv2.imread(str(elsewhere / "map.png"))
    assert image is not None
    assert image.shape[1] > image.shape[0] > 500
    hues = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    coloured = hues[..., 0][hues[..., 1] > 150]
    assert len(np.unique(coloured // 15)) == 12  # the whole wheel, in its key


def test_films(trained: Path, elsewhere: Path) -> None:
    assert command(f"cadenza skills record {trained} --skills 5 --columns 3 --steps 4 --out skills.mp4") == 0
    film = cv2.VideoCapture(str(elsewhere / "skills.mp4"))
    size = (film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT))
    assert size == (3 * 320 + 4, 2 * 240 + 2)
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) >= 5
    _, picture = film.read()
    assert picture[240 + 60 :, -300:].max() < 60  # the sixth place is empty
    assert picture[60:180, 60:260].mean() > 150
    assert command(f"cadenza record {trained} --steps 2 --out grid.mp4 --width 200 --height 160") == 0
    film = cv2.VideoCapture(str(elsewhere / "grid.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 3 * 100 + 4


# ------------------------------------------------------------------ using


def test_goals_and_a_hierarchy(trained: Path, elsewhere: Path) -> None:
    assert command(f"cadenza skills goals {trained} --episodes 5 --n-envs 3 --json goals.json") == 0
    results = json.loads((elsewhere / "goals.json").read_text())["results"]
    assert {name: result["n"] for name, result in results.items()} == {"zero-shot": 5, "random skills": 5}
    line = f"cadenza skills hierarchy {trained} --task circle --steps 300 --episodes 4 --n-envs 2"
    assert command(f"{line} --out high.zip --json high.json") == 0
    assert (elsewhere / "high.zip").stat().st_size > 0
    record = json.loads((elsewhere / "high.json").read_text())
    assert set(record["results"]) == {"high level (ppo)", "zero-shot", "random skills"}
    assert record["task"] == "circle"


def test_plan(
    trained: Path,
    elsewhere: Path,
    puck_module: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(f"cadenza skills plan {trained} --goals 1 --samples 8") == 1
    assert "saved state" in capsys.readouterr().err

    class WithSpec(puck_module.PuckVecEnv):  # type: ignore[misc,name-defined]
        spec = gym.spec(ENV_ID)

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [self.spec] if attr_name == "spec" else super().get_attr(attr_name, indices)

    from cadenza.agents.slim import opening

    monkeypatch.setattr(opening, "make_vec_env", lambda env_id, n, **kwargs: WithSpec(n, steps=25))
    line = f"cadenza skills plan {trained} --goals 2 --length 2 --hold 3 --samples 8 --elites 2 --iterations 2"
    assert command(f"{line} --json plan.json") == 0
    goals = json.loads((elsewhere / "plan.json").read_text())["goals"]
    assert len(goals) == 2
    assert all(goal["planned_m"] == goal["after_m"] for goal in goals)

    # Two starts a draw, as there are two samples: the third and fourth are new ones.
    line = f"cadenza skills plan {trained} --goals 4 --length 1 --hold 1 --samples 2 --elites 1 --iterations 1"
    assert command(f"{line} --json plan.json") == 0
    goals = json.loads((elsewhere / "plan.json").read_text())["goals"]
    assert len({goal["before_m"] for goal in goals}) == 4


def test_a_comparison(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"cadenza bench skills --presets slim,lsd --seeds 1 --steps 64 --n-envs 2 --env {ENV_ID} --skills 3"
    assert command(f"{line} --out bench --set {SMALL}") == 0
    assert {path.name for path in (elsewhere / "bench").iterdir() if path.name != ".lock"} == {
        *("runs", "slim.csv", "slim.json", "slim.png", "slim.md"),
    }
    capsys.readouterr()
    assert command(f"{line} --out bench --set {SMALL}") == 0
    assert capsys.readouterr().out.count("done before") == 2


# ------------------------------------------------------------------ refused


def test_what_is_refused(trained: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(line: str) -> str:
        assert command(line) == 1
        return capsys.readouterr().err.replace("\n", " ")

    assert command("cadenza train ppo Pendulum-v1 --steps 32 --evaluate-every 0 --run ppo --set n_steps=16") == 0
    capsys.readouterr()
    assert "has no skills: it holds ppo" in refused("cadenza skills map ppo")
    assert "neither a run nor" in refused("cadenza skills evaluate nowhere")
    assert "--skills must be at least 1" in refused(f"cadenza skills map {trained} --skills 0")
    assert "At least 1 environment" in refused(f"cadenza skills map {trained} --n-envs 0")
    assert "--seed must not be negative" in refused(f"cadenza skills goals {trained} --seed -1")
    assert "Cannot write" in refused(f"cadenza skills map {trained} --skills 2 --repeats 1 --out /dev/null/map.png")
    told = refused(f"cadenza train slim {ENV_ID} --preset slin")
    assert "no SLIM preset named 'slin'" in told
    assert "slim" in told
    assert "no setting of slim named 'weight'" in refused(f"cadenza train slim {ENV_ID} --set weight=3")
    weights = "\"{'reach': 0.5, 'diversity': 0.6}\""
    assert "sum to 1.1" in refused(f"cadenza train slim {ENV_ID} --set weights={weights}")
    other = "\"{'reech': 0.5, 'diversity': 0.5}\""
    assert "no reward group named 'reech'" in refused(f"cadenza train slim {ENV_ID} --set weights={other}")
    assert "nobody knows where its object is" in refused("cadenza train slim Pendulum-v1 --preset lsd")
    assert not (elsewhere / "runs").exists()


PAGE = {
    "cadenza/PandaPlay-v0": ENV_ID,
    "--n-envs 16": "--n-envs 2",
    "--steps 1000000": "--steps 64 --evaluate-every 0",
    "--steps 500000": "--steps 300 --episodes 2",
    "skills evaluate runs/play": "skills evaluate runs/play --skills 4 --repeated 1 --repeats 2",
    "skills map runs/play": "skills map runs/play --skills 4 --repeats 1",
    "skills record runs/play": "skills record runs/play --steps 2",
    "skills goals runs/play": "skills goals runs/play --episodes 2",
}
"""What is written on the page -> the same in seconds."""


def test_the_commands_of_the_page(repository: Path, elsewhere: Path) -> None:
    text = (repository / "docs" / "slim.md").read_text()
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("cadenza ")]
    assert {" ".join(line.split()[1:3]) for line in lines} >= {
        *("train slim", "skills evaluate", "skills map", "skills record", "skills goals", "skills hierarchy"),
        *("skills plan", "bench skills"),
    }
    for line in lines:
        if " plan " in line:  # needs states that can be restored; test_plan has them
            continue
        for full, less in PAGE.items():
            line = line.replace(full, less)
        if " bench " in line:
            line = line.replace(" --evaluate-every 0", f" --env {ENV_ID} --n-envs 2 --seeds 1 --skills 3")
        if "--set " not in line and (" train " in line or " bench " in line) and "--resume" not in line:
            line += f" --set {SMALL}"
        assert command(line) == 0, line
    assert (elsewhere / "map.png").stat().st_size > 0
