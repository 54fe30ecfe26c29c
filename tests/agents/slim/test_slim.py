"""SLIM as a whole: presets, acting, storing, and that its skills spread where a single critic's do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.slim import PRESETS, SLIM, SkillConditioned, SkillPrior, SlimConfig
from cadenza.agents.slim.presets import resolve_config
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError
from cadenza.envs.reward_groups import check_weights

Points = Callable[..., DummyVecEnv]
SMALL: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 32,
    "n_epochs": 2,
    "hidden": (16, 16),
    "phi_hidden": (16, 16),
    "phi_epochs": 1,
    "seed": 1,
    "device": "cpu",
}
TABLE = {"groups": ("reach", "safety")}


def build(env: Any, **settings: Any) -> SLIM:
    return SLIM("MlpPolicy", env, **{**SMALL, **settings})


def states(model: SLIM) -> dict[str, torch.Tensor]:
    return {**model.policy.state_dict(), **{f"phi.{k}": v for k, v in model.diversity.state_dict().items()}}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------ presets


def test_listing_the_presets_loads_no_torch() -> None:
    code = "import sys; from cadenza.agents.slim import PRESETS; print('torch' in sys.modules, len(PRESETS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(PRESETS))]


def test_the_presets_are_the_baselines_that_were_asked_for() -> None:
    groups = ("reach", "diversity", "safety")
    for name, config in PRESETS.items():
        assert check_weights(groups, config.weights), name
    single = {name for name, config in PRESETS.items() if config.critics != "per_group"}
    assert single == {
        *("diayn", "lsd", "metra", "diayn_reach", "lsd_reach", "metra_reach"),
        *("single_raw", "single_scaled"),
    }
    assert PRESETS["single_raw"].weights == PRESETS["single_scaled"].weights == PRESETS["slim"].weights
    ratio = {name: PRESETS["slim"].weights[name] for name in groups}
    assert PRESETS["without_safety"].weights["diversity"] / PRESETS["without_safety"].weights["reach"] == (
        pytest.approx(ratio["diversity"] / ratio["reach"])
    )
    assert PRESETS["without_reach"].weights["diversity"] / PRESETS["without_reach"].weights["safety"] == (
        pytest.approx(ratio["diversity"] / ratio["safety"])
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns(preset: str, points: Points) -> None:
    model = build(points(**TABLE), preset=preset)
    before = {name: tensor.clone() for name, tensor in states(model).items()}
    model.learn(2 * 64)
    after = states(model)
    assert model.config.objective == type(model.diversity).__name__.lower()
    assert len(model.policy.value_heads()) == (len(model.groups) if PRESETS[preset].critics == "per_group" else 1)
    for part in ("action_net.weight", "value_net.weight"):
        assert not torch.equal(before[part], after[part]), part
    assert any(name.startswith("phi.") and not torch.equal(before[name], after[name]) for name in after)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())


@pytest.mark.parametrize(
    ("preset", "overrides", "error", "message"),
    [
        ("slin", {}, UnknownNameError, "no SLIM preset named 'slin'"),
        ("slim", {"objectiv": "lsd"}, UnknownNameError, "no setting of slim named 'objectiv'"),
        ("slim", {"n_steps": 0}, CadenzaError, "n_steps must be above 0"),
    ],
)
def test_bad_presets_and_settings_are_refused(preset: str, overrides: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_config(preset, overrides)
    assert resolve_config("slim", {"hidden": [8, 8]}).hidden == (8, 8)
    assert resolve_config("slim", {}) == SlimConfig()


def test_each_group_has_its_discount_and_a_single_critic_the_common_one(points: Points, tmp_path: Path) -> None:
    model = build(points(**TABLE), gamma=0.95, gammas={"safety": 0.5})
    assert dict(zip(model.groups, model.gammas, strict=True)) == {"reach": 0.95, "safety": 0.5, "diversity": 0.95}
    model.save(tmp_path / "agent.zip")
    assert tuple(SLIM.load(tmp_path / "agent.zip").gammas) == model.gammas
    assert build(points(**TABLE), preset="single_scaled", gamma=0.95, gammas={"safety": 0.5}).gammas == (0.95,)
    without = build(points(**TABLE), preset="without_safety")
    assert dict(zip(without.groups, without.gammas, strict=True)) == {"reach": 0.99, "diversity": 0.99}
    with pytest.raises(UnknownNameError, match="no reward group named 'safty'"):
        build(points(**TABLE), gammas={"safty": 0.5})


# ------------------------------------------------------------------ acting and rewards


def test_diversity_is_rewarded_by_the_agents_own_objective(points: Points) -> None:
    model = build(points(**TABLE))
    _, callback = model._setup_learn(0, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    layer = model.env
    assert isinstance(layer, SkillConditioned)
    steps = layer.take_transitions()
    rewards = model.rollout_buffer.rewards[..., model.groups.index("diversity")]
    np.testing.assert_allclose(rewards.ravel(), model.diversity.reward(*steps), atol=1e-6)
    assert model.groups == ("reach", "safety", "diversity")
    assert rewards.std() > 0


def test_acting_with_a_skill_is_predicting_with_it_appended(points: Points) -> None:
    model = build(points(**TABLE)).learn(128)
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    z = np.array([0.6, 0.8], dtype=np.float32)
    actions = model.act(obs, z)
    expected = model.predict(np.concatenate([obs, np.tile(z, (5, 1))], 1), deterministic=True)[0]
    np.testing.assert_array_equal(actions, expected)
    np.testing.assert_allclose(model.act(obs[0], z), actions[0], atol=1e-6)
    np.testing.assert_allclose(model.act(obs, np.tile(z, (5, 1))), actions)
    assert not np.allclose(model.act(obs, -z), actions)


@pytest.mark.parametrize(
    ("observations", "z", "message"),
    [
        (np.zeros(2), [1.0, 0.0, 0.0], "has 2 entries"),
        (np.zeros(2), [3.0, 4.0], "not of length 1"),
        (np.zeros(4), [1.0, 0.0], r"have 2 entries here; \(4,\)"),
        (np.zeros((3, 2)), [[1.0, 0.0]] * 2, "skills do not fit"),
        (np.zeros(2), [[1.0, 0.0]] * 2, "skills do not fit"),
    ],
)
def test_acting_with_what_does_not_fit_is_refused(observations: Any, z: Any, message: str, points: Points) -> None:
    with pytest.raises(CadenzaError, match=message):
        build(points(1, **TABLE)).act(observations, z)


@pytest.mark.parametrize(
    ("settings", "env", "error", "message"),
    [
        ({}, {}, UnknownNameError, "no reward group named 'reach'"),
        ({"weights": {"reach": 0.5, "diversity": 0.6}}, TABLE, CadenzaError, "sum to 1.1, not to 1"),
        ({"skill": "ball"}, TABLE, UnknownNameError, "no skill prior named 'ball'"),
        ({"skill_size": 3}, TABLE, CadenzaError, "exactly 2 entries"),
        ({"objective": "lds"}, TABLE, UnknownNameError, "no diversity objective named 'lds'"),
        ({"features": "state"}, TABLE, UnknownNameError, "no kind of skill features"),
        ({"critics": "single"}, TABLE, UnknownNameError, "no way of using critics"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings: Any, env: Any, error: type, message: str, points: Points) -> None:
    with pytest.raises(error, match=message):
        build(points(**env), **settings)


def test_an_environment_of_other_skills_or_changed_observations_is_refused(points: Points) -> None:
    with pytest.raises(CadenzaError, match="which VecNormalize changes"):
        build(VecNormalize(points(**TABLE)))
    with pytest.raises(CadenzaError, match="This agent's skills are"):
        build(SkillConditioned(points(**TABLE), SkillPrior("one_hot", 4)))
    with pytest.raises(CadenzaError, match="features='object'"):
        build(SkillConditioned(points(**TABLE), SkillPrior(), "full_state"))


# ------------------------------------------------------------------ storing


@pytest.mark.parametrize("preset", ["slim", "metra_reach", "single_scaled"])
def test_save_load_and_go_on_as_if_nothing_had_been(preset: str, points: Points, tmp_path: Path) -> None:
    model = build(points(**TABLE), preset=preset, skill="one_hot", skill_size=3).learn(2 * 64)
    model.save(tmp_path / "agent")
    obs, z = np.zeros((2, 2)), [0.0, 1.0, 0.0]
    alone = SLIM.load(tmp_path / "agent", device="cpu")
    np.testing.assert_array_equal(alone.act(obs, z), model.act(obs, z))
    assert alone.config == model.config
    loaded = SLIM.load(tmp_path / "agent", env=points(**TABLE), device="cpu")
    model.set_env(points(**TABLE))
    for one in (model, loaded):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002 - Stable-Baselines3's buffers draw from it
        one.env.seed(5)
        one.learn(2 * 64, reset_num_timesteps=False)
    assert same(states(model), states(loaded))


def test_a_checkpoint_continues_bit_for_bit(points: Points, tmp_path: Path) -> None:
    """With a skill in the middle of its episode, and an adapted learning rate."""
    whole = build(points(steps=11, **TABLE), objective="metra").learn(3 * 64)
    (tmp_path / "checkpoints").mkdir()
    CheckpointStore(tmp_path / "checkpoints").save(whole, {})
    whole.learn(3 * 64, reset_num_timesteps=False)
    resumed = build(points(steps=11, **TABLE), objective="metra")
    store = CheckpointStore(tmp_path / "checkpoints")
    store.restore(store.latest(), resumed, "cpu")
    resumed.learn(3 * 64, reset_num_timesteps=False)
    assert same(states(whole), states(resumed))
    assert whole.adaptive_rate == resumed.adaptive_rate


# ------------------------------------------------------------------ does it learn?

REACHABLE_CELLS = 100
"""Squares of 0.2 on the square [-1, 1]^2."""


def cells_reached(act: Callable[[np.ndarray, np.ndarray], np.ndarray], env: gym.Env) -> int:
    """Cells that 32 skills visit in 20 steps each."""
    draw, seen = np.random.default_rng(5), set()
    for episode, z in enumerate(SkillPrior().sample(32, draw)):
        obs, _ = env.reset(seed=episode)
        for _ in range(20):
            obs = env.step(np.clip(act(obs, z), -1, 1))[0]
            seen.add(tuple(np.clip((obs + 1) / 0.2, 0, 9).astype(int).tolist()))
    assert len(seen) <= REACHABLE_CELLS
    return len(seen)


@pytest.mark.slow
def test_skills_spread_over_the_square_though_a_large_reward_pulls_home(points: Points) -> None:
    """The pull is a hundred times what diversity pays a step: a single critic on the sum sees nothing but it."""
    settings = {
        "weights": {"home": 0.2, "diversity": 0.8},
        "n_steps": 40,
        "batch_size": 80,
        "n_epochs": 5,
        "hidden": (32, 32),
        "phi_hidden": (32, 32),
        "phi_epochs": 4,
        "learning_rate": 1e-3,
        "phi_learning_rate": 1e-3,
        "log_std_init": -0.5,
        "seed": 0,
    }
    found = {}
    for critics in ("per_group", "summed"):
        # With one critic both ways of clipping are the same.
        env = points(8, home_scale=100.0)
        model = build(env, critics=critics, clip_mode="per_critic", **settings).learn(12_000)
        found[critics] = cells_reached(model.act, points(1).envs[0])
    draw = np.random.default_rng(0)
    found["random"] = cells_reached(lambda obs, z: draw.uniform(-1, 1, 2), points(1).envs[0])
    assert found["per_group"] >= 1.5 * found["random"], found
    assert found["per_group"] >= 3 * found["summed"], found
