"""Multi-critic Symphony as users meet it: groups, weights, storage, what is refused, runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents import Symphony
from cadenza.agents.export import export_bundle
from cadenza.agents.runs.catalogue import check_settings
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.agents.symphony.group_replay import GroupReplayBuffer
from cadenza.agents.symphony.recording import record_loss
from cadenza.agents.symphony.replay import FadingReplayBuffer
from cadenza.controllers.bundle import PolicyBundle
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.parse import settings_from

TINY: dict[str, Any] = {
    "hidden_size": 24, "critic_nodes": 8, "batch_size": 32, "buffer_size": 400, "learning_starts": 40,
    "normalize_every": 40,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(env: Any, **kwargs: Any) -> Symphony:
    settings = {"preset": "cpu", "seed": 0, "device": "cpu", "branches": "in_turn", **TINY, **kwargs}
    return Symphony("MlpPolicy", env, **settings)


def equal_policies(first: Symphony, second: Symphony) -> bool:
    ours, theirs = first.policy.state_dict(), second.policy.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def equal_actors(first: Symphony, second: Symphony) -> bool:
    pairs = zip(first.policy.actor.parameters(), second.policy.actor.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


# ---------------------------------------------------------------------- one group is Symphony


@pytest.mark.parametrize("critics", ["per_group", "summed", "summed_scaled"])
def test_one_group_is_plain_symphony_to_the_last_bit(critics: str, errand: str) -> None:
    plain = tiny(gym.make(errand, scalar="calm")).learn(90)
    grouped = tiny(gym.make(errand), critics=critics, reward_weights={"calm": 1.0}).learn(90)
    assert equal_policies(plain, grouped)
    assert type(grouped.replay_buffer) is FadingReplayBuffer
    for name, array in plain.replay_buffer.storage().items():
        assert array[:90].tobytes() == grouped.replay_buffer.storage()[name][:90].tobytes(), name


@pytest.mark.parametrize("preset", ["s3", "saya"])
def test_one_group_is_plain_symphony_in_other_presets(preset: str, errand: str) -> None:
    plain = tiny(gym.make(errand, scalar="near"), preset=preset).learn(60)
    grouped = tiny(gym.make(errand), preset=preset, critics="per_group", reward_weights={"near": 1.0}).learn(60)
    assert equal_policies(plain, grouped)


def test_an_environment_without_groups_has_one() -> None:
    plain, grouped = tiny("Pendulum-v1").learn(70), tiny("Pendulum-v1", critics="per_group").learn(70)
    assert grouped.groups is not None
    assert grouped.groups.names == ("reward",)
    assert equal_policies(plain, grouped)


def test_one_group_has_its_own_discount(errand: str) -> None:
    plain = tiny(gym.make(errand, scalar="near"), gamma=0.8).learn(70)
    grouped = tiny(gym.make(errand), critics="per_group", reward_weights={"near": 1.0}, gamma={"near": 0.8}).learn(70)
    assert grouped.gamma == grouped.config.gamma == 0.8
    assert equal_policies(plain, grouped)


def test_summed_with_the_environments_weights_is_todays_scalar(errand: str) -> None:
    plain, summed = tiny(gym.make(errand)).learn(90), tiny(gym.make(errand), critics="summed").learn(90)
    assert equal_policies(plain, summed)


# ---------------------------------------------------------------------- several groups


def several(errand: str, steps: int = 120, settings: dict[str, Any] | None = None, **env: Any) -> Symphony:
    return tiny(gym.make(errand, **env), critics="per_group", **(settings or {})).learn(steps)


def test_every_group_has_critics_target_and_rewards_of_its_own(errand: str) -> None:
    model = several(errand, settings={"gamma": {"calm": 0.5}})
    assert model.groups is not None
    assert model.policy.gammas == model.groups.gammas == (0.99, 0.5)
    assert len(model.policy.critic.critics.weight1) == len(model.policy.critic_target.critics.weight1) == 6
    assert model.policy.value_trace.shape == (2,)
    assert model.replay_buffer.storage()["rewards"].shape[1:] == (2,)
    batch = model.replay_buffer.sample_batch(16)
    assert batch.rewards.shape == (16, 2)
    assert (batch.rewards[:, 0] > 0).all()
    assert (batch.rewards[:, 1] <= 0).all()
    assert model.policy.attention.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("balance", ["pull", "none"])
def test_scaling_one_reward_by_1024_changes_not_one_bit(balance: str, errand: str) -> None:
    """Of anything that is learned: actor, critics, targets, traces."""
    settings = {"group_balance": balance}
    plain, scaled = several(errand, settings=settings), several(errand, settings=settings, calm_scale=1024.0)
    assert equal_policies(plain, scaled)
    assert scaled.replay_buffer.reward_scales[1] == 1024 * plain.replay_buffer.reward_scales[1]


def test_other_scales_change_it_by_rounding_only(errand: str) -> None:
    plain, scaled = several(errand, 60), several(errand, 60, near_scale=1000.0)
    for p, q in zip(plain.policy.parameters(), scaled.policy.parameters(), strict=True):
        assert torch.allclose(p, q, atol=5e-3)  # 20 updates of at most 6e-4 and more where a gradient is all rounding


def test_a_constant_group_contributes_exactly_nothing(errand: str) -> None:
    """Whatever its constant: its critics learn it, the actor does not notice."""
    models = [several(errand, calm=calm) for calm in (0.0, -0.25, 8.0)]
    assert all(model.policy.attention.tolist() == [0.5, 0.0] for model in models)
    assert equal_actors(models[0], models[1])
    assert equal_actors(models[0], models[2])
    assert not equal_policies(models[0], models[1])


def test_a_constant_is_heard_once_an_episode_terminates_unless_it_is_zero(errand: str) -> None:
    alive = several(errand, calm=1.0, cliff=0.5)
    assert alive.policy.attention.tolist() == [0.5, 0.5]
    nothing = several(errand, calm=0.0, cliff=0.5)
    assert nothing.policy.attention.tolist() == [0.5, 0.0]


def test_groups_left_out_are_not_learned_from(errand: str) -> None:
    env = DummyVecEnv([lambda: gym.make(errand)] * 2)
    env.envs[0].unwrapped.reward_groups = env.envs[1].unwrapped.reward_groups = ("near", "calm")
    model = tiny(env, critics="per_group", reward_weights={"calm": 0.75, "near": 0.25}).learn(120)
    assert model.groups is not None
    assert (model.groups.names, model.groups.weights) == (("near", "calm"), (0.25, 0.75))
    assert model.policy.attention.tolist() == [0.25, 0.75]


def test_scaled_sum_is_the_weighted_sum_of_scaled_rewards(errand: str) -> None:
    model = tiny(gym.make(errand), critics="summed_scaled", reward_weights={"near": 0.25, "calm": 0.75}).learn(60)
    buffer = model.replay_buffer
    assert isinstance(buffer, GroupReplayBuffer)
    assert model.policy.gammas is None
    stored = buffer.storage()["rewards"][:60]
    expected = (stored / np.abs(stored[:41]).mean(0)) @ [0.25, 0.75]
    assert buffer.reward_scales == pytest.approx(np.abs(stored[:41]).mean(0), rel=1e-5)
    drawn = buffer.sample_batch(64).rewards[:, 0].numpy()
    assert all(np.abs(expected - one).min() < 1e-5 for one in drawn)


def test_torch_and_compiled_updates_agree(errand: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cadenza.agents.symphony import symphony

    ours = several(errand, 50)
    monkeypatch.setattr(symphony, "fusible", lambda policy: False)
    theirs = several(errand, 50)
    assert theirs._fused is None
    for p, q in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-3)


def test_the_branches_give_the_same_bits_together(errand: str) -> None:
    assert equal_policies(several(errand, 80), several(errand, 80, settings={"branches": "together"}))


def test_groups_are_logged(errand: str) -> None:
    seen: dict[str, Any] = {}
    model = tiny(gym.make(errand), critics="per_group", reward_weights={"near": 0.25, "calm": 0.75})
    dump = type(model).dump_logs

    class Kept(Symphony):
        def dump_logs(self) -> None:
            before = self._group_sums.copy()
            dump(self)
            seen.setdefault("sums", before)

    model.__class__ = Kept
    model.learn(160, log_interval=1)
    steps = seen["sums"][-1]
    assert steps == 20
    stored = model.replay_buffer.storage()["rewards"][:20].mean(0)
    assert seen["sums"][:-1] / steps == pytest.approx(stored, rel=1e-6)
    record_loss(model, model.update(model.replay_buffer.sample_batch(32)))
    values = model.logger.name_to_value
    for kind in ("advantage", "value_trace", "weight", "reward_scale"):
        for group in ("near", "calm"):
            assert np.isfinite(values[f"train/{kind}_{group}"])
    assert (values["train/weight_near"], values["train/weight_calm"]) == (0.25, 0.75)


@pytest.mark.slow
def test_learns_both_where_the_sum_learns_one(errand: str) -> None:
    """Calm in units a hundred times as large: added up, standing still is all that counts; apart, units do not."""

    def near(critics: str) -> float:
        env = gym.make(errand, calm_scale=100.0)
        model = Symphony(
            "MlpPolicy", env, preset="cpu", seed=0, device="cpu", hidden_size=64, critic_nodes=16, batch_size=64,
            learning_starts=500, buffer_size=20_000, learning_rate=1e-3, deliberate_fall_steps=0, critics=critics,
        ).learn(2_500)  # fmt: skip
        total = 0.0
        for seed in range(10):
            obs, _ = env.reset(seed=seed)
            for _ in range(20):
                obs, _, _, _, info = env.step(model.predict(obs, deterministic=True)[0])
                total += info["reward_vector"][0]
        return total / 10

    assert near("per_group") > near("summed") + 1.0


# ---------------------------------------------------------------------- the buffer


def buffer(groups: int = 2, **kwargs: Any) -> GroupReplayBuffer:
    return GroupReplayBuffer(
        50, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,)), "cpu", groups=groups, seed=0, **kwargs
    )  # fmt: skip


def add(to: GroupReplayBuffer, *rewards: float, done: bool = False, late: bool = False) -> None:
    obs = np.zeros((1, 3), np.float32)
    vector = np.array([rewards], np.float32)
    to.add(obs, obs, np.zeros((1, 1), np.float32), vector, np.array([done]), [{"TimeLimit.truncated": late}])


def test_a_group_that_starts_late_takes_the_size_of_its_first_reward() -> None:
    replay = buffer()
    add(replay, 2.0, 0.0)
    add(replay, -4.0, 0.0)
    replay.finish_exploration(repeat=False)
    assert replay.reward_scales.tolist() == [3.0, 1.0]
    add(replay, 1.0, 0.0)
    add(replay, 1.0, -500.0)
    add(replay, 1.0, -7.0)
    assert replay.reward_scales.tolist() == [3.0, 500.0]
    rewards = replay.sample_batch(200).rewards.numpy()
    assert rewards[:, 1].min() == pytest.approx(-1.0)


def test_silence_is_relative_to_the_size_of_the_reward() -> None:
    replay = buffer(3)
    assert replay.silent().all()  # nothing known
    for tiny_reward in (1e-9, 2e-9):
        add(replay, tiny_reward, 5.0, 0.0)
    assert replay.silent().tolist() == [False, True, True]
    add(replay, 1e-9, 5.0, 0.0, done=True, late=True)  # out of time is no termination
    assert replay.silent().tolist() == [False, True, True]
    add(replay, 1e-9, 5.0, 0.0, done=True)
    assert replay.silent().tolist() == [False, False, True]
    replay.reset()
    assert replay.silent().all()


def test_group_state_survives_json() -> None:
    replay, other = buffer(), buffer()
    replay.set_group_state(json.loads(json.dumps(replay.group_state())))
    assert replay.silent().all()
    add(replay, 2.0, 0.0)
    replay.finish_exploration(repeat=False)
    add(replay, 3.0, 0.0, done=True)
    other.set_group_state(json.loads(json.dumps(replay.group_state())))
    assert other.group_state() == replay.group_state()
    other.exploring = False
    add(other, 0.0, 5.0)
    assert other.reward_scales.tolist() == [2.0, 5.0]


def test_repeated_fill_and_wrapping_keep_vectors() -> None:
    replay = buffer(prefill_capacity=4)
    for number in range(4):
        add(replay, float(number + 1), -float(number + 1))
    replay.finish_exploration(repeat=True)
    assert replay.full
    for number in range(60):
        add(replay, 10.0 + number, -10.0 - number)
    rewards = replay.sample_batch(300).rewards.numpy()
    assert np.array_equal(rewards[:, 0], -rewards[:, 1])


# ---------------------------------------------------------------------- storing


@pytest.mark.parametrize("critics", ["per_group", "summed", "summed_scaled"])
def test_save_and_load(critics: str, errand: str, tmp_path: Path) -> None:
    weights = {"near": 0.25, "calm": 0.75}
    model = tiny(gym.make(errand), critics=critics, reward_weights=weights).learn(90)
    model.save(tmp_path / "agent")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = Symphony.load(tmp_path / "agent", env=gym.make(errand), device="cpu")
    loaded.load_replay_buffer(tmp_path / "replay")
    assert (loaded.groups, loaded.config) == (model.groups, model.config)
    assert equal_policies(model, loaded)
    for ours, theirs in zip(model.replay_buffer.sample_batch(16), loaded.replay_buffer.sample_batch(16), strict=True):
        assert torch.equal(ours, theirs)
    loaded.learn(40, reset_num_timesteps=False)
    without_env = Symphony.load(tmp_path / "agent", device="cpu")
    assert without_env.groups == model.groups
    if isinstance(model.replay_buffer, GroupReplayBuffer):
        assert without_env.replay_buffer.group_state() == model.replay_buffer.group_state()
    action, _ = without_env.predict(np.zeros(2, np.float32), deterministic=True)
    assert np.array_equal(action, model.predict(np.zeros(2, np.float32), deterministic=True)[0])


def test_loading_refuses_other_groups(errand: str, tmp_path: Path) -> None:
    several(errand, 60).save(tmp_path / "agent")
    with pytest.raises(CadenzaError, match="made for the reward groups"):
        Symphony.load(tmp_path / "agent", env=_other(errand))
    for change in ({"critics": "summed"}, {"reward_weights": {"near": 1.0}}, {"gamma": 0.5}):
        with pytest.raises(CadenzaError, match="keeps its reward groups"):
            Symphony.load(tmp_path / "agent", **change)
    assert Symphony.load(tmp_path / "agent", batch_size=16).config.batch_size == 16


def _other(errand: str) -> gym.Env:
    env = gym.make(errand)
    env.unwrapped.reward_groups = ("near", "quiet")
    return env


def test_learning_goes_on_in_the_same_groups_only(errand: str) -> None:
    model = several(errand, 50)
    model.set_env(_other(errand))
    with pytest.raises(CadenzaError, match="made for the reward groups"):
        model.learn(10)


def settings_for(errand: str, **settings: Any) -> RunSettings:
    overrides = {**TINY, "critics": "per_group", "reward_weights": {"near": 0.25, "calm": 0.75}, "branches": "in_turn"}
    given = {"total_steps": 130, "evaluate_every": 60, "evaluate_episodes": 1, "checkpoint_every": 40}
    return RunSettings("symphony", errand, overrides=overrides, **{**given, **settings})


def test_a_resumed_run_ends_on_the_same_bits(errand: str, tmp_path: Path) -> None:
    train(settings_for(errand), tmp_path / "whole")
    train(settings_for(errand, total_steps=75), tmp_path / "broken")
    resume(tmp_path / "broken", total_steps=130)
    found = []
    for name in ("whole", "broken"):
        store = CheckpointStore(tmp_path / name / "checkpoints")
        manifest = store.latest()
        found.append((manifest["replay"], store.read_parameters(manifest, "cpu")["policy"]))
    (replay, weights), (other_replay, other_weights) = found
    assert replay == other_replay
    assert len(replay["groups"]["reward_scales"]) == 2
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_export(errand: str, tmp_path: Path) -> None:
    model = several(errand, 80)
    report = export_bundle(model, tmp_path / "bundle", env_id=errand, env_kwargs={}, agent="symphony")
    assert report.parity_error < 1e-5
    obs = np.array([0.3, -0.2], np.float32)
    expected = model.predict(obs, deterministic=True)[0]
    assert PolicyBundle.load(tmp_path / "bundle").act(obs) == pytest.approx(expected, abs=1e-5)


# ---------------------------------------------------------------------- what is refused


def test_settings_of_the_command_line_are_read() -> None:
    pairs = ("critics=per_group", 'reward_weights={"reach":0.5,"safety":0.5}', 'gamma={"safety":0.9}')
    check_settings(RunSettings("symphony", "any", overrides=settings_from(pairs)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward_weights": {"neer": 0.5, "calm": 0.5}}, "no reward group named 'neer'"),
        ({"reward_weights": {"near": 0.5, "calm": 0.4}}, "sum to 0.9"),
        ({"reward_weights": {"near": 1.5, "calm": -0.5}}, "not below 0"),
        ({"reward_weights": {"near": 1.0}, "gamma": {"calm": 0.9}}, "a discount and no weight"),
        ({"reward_weights": 0.5}, "reward_weights must be names in braces"),
        ({"gamma": {"calm": 1.5}}, r"lie in \[0, 1\]"),
        ({"critics": "summed", "gamma": {"calm": 0.5}}, "one critic has one gamma"),
        ({"critics": "scalar", "reward_weights": {"near": 1.0}}, "needs critics"),
        ({"critics": "both"}, "must be one of"),
        ({"preset": "saya"}, "feature extractor"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str, errand: str) -> None:
    with pytest.raises((CadenzaError, ValueError), match=message):
        tiny(gym.make(errand), **{"critics": "per_group", **settings})


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (lambda vector: {}, "no 'reward_vector'"),
        (lambda vector: {"reward_vector": vector[:1]}, "shape"),
        (lambda vector: {"reward_vector": vector * np.nan}, "is nan"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(info: Callable[[Any], Any], message: str, errand: str) -> None:
    class Broken(gym.Wrapper):
        def step(self, action: Any) -> Any:
            *rest, told = self.env.step(action)
            return (*rest, info(told["reward_vector"]))

    with pytest.raises(CadenzaError, match=message):
        tiny(Broken(gym.make(errand)), critics="per_group").learn(5)
