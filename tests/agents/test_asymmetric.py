"""An actor that sees the measured part of the observation, critics that see all of it; Symphony and its peers."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from cadenza.agents import Symphony
from cadenza.agents.asymmetric import act_in, actor_observation_size
from cadenza.agents.export import export_bundle
from cadenza.agents.runs.catalogue import AGENTS, ASYMMETRIC_POLICIES, build_model
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.symphony.objective import actor_branch, critic_forward
from cadenza.agents.symphony.replay import Batch
from cadenza.controllers.bundle import PolicyBundle
from cadenza.envs.errors import CadenzaError
from cadenza.envs.guard import FiniteGuard

SEEN, WHOLE, ACT = 4, 7, 2
TINY: dict[str, Any] = {
    "seed": 0, "device": "cpu", "hidden_size": 32, "critic_nodes": 8, "batch_size": 32, "buffer_size": 500,
    "learning_starts": 60, "gradient_steps": 1,
}  # fmt: skip
PEERS: dict[str, dict[str, Any]] = {
    "sac": {"learning_starts": 20, "batch_size": 16},
    "td3": {"learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [16, 16]}},
    "ppo": {"n_steps": 40, "batch_size": 20, "policy_kwargs": {"net_arch": {"pi": [16], "vf": [24, 16]}}},
    "tqc": {"learning_starts": 20, "batch_size": 16},
    "crossq": {"learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [16, 16]}},
}
FAST = ["symphony", "sac", "ppo"]
ALL = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ["symphony", *PEERS]]


def build(agent: str, env: Any, **overrides: Any) -> Any:
    given = {**({**TINY} if agent == "symphony" else PEERS[agent]), **overrides}
    given = {name: value for name, value in given.items() if name not in ("seed", "device")}
    return build_model(RunSettings(agent, "test", overrides=given), env)


def observations(count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Observations, and the same with all that is privileged changed."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(count, WHOLE)).astype(np.float32)
    second = first.copy()
    second[:, SEEN:] = 5 * rng.normal(size=(count, WHOLE - SEEN))
    return first, second


def values(agent: str, model: Any, obs: np.ndarray, actions: torch.Tensor) -> torch.Tensor:
    """What the critics say of observations and actions."""
    tensor, policy = torch.as_tensor(obs), model.policy
    with torch.no_grad():
        if agent == "symphony":
            return policy.critic.values(policy.critic.z(policy.normalized(tensor)), actions, None)
        if agent == "ppo":
            return policy.predict_values(tensor)
        found = policy.critic(tensor, actions)
        return found if isinstance(found, torch.Tensor) else torch.cat(found, 1)


# ------------------------------------------------------------------ what an environment says


def test_the_attribute_is_found_through_wrappers_and_vectorised_environments(partly_seen: str) -> None:
    env = FiniteGuard(gym.make(partly_seen))
    assert actor_observation_size(env) == SEEN
    assert actor_observation_size(DummyVecEnv([lambda: gym.make(partly_seen)] * 2)) == SEEN
    assert actor_observation_size(VecNormalize(DummyVecEnv([lambda: env]))) == SEEN
    for seen in ("absent", None, WHOLE):
        assert actor_observation_size(gym.make(partly_seen, seen=seen)) is None
        assert actor_observation_size(DummyVecEnv([lambda seen=seen: gym.make(partly_seen, seen=seen)])) is None


@pytest.mark.slow
def test_the_attribute_is_found_in_other_processes_and_missed_without_harm() -> None:
    for task, expected in ((_Flag, 1), (_NoFlag, None)):
        env = SubprocVecEnv([task, task], start_method="fork")
        try:
            assert actor_observation_size(env) == expected
            assert env.reset().shape == (2, 2)
        finally:
            env.close()


class _NoFlag(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}


class _Flag(_NoFlag):
    actor_observation_size = 1


@pytest.mark.parametrize("seen", [0, -1, WHOLE + 1, 2.5, True])
def test_a_size_that_does_not_fit_is_refused(partly_seen: str, seen: Any) -> None:
    with pytest.raises(CadenzaError, match="has 7 entries"):
        actor_observation_size(gym.make(partly_seen, seen=seen))


def test_a_wrapper_that_moves_the_entries_is_refused_unless_it_says_its_own(partly_seen: str) -> None:
    class Doubled(gym.ObservationWrapper):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (2 * WHOLE,), np.float32)

        def observation(self, observation: Any) -> Any:
            return np.concatenate([observation, observation])

    env = Doubled(gym.make(partly_seen))
    with pytest.raises(CadenzaError, match="a wrapper around it makes the shape"):
        actor_observation_size(env)
    env.actor_observation_size = 3
    assert actor_observation_size(FiniteGuard(env)) == 3
    with pytest.raises(CadenzaError, match="a wrapper around it makes the shape"):
        actor_observation_size(VecFrameStack(DummyVecEnv([lambda: gym.make(partly_seen)]), 2))


def test_environments_of_one_run_must_agree(partly_seen: str) -> None:
    env = DummyVecEnv([lambda: gym.make(partly_seen), lambda: gym.make(partly_seen, seen=3)])
    with pytest.raises(CadenzaError, match=r"different actor_observation_sizes: \[4, 3\]"):
        actor_observation_size(env)


# ------------------------------------------------------------------ without the attribute nothing changes


@pytest.mark.parametrize("agent", ALL)
def test_an_actor_that_may_see_all_learns_as_if_nobody_had_asked(agent: str, partly_seen: str) -> None:
    plain, told = (build(agent, gym.make(partly_seen, seen=seen)).learn(100) for seen in ("absent", WHOLE))
    assert type(plain.policy) is type(told.policy)
    assert "Asymmetric" not in type(plain.policy).__name__
    a, b = plain.policy.state_dict(), told.policy.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_symmetric_agent_is_built_and_stored_as_before(partly_seen: str, tmp_path: Path) -> None:
    model = Symphony("MlpPolicy", gym.make(partly_seen, seen="absent"), **TINY)
    assert set(model.policy_kwargs) == {"config", "generator", "critic_generator"}
    assert model.policy.actor.net.in_size == WHOLE
    model.save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        assert "actor_observation_size" not in json.loads(archive.read("header.json"))
    obs = torch.randn(3, WHOLE)
    assert model.policy.actor_input(obs) is obs
    assert type(model.policy.deterministic_module()).__name__ == "_DeterministicActor"


# ------------------------------------------------------------------ what the actor sees


@pytest.mark.parametrize("agent", ALL)
def test_privileged_entries_change_the_critics_and_never_the_action(agent: str, partly_seen: str) -> None:
    model = build(agent, gym.make(partly_seen)).learn(100)
    assert model.policy.actor_observation_size == SEEN
    first, second = observations()
    actions = model.predict(first, deterministic=True)[0]
    assert np.array_equal(actions, model.predict(second, deterministic=True)[0])
    assert actions.std(0).min() > 0
    other = first.copy()
    other[:, :SEEN] += 0.5
    assert not np.array_equal(actions, model.predict(other, deterministic=True)[0])
    scaled = torch.as_tensor(model.policy.scale_action(actions) if agent != "ppo" else actions)
    before, after = (values(agent, model, obs, scaled) for obs in (first, second))
    assert (before != after).any(1).all()


@pytest.mark.parametrize("agent", ALL)
def test_noisy_acting_sees_no_more(agent: str, partly_seen: str) -> None:
    model = build(agent, gym.make(partly_seen)).learn(100)
    drawn = []
    for obs in observations():
        torch.manual_seed(4)
        if agent == "symphony":
            model.generator.manual_seed(4)
        drawn.append(model.predict(obs)[0])
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("preset", ["cpu", "s3", "s2"])
def test_symphonys_rollout_and_its_actors_see_no_more(preset: str, partly_seen: str) -> None:
    """The compiled acting of a rollout, the newest actor, and the averaged one where there is one."""
    model = Symphony("MlpPolicy", gym.make(partly_seen), preset=preset, **TINY).learn(90)
    assert model.policy.actor.net.in_size == SEEN
    assert (model.policy.average is None) == (preset != "cpu")
    assert (model._fused is None) == (preset == "s2")
    drawn: list[np.ndarray] = []
    for obs in observations(1):
        model._last_obs = obs
        model.generator.manual_seed(4)
        drawn.append(model._sample_action(0)[0])
    assert np.array_equal(*drawn)


def symphony_batch(rows: int = 32) -> tuple[Batch, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    terminals = (torch.arange(rows) % 5 == 0).float().unsqueeze(1)
    batch = Batch(draw(rows, WHOLE), torch.tanh(draw(rows, ACT)), draw(rows, WHOLE), 1 + draw(rows, 1), terminals)
    return batch, (draw(rows, ACT) / 3).clamp(-1, 1)


def test_the_actor_has_no_gradient_with_respect_to_privileged_entries(partly_seen: str) -> None:
    policy = Symphony("MlpPolicy", gym.make(partly_seen), **TINY).policy
    obs = torch.randn(8, WHOLE, requires_grad=True)
    action, scale, resistance = policy.actor(policy.actor_input(obs))
    (gradient,) = torch.autograd.grad((action * scale + resistance).sum(), obs)
    assert torch.equal(gradient[:, SEEN:], torch.zeros(8, WHOLE - SEEN))
    assert (gradient[:, :SEEN] != 0).any()
    assert policy.actor.net.weight1.shape[1] == SEEN  # there is no weight that could read them


def test_the_critics_learn_from_privileged_entries_and_the_actor_through_the_critics(partly_seen: str) -> None:
    policy = Symphony("MlpPolicy", gym.make(partly_seen), **TINY).policy
    batch, noise = symphony_batch()
    loss = critic_forward(policy, batch).values.square().mean()
    gradient = dict(zip(policy.critic.parameters(), policy.critic_gradients(loss), strict=True))
    weight1 = policy.critic.critics.weight1
    assert (gradient[weight1][:, ACT + SEEN :] != 0).all(-1).all()
    # The value of the next action depends on privileged entries, and so does the direction in which the actor goes.
    hidden = batch._replace(next_observations=batch.next_observations.clone())
    hidden.next_observations[:, SEEN:] += 1.0
    a, b = (actor_branch(policy, one, noise) for one in (batch, hidden))
    assert torch.equal(a.next_scale, b.next_scale)
    assert not torch.equal(a.target_value, b.target_value)


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize("preset", ["saya", "saya_paper"])
def test_a_shared_feature_extractor_is_refused_with_a_way_out(preset: str, partly_seen: str) -> None:
    with pytest.raises(CadenzaError, match=r"share the feature extractor.*4 of 7 entries.*such as cpu or s3"):
        build_model(RunSettings("symphony", partly_seen, preset=preset), gym.make(partly_seen))
    Symphony("MlpPolicy", gym.make(partly_seen, seen="absent"), preset=preset, **TINY)


@pytest.mark.parametrize("agent", ["sac", "ppo"])
def test_a_shared_features_extractor_of_a_peer_is_refused(agent: str, partly_seen: str) -> None:
    with pytest.raises(CadenzaError, match="share_features_extractor would show"):
        build(agent, gym.make(partly_seen), policy_kwargs={"share_features_extractor": True})


def test_every_agent_of_the_catalogue_can_or_is_refused(partly_seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AGENTS.keys() - ASYMMETRIC_POLICIES.keys() == {"symphony", "slim", "multi_critic_ppo"}
    with pytest.raises(CadenzaError, match="multi_critic_ppo has no policy whose actor sees less"):
        build_model(RunSettings(agent="multi_critic_ppo", env_id="x"), gym.make(partly_seen))
    monkeypatch.delitem(ASYMMETRIC_POLICIES, "td3")
    with pytest.raises(CadenzaError, match="td3 has no policy whose actor sees less"):
        build("td3", gym.make(partly_seen))


# ------------------------------------------------------------------ saving and bundles


class _WithoutPrivileged(gym.ObservationWrapper):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (SEEN,), np.float32)
    actor_observation_size = SEEN

    def observation(self, observation: Any) -> Any:
        return observation[:SEEN]


def test_save_and_load_keep_what_the_actor_sees(partly_seen: str, tmp_path: Path) -> None:
    model = Symphony("MlpPolicy", gym.make(partly_seen), **TINY).learn(100)
    model.save(tmp_path / "agent")
    first, second = observations()
    expected = model.predict(first, deterministic=True)[0]
    for env in (None, gym.make(partly_seen)):
        loaded = Symphony.load(tmp_path / "agent", env=env, device="cpu")
        assert loaded.actor_observation_size == loaded.policy.actor_observation_size == SEEN
        assert np.array_equal(loaded.predict(second, deterministic=True)[0], expected)
    loaded.learn(30, reset_num_timesteps=False)
    for seen, sees in ((3, 3), ("absent", WHOLE)):
        with pytest.raises(ValueError, match=f"reads 4 of the 7 entries .* lets it see {sees}"):
            Symphony.load(tmp_path / "agent", env=gym.make(partly_seen, seen=seen))


def test_a_copy_sees_the_same(partly_seen: str) -> None:
    model = Symphony("MlpPolicy", gym.make(partly_seen), **TINY).learn(80)
    twin = copy.deepcopy(model)
    batch = model.replay_buffer.sample_batch(32)
    for learner in (model, twin):
        learner.update(batch)
    for p, q in zip(model.policy.parameters(), twin.policy.parameters(), strict=True):
        assert torch.equal(p, q)


def export(model: Any, path: Path, env_id: str, **arguments: Any) -> PolicyBundle:
    export_bundle(model, path, env_id=env_id, env_kwargs={}, agent="any", **arguments)
    return PolicyBundle.load(path)


@pytest.mark.parametrize("agent", ALL)
def test_the_bundle_reads_the_measured_part_alone(agent: str, partly_seen: str, tmp_path: Path) -> None:
    model = build(agent, gym.make(partly_seen)).learn(100)
    names = ["x", "y", "vx", "vy", "wind x", "wind y", "drag"]
    bundle = export(model, tmp_path / "bundle", partly_seen, observation_terms=names)
    manifest = bundle.manifest
    assert (manifest.observation_size, manifest.observation_shape) == (SEEN, (SEEN,))
    assert manifest.observation_terms == ("x", "y", "vx", "vy")
    assert manifest.parity_max_error < 1e-5
    first, _ = observations(64)
    expected = model.predict(first, deterministic=True)[0]
    np.testing.assert_allclose(bundle.act(first[:, :SEEN]), expected, atol=1e-5)
    with pytest.raises(CadenzaError, match=r"reads \(4,\)"):
        bundle.act(first[0])
    act = act_in(bundle, gym.make(partly_seen))
    np.testing.assert_allclose(act(first[0]), expected[0], atol=1e-5)


@pytest.mark.parametrize("preset", ["cpu", "s3"])
def test_nothing_privileged_is_in_a_bundles_files(preset: str, partly_seen: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = Symphony("MlpPolicy", gym.make(partly_seen), preset=preset, **TINY).learn(100)
    export(model, tmp_path / "bundle", partly_seen)
    tensors = load_file(tmp_path / "bundle" / "policy.safetensors")
    assert all(WHOLE not in tensor.shape for tensor in tensors.values())
    calm = model.policy.calm_actor()
    assert torch.equal(tensors["actor.net.weight1"], calm.net.weight1)
    if preset == "cpu":
        assert torch.equal(tensors["normalizer.mean"], model.policy.normalizer.mean[:SEEN])


@pytest.mark.parametrize("agent", ["sac", "ppo"])
def test_vec_normalize_goes_into_the_bundle_as_far_as_the_actor_sees(
    agent: str, partly_seen: str, tmp_path: Path
) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make(partly_seen)]), clip_obs=5.0)
    model = build(agent, env).learn(80)
    raw = observations(32)[0]
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]
    bundle = export(model, tmp_path / "bundle", partly_seen)
    np.testing.assert_allclose(bundle.act(raw[:, :SEEN]), expected, atol=1e-5)


def test_a_bundle_in_an_environment_that_shows_its_actor_something_else_is_refused(
    partly_seen: str, tmp_path: Path
) -> None:
    make: Callable[..., gym.Env] = lambda seen: gym.make(partly_seen, seen=seen)  # noqa: E731
    part = export(Symphony("MlpPolicy", make(SEEN), **TINY), tmp_path / "part", partly_seen)
    whole = export(Symphony("MlpPolicy", make("absent"), **TINY), tmp_path / "whole", partly_seen)
    assert act_in(whole, make("absent")) == whole.act
    assert act_in(part, _WithoutPrivileged(make(SEEN))) == part.act  # deployment knows nothing of what was hidden
    for bundle, env, message in (
        (part, make("absent"), r"reads observations of shape \(4,\); .* sees \(7,\)\."),
        (part, make(3), r"reads observations of shape \(4,\); .* sees \(3,\) of its \(7,\)"),
        (whole, make(SEEN), r"reads observations of shape \(7,\); .* sees \(4,\) of its \(7,\)"),
    ):
        with pytest.raises(CadenzaError, match=message):
            act_in(bundle, env)
