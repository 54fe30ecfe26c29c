"""Symphony as users meet it: a Stable-Baselines3 algorithm that takes SAC's place."""

import copy
import json
import threading
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from cadenza.agents import Symphony

TINY = {
    "hidden_size": 32,
    "critic_nodes": 8,
    "batch_size": 32,
    "buffer_size": 2_000,
    "learning_starts": 60,
    "gradient_steps": 1,
}


def tiny(env: object = "Pendulum-v1", preset: str = "cpu", **kwargs: object) -> Symphony:
    return Symphony("MlpPolicy", env, preset=preset, **{"seed": 0, "device": "cpu", **TINY, **kwargs})


class Recorder(BaseCallback):
    """Keeps the actions that the environments received."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[np.ndarray] = []
        self.last_updates = 0

    def _on_step(self) -> bool:
        self.actions.append(self.locals["actions"].copy())
        return True


MUJOCO_ENVS = [
    "Hopper-v5",
    "Walker2d-v5",
    "HalfCheetah-v5",
    "Ant-v5",
    "Swimmer-v5",
    "Humanoid-v5",
    "Reacher-v5",
    "Pusher-v5",
]


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_trains_on_gymnasium_mujoco_envs(env_id: str) -> None:
    model = tiny(env_id).learn(100)
    # The update of the last step would run beside the next one.
    assert model._n_updates == 39  # steps 61 to 99
    action, _ = model.predict(model.observation_space.sample() * 0, deterministic=True)
    assert model.action_space.contains(action.astype(model.action_space.dtype))


@pytest.mark.parametrize("preset", ["s3", "s2", "saya", "saya_paper", "ed"])
def test_presets_train(preset: str) -> None:
    model = tiny(preset=preset).learn(80)
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


def test_learns_to_balance() -> None:
    """Untrained it drops the pole within 30 steps; 6,000 steps of a working update hold it for hundreds (of 1,000)."""
    model = Symphony(
        "MlpPolicy", "InvertedPendulum-v5", preset="cpu", seed=0, hidden_size=64, critic_nodes=16, batch_size=64,
        learning_starts=500, buffer_size=20_000, learning_rate=1e-3, device="cpu",
    )  # fmt: skip
    env = gym.make("InvertedPendulum-v5")
    before, _ = evaluate_policy(model, env, n_eval_episodes=5, warn=False)
    model.learn(6_000)
    after, _ = evaluate_policy(model, env, n_eval_episodes=5, warn=False)
    assert before < 60
    assert after > 200


def test_same_seed_twice_gives_the_same_actions_and_weights() -> None:
    first, second = Recorder(), Recorder()
    a = tiny("Hopper-v5").learn(150, callback=first)
    b = tiny("Hopper-v5").learn(150, callback=second)
    assert np.array_equal(np.array(first.actions), np.array(second.actions))
    for p, q in zip(a.policy.parameters(), b.policy.parameters(), strict=True):
        assert torch.equal(p, q)


def test_other_seed_gives_other_actions() -> None:
    first, second = Recorder(), Recorder()
    tiny(seed=0).learn(10, callback=first)
    tiny(seed=1).learn(10, callback=second)
    assert not np.array_equal(np.array(first.actions), np.array(second.actions))


def test_save_and_load_continue_with_equal_predictions(tmp_path: Path) -> None:
    model = tiny("Hopper-v5").learn(120)
    model.save(tmp_path / "agent")
    loaded = Symphony.load(tmp_path / "agent", env=gym.make("Hopper-v5"), device="cpu")
    observations = np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
    assert np.array_equal(
        model.predict(observations, deterministic=True)[0], loaded.predict(observations, deterministic=True)[0]
    )
    assert np.array_equal(model.predict(observations)[0], loaded.predict(observations)[0])  # the noise generator too
    assert (loaded.num_timesteps, loaded._n_updates, loaded.config) == (120, model._n_updates, model.config)
    loaded.learn(80, reset_num_timesteps=False)
    assert loaded.num_timesteps == 200


def test_saved_file_holds_no_pickled_code(tmp_path: Path) -> None:
    tiny().save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        assert set(archive.namelist()) == {"header.json", "parameters.pt"}
        assert json.loads(archive.read("header.json"))["preset"] == "cpu"


def test_truncated_file_and_wrong_env_are_named(tmp_path: Path) -> None:
    tiny().save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match="spaces"):
        Symphony.load(tmp_path / "agent.zip", env=gym.make("Hopper-v5"))
    data = (tmp_path / "agent.zip").read_bytes()
    (tmp_path / "agent.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="truncated"):
        Symphony.load(tmp_path / "agent.zip")
    with pytest.raises(FileNotFoundError, match="No saved agent"):
        Symphony.load(tmp_path / "nothing")


def test_replay_buffer_round_trip(tmp_path: Path) -> None:
    model = tiny(prefill_repeats=True).learn(100)
    model.save_replay_buffer(tmp_path / "replay")
    other = tiny(prefill_repeats=True)
    other.load_replay_buffer(tmp_path / "replay")
    assert torch.equal(
        model.replay_buffer.sample_batch(64).observations, other.replay_buffer.sample_batch(64).observations
    )


def test_a_loaded_replay_buffer_is_all_there_is(tmp_path: Path) -> None:
    model = tiny(prefill_repeats=True).learn(100)
    model.save_replay_buffer(tmp_path / "replay")
    other = tiny(prefill_repeats=True).learn(300)
    other.load_replay_buffer(tmp_path / "replay")
    for ours, theirs in zip(
        model.replay_buffer.observation_moments(), other.replay_buffer.observation_moments(), strict=True
    ):
        assert np.array_equal(ours, theirs)
    before = other.replay_buffer.sample_batch(64).observations.clone()
    for refused, said in ((tiny(buffer_size=500), "of 2,000"), (tiny("Hopper-v5"), "of shape"), (tiny(), "of shape")):
        with pytest.raises(ValueError, match=said):
            refused.load_replay_buffer(tmp_path / "replay")
        assert refused.replay_buffer.size() == 0
    assert before.isfinite().all()


def test_vectorised_envs_callbacks_tensorboard_progress_bar(tmp_path: Path) -> None:
    venv = make_vec_env("Pendulum-v1", n_envs=3, seed=0)
    model = tiny(venv, tensorboard_log=str(tmp_path / "tb"))
    evaluation = EvalCallback(
        make_vec_env("Pendulum-v1", n_envs=1), eval_freq=30, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    model.learn(1_500, callback=evaluation, progress_bar=True)
    assert model.replay_buffer.size() == 1_500
    assert (tmp_path / "evaluations.npz").exists()
    assert list((tmp_path / "tb").rglob("events*"))


def test_vec_normalize_is_refused_with_advice() -> None:
    venv = VecNormalize(make_vec_env("Pendulum-v1", n_envs=1, seed=0))
    with pytest.raises(ValueError, match="normalize_observations=True"):
        tiny(venv).learn(90)


def test_a_loaded_agent_without_its_buffer_keeps_its_statistics(tmp_path: Path) -> None:
    """Its first step is under way when Stable-Baselines3 first asks for an update: there is nothing to draw yet."""
    model = tiny("Hopper-v5", normalize_every=50, normalize_observations=True).learn(100)
    model.save(tmp_path / "agent")
    loaded = Symphony.load(tmp_path / "agent", env=gym.make("Hopper-v5"), device="cpu")
    before = loaded.policy.normalizer.inverse_std.clone()
    updates = loaded._n_updates
    loaded.learn(30, reset_num_timesteps=False)
    assert torch.equal(loaded.policy.normalizer.inverse_std, before)
    assert loaded._n_updates == updates + 29
    with pytest.raises(ValueError, match="empty"):
        tiny().replay_buffer.sample_batch(4)


def test_environments_that_render_are_stepped_on_the_callers_thread() -> None:
    threads = set()

    class Watched(gym.Wrapper):
        def step(self, action):
            threads.add(threading.get_ident())
            return super().step(action)

    tiny(Watched(gym.make("Hopper-v5"))).learn(70)
    assert threading.get_ident() not in threads
    threads.clear()
    tiny(Watched(gym.make("Pendulum-v1", render_mode="rgb_array"))).learn(70)
    assert threads == {threading.get_ident()}


def test_interrupted_learning_resets_the_environments_it_left_in_mid_step() -> None:
    model = tiny("Hopper-v5").learn(70)
    update, calls = model._update, []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return update(batch)

    model._update = interrupted
    with pytest.raises(KeyboardInterrupt):
        model.learn(50, reset_num_timesteps=False)
    assert model._last_obs is None
    assert not model._environments.under_way
    model.learn(50, reset_num_timesteps=False)


def test_noise_free_acting_is_the_averaged_actors(tmp_path: Path) -> None:
    model = tiny("Hopper-v5", actor_average=0.1)
    observation = np.linspace(-1, 1, 11, dtype=np.float32)[None]
    expected = copy.deepcopy(model.policy.actor)
    before = [p.clone() for p in model.policy.average.parameters()]
    model.learn(80)
    assert any(not torch.equal(p, q) for p, q in zip(before, model.policy.average.parameters(), strict=True))
    # One more update by hand: average += 0.1 (actor - average).
    average = [p.clone() for p in model.policy.average.parameters()]
    model.update(model.replay_buffer.sample_batch(32))
    pairs = zip(average, model.policy.actor.parameters(), model.policy.average.parameters(), strict=True)
    for old, newest, now in pairs:
        assert torch.allclose(now, old + 0.1 * (newest - old), atol=1e-6)
    expected.load_state_dict(model.policy.average.state_dict())
    with torch.no_grad():
        action, scale, _ = expected(model.policy.normalized(torch.from_numpy(observation)))
    assert np.allclose(model.predict(observation, deterministic=True)[0], torch.tanh(scale * action).numpy(), atol=1e-6)
    model.save(tmp_path / "agent")
    loaded = Symphony.load(tmp_path / "agent", device="cpu")
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


def test_a_copy_learns_on_its_own_to_the_same_bits() -> None:
    model = tiny("Hopper-v5").learn(80)
    twin = copy.deepcopy(model)
    batch = model.replay_buffer.sample_batch(32)
    for learner in (model, twin):
        for _ in range(3):
            learner.update(batch)
    for p, q in zip(model.policy.parameters(), twin.policy.parameters(), strict=True):
        assert p is not q
        assert torch.equal(p, q)


def test_loading_into_policy_or_optimizer_is_seen_by_the_compiled_update() -> None:
    first, second = tiny("Hopper-v5").learn(80), tiny("Hopper-v5", seed=3).learn(90)
    batch = first.replay_buffer.sample_batch(32)
    second.policy.load_state_dict(first.policy.state_dict())
    # torch shares the tensors of a state it loads.
    second.policy.optimizer.load_state_dict(copy.deepcopy(first.policy.optimizer.state_dict()))
    second.generator.set_state(first.generator.get_state())
    for learner in (first, second):
        learner.update(batch)
    for p, q in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(p, q)
    name, parameter = next(iter(second.policy.actor.named_parameters()))
    other = dict(first.policy.actor.named_parameters())[name]
    assert torch.equal(
        second.policy.optimizer.state[parameter]["exp_avg"], first.policy.optimizer.state[other]["exp_avg"]
    )


def test_learning_rate_schedule_and_sac_arguments_are_taken() -> None:
    model = tiny(learning_rate=lambda left: 1e-3 * left, tau=0.01, gamma=0.9, stats_window_size=10).learn(200)
    assert model.policy.optimizer.param_groups[0]["lr"] < 1e-4
    assert model.config.gamma == 0.9


def test_learning_rate_decays_by_steps_whatever_the_end_of_the_run() -> None:
    rates = []
    for total in (100, 150):
        model = tiny(learning_rate=4e-4, learning_rate_end=1e-4, learning_rate_steps=120).learn(total)
        rates.append(model.policy.optimizer.param_groups[0]["lr"])
        # The last update of a learn() of n steps is that of step n - 1.
        assert rates[-1] == pytest.approx(4e-4 - 3e-4 * min((total - 1) / 120, 1.0))
    assert rates[1] == pytest.approx(1e-4)


class ShortEpisodes(gym.Env):
    """Never terminates by itself; the observation counts the steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action):
        self.count += 1
        return np.array([float(self.count)]), 1.0, False, False, {}


gym.register("CadenzaTestShort-v0", entry_point=ShortEpisodes, max_episode_steps=20)


def strong_actor(model: Symphony) -> None:
    """Make S*A near +-1, so that an action without it is told apart from noise around 0."""
    with torch.no_grad():
        model.policy.actor.net.bias3.fill_(20.0)
        model.policy.actor.net.weight3.zero_()


def actions_of_an_episode(**overrides: object) -> np.ndarray:
    model = tiny("CadenzaTestShort-v0", learning_starts=20, noise_std=1e-4, learning_rate=1e-12, **overrides)
    strong_actor(model)
    recorder = Recorder()
    model.learn(60, callback=recorder)
    return np.array(recorder.actions)[:, 0, 0]


def test_deliberate_fall_zeroes_the_scaled_action_near_the_limit_and_only_in_training() -> None:
    actions = actions_of_an_episode(deliberate_fall_steps=5)
    fallen = np.abs(actions) < 0.1
    assert not fallen[:20].any()  # exploration: never
    assert np.flatnonzero(fallen[20:40]).tolist() == [14, 15, 16, 17, 18, 19]  # steps 15..20 of 20: not < limit - 5
    assert np.array_equal(fallen[20:40], fallen[40:60])
    model = tiny("CadenzaTestShort-v0", actor_average=0.0)
    strong_actor(model)
    assert all(abs(model.predict(np.array([float(i)]), deterministic=True)[0][0]) > 1.4 for i in range(20))


def test_deliberate_fall_can_be_switched_off() -> None:
    assert (np.abs(actions_of_an_episode(deliberate_fall_steps=0)) > 1.0).all()


def test_truncation_is_stored_as_not_terminal() -> None:
    model = tiny("CadenzaTestShort-v0").learn(80)
    assert model.replay_buffer.sample_batch(500).terminals.sum() == 0


def test_noiseless_mode_acts_without_noise_after_the_exploration() -> None:
    model = tiny(
        "CadenzaTestShort-v0", learning_starts=20, noiseless=True, learning_rate=1e-12, deliberate_fall_steps=0
    )
    recorder = Recorder()
    model.learn(60, callback=recorder)
    actions = np.array(recorder.actions)[:, 0]
    assert not np.allclose(actions[0:20], 0, atol=0.2)
    # Equal steps of two episodes give equal actions, from the second after the end of the exploration on: the first
    # was chosen before the update that sets the normaliser.
    assert np.allclose(actions[22:40], actions[42:60], atol=1e-6)


def test_normaliser_is_refreshed_until_its_end_and_lives_in_the_policy() -> None:
    model = tiny("Hopper-v5", normalize_every=50, normalize_until=120)
    model.learn(80)
    first = model.policy.normalizer.mean.clone()  # from the end of the exploration, step 60
    assert first.abs().sum() > 0
    model.learn(30, reset_num_timesteps=False)
    second = model.policy.normalizer.mean.clone()  # refreshed at step 100
    assert not torch.equal(first, second)
    model.learn(100, reset_num_timesteps=False)
    assert torch.equal(second, model.policy.normalizer.mean)  # 150 and 200 lie beyond the end
    assert torch.equal(second, model.policy.state_dict()["normalizer.mean"])


def test_constant_observation_dimensions_are_zeroed() -> None:
    model = tiny("CadenzaTestShort-v0").learn(80)
    model.policy.normalizer.update(torch.tensor([5.0]), torch.tensor([0.0]))
    assert model.policy.normalized(torch.tensor([[7.0]])).item() == 0.0


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"preset": "cpuu"}, ValueError, "Nearest: cpu"),
        ({"learning_rte": 1e-3}, TypeError, "learning_rate"),
        ({"batch_size": 0}, ValueError, "batch_size must be positive"),
        ({"age_law": "newest"}, ValueError, "age_law must be one of"),
        ({"learning_starts": 5_000}, ValueError, "must not exceed buffer_size"),
        ({"gradient_dropout": "latent"}, ValueError, "feature_extractor"),
    ],
)
def test_bad_settings_are_explained(kwargs: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        tiny(**kwargs)


def test_discrete_actions_and_dict_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="continuous actions"):
        tiny("CartPole-v1")


def test_exported_module_equals_predict() -> None:
    model = tiny("Hopper-v5").learn(100)
    observations = np.random.default_rng(0).normal(size=(8, 11)).astype(np.float32)
    module = model.policy.deterministic_module()
    assert np.allclose(
        module(torch.from_numpy(observations)).numpy(), model.predict(observations, deterministic=True)[0], atol=1e-6
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trains_on_cuda() -> None:
    model = tiny("Hopper-v5", device="cuda").learn(100)
    assert next(model.policy.parameters()).is_cuda


def test_no_tensor_is_pinned_to_the_cpu() -> None:
    """Without a CUDA device, torch's meta device stands in: everything the update touches must follow ``.to``."""
    policy = tiny().policy.to("meta")
    assert all(p.device.type == "meta" for p in policy.parameters())
    assert all(b.device.type == "meta" for b in policy.buffers())
