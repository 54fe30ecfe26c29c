from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cadenza.agents.imitation.cloning import clone, fine_tune, negative_log_likelihood, read_run, validation
from cadenza.agents.imitation.config import CloningConfig, resolve_config
from cadenza.agents.imitation.networks import ResNet18
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import batch_rows, load_samples, steps_of
from cadenza.envs.errors import CadenzaError

SMALL = CloningConfig(
    steps=60, batch_size=32, hidden=(32, 32), validate_every=20, checkpoint_every=20, learning_rate=3e-3, held_out=0.2
)
CAMERA = dataclasses.replace(SMALL, parts=("tcp",), cameras=("wrist",), steps=4, batch_size=8)


def trained(demos: Any, config: CloningConfig = SMALL, run: Path | None = None, **more: Any) -> Any:
    samples, inputs = load_samples(demos, config, ("go", "stay"))
    return clone(samples, inputs, config, run, **more)


# ------------------------------------------------------------------ what is learned from


def test_whole_layouts_are_held_out(demos: Callable[..., Any]) -> None:
    samples, _ = load_samples(demos(), SMALL)
    training, held_out = samples.split(0.34, seed=0)
    assert set(training.layout) & set(held_out.layout) == set()
    assert len(set(held_out.layout)) == 2  # of six
    assert len(training) + len(held_out) == 240
    assert {len(set(held_out.episode))} == {4}  # two episodes a layout


def test_one_layout_cannot_be_split(demos: Callable[..., Any]) -> None:
    samples, _ = load_samples(demos(episodes=2), SMALL)
    with pytest.raises(CadenzaError, match="one layout"):
        samples.split(0.2, seed=0)


def test_what_was_meant_is_learned_and_not_the_noise(demos: Callable[..., Any]) -> None:
    made = demos(episodes=2)
    for info in made.episodes:
        made.load(info.index).meant = np.full((20, 2), 0.25, np.float32)
    assert np.all(load_samples(made, SMALL)[0].action == 0.25)
    assert not np.any(load_samples(made, dataclasses.replace(SMALL, intended=False))[0].action == 0.25)


def test_two_attempts_in_a_row_of_one_primitive_are_told_apart() -> None:
    """The first attempt at 0 was followed by another one, the second by 1; the last of all ended the episode."""
    ids = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    attempts = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    assert steps_of(ids, 0, 1, True, attempts).tolist() == [False, False, True, True, False, False, True, True]
    assert steps_of(ids, 0, 1, False, attempts).tolist() == [False, False, True, True] + [False] * 4
    assert steps_of(ids, 0, 1, True).tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert steps_of(ids, 0, None, False, attempts).tolist() == (ids == 0).tolist()


def test_steps_of_one_primitive_and_pairs_within_episodes(demos: Callable[..., Any]) -> None:
    config = dataclasses.replace(SMALL, primitive="stay")
    samples, _ = load_samples(demos(episodes=3), config, ("go", "stay"))
    assert len(samples) == 30
    assert samples.pairs().tolist() == [i for i in range(29) if i % 10 != 9]
    with pytest.raises(CadenzaError, match="no primitive named 'stai'"):
        load_samples(demos(), dataclasses.replace(SMALL, primitive="stai"), ("go", "stay"))


def test_attempts_count_where_the_expert_went_on_as_after_a_success() -> None:
    from cadenza.agents.imitation.samples import steps_of

    ids = np.array([0, 0, 2, 0, 1, 1, 0, 0])
    assert steps_of(ids, 0, None, True).nonzero()[0].tolist() == [0, 1, 3, 6, 7]
    assert steps_of(ids, 0, 1, True).nonzero()[0].tolist() == [3, 6, 7]
    assert steps_of(ids, 0, 1, False).nonzero()[0].tolist() == [3]
    assert steps_of(ids, 3, 1, True).nonzero()[0].tolist() == []
    with pytest.raises(CadenzaError, match="followed_by"):
        CloningConfig(followed_by="tighten")


def test_failures_are_left_out_unless_asked_for(demos: Callable[..., Any]) -> None:
    assert len(load_samples(demos(episodes=3, failures=1), SMALL)[0]) == 40
    assert len(load_samples(demos(episodes=3, failures=1), dataclasses.replace(SMALL, successes_only=False))[0]) == 60
    with pytest.raises(CadenzaError, match="steps to learn from"):
        load_samples(demos(episodes=3, failures=3), SMALL)


def test_parts_pick_entries_by_name(demos: Callable[..., Any]) -> None:
    _, inputs = load_samples(demos(episodes=2), dataclasses.replace(SMALL, parts=("tcp", "goal_y")))
    assert inputs.numbers == {"state": (0, 1, 3)}
    with pytest.raises(CadenzaError, match="belongs to cable") as error:
        load_samples(demos(episodes=2), dataclasses.replace(SMALL, parts=("cable",)))
    assert "goal_x" in error.value.advice


def test_unknown_names_are_refused(demos: Callable[..., Any]) -> None:
    with pytest.raises(CadenzaError, match="camera"):
        load_samples(demos(), dataclasses.replace(SMALL, cameras=("wirst",)))
    with pytest.raises(CadenzaError, match="setting of imitation"):
        resolve_config({"step": 3})
    assert resolve_config({"cameras": "wrist", "hidden": [8, 8]}).cameras == ("wrist",)


def test_batches_pass_over_everything_and_are_a_function_of_the_step() -> None:
    seen = np.concatenate([batch_rows(20, 5, step, seed=0) for step in range(4)])
    assert sorted(seen.tolist()) == list(range(20))
    assert batch_rows(20, 5, 2, 0).tolist() == batch_rows(20, 5, 2, 0).tolist()
    assert batch_rows(20, 5, 0, 0).tolist() != batch_rows(20, 5, 4, 0).tolist()
    assert len(batch_rows(3, 5, 7, 0)) == 3


# ------------------------------------------------------------------ learning


def test_the_toy_is_learned(demos: Callable[..., Any]) -> None:
    """Twelve episodes; a new place and goal is answered as the expert would."""
    config = dataclasses.replace(SMALL, steps=600, validate_every=600, held_out=0.0, hidden=(64, 64))
    policy = trained(demos(episodes=60), config).policy
    rng = np.random.default_rng(9)
    states = np.concatenate([rng.uniform(-0.8, 0.8, (200, 4)), np.full((200, 1), 3.0)], 1).astype(np.float32)
    action, _ = policy.predict({"state": states})
    expert = np.clip(2.0 * (states[:, 2:4] - states[:, :2]), -1, 1)
    assert np.sqrt(((action - expert) ** 2).mean()) < 0.2
    assert np.sqrt((expert**2).mean()) > 0.6


def test_the_held_out_loss_is_of_the_held_out_layouts(demos: Callable[..., Any]) -> None:
    result = trained(demos())
    samples, _ = load_samples(demos(), SMALL)
    _, held_out = samples.split(SMALL.held_out, SMALL.seed)
    batch, action = held_out.batch(np.arange(len(held_out)))
    with torch.no_grad():
        loss = float(negative_log_likelihood(result.policy, batch, action))
    assert result.rows[-1]["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert [row["step"] for row in result.rows] == [20, 40, 60]


def test_the_normaliser_is_the_demonstrations_and_stays_in_fine_tuning(demos: Callable[..., Any]) -> None:
    config = dataclasses.replace(SMALL, held_out=0.0)
    samples, inputs = load_samples(demos(), config)
    policy = clone(samples, inputs, config).policy
    state = samples.observation["state"]
    np.testing.assert_allclose(policy.normaliser.mean.numpy(), state.mean(0), rtol=1e-4, atol=1e-5)
    assert policy.normaliser.std[4] == 1.0  # of the entry that never moves
    mean, weight = policy.normaliser.mean.clone(), policy.head.weight.detach().clone()
    tuned = fine_tune(policy, samples.rows(np.arange(40)), steps=5, validate_every=5).policy
    assert torch.equal(tuned.normaliser.mean, mean)
    assert not torch.equal(tuned.head.weight, weight)


def test_fine_tuning_is_a_thousand_steps_from_3e_5() -> None:
    from cadenza.agents.imitation.config import FINE_TUNING

    assert FINE_TUNING == {"steps": 1_000, "learning_rate": 3e-5}


def test_jitter_is_for_training_alone(demos: Callable[..., Any]) -> None:
    policy = trained(demos(), dataclasses.replace(SMALL, jitter=0.5)).policy
    batch, _ = policy.to_batch({"state": np.zeros((400, 5), np.float32)})
    drawn = policy.embed(batch, torch.Generator().manual_seed(0))
    spread = (drawn - policy.embed(batch)).std(0)
    torch.testing.assert_close(spread, torch.full((5,), 0.5), rtol=0.15, atol=0.0)
    plain = trained(demos(), SMALL).policy
    assert not torch.equal(plain.head.weight, policy.head.weight)


@pytest.mark.parametrize("config", [SMALL, CAMERA])
def test_the_same_seed_gives_the_same_bits(demos: Callable[..., Any], config: CloningConfig) -> None:
    one, two = (trained(demos(), config).policy.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = trained(demos(), dataclasses.replace(config, seed=1)).policy.state_dict()
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_learning_leaves_the_global_generator_alone(demos: Callable[..., Any]) -> None:
    before = torch.get_rng_state()
    trained(demos(), CAMERA)
    assert torch.equal(before, torch.get_rng_state())


def test_an_interrupted_run_goes_on_bit_for_bit(demos: Callable[..., Any], tmp_path: Path) -> None:
    def stop(step: int, steps: int, words: str) -> None:
        if step == 33:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trained(demos(), SMALL, tmp_path / "whole")
    cut = trained(demos(), SMALL, tmp_path / "cut", progress=stop)
    assert (cut.interrupted, cut.step) == (True, 33)
    resumed = trained(demos(), SMALL, tmp_path / "cut", resume=True)
    assert resumed.step == 60
    ours, theirs = whole.policy.state_dict(), resumed.policy.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    tables = []
    for run in ("whole", "cut"):
        with open(tmp_path / run / "metrics.csv", newline="") as file:
            tables.append([row["held_out_loss"] for row in csv.DictReader(file)])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 3


def test_a_run_is_not_overwritten_and_not_resumed_with_other_settings(
    demos: Callable[..., Any], tmp_path: Path
) -> None:
    trained(demos(), SMALL, tmp_path / "run")
    assert read_run(tmp_path / "run")["config"]["steps"] == 60
    with pytest.raises(CadenzaError, match="exists already"):
        trained(demos(), SMALL, tmp_path / "run")
    with pytest.raises(CadenzaError, match="other settings: batch_size"):
        trained(demos(), dataclasses.replace(SMALL, batch_size=8), tmp_path / "run", resume=True)
    with pytest.raises(CadenzaError, match="not an imitation run"):
        read_run(tmp_path)


# ------------------------------------------------------------------ the policy


@pytest.mark.parametrize("config", [SMALL, CAMERA])
def test_saved_and_loaded_it_acts_the_same(demos: Callable[..., Any], config: CloningConfig, tmp_path: Path) -> None:
    policy = trained(demos(), config, tmp_path / "run", facts={"demos": "toy"}).policy
    loaded = ImitationPolicy.load(tmp_path / "run")
    episode = demos().load(3)
    one = {name: array[5] for name, array in episode.observation.items()}
    for observation in (one, episode.observation):
        np.testing.assert_array_equal(policy.predict(observation)[0], loaded.predict(observation)[0])
    action, state = loaded.predict(one, state="kept")
    assert (action.shape, action.dtype, state) == ((2,), np.float32, "kept")
    assert loaded.facts["demos"] == "toy"
    assert json.loads((tmp_path / "run/policy/policy.json").read_text())["config"]["steps"] == config.steps


def test_samples_of_the_policy_spread_and_repeat(demos: Callable[..., Any]) -> None:
    policy = trained(demos()).policy
    observation = {"state": np.zeros(5, np.float32)}
    drawn = []
    for _ in range(2):
        policy.seed(4)
        drawn.append([policy.predict(observation, deterministic=False)[0] for _ in range(5)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.std(drawn[0], axis=0).min() > 0
    assert np.abs(drawn[0]).max() <= 1.0


def test_views_have_encoders_of_their_own(demos: Callable[..., Any]) -> None:
    made = demos()
    made.schema.observation["side.rgb"] = made.schema.observation["wrist"]
    made.schema.cameras = ("wrist", "side.rgb")
    for index in range(len(made.episodes)):
        made.load(index).observation["side.rgb"] = made.load(index).observation["wrist"]
    config = dataclasses.replace(CAMERA, cameras=("wrist", "side.rgb"))
    policy = trained(made, config).policy
    one, two = policy.encoders["wrist"], policy.encoders["side_rgb"]
    weights = [dict(encoder.named_parameters())["body.0.weight"] for encoder in (one, two)]
    assert weights[0].data_ptr() != weights[1].data_ptr()
    assert policy.embedding_size == 2 + 2 * 64


def test_a_camera_policy_does_not_read_what_it_must_not(demos: Callable[..., Any]) -> None:
    policy = trained(demos(), CAMERA).policy
    observation = {name: array[0] for name, array in demos().load(0).observation.items()}
    before, _ = policy.predict(observation)
    observation["state"] = observation["state"] + np.array([0, 0, 5, 5, 5], np.float32)  # the goal
    np.testing.assert_array_equal(before, policy.predict(observation)[0])


def test_resnet_18_has_the_layers_of_the_paper() -> None:
    """11.2 million weights without the classifier: 11,176,512 with batch norm's two numbers a channel, as here."""
    assert sum(weight.numel() for weight in ResNet18().parameters()) == 11_176_512
    with torch.no_grad():
        assert ResNet18()(torch.rand(2, 3, 32, 32)).shape == (2, 512)


def test_what_does_not_fit_is_refused(demos: Callable[..., Any], tmp_path: Path) -> None:
    policy = trained(demos(), SMALL, tmp_path / "run").policy
    with pytest.raises(CadenzaError, match="'state', which the observation lacks; it has wrist"):
        policy.predict({"wrist": np.zeros((16, 16, 3), np.uint8)})
    with pytest.raises(CadenzaError, match=r"shape \(5,\); here it is \(6,\)"):
        policy.predict({"state": np.zeros(6, np.float32)})
    weights = tmp_path / "run/policy/policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(CadenzaError, match="is not the file"):
        ImitationPolicy.load(tmp_path / "run")
    with pytest.raises(CadenzaError, match="holds no imitation policy"):
        ImitationPolicy.load(tmp_path)


def test_validation_of_nothing_is_empty(demos: Callable[..., Any]) -> None:
    result = trained(demos(), dataclasses.replace(SMALL, held_out=0.0))
    samples, _ = load_samples(demos(), SMALL)
    assert validation(result.policy, samples.rows(np.zeros(0, dtype=np.int64))) == {}
    assert "held_out_loss" not in result.rows[-1]
