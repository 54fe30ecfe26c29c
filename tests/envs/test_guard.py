from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.envs.guard import HISTORY, FiniteGuard
from cadenza.envs.registration import make_env


class Fake(gym.Env):
    """Observes what ``script`` says next: (observation, reward)."""

    def __init__(self, script: list[tuple[float, float]], first: float = 0.5):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.script, self.first, self.seen = list(script), first, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.full(2, self.first, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.seen.append(np.array(action))
        value, reward = self.script.pop(0)
        info = {"reward_terms": {"one": reward, "two": 0.0}, "reward_vector": np.array([reward, 0.0]), "other": 1}
        return np.array([1.0, value], np.float32), reward, False, False, info


ACTION = np.array([0.25], np.float32)


def test_finite_steps_pass_unchanged() -> None:
    guard = FiniteGuard(Fake([(2.0, 3.0)]))
    guard.reset(seed=0)
    observation, reward, terminated, truncated, info = guard.step(ACTION)
    assert (observation.tolist(), reward, terminated, truncated) == ([1.0, 2.0], 3.0, False, False)
    assert info.pop("reward_vector").tolist() == [3.0, 0.0]
    assert info == {"reward_terms": {"one": 3.0, "two": 0.0}, "other": 1}


@pytest.mark.parametrize("bad", [(np.nan, 1.0), (np.inf, 1.0), (0.0, np.nan), (0.0, -np.inf)])
def test_a_step_that_is_not_finite_terminates_with_reward_zero(bad: tuple[float, float]) -> None:
    guard = FiniteGuard(Fake([(2.0, 3.0), bad, (4.0, 5.0)]))
    guard.reset(seed=0)
    guard.step(ACTION)
    observation, reward, terminated, truncated, info = guard.step(ACTION)
    assert (observation.tolist(), reward, terminated, truncated) == ([1.0, 2.0], 0.0, True, False)
    assert info.pop("reward_vector").tolist() == [0.0, 0.0]
    assert info == {"reward_terms": {"one": 0.0, "two": 0.0}, "other": 1, "non_finite": True}
    # It goes on afterwards.
    assert guard.reset()[0].tolist() == [0.5, 0.5]
    assert guard.step(ACTION)[0].tolist() == [1.0, 4.0]


def test_a_reset_that_is_not_finite_observes_zeros() -> None:
    guard = FiniteGuard(Fake([(np.nan, 0.0)], first=np.nan))
    observation, info = guard.reset(seed=0)
    assert (observation.tolist(), info) == ([0.0, 0.0], {"non_finite": True})
    assert observation.dtype == np.float32
    assert guard.step(ACTION)[0].tolist() == [0.0, 0.0]


def test_an_action_that_is_not_finite_becomes_zeros_and_ends_the_episode() -> None:
    fake = Fake([(2.0, 3.0)])
    guard = FiniteGuard(fake)
    guard.reset(seed=0)
    observation, reward, terminated, _, info = guard.step(np.array([np.nan], np.float32))
    assert fake.seen[0].tolist() == [0.0]
    assert (observation.tolist(), reward, terminated, info["non_finite"]) == ([0.5, 0.5], 0.0, True, True)


def test_the_last_steps_are_written_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run" / "non_finite.npz"
    guard = FiniteGuard(Fake([(float(index), 0.0) for index in range(20)] + [(np.nan, 0.0)] * 2), path)
    guard.reset(seed=0)
    with caplog.at_level(logging.WARNING):
        for index in range(21):
            guard.step(np.array([index / 100], np.float32))
    assert str(path) in caplog.text
    assert "the observation" in caplog.text
    with np.load(path, allow_pickle=False) as dump:
        assert sorted(dump) == ["about", "action", "observation"]
        np.testing.assert_allclose(dump["action"][:, 0], np.arange(5, 21) / 100, rtol=1e-6)
        # The state before the action: what step 4 to step 19 observed.
        np.testing.assert_array_equal(dump["observation"][:, 1], np.arange(4, 20))
    assert len(caplog.records) == 1
    written = path.read_bytes()
    assert guard.step(ACTION)[4]["non_finite"]
    assert (len(caplog.records), path.read_bytes()) == (1, written)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_dump_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    guard = FiniteGuard(Fake([(np.nan, 0.0)]), tmp_path / "file" / "dump.npz")
    guard.reset(seed=0)
    assert guard.step(ACTION)[2]
    assert "could not be written" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"), [("qvel", np.nan), ("qvel", 1e20), ("qpos", np.inf), ("qfrc_applied", 1e30)]
)
def test_a_simulation_that_mujoco_resets_in_silence_is_noticed(field: str, value: float, tmp_path: Path) -> None:
    guard = FiniteGuard(make_env("cadenza/Humanoid-v0"), tmp_path / "dump.npz")
    guard.reset(seed=0)
    action = np.zeros(17, np.float32)
    for _ in range(HISTORY + 3):
        last = guard.step(action)[0]
    data = guard.unwrapped.data
    before = data.qpos.copy()
    getattr(data, field)[7] = value
    observation, reward, terminated, truncated, info = guard.step(action)
    np.testing.assert_array_equal(observation, last)
    assert (reward, terminated, truncated, info["non_finite"]) == (0.0, True, False, True)
    assert sum(info["reward_terms"].values()) == 0.0
    with np.load(tmp_path / "dump.npz", allow_pickle=False) as dump:
        assert (dump["qpos"].shape, dump["qvel"].shape, dump["action"].shape) == ((16, 24), (16, 23), (16, 17))
        np.testing.assert_array_equal(dump["qpos"][-1][:7], before[:7])
        assert json.loads(str(dump["about"])) == {"env_id": "cadenza/Humanoid-v0", "env_kwargs": {}}
    data.qfrc_applied[:] = 0
    # The next episode is an ordinary one.
    guard.reset(seed=1)
    assert "non_finite" not in guard.step(action)[4]


def test_bad_again_right_after_bad_is_noticed_too() -> None:
    guard = FiniteGuard(make_env("Hopper-v5"))
    guard.reset(seed=0)
    for _ in range(2):
        guard.unwrapped.data.qvel[0] = np.nan
        assert guard.step(np.zeros(3, np.float32))[2:][2]["non_finite"]


def test_structured_observations_are_searched() -> None:
    class Structured(Fake):
        def __init__(self) -> None:
            super().__init__([])
            part = gym.spaces.Box(-1, 1, (2,), np.float32)
            self.observation_space = gym.spaces.Dict({"a": part, "b": gym.spaces.Tuple((part, gym.spaces.Discrete(3)))})

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return {"a": np.zeros(2, np.float32), "b": (np.array([0, np.nan], np.float32), 1)}, {}

    observation, info = FiniteGuard(Structured()).reset()
    assert info == {"non_finite": True}
    assert observation["b"][0].tolist() == [0.0, 0.0]
    assert observation["b"][1] == 0
