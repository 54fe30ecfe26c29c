"""The scripted primitives and the expert that chooses among them, on a straight row of clips."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cadenza.agents.cable_routing.expert import expert_choice, play_expert
from cadenza.agents.cable_routing.geometry import arc_at_clip, beyond_clip, hand_yaw_along, point_at
from cadenza.agents.cable_routing.scripted import PRIMITIVES, Route, ScriptedPrimitive, scripted_primitives
from cadenza.agents.sequencer.primitive import Outcome, Primitive, PrimitiveStatistics
from cadenza.envs.cable.cable_routing import CableRouting
from cadenza.envs.errors import CadenzaError
from cadenza.robots.menagerie import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched("franka_emika_panda"), reason="the Panda is not fetched: make robots")


@pytest.fixture(scope="module")
def env() -> CableRouting:
    return CableRouting(clips=1, layout="nominal", visuals=False)


def run(env: CableRouting, primitive: Primitive, observation: object) -> Outcome:
    primitive.start(observation, {"clip": env.world.current_clip, "world": env.world})
    assert primitive.outcome is Outcome.RUNNING
    steps = 0
    while not primitive.done:
        action = primitive.act(observation)
        assert env.action_space.contains(action)
        observation, *_ = env.step(action)
        steps += 1
    assert steps <= round(10 * primitive.time_limit_s)
    return primitive.outcome


def test_the_four_are_primitives() -> None:
    made = scripted_primitives()
    assert tuple(made) == PRIMITIVES == ("route", "tighten", "regrasp", "go_next")
    for name, primitive in made.items():
        assert isinstance(primitive, Primitive)
        assert primitive.name == name
        assert primitive.time_limit_s == 6.0


def test_the_way_of_one_clip_and_what_the_expert_says_on_it(env: CableRouting) -> None:
    observation, _ = env.reset(seed=0)
    world, made = env.world, scripted_primitives()
    assert expert_choice(world) == "go_next"
    assert run(env, made["route"], observation) is Outcome.FAILURE  # nothing is held
    assert expert_choice(world) == "go_next"
    assert run(env, made["go_next"], observation) is Outcome.SUCCESS
    assert world.held is not None
    assert 0.04 < beyond_clip(world, 0) < 0.07
    assert expert_choice(world) == "route"
    assert run(env, made["route"], observation) is Outcome.SUCCESS
    assert world.seat(0) is not None
    if not world.routed[0]:
        assert expert_choice(world) == "tighten"
    assert run(env, made["tighten"], observation) is Outcome.SUCCESS
    assert world.routed == [True]


@pytest.mark.parametrize("failure", ["drop", "misroute"])
def test_an_injected_failure_fails_and_the_expert_recovers(env: CableRouting, failure: str) -> None:
    observation, _ = env.reset(seed=1)
    world, made = env.world, scripted_primitives()
    failing = Route(generator=np.random.default_rng(0), **{failure: 1.0})
    assert run(env, made["go_next"], observation) is Outcome.SUCCESS
    assert run(env, failing, observation) is Outcome.FAILURE
    assert failing.injected == failure
    if failure == "drop":
        assert world.held is None
    assert world.seat(0) is None
    tried = []
    while not world.routed[0] and len(tried) < 6:
        tried.append(expert_choice(world))
        run(env, made[tried[-1]], observation)
    assert world.routed == [True]
    # What was dropped has to be taken up again; what is still in the hand can be laid again.
    assert tried[0] == ("regrasp" if failure == "drop" else "route")
    assert "route" in tried


def test_an_episode_of_the_expert(env: CableRouting) -> None:
    seen: list[float] = []
    episode = play_expert(env, scripted_primitives(), seed=3, watch=lambda before, action, after, info: seen.append(1))
    assert episode.success
    assert episode.routed == (True,)
    assert [attempt.primitive for attempt in episode.attempts][:2] == ["go_next", "route"]
    assert len(seen) == episode.steps == sum(attempt.steps for attempt in episode.attempts)


def test_a_high_level_that_never_routes_is_stopped(env: CableRouting) -> None:
    episode = play_expert(env, scripted_primitives(), seed=3, choose=lambda world: "route", most_per_clip=5)
    assert not episode.success
    assert [attempt.outcome for attempt in episode.attempts] == [Outcome.FAILURE] * 5


@pytest.mark.slow
def test_the_expert_is_as_good_as_it_has_to_be() -> None:
    """Single clips at 90 %, three clips with retries at 80 %, of 20 episodes each."""
    single = CableRouting(clips=1, visuals=False)
    routed = 0
    for seed in range(20):
        episode = play_expert(single, scripted_primitives(generator=np.random.default_rng(seed)), seed=seed)
        routed += next(a for a in episode.attempts if a.primitive == "route").outcome is Outcome.SUCCESS
    assert routed >= 18
    three = CableRouting(clips=3, visuals=False)
    made = [scripted_primitives(generator=np.random.default_rng(seed)) for seed in range(20)]
    assert sum(play_expert(three, made[seed], seed=seed).success for seed in range(20)) >= 16


def test_noise_is_repeatable_and_leaves_the_intention(env: CableRouting) -> None:
    runs = []
    for _ in range(2):
        observation, _ = env.reset(seed=0)
        primitive = scripted_primitives(0.2, np.random.default_rng(5))["go_next"]
        assert isinstance(primitive, ScriptedPrimitive)
        primitive.start(observation, {"clip": 0, "world": env.world})
        actions = []
        for _ in range(10):
            actions.append(primitive.act(observation))
            assert not np.array_equal(primitive.intended[:4], actions[-1][:4])
            assert primitive.intended[4] == actions[-1][4]
            observation, *_ = env.step(actions[-1])
        runs.append(np.array(actions))
    np.testing.assert_array_equal(*runs)


def test_a_primitive_runs_out_of_time(env: CableRouting) -> None:
    class Endless(ScriptedPrimitive):
        name = "endless"

        def script(self):  # type: ignore[no-untyped-def]
            while True:
                yield np.zeros(5)

    endless = Endless()
    endless.time_limit_s = 0.5
    observation, _ = env.reset(seed=0)
    assert run(env, endless, observation) is Outcome.TIMEOUT


def test_what_cannot_be() -> None:
    with pytest.raises(CadenzaError, match="privileged world"):
        Route().start(None, {"clip": 0, "world": None})
    with pytest.raises(CadenzaError, match="drop"):
        Route(drop=0.7, misroute=0.5)
    with pytest.raises(CadenzaError, match="noise"):
        scripted_primitives(noise=-1.0)


def test_geometry_of_a_bent_cable(env: CableRouting) -> None:
    """10 cm along +y, then along -x."""
    nodes = np.array([(0.0, 0.0, 0.0), (0.0, 0.1, 0.0), (-0.1, 0.1, 0.0)])
    place, yaw = point_at(nodes, 0.04)
    np.testing.assert_allclose(place, (0.0, 0.04, 0.0), atol=1e-12)
    assert yaw == pytest.approx(0.0)
    place, yaw = point_at(nodes, 0.16)
    np.testing.assert_allclose(place, (-0.06, 0.1, 0.0), atol=1e-12)
    assert yaw == pytest.approx(math.pi / 2)
    assert hand_yaw_along(math.pi - 0.1) == pytest.approx(-0.1)
    env.reset(seed=0)
    # The anchor is 14 cm before the first nominal clip; its bush gives by less than a millimetre.
    assert arc_at_clip(env.world, 0) == pytest.approx(0.14, abs=1e-3)


def test_statistics_count_what_has_ended() -> None:
    statistics = PrimitiveStatistics(["route"])
    assert statistics.rate("route") is None
    for outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.TIMEOUT, Outcome.SUCCESS):
        statistics.record("route", outcome)
    statistics.record("tighten", Outcome.SUCCESS)
    assert statistics.rate("route") == 0.5
    assert statistics.as_dict() == {
        "route": {"attempts": 4, "success": 2, "failure": 1, "timeout": 1},
        "tighten": {"attempts": 1, "success": 1, "failure": 0, "timeout": 0},
    }
    with pytest.raises(ValueError, match="still running"):
        statistics.record("route", Outcome.RUNNING)
    more = PrimitiveStatistics()
    more.add(statistics)
    more.add(statistics)
    assert more.attempts("route") == 8
    assert more.successes("tighten") == 2
