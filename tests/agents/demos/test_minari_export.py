"""Minari: opened with Minari's own package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toys import toy_action, toy_observation

from cadenza.agents.demos import DemoError, DemoSet
from cadenza.agents.demos.collecting import Plan, collect
from cadenza.agents.demos.minari_export import ROOT, export_minari

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
Write = Callable[..., DemoSet]


def test_minari_opens_it(write_toy: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT, raising=False)
    export_minari(write_toy(), tmp_path / "minari", "cadenza/toy-v0")
    assert ROOT not in os.environ
    monkeypatch.setenv(ROOT, str(tmp_path / "minari"))
    assert list(minari.list_local_datasets()) == ["cadenza/toy-v0"]
    found = minari.load_dataset("cadenza/toy-v0")
    assert (found.total_episodes, found.total_steps) == (3, 30)
    assert found.spec.env_spec is None
    assert set(found.observation_space.spaces) == {"pose", "cable", "count", "held", "side", "wrist"}
    for number, episode in enumerate(found.iterate_episodes()):
        count = len(episode.actions)
        for step in range(count + 1):
            for key, value in toy_observation(number, step).items():
                assert np.array_equal(episode.observations[key][step], value), (number, key, step)
        assert np.array_equal(episode.actions, [toy_action(number, step) for step in range(count)])
        assert episode.rewards.tolist() == list(range(count))
        assert (bool(episode.terminations[-1]), bool(episode.truncations[-1])) == (number != 2, number == 2)
        assert not episode.terminations[:-1].any()
        assert episode.infos["timestamp_s"][:count] == pytest.approx(5.0 + 0.1 * np.arange(count))
        assert episode.infos["success"].all() == (number != 1)


def test_it_knows_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(tmp_path / "set", Plan("Reacher-v5", 2, env_settings={"reward_dist_weight": 2.0}))
    export_minari(DemoSet(tmp_path / "set"), tmp_path / "minari", "reacher-v1")
    assert gym.spec("Reacher-v5").kwargs == {}
    monkeypatch.setenv(ROOT, str(tmp_path / "minari"))
    found = minari.load_dataset("reacher-v1")
    assert found.spec.env_spec.kwargs == {"reward_dist_weight": 2.0}
    env = found.recover_environment()
    episode = found[1]
    observation, _ = env.reset(seed=1)
    for step, action in enumerate(episode.actions):
        assert np.array_equal(observation, episode.observations[step])
        observation, *_ = env.step(action)
    assert np.array_equal(observation, episode.observations[-1])


def test_what_cannot_be_exported_is_told(write_toy: Write, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no observation after its last step"):
        export_minari(write_toy(final=False), tmp_path / "minari", "cadenza/toy-v0")
    assert not (tmp_path / "minari/cadenza/toy-v0").exists()
    demos = write_toy("other")
    with pytest.raises(DemoError, match="does not take"):
        export_minari(demos, tmp_path / "minari", "no version!")
    export_minari(demos, tmp_path / "minari", "cadenza/toy-v0", successes_only=True)
    with pytest.raises(DemoError, match="exists already"):
        export_minari(demos, tmp_path / "minari", "cadenza/toy-v0")
