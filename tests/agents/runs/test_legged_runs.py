"""Runs of legged robots, stepped together on MuJoCo's batch: resumed, taught, randomised, recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.controllers.bundle import read_manifest
from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.vectorized import LeggedVecEnv
from cadenza.robots import load_humanoid
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.main import run as command

pytestmark = pytest.mark.skipif(not is_fetched("robotis_op3"), reason="the OP3 is not fetched: make robots")
Tiny = Callable[..., RunSettings]
SHORT = {"episode_s": 0.5}


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("symphony", {"n_envs": 3, "total_steps": 150}),
        ("ppo", {"n_envs": 3, "total_steps": 384}),
        pytest.param("ppo", {"n_envs": 1, "total_steps": 256}, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_resumed_to_the_same_bits(
    agent: str, settings: dict[str, Any], tiny: Tiny, interrupt_at: Any, models: list[BaseAlgorithm],
    same_runs: Callable[..., None], same_live: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    chosen = tiny(
        agent,
        "cadenza/OP3Walk-v0",
        **{**settings, "env_kwargs": SHORT, "training_kwargs": {"randomised": True}, "teacher": "random"},
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(chosen, whole)
    assert isinstance(models[0].get_env().unwrapped, LeggedVecEnv) == (settings["n_envs"] > 1)
    assert train(chosen, broken, interrupt_at(90)).interrupted
    assert not resume(broken).interrupted
    same_runs(whole, broken)
    same_live(models[0], models[-1], whole)


def test_a_run_says_what_was_randomised_and_evaluates_without(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(
        "ppo", "cadenza/OP3Walk-v0", n_envs=2, total_steps=128, env_kwargs=SHORT, training_kwargs={"randomised": True}
    )
    train(settings, tmp_path / "run")
    events = json.loads((tmp_path / "run" / "config.json").read_text())["events"]
    assert "torque_rms_over_rated" in (tmp_path / "run" / "motors.csv").read_text()
    assert events["mass"]["low"] == 0.9
    assert events["push"]["when"] == "interval"
    assert open_policy(tmp_path / "run", "last").env_kwargs == SHORT


def test_a_bundle_says_which_joints_and_terms_it_was_trained_on(tiny: Tiny, tmp_path: Path) -> None:
    """The unit tests of a robot's deployment start here: order, history and rate are never kept by hand."""
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    train(tiny("ppo", "cadenza/OP3Walk-v0", total_steps=128, env_kwargs={**SHORT, "history": 2}), run)
    assert command(["export", str(run), "--which", "last", "--out", str(bundle)]) == 0
    manifest = read_manifest(bundle)
    assert manifest.joint_order == load_humanoid("op3").joint_names
    assert manifest.control_rate_hz == 50.0
    assert manifest.observation_terms is not None
    assert len(manifest.observation_terms) == manifest.observation_size == 142
    assert manifest.observation_terms[9] == "joint_position[0]"
    assert manifest.observation_terms[71] == "gyro[0]@1"


def test_tasks_without_parameters_have_no_teacher(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="no parameters"):
        train(tiny("ppo", "cadenza/Humanoid-v0", teacher="random"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_teacher_is_told_the_names(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="no teacher") as caught:
        train(tiny("ppo", "cadenza/OP3Walk-v0", teacher="alp-gm"), tmp_path / "run")
    assert "alp-gmm" in caught.value.advice
