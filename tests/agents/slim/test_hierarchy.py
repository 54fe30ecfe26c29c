"""Tasks on frozen skills: goals and curves, how a choice is carried out, and what learning one needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.agents.slim import SLIM
from cadenza.agents.slim.hierarchy import (
    CURVE_M,
    LEAST_WAY_M,
    WAIT_STEPS,
    SkillTasks,
    choose_randomly,
    choose_zero_shot,
    chosen_by,
    curve,
    evaluate_task,
    train_high_level,
)
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError

STEPS = 40


def tasks(model: Any, puck: Any, task: str = "position", n: int = 3, **settings: Any) -> SkillTasks:
    return SkillTasks(model, puck.PuckVecEnv(n, steps=STEPS), task, episode_steps=STEPS, **settings)


# ------------------------------------------------------------------ what is wanted


@pytest.mark.parametrize("task", ["circle", "lemniscate"])
def test_curves_are_closed_and_begin_at_the_object(task: str) -> None:
    points = curve(task, np.linspace(0, 1, 400))
    assert np.allclose(points[[0, -1]], 0.0)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() < 0.01
    middle = np.array([-CURVE_M, 0.0]) if task == "circle" else np.zeros(2)
    radii = np.linalg.norm(points - middle, axis=1)
    assert radii.max() == pytest.approx(CURVE_M, rel=1e-3)
    assert (radii.min() == pytest.approx(CURVE_M)) == (task == "circle")


def test_goals_are_away_from_the_object_and_within_reach(puck: Any, pusher: Any) -> None:
    env = tasks(pusher, puck, n=30)
    env.reset()
    assert (np.linalg.norm(env.goals - env.places, axis=1) >= LEAST_WAY_M).all()
    assert (np.abs(env.goals - (0.5, 0.0)) <= 0.7 * 0.3).all()


def test_a_copys_goals_do_not_depend_on_the_others(puck: Any, pusher: Any) -> None:
    """Whoever chooses and however long the episodes of the others last: comparable starts and goals."""
    alone, crowded = tasks(pusher, puck, n=3, seed=5), tasks(pusher, puck, n=3, seed=5)
    alone.reset()
    crowded.reset()
    crowded._begin(np.array([0]))  # one of the others ended early
    for env in (alone, crowded):
        env._begin(np.array([1, 2]))
    assert np.array_equal(alone.goals[1:], crowded.goals[1:])
    assert not np.array_equal(alone.goals[0], crowded.goals[0])


def test_the_target_of_a_curve_waits_then_goes_round_inwards(puck: Any, pusher: Any) -> None:
    env = tasks(pusher, puck, "circle", n=4)
    env.reset()
    start = env.places
    assert np.allclose(env.targets(), start)
    assert np.allclose(env.targets(WAIT_STEPS), start)
    half = env.targets(WAIT_STEPS + (STEPS - WAIT_STEPS) // 2)
    assert np.allclose(np.linalg.norm(half - start, axis=1), 2 * CURVE_M)
    # Half way round is on the other side of the circle's middle, towards the middle of the workspace.
    towards = (0.5, 0.0) - start
    assert (((half - start) * towards).sum(1) > 0).all()
    assert np.allclose(env.targets(STEPS), start)


# ------------------------------------------------------------------ choices


def test_actions_become_skills(puck: Any, pusher: Any) -> None:
    env = tasks(pusher, puck)
    found = env.skill_of(np.array([[3.0, 4.0], [0.0, 0.0], [-0.1, 0.0]]))
    assert np.allclose(found, [[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]])


@pytest.mark.parametrize("wrong", [[[np.nan, 0.0]], [[1.0, 0.0, 0.0]], [1.0, 0.0], [[1.0, 0.0]] * 2])
def test_actions_that_name_no_skill_are_refused(wrong: list[Any], puck: Any, pusher: Any) -> None:
    env = tasks(pusher, puck, n=1)
    env.reset()
    with pytest.raises(CadenzaError, match="finite numbers of the shape"):
        env.step(np.array(wrong))


def test_a_choice_is_held_for_its_steps(puck: Any, pusher: Any) -> None:
    """East for 10 steps of 4 cm from 25 cm before the middle; the puck is 5 cm ahead of the point in the end."""
    env = tasks(pusher, puck, n=1)
    env.venv.set_options({"object": (0.5, 0.0, 0.0)})
    env.reset()
    observations, rewards, dones, _ = env.step(np.array([[1.0, 0.0]]))
    assert env.places[0] == pytest.approx((0.5 - 0.25 + 0.4 + 0.05, 0.0), abs=1e-6)
    assert not dones[0]
    assert rewards[0] == pytest.approx(-np.linalg.norm(env.goals[0] - env.places[0]))
    assert observations[0, 42:44] == pytest.approx((env.goals[0] - env.places[0]) / 0.3, abs=1e-5)


def test_an_episode_that_ends_within_a_choice_does_not_touch_the_next(puck: Any, pusher: Any) -> None:
    """Pushed over the edge: the rest of the choice is waited for, and belongs to nobody."""
    env = tasks(pusher, puck, n=2)
    env.venv.set_options([{"object": (0.79, 0.0, 0.0)}, {"object": (0.5, 0.2, 0.0)}])
    env.reset()
    ended = None
    for _ in range(3):
        observations, rewards, dones, infos = env.step(np.array([[1.0, 0.0], [1.0, 0.0]]))
        if dones[0]:
            ended = rewards[0], infos[0], observations[0]
            break
    assert ended is not None
    reward, info, observation = ended
    assert not info["TimeLimit.truncated"]
    assert not info["is_success"]
    assert reward < -1.0
    assert info["terminal_observation"][16] > 0.8
    assert np.abs(observation[16] - 0.5) <= 0.1 + 1e-6  # the new episode's object, untouched
    assert observation[23] == pytest.approx(0.25)  # and its point, which waited
    assert not dones[1]


def test_success_is_remembered_and_paid_once(puck: Any, pusher: Any) -> None:
    env = tasks(pusher, puck, n=1, hold_steps=1)
    env.venv.set_options({"object": (0.5, 0.0, 0.0)})
    env.reset()
    env.goals[0] = (0.6, 0.0)
    rewards, info = [], {}
    for _ in range(STEPS):
        # East until the puck is there, then back.
        east = 1.0 if env.places[0, 0] < 0.59 else -1.0
        observation, reward, done, infos = env.step(np.array([[east, 0.0]]))
        rewards.append(float(reward[0]))
        info = infos[0]
    assert done[0]
    assert info["is_success"]
    assert sum(reward > 0.9 for reward in rewards) == 1
    paid = int(np.argmax(rewards))
    assert rewards[paid + 1 :] == [0.0] * (STEPS - paid - 1)
    assert info["terminal_observation"][-1] == 1.0
    assert observation[0, -1] == 0.0


# ------------------------------------------------------------------ who chooses


@pytest.fixture
def model(puck: Any, small: dict[str, Any]) -> SLIM:
    return SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", **small)


def test_zero_shot_is_the_direction_in_phis_space(model: SLIM, puck: Any) -> None:
    env = tasks(model, puck)
    env.reset()
    found = env.zero_shot()
    features = model.features_in(env.venv)
    for index in range(3):
        wanted = env.observations[index : index + 1].copy()
        wanted[0, 16:18] = env.goals[index]
        now, goal = features(env.observations[index : index + 1])[0], features(wanted)[0]
        assert np.array_equal(found[index], model.diversity.goal_skill(now, goal))  # type: ignore[operator]


def test_zero_shot_needs_a_map_of_the_world(puck: Any, small: dict[str, Any]) -> None:
    for settings in ({"preset": "diayn"}, {"features": "full_state"}):
        model = SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", **small, **settings)
        env = tasks(model, puck)
        env.reset()
        with pytest.raises(CadenzaError, match="Only LSD and METRA"):
            env.zero_shot()


def test_an_evaluation_repeats_itself_and_counts_its_episodes(model: SLIM, puck: Any) -> None:
    env = tasks(model, puck)
    first, again = (evaluate_task(env, choose_randomly(1), episodes=7, seed=2).to_dict() for _ in range(2))
    assert first == again
    assert first["n"] == 7
    assert evaluate_task(env, choose_zero_shot, episodes=4, seed=2).n == 4


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_high_level_learns_without_changing_the_skills(algorithm: str, model: SLIM, puck: Any) -> None:
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    told: list[int] = []
    env = tasks(model, puck, "lemniscate")
    high_level = train_high_level(env, steps=300, algorithm=algorithm, seed=0, progress=told.append)
    assert told[-1] >= 300
    assert all((value == before[name]).all() for name, value in model.policy.state_dict().items())
    assert evaluate_task(env, chosen_by(high_level), episodes=3).n == 3


def test_one_hot_skills_are_chosen_by_number(puck: Any, small: dict[str, Any]) -> None:
    model = SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", skill="one_hot", skill_size=4, **small)
    env = tasks(model, puck)
    assert env.action_space.n == 4  # type: ignore[attr-defined]
    assert env.skill_of(np.array([2, 0, 3])).argmax(1).tolist() == [2, 0, 3]
    env.reset()
    assert env.zero_shot().shape == (3,)
    with pytest.raises(CadenzaError, match="SAC chooses continuous"):
        train_high_level(env, steps=100, algorithm="sac")


def test_bad_questions_are_refused(puck: Any, pusher: Any) -> None:
    with pytest.raises(UnknownNameError, match="task on skills"):
        tasks(pusher, puck, "circel")
    with pytest.raises(CadenzaError, match="at least 1 step"):
        tasks(pusher, puck, hold_steps=0)
    with pytest.raises(UnknownNameError, match="high level"):
        train_high_level(tasks(pusher, puck), steps=100, algorithm="pop")
    with pytest.raises(CadenzaError, match="At least 1 episode"):
        evaluate_task(tasks(pusher, puck), choose_randomly(), episodes=0)
