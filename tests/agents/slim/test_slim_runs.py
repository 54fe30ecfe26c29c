"""SLIM as a run on the vectorised table top: cut and continued it ends where the unbroken one does."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.agents.slim.opening import open_skills
from cadenza.robots import load_arm
from cadenza.robots.menagerie import is_fetched


def weights(run: Path) -> dict[str, Any]:
    store = CheckpointStore(RunFolder(run).checkpoints)
    return store.read_parameters(store.latest(), "cpu")


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["slim", "metra_reach"])
def test_pandas_cut_and_continued(preset: str, tmp_path: Path, small: dict[str, Any]) -> None:
    if not all(is_fetched(model) for model in load_arm("panda").models):
        pytest.skip("the Panda is not on this computer: make robots")
    settings = RunSettings(
        "slim", "cadenza/PandaPlay-v0", preset, 320, n_envs=2, evaluate_every=150, evaluate_episodes=1, overrides=small
    )
    train(settings, tmp_path / "whole")
    train(replace(settings, total_steps=96), tmp_path / "broken")
    resume(tmp_path / "broken", total_steps=224)
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    resume(tmp_path / "broken", total_steps=320)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert open_skills(tmp_path / "broken")[0].num_timesteps == 320


def test_a_preset_that_changes_later_does_not_change_the_runs_it_began(
    tmp_path: Path, puck_id: str, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cadenza.agents.slim import presets

    settings = RunSettings("slim", puck_id, "slim", 32, n_envs=2, evaluate_every=0, overrides=small)
    train(settings, tmp_path / "run")
    before = presets.PRESETS["slim"]
    monkeypatch.setitem(presets.PRESETS, "slim", replace(before, gamma=0.5, weights={"reach": 1.0}))
    model, _ = open_skills(tmp_path / "run")
    assert model.config.gamma == before.gamma
    assert dict(model.config.weights) == dict(before.weights)


def test_opening_a_run_does_not_advise_on_training(tmp_path: Path, puck_id: str, small: dict[str, Any]) -> None:
    settings = RunSettings("slim", puck_id, "slim", 32, n_envs=2, evaluate_every=0, overrides=small)
    train(settings, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="You have specified a mini-batch size")
        open_skills(tmp_path / "run")
