"""Order, settings and refusals of the wall-clock benchmark; the peers' settings build what they say."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from cadenza.agents.runs.catalogue import AGENTS as CATALOGUE
from cadenza.agents.runs.catalogue import build_model
from cadenza.agents.runs.settings import RunFolder
from cadenza.agents.wallclock.plan import Plan, progress_of
from cadenza.agents.wallclock.tuned import PEERS
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env


def plan(tmp_path: Path, **changes: Any) -> Plan:
    return Plan(out=tmp_path, **{"agents": ("symphony:cpu", "sac", "ppo"), **changes})


def test_seed_by_seed(tmp_path: Path) -> None:
    runs = plan(tmp_path, seeds=3, peer_seeds=1).runs()
    assert [(run.agent, run.seed) for run in runs] == [
        ("symphony:cpu", 0), ("sac", 0), ("ppo", 0), ("symphony:cpu", 1), ("symphony:cpu", 2),
    ]  # fmt: skip
    assert len({run.folder for run in runs}) == 5
    assert [run.seed for run in plan(tmp_path, seeds=1, peer_seeds=2).runs()] == [0, 0, 0, 1, 1]
    assert len(plan(tmp_path, seeds=2).runs()) == 6


def test_settings_of_the_runs(tmp_path: Path) -> None:
    ours, sac, ppo = (
        run.settings for run in plan(tmp_path, seeds=1, evaluate_every_minutes=0.5, torch_threads=2).runs()
    )
    assert (ours.preset, ours.overrides, ours.normalize) == ("cpu", {}, False)
    assert (sac.preset, sac.overrides, sac.normalize) == (None, {"learning_starts": 10_000}, False)
    assert (ppo.overrides["n_steps"], ppo.normalize) == (512, True)
    for settings in (ours, sac, ppo):
        assert (settings.evaluate_every, settings.evaluate_every_s, settings.checkpoint_every) == (0, 30.0, 0)
        assert (settings.torch_threads, settings.seed) == (2, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"minutes": 0}, "--minutes must be positive"),
        ({"evaluate_every_minutes": -1.0}, "--evaluate-every-minutes must be positive"),
        ({"minutes": float("nan")}, "--minutes must be positive"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"peer_seeds": 0}, "--peer-seeds must be at least 1"),
        ({"final_episodes": 0}, "--final-episodes must be at least 1"),
        ({"torch_threads": -1}, "torch_threads must be at least"),
        ({"agents": ()}, "at least one agent"),
        ({"agents": ("sac", "sac")}, "names sac twice"),
        ({"agents": ("sacc",)}, "no agent named 'sacc'"),
        ({"agents": ("symphony:cpuu",)}, "no Symphony preset named 'cpuu'"),
        ({"agents": ("sac:cpu",)}, "Presets are Symphony's"),
    ],
)
def test_refused_with_nothing_written(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match=said):
        plan(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_every_peer_of_the_catalogue_is_tuned() -> None:
    assert set(PEERS) == set(CATALOGUE) - {"symphony", "slim", "multi_critic_ppo"}  # ours
    assert all("Humanoid-v4" in peer.source for peer in PEERS.values())


@pytest.mark.parametrize("agent", sorted(PEERS))
def test_peers_are_built_as_their_source_says(agent: str, tmp_path: Path) -> None:
    (run,) = plan(tmp_path, agents=(agent,), seeds=1).runs()
    small = {} if agent == "ppo" else {"buffer_size": 10}
    asked = copy.deepcopy(run.settings.overrides)
    env = make_env("InvertedPendulum-v5")
    model: Any = build_model(run.settings, env, **small)
    assert run.settings.overrides == asked == PEERS[agent].overrides  # the library writes into its arguments
    for name, value in asked.items():
        if name not in ("policy_kwargs", "action_noise", "buffer_size", "train_freq", "clip_range"):
            assert getattr(model, name) == value, name
    if agent == "td3":
        assert [layer.out_features for layer in model.actor.mu if isinstance(layer, nn.Linear)] == [400, 300, 1]
        assert list(model.action_noise._sigma) == [0.1]
    if agent == "ppo":
        assert [type(layer) for layer in model.policy.mlp_extractor.policy_net] == [nn.Linear, nn.ReLU] * 2
        assert model.policy.log_std.tolist() == [-2.0]
        assert model.clip_range(1.0) == 0.3
    if agent == "crossq":
        widths = {layer.out_features for layer in model.critic.modules() if isinstance(layer, nn.Linear)}
        assert widths == {2048, 1}
    env.close()


def test_a_measured_number_is_the_same_run(tmp_path: Path) -> None:
    """A run that measured its threads goes on under auto, and under the number it measured; under no other."""
    auto = plan(tmp_path, seeds=1)
    sac = auto.runs()[1]
    assert sac.settings.torch_threads == auto.record()["torch_threads"] == "auto"
    RunFolder(sac.folder).create(replace(sac.settings, torch_threads=2), threads={"number": 2, "chosen": "measured"})
    assert not progress_of(sac, auto).resumable
    by_hand = plan(tmp_path, seeds=1, torch_threads=2)
    assert not progress_of(by_hand.runs()[1], by_hand).resumable
    other = plan(tmp_path, seeds=1, torch_threads=4)
    with pytest.raises(CadenzaError, match="other settings") as caught:
        progress_of(other.runs()[1], other)
    assert "torch_threads: there 2, asked 4" in caught.value.advice


def test_an_unknown_activation_is_refused(tmp_path: Path) -> None:
    (run,) = plan(tmp_path, agents=("ppo",), seeds=1).runs()
    wrong = replace(run.settings, overrides={"policy_kwargs": {"activation_fn": "Relu"}})
    with pytest.raises(CadenzaError, match="no layer named 'Relu'"):
        build_model(wrong, make_env("InvertedPendulum-v5"))


def test_progress_of_folders(tmp_path: Path) -> None:
    wanted = plan(tmp_path, seeds=1)
    sac, other = wanted.runs()[1], plan(tmp_path, seeds=1, episodes=3).runs()[1]
    assert (progress_of(sac, wanted).train_s, progress_of(sac, wanted).resumable) == (0.0, False)
    sac.folder.mkdir(parents=True)
    RunFolder(sac.folder).create(sac.settings)
    assert not progress_of(sac, wanted).resumable  # killed before its first checkpoint
    with pytest.raises(CadenzaError, match="other settings") as caught:
        progress_of(other, wanted)
    assert "evaluate_episodes: there 10, asked 3" in caught.value.advice
    (sac.folder / "config.json").unlink()
    with pytest.raises(CadenzaError, match="is not a run"):
        progress_of(sac, wanted)
    assert np.all([path.is_dir() for path in sac.folder.iterdir()])
