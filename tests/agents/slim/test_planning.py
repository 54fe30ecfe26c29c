"""Planning over skills: it finds what is there to be found, and the simulator carries out what was planned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.agents.slim import SLIM
from cadenza.agents.slim.planning import PlanSettings, SkillPlanner, distance_to
from cadenza.envs.errors import CadenzaError

SMALL = PlanSettings(skills=2, hold_steps=6, samples=24, elites=4, iterations=4)


def start(puck: Any, n: int, place: tuple[float, float] = (0.4, 0.0)) -> tuple[Any, Any]:
    env = puck.PuckVecEnv(n, steps=40)
    env.set_options({"object": (*place, 0.0)})
    env.reset()
    return env, env.get_states()[0]


@pytest.mark.parametrize("n_envs", [5, 24])
def test_a_plan_reaches_its_goal_as_foretold(n_envs: int, puck: Any, pusher: Any) -> None:
    """The puck lies ahead and its goal behind it; straight on for all 12 steps would push it far too far."""
    env, state = start(puck, n_envs)
    cost = distance_to(env, np.array([0.55, 0.0]))
    planner = SkillPlanner(pusher, env, SMALL, seed=0)
    plan = planner.plan(state, cost)
    straight = planner.try_out(state, np.array([[[1.0, 0.0]] * 2], np.float32), cost)[0]
    assert plan.cost < 0.12 < min(0.15, straight)  # 15 cm: nothing done
    assert list(plan.costs) == sorted(plan.costs, reverse=True)
    assert np.allclose(np.linalg.norm(plan.skills, axis=1), 1.0)
    assert planner.try_out(state, plan.skills[None], cost)[0] == plan.cost  # to the last bit


def test_the_number_of_environments_changes_nothing(puck: Any, pusher: Any) -> None:
    found = []
    for n in (3, 24):
        env, state = start(puck, n)
        found.append(SkillPlanner(pusher, env, SMALL, seed=1).plan(state, distance_to(env, np.array([0.6, 0.1]))))
    assert np.array_equal(found[0].skills, found[1].skills)
    assert found[0].costs == found[1].costs


def test_plans_that_push_the_object_off_are_dear(puck: Any, pusher: Any) -> None:
    env, state = start(puck, 2, place=(0.75, 0.0))
    planner = SkillPlanner(pusher, env, PlanSettings(skills=1, hold_steps=20, samples=2, elites=1, iterations=1))
    east, west = planner.try_out(
        state, np.array([[[1.0, 0.0]], [[-1.0, 0.0]]], np.float32), distance_to(env, np.array([0.8, 0.0]))
    )
    assert east > 1.0
    assert west == pytest.approx(0.05, abs=1e-6)


def test_one_hot_skills(puck: Any, small: dict[str, Any]) -> None:
    model = SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", skill="one_hot", skill_size=3, **small)
    env, state = start(puck, 8)
    plan = SkillPlanner(model, env, SMALL).plan(state, distance_to(env, np.array([0.6, 0.1])))
    assert model.prior.check(plan.skills).shape == (2, 3)


def test_bad_questions_are_refused(puck: Any, pusher: Any, points: Any) -> None:
    with pytest.raises(CadenzaError, match="saved state"):
        SkillPlanner(pusher, points())
    with pytest.raises(CadenzaError, match="samples at least elites"):
        PlanSettings(samples=4, elites=8)
    with pytest.raises(CadenzaError, match="at least 1"):
        PlanSettings(skills=0)
