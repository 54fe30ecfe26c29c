"""Half of a batch in the mirror."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from cadenza.agents import Symphony
from cadenza.agents.symphony.mirroring import BatchMirror
from cadenza.agents.symphony.presets import SymphonyConfig
from cadenza.agents.symphony.replay import Batch
from cadenza.envs.errors import CadenzaError
from cadenza.envs.mirror import Mirror
from cadenza.envs.registration import make_env

SMALL = {"hidden_size": 16, "critic_nodes": 8, "batch_size": 8, "learning_starts": 20, "buffer_size": 100}


def test_the_second_half_is_mirrored_and_the_first_is_not() -> None:
    mirror = Mirror(np.array([1, 0, 2]), np.array([1.0, 1.0, -1.0]), np.array([0]), np.array([-1.0]))
    observations = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    batch = Batch(
        observations.clone(), torch.tensor([[0.5], [0.25]]), observations + 10, torch.ones(2, 1), torch.zeros(2, 1)
    )
    BatchMirror(mirror, torch.device("cpu")).apply(batch)
    assert batch.observations.tolist() == [[1.0, 2.0, 3.0], [5.0, 4.0, -6.0]]
    assert batch.next_observations.tolist() == [[11.0, 12.0, 13.0], [15.0, 14.0, -16.0]]
    assert batch.actions.tolist() == [[0.5], [-0.25]]


def test_symphony_learns_with_it_and_from_other_batches_than_without() -> None:
    weights = []
    for mirror in (False, True):
        env = make_env("cadenza/OP3Walk-v0", pictures=False)
        model = Symphony("MlpPolicy", env, seed=0, device="cpu", mirror=mirror, branches="in_turn", **SMALL)
        model.learn(30)
        assert (model.replay_buffer.mirror is not None) is mirror
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.actor.parameters()]))
        env.close()
    assert torch.isfinite(weights[1]).all()
    assert not torch.equal(*weights)


def test_an_environment_without_a_mirror_is_refused() -> None:
    model = Symphony("MlpPolicy", gym.make("Pendulum-v1"), seed=0, device="cpu", mirror=True, **SMALL)
    with pytest.raises(CadenzaError, match="knows its mirror image"):
        model.learn(10)


@pytest.mark.parametrize(("env_id", "mirrored"), [("cadenza/OP3Walk-v0", True), ("Pendulum-v1", False)])
def test_auto_mirrors_where_the_environment_says_how(env_id: str, mirrored: bool) -> None:
    env = make_env(env_id, pictures=False)
    model = Symphony("MlpPolicy", env, seed=0, device="cpu", mirror="auto", **SMALL)
    model.learn(10)
    assert (model.replay_buffer.mirror is not None) is mirrored
    env.close()


def test_a_mirror_of_other_observations_is_not_taken() -> None:
    """Stacked observations of an environment that has a mirror: "auto" does without, True says why it cannot."""
    env = gym.wrappers.FlattenObservation(gym.wrappers.FrameStackObservation(make_env("cadenza/Humanoid-v0"), 2))
    model = Symphony("MlpPolicy", env, seed=0, device="cpu", mirror="auto", **SMALL)
    model.learn(10)
    assert model.replay_buffer.mirror is None
    with pytest.raises(CadenzaError, match="of other observations"):
        Symphony("MlpPolicy", env, seed=0, device="cpu", mirror=True, **SMALL).learn(10)
    env.close()


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="mirror must be one of True, False, auto"):
        SymphonyConfig(mirror="yes")  # type: ignore[arg-type]
