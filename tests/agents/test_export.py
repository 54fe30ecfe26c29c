from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from cadenza.agents import Symphony, export
from cadenza.agents.export import acting_state_dict, deterministic_module, export_bundle
from cadenza.agents.slim import SLIM
from cadenza.controllers.bundle import PolicyBundle
from cadenza.envs.errors import CadenzaError
from cadenza.envs.reward_groups import ObjectEntries

SYMPHONY: dict[str, Any] = {"seed": 0, "device": "cpu", "learning_starts": 60, "batch_size": 32, "buffer_size": 500}
FEW_STEPS = 100


def small(**kwargs: Any) -> dict[str, Any]:
    """Settings of a small learner; new dictionaries each time, as Stable-Baselines3 writes into policy_kwargs."""
    return {"policy_kwargs": {"net_arch": [32, 32]}, "seed": 0, "device": "cpu", **kwargs}


def trained(name: str, env: Any) -> Any:
    if name.startswith("symphony"):
        preset = name.removeprefix("symphony-")
        model: Any = Symphony("MlpPolicy", env, preset=preset, hidden_size=32, critic_nodes=24, **SYMPHONY)
    elif name.startswith("ppo"):
        settings = small(n_steps=50, batch_size=25, use_sde=name == "ppo-sde")
        settings["policy_kwargs"]["squash_output"] = name == "ppo-sde"
        model = PPO("MlpPolicy", env, **settings)
    else:
        classes = {"sac": SAC, "sac-sde": SAC, "td3": TD3, "ddpg": DDPG, "tqc": TQC, "crossq": CrossQ}
        settings = small(learning_starts=20, batch_size=16)
        if name == "sac-sde":
            settings["use_sde"] = True
        model = classes[name]("MlpPolicy", env, **settings)
    return model.learn(FEW_STEPS)


def save(model: Any, path: Path, **kwargs: Any) -> export.ExportReport:
    settings: dict[str, Any] = {"env_id": "Pendulum-v1", "env_kwargs": {}, "agent": "any", **kwargs}
    return export_bundle(model, path, **settings)


class Signed(gym.Wrapper):
    """Pendulum with a vector reward, and an object to be moved: its angle."""

    reward_groups = ("reach", "safety")
    object_entries = ObjectEntries(position=(0, 1), center=(0.0, 0.0), half_extent=(1.0, 1.0))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "reward_vector": np.array([reward, 0.0])}


def test_skills_are_exported_with_z_behind_the_observation(tmp_path: Path) -> None:
    env = Signed(gym.make("Pendulum-v1"))
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "hidden": (16,), "seed": 0, "device": "cpu"}
    model = SLIM("MlpPolicy", env, preset="slim", **settings).learn(32)
    save(model, tmp_path / "bundle", env_id="Pendulum-v1", agent="slim")
    bundle = PolicyBundle.load(tmp_path / "bundle")
    assert bundle.manifest.observation_size == 3 + 2
    observation, z = np.array([0.6, 0.8, 0.1], np.float32), np.array([0.0, 1.0], np.float32)
    found = bundle.act(np.concatenate([observation, z]))
    assert found == pytest.approx(model.act(observation, z=z), abs=1e-5)


@pytest.fixture(scope="module")
def model() -> Any:
    return SAC("MlpPolicy", "Pendulum-v1", **small())


ALL = [
    "symphony-cpu", "symphony-s3", "symphony-s2", "symphony-saya", "symphony-saya_paper",
    "sac", "sac-sde", "td3", "ddpg", "ppo", "ppo-sde", "tqc", "crossq",
]  # fmt: skip


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Hopper-v5"])
@pytest.mark.parametrize("name", ALL)
def test_the_bundle_acts_as_the_model_predicts(name: str, env_id: str, tmp_path: Path) -> None:
    model = trained(name, env_id)
    report = save(model, tmp_path / "bundle", env_id=env_id)
    bundle = PolicyBundle.load(report.path)
    space = model.observation_space
    rng = np.random.default_rng(5)
    batch = np.clip(rng.normal(size=(64, *space.shape)) * 4, space.low, space.high)
    expected = model.predict(batch, deterministic=True)[0]
    actions = bundle.act(batch)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert actions.dtype == expected.dtype
    assert expected.std(0).min() > 0
    single = bundle.act(batch[3])
    assert single.shape == model.action_space.shape
    np.testing.assert_allclose(single, model.predict(batch[3], deterministic=True)[0], atol=1e-5)
    assert report.parity_error == bundle.manifest.parity_max_error < 1e-5
    assert report.size_bytes == sum(file.stat().st_size for file in report.path.iterdir())


def test_ppo_is_clipped_to_the_action_bounds(tmp_path: Path) -> None:
    model = trained("ppo", "Pendulum-v1")
    with torch.no_grad():
        model.policy.action_net.bias.fill_(50.0)
    bundle = PolicyBundle.load(save(model, tmp_path / "bundle").path)
    np.testing.assert_array_equal(bundle.act(np.zeros((4, 3))), np.full((4, 1), 2.0))


@pytest.mark.parametrize("name", ["sac"])  # Symphony refuses VecNormalize: it normalises in the policy
def test_vec_normalize_goes_into_the_bundle(name: str, tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Hopper-v5")]), clip_obs=5.0)
    model = trained(name, env)
    bundle = PolicyBundle.load(save(model, tmp_path / "bundle").path)
    raw = np.random.default_rng(1).normal(size=(32, 11)) * 3
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_allclose(bundle.act(raw), expected, atol=1e-5)


@pytest.mark.parametrize("preset", ["cpu", "s2", "saya"])
def test_safetensors_carry_every_weight_that_acts_and_no_critic(preset: str, tmp_path: Path) -> None:
    model = trained(f"symphony-{preset}", "Hopper-v5")
    report = save(model, tmp_path / "bundle")
    tensors = load_file(report.path / "policy.safetensors")
    assert not [name for name in tensors if "target" in name or "critics" in name or "reward" in name]
    obs = torch.randn(16, 11)
    expected = deterministic_module(model)(obs)
    with torch.no_grad():
        for tensor in model.policy.state_dict().values():
            tensor.fill_(torch.nan)
    module = deterministic_module(model)
    assert tensors.keys() == acting_state_dict(module).keys()
    module.load_state_dict(tensors, strict=False)
    torch.testing.assert_close(module(obs), expected, rtol=0, atol=0)


def test_a_cpu_preset_bundle_is_small(tmp_path: Path) -> None:
    # As wide as a humanoid's observation: the largest that ships with Gymnasium.
    space, actions = gym.spaces.Box(-np.inf, np.inf, (376,)), gym.spaces.Box(-0.4, 0.4, (17,))
    model = Symphony("MlpPolicy", None, preset="cpu", device="cpu", _init_setup_model=False)
    model.observation_space, model.action_space, model.n_envs = space, actions, 1
    model._setup_model()
    assert save(model, tmp_path / "bundle").size_bytes < 5e6


def test_the_manifest_tells_what_was_trained(tmp_path: Path) -> None:
    model = trained("sac", "Pendulum-v1")
    report = export_bundle(
        model,
        tmp_path / "bundle",
        env_id="Pendulum-v1",
        env_kwargs={"g": 9.81},
        agent="sac",
        preset="quick",
        observation_terms=["x", "y", "speed"],
        joint_order=["hinge"],
        control_rate_hz=20.0,
    )
    manifest = PolicyBundle.load(report.path).manifest
    assert (manifest.env_id, manifest.env_kwargs, manifest.agent) == ("Pendulum-v1", {"g": 9.81}, "sac")
    assert (manifest.preset, manifest.seed, manifest.num_timesteps) == ("quick", 0, FEW_STEPS)
    assert (manifest.observation_size, manifest.observation_shape, manifest.observation_dtype) == (3, (3,), "float32")
    assert (manifest.action_low, manifest.action_high, manifest.action_shape) == ((-2.0,), (2.0,), (1,))
    assert (manifest.observation_terms, manifest.joint_order) == (("x", "y", "speed"), ("hinge",))
    assert manifest.control_rate_hz == 20.0
    assert manifest.created_with["torch"] == torch.__version__


def test_a_bundle_is_replaced_only_when_asked(model: Any, tmp_path: Path) -> None:
    path = save(model, tmp_path / "bundle").path
    before = (path / "manifest.json").read_text()
    with pytest.raises(CadenzaError, match="already a policy bundle"):
        save(model, path, agent="other")
    assert (path / "manifest.json").read_text() == before
    save(model, path, agent="other", overwrite=True)
    assert PolicyBundle.load(path).manifest.agent == "other"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_bundle_is_left_alone(model: Any, tmp_path: Path, overwrite: bool) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(CadenzaError, match="not a policy bundle"):
        save(model, folder, overwrite=overwrite)
    bundle = save(model, tmp_path / "bundle").path
    (bundle / "notes.txt").write_text("mine")
    with pytest.raises(CadenzaError, match="not a policy bundle"):
        save(model, bundle, overwrite=overwrite)
    assert (folder / "chapter.txt").exists()
    assert (bundle / "notes.txt").exists()


def test_an_empty_folder_is_filled(model: Any, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    assert PolicyBundle.load(save(model, tmp_path / "bundle").path)


def test_nothing_is_written_when_onnx_acts_differently(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PARITY_TOLERANCE", 0.0)
    with pytest.raises(CadenzaError, match="differs from the trained one"):
        save(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **small())
    with torch.no_grad():
        model.actor.mu.weight.fill_(torch.nan)
    with pytest.raises(CadenzaError, match="differs from the trained one"):
        save(model, tmp_path / "bundle")


def test_discrete_actions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="continuous actions"):
        save(DQN("MlpPolicy", "CartPole-v1", buffer_size=100, device="cpu"), tmp_path / "bundle")


def test_env_kwargs_must_be_json(model: Any, tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="JSON"):
        save(model, tmp_path / "bundle", env_kwargs={"f": print})


def test_exporting_does_not_change_the_model(tmp_path: Path) -> None:
    model = trained("symphony-saya", "Pendulum-v1")
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    state = model.generator.get_state()
    save(model, tmp_path / "bundle")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    assert torch.equal(state, model.generator.get_state())
