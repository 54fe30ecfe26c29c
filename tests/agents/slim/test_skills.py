"""Skills and the environment that plays them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim import SkillConditioned, SkillPrior
from cadenza.agents.slim.skills import ObjectPose, features_of
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError
from cadenza.envs.reward_groups import ObjectEntries

Points = Callable[..., DummyVecEnv]
GROUPS = ("home", "calm", "diversity")


class FirstEntry:
    """An objective that one can follow: how far the first feature moved, times the first entry of z."""

    def reward(self, before: np.ndarray, after: np.ndarray, skills: np.ndarray) -> np.ndarray:
        return ((after - before)[:, 0] * skills[:, 0]).astype(np.float32)


def conditioned(env: Any, **arguments: Any) -> SkillConditioned:
    layer = SkillConditioned(env, arguments.pop("prior", SkillPrior()), **arguments)
    layer.objective = FirstEntry()
    return layer


# ------------------------------------------------------------------ priors


@pytest.mark.parametrize(
    ("prior", "density"),
    [
        (SkillPrior(), -math.log(2 * math.pi)),
        (SkillPrior("sphere", 3), -math.log(4 * math.pi)),
        (SkillPrior("one_hot", 8), -math.log(8)),
    ],
)
def test_skills_cover_their_prior(prior: SkillPrior, density: float) -> None:
    drawn = prior.sample(4000, np.random.default_rng(0))
    assert drawn.shape == (4000, prior.size)
    assert drawn.dtype == np.float32
    assert prior.check(drawn) is not None
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    expected = 1 / prior.size if prior.discrete else 0.0
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.05)
    assert prior.log_density == pytest.approx(density)


def test_one_hot_directions_are_centred() -> None:
    prior = SkillPrior("one_hot", 4)
    found = prior.directions(np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(found[0], [1, -1 / 3, -1 / 3, -1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-6)
    circle = SkillPrior().sample(3, np.random.default_rng(0))
    assert SkillPrior().directions(circle) is circle


@pytest.mark.parametrize(
    ("prior", "z", "message"),
    [
        (SkillPrior(), [1.0, 0.0, 0.0], r"has 2 entries .*\(3,\) were given"),
        (SkillPrior(), 1.0, "has 2 entries"),
        (SkillPrior("sphere", 3), [1.0, 0.0], "has 3 entries"),
        (SkillPrior(), [1.0, 1.0], "not of length 1"),
        (SkillPrior(), [[1.0, 0.0], [0.0, 0.5]], "not of length 1"),
        (SkillPrior(), [np.nan, 0.0], "not finite"),
        (SkillPrior("one_hot", 3), [0.6, 0.8, 0.0], "not one-hot"),
        (SkillPrior("one_hot", 3), [1.0, 1.0, 0.0], "not one-hot"),
    ],
)
def test_what_is_no_skill_is_refused(prior: SkillPrior, z: Any, message: str) -> None:
    with pytest.raises(CadenzaError, match=message):
        prior.check(z)


def test_priors_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no skill prior named 'ball'"):
        SkillPrior("ball")
    with pytest.raises(CadenzaError, match="exactly 2 entries, not 3"):
        SkillPrior("circle", 3)
    with pytest.raises(CadenzaError, match="at least 2 entries, not 1"):
        SkillPrior("one_hot", 1)


# ------------------------------------------------------------------ features


def test_the_pose_of_an_object_by_hand() -> None:
    entries = ObjectEntries((1, 2, 3), (0.5, 0.0, 0.1), (0.25, 0.5, 0.1), quaternion=(4, 5, 6, 7))
    quarter, half = math.cos(math.pi / 4), 0.0
    obs = np.array(
        [
            [9, 0.75, -0.25, 0.1, quarter, 0, 0, quarter],  # turned by 90 degrees about the vertical
            [9, 0.5, 0.0, 0.2, half, 0, 0, 1],
        ]
    )
    expected = [[1, -0.5, 0, 0.1, 0], [0, 0, 1, 0, -0.1]]  # a turn counts a tenth
    np.testing.assert_allclose(ObjectPose(entries)(obs), expected, atol=1e-6)
    flat = ObjectPose(ObjectEntries((1, 2), (0.5, 0.0), (0.25, 0.5)))
    assert (flat.size, ObjectPose(entries).size) == (2, 5)
    np.testing.assert_allclose(flat(obs), [[1, -0.5], [0, 0]], atol=1e-6)


def test_an_object_beyond_the_workspace_is_at_its_border() -> None:
    features = ObjectPose(ObjectEntries((0, 1), (0.5, 0.0), (0.25, 0.5)))
    found = features(np.array([[0.75, 0.5], [0.9, 0.8], [0.1, -3.0], [0.625, -0.5]]))
    np.testing.assert_allclose(found, [[1, 1], [1, 1], [-1, -1], [0.5, -1]], atol=1e-6)


def test_features_are_found_or_refused_with_a_way_out(points: Points) -> None:
    env = points(1)
    assert features_of(env, "object").size == features_of(env, "full_state").size == 2
    with pytest.raises(UnknownNameError, match="no kind of skill features named 'objct'"):
        features_of(env, "objct")
    env.set_attr("object_entries", ObjectEntries((0, 5), (0, 0), (1, 1)))
    with pytest.raises(CadenzaError, match=r"names the entries \[5\]; the observation has 2"):
        features_of(env, "object")
    with pytest.raises(CadenzaError, match="nobody knows where its object is"):
        features_of(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), "object")


# ------------------------------------------------------------------ playing them


def test_a_skill_is_held_for_an_episode_and_drawn_anew_after_it(points: Points) -> None:
    env = conditioned(points(3, steps=5))
    obs = env.reset()
    assert obs.shape == (3, 4)
    assert env.observation_space.shape == (4,)
    played = [env.skills]
    for step in range(1, 16):
        obs, _, dones, infos = env.step(np.zeros((3, 2)))
        assert dones.all() == (step % 5 == 0)
        np.testing.assert_array_equal(obs[:, 2:], env.skills)
        for index in range(3):
            np.testing.assert_array_equal(infos[index]["skill"], played[-1][index])
        if dones.any():
            for index in range(3):  # the end of an episode belongs to the skill that led there
                np.testing.assert_array_equal(infos[index]["terminal_observation"][2:], played[-1][index])
            assert (env.skills != played[-1]).any(1).all()
            played.append(env.skills)
        np.testing.assert_array_equal(env.skills, played[-1])
    assert len(played) == 4


def test_the_diversity_group_is_that_of_the_transition_across_the_end_of_an_episode(points: Points) -> None:
    env = conditioned(points(2, steps=3), weights={"home": 0.25, "calm": 0.25, "diversity": 0.5})
    assert env.reward_groups == GROUPS
    obs = env.reset()
    for step in range(1, 7):
        before, skills = obs[:, 0].copy(), env.skills
        obs, rewards, _, infos = env.step(np.full((2, 2), 0.5))
        vectors = np.array([info["reward_vector"] for info in infos])
        after = np.array([info.get("terminal_observation", row)[0] for info, row in zip(infos, obs, strict=True)])
        np.testing.assert_allclose(after - before, 0.05, atol=1e-6)
        np.testing.assert_allclose(vectors[:, 2], 0.05 * skills[:, 0], atol=1e-6)
        np.testing.assert_allclose(rewards, vectors @ [0.25, 0.25, 0.5], rtol=1e-5)
        if step % 3 == 0:
            np.testing.assert_allclose(obs[:, 0], 0, atol=0.06)  # the next one has begun
    steps = env.take_transitions()
    assert steps.before.shape == steps.after.shape == steps.skills.shape == (12, 2)
    np.testing.assert_allclose((steps.after - steps.before), 0.05, atol=1e-6)
    with pytest.raises(CadenzaError, match="No step"):
        env.take_transitions()


def test_without_an_objective_diversity_is_zero_and_without_groups_it_is_the_only_one() -> None:
    env = conditioned(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), features="full_state")
    assert env.reward_groups == ("diversity",)
    env.objective = None
    env.reset()
    _, rewards, _, infos = env.step(np.zeros((1, 1)))
    assert infos[0]["reward_vector"].tolist() == rewards.tolist() == [0.0]


def test_chosen_skills_are_played_until_they_are_let_go(points: Points) -> None:
    env = conditioned(points(2, steps=2))
    env.choose_skills([0.6, 0.8])
    obs = env.reset()
    for _ in range(4):
        np.testing.assert_allclose(obs[:, 2:], [[0.6, 0.8]] * 2, rtol=1e-6)
        obs = env.step(np.zeros((2, 2)))[0]
    env.choose_skills([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(env.step(np.zeros((2, 2)))[0][:, 2:], np.eye(2))
    env.choose_skills(None)
    assert not np.array_equal(env.reset()[:, 2:], np.eye(2))
    with pytest.raises(CadenzaError, match="There are 2 environments; 3 skills"):
        env.choose_skills([[1.0, 0.0]] * 3)
    with pytest.raises(CadenzaError, match="has 2 entries"):
        env.choose_skills([1.0, 0.0, 0.0])


def test_a_seed_decides_the_skills_and_a_state_goes_on_with_them(points: Points) -> None:
    first, second = (conditioned(points(2, steps=2)) for _ in range(2))
    for env in (first, second):
        env.seed(7)
    np.testing.assert_array_equal(first.reset(), second.reset())
    for _ in range(3):
        first.step(np.zeros((2, 2)))
    state = first.skill_state()
    second.set_skill_state(state)
    for env in (first, second):
        env.venv.seed(3)
    np.testing.assert_array_equal(first.reset(), second.reset())
    second.seed(8)
    assert not np.array_equal(first.reset()[:, 2:], second.reset()[:, 2:])


def test_environments_that_skills_do_not_fit_are_refused(points: Points) -> None:
    with pytest.raises(CadenzaError, match="has a reward group 'diversity' already"):
        conditioned(conditioned(points(1)))
    with pytest.raises(CadenzaError, match="appended to a flat observation"):
        conditioned(DummyVecEnv([lambda: gym.make("FrozenLake-v1")]))
    with pytest.raises(UnknownNameError, match="no reward group named 'reach'"):
        conditioned(points(1), weights={"reach": 1.0})
