"""Collecting: the same episodes in any order and from any process; what was complete stays."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toys import Toy, ToyExpert

from cadenza.agents.demos import DemoError, DemoSet, Feature, MismatchError
from cadenza.agents.demos.collecting import Plan, collect
from cadenza.agents.demos.environment import clock_of, schema_of, succeeded
from cadenza.agents.demos.experts import EXPERTS, expert_for, make_expert
from cadenza.agents.demos.reaching import ReachingExpert, inverse_kinematics, joint_angles
from cadenza.envs.names import UnknownNameError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "episodes").iterdir())}


def test_an_episode_is_what_happened(toy_expert: str, tmp_path: Path) -> None:
    seen = []
    result = collect(tmp_path / "set", Plan(toy_expert, 3, seed=7), watch=lambda *told: seen.append(told))
    assert (result.episodes, result.steps, result.interrupted, result.missing) == (3, 18, False, 0)
    assert [(there, total) for _, there, total in seen] == [(1, 3), (2, 3), (3, 3)]
    demos = DemoSet(tmp_path / "set")
    assert demos.schema.cameras == ("top",)
    assert demos.schema.observation["state"] == Feature("float32", (2,), ("place", "goal"))
    assert demos.schema.rate_hz == 10.0
    episode = demos.load(1)
    assert episode.info.seed == 8
    assert dict(episode.info.metadata) == {"expert": "toy", "acted": 6}
    env = Toy()
    observation, _ = env.reset(seed=8)
    for step in range(6):
        assert np.array_equal(episode.observation["state"][step], observation["state"])
        assert np.array_equal(episode.observation["top"][step], observation["top"])
        assert episode.timestamp_s[step] == env.time_s
        observation, reward, _, truncated, info = env.step(episode.action[step])
        assert (episode.reward[step], episode.truncated[step]) == (reward, truncated)
    assert episode.final_observation is not None
    assert np.array_equal(episode.final_observation["top"], observation["top"])
    assert episode.info.success == info["is_success"]
    assert episode.primitive.tolist() == [0, 0, 1, 1, 1, 2]
    place, goal = episode.observation["state"].T
    assert np.allclose(episode.intended[:, 0], np.clip(10 * (goal - place), -1, 1), atol=1e-6)
    assert not np.allclose(episode.intended, episode.action, atol=1e-3)


def test_time_is_read_from_the_clock(toy_expert: str, tmp_path: Path) -> None:
    """Not the number of the step over the rate: the third step takes 30 ms longer."""
    collect(tmp_path / "set", Plan(toy_expert, 1))
    assert DemoSet(tmp_path / "set").load(0).timestamp_s == pytest.approx([1.0, 1.1, 1.2, 1.33, 1.43, 1.53])


def test_the_same_seed_gives_the_same_files(toy_expert: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        collect(tmp_path / name, Plan(toy_expert, 3, seed=4))
    collect(tmp_path / "other", Plan(toy_expert, 3, seed=5))
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert all(one[name] != other[name] for name in one)
    moved = DemoSet(tmp_path / "other").load(0), DemoSet(tmp_path / "one").load(1)
    assert np.array_equal(moved[0].action, moved[1].action)  # both of seed 5


@pytest.mark.slow
def test_workers_give_the_same_files(tmp_path: Path) -> None:
    plan = Plan("Reacher-v5", 5, seed=3)
    collect(tmp_path / "one", plan)
    result = collect(tmp_path / "two", plan, workers=2)
    assert (result.episodes, result.missing) == (5, 0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_workers_that_share_one_processor_do_not_trip_over_each_other(tmp_path: Path) -> None:
    """They begin at the same moment there, and once took each other's file of the plan away."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        result = collect(tmp_path, Plan("Reacher-v5", 4, seed=3), workers=4)
    finally:
        os.sched_setaffinity(0, allowed)
    assert (result.episodes, result.missing) == (4, 0)


class Interrupting(ToyExpert):
    """Ctrl-C in the third episode."""

    def act(self, observation: Any) -> np.ndarray:
        if self._seed == 2 and self._steps == 3:
            raise KeyboardInterrupt
        return super().act(observation)

    def __init__(self, seed: int):
        super().__init__(seed)
        self._seed = seed


def test_an_interrupted_collection_goes_on(toy_expert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(toy_expert, 5)
    collect(tmp_path / "whole", plan)
    with monkeypatch.context() as patch:
        patch.setattr("cadenza.agents.demos.collecting.make_expert", lambda name, seed, settings: Interrupting(seed))
        result = collect(tmp_path / "set", plan)
    assert (result.interrupted, result.episodes, result.missing) == (True, 2, 3)
    assert [info.index for info in DemoSet(tmp_path / "set").episodes] == [0, 1]
    assert DemoSet(tmp_path / "set").corrupt == []
    result = collect(tmp_path / "set", plan)
    assert (result.interrupted, result.episodes, result.missing) == (False, 3, 0)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert collect(tmp_path / "set", plan).episodes == 0


def test_a_damaged_episode_is_collected_anew(toy_expert: str, tmp_path: Path) -> None:
    plan = Plan(toy_expert, 3)
    collect(tmp_path / "set", plan)
    before = contents(tmp_path / "set")
    path = DemoSet(tmp_path / "set").episodes[1].path
    path.write_bytes(path.read_bytes()[:100])
    assert collect(tmp_path / "set", plan).episodes == 1
    assert contents(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [({"seed": 1}, "seed 0, not 1"), ({"expert_settings": {"noise": 0.5}}, "expert_settings"), ({"task": "x"}, "task")],
)
def test_another_plan_is_refused(toy_expert: str, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    collect(tmp_path / "set", Plan(toy_expert, 1))
    with pytest.raises(MismatchError, match=words):
        collect(tmp_path / "set", Plan(toy_expert, 2, **change))


def test_other_settings_of_the_environment_are_refused(toy_expert: str, tmp_path: Path) -> None:
    collect(tmp_path / "set", Plan(toy_expert, 1))
    with pytest.raises(MismatchError, match=r"settings: \{\} against \{'steps': 4\}"):
        collect(tmp_path / "set", Plan(toy_expert, 2, env_settings={"steps": 4}))


def test_other_settings_are_refused_where_nothing_is_missing_too(toy_expert: str, tmp_path: Path) -> None:
    collect(tmp_path / "set", Plan(toy_expert, 2))
    for given in ({"steps": 4}, {"nonsense": 1}):
        with pytest.raises(MismatchError, match=r"settings: \{\} against"):
            collect(tmp_path / "set", Plan(toy_expert, 2, env_settings=given))
    assert collect(tmp_path / "set", Plan(toy_expert, 2)).missing == 0


def test_what_cannot_be_made_leaves_nothing_behind(toy_expert: str, tmp_path: Path) -> None:
    """A typo among the settings does not stand in the way of the command put right."""
    with pytest.raises(DemoError, match="cannot be made with the settings"):
        collect(tmp_path / "set", Plan(toy_expert, 1, env_settings={"stpes": 4}))
    assert list(tmp_path.iterdir()) == []


def test_an_expert_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="nosie"):
        collect(tmp_path / "set", Plan("Reacher-v5", 1, expert_settings={"nosie": 0.1}))
    assert list(tmp_path.iterdir()) == []
    assert collect(tmp_path / "set", Plan("Reacher-v5", 1, expert_settings={"noise": 0.1})).episodes == 1


def test_a_plan_that_failed_before_its_first_episode_is_replaced(toy_expert: str, tmp_path: Path) -> None:
    """Here the setting is found to be wrong by the first action only."""
    folder = tmp_path / "set"
    with pytest.raises(ValueError, match="scale < 0"):
        collect(folder, Plan(toy_expert, 1, expert_settings={"noise": -1.0}, env_settings={"steps": 5}))
    assert (folder / "collection.json").is_file()
    assert collect(folder, Plan(toy_expert, 1, env_settings={"steps": 4})).episodes == 1
    demos = DemoSet(folder)
    assert (demos.schema.env_settings, demos.episodes[0].length) == ({"steps": 4}, 4)
    with pytest.raises(MismatchError, match="noise"):
        collect(folder, Plan(toy_expert, 1, expert_settings={"noise": 0.2}, env_settings={"steps": 4}))


def test_a_worker_ends_when_nobody_is_there_to_tell_it(
    toy_expert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its third episode whoever started it is gone."""
    from cadenza.agents.demos import collecting

    acted: list[int] = []

    class Counting(ToyExpert):
        def act(self, observation: Any) -> np.ndarray:
            acted.append(1)
            return super().act(observation)

    class Parent:
        def is_alive(self) -> bool:
            return len(acted) < 15

    class News(queue.Queue):
        left = False

        def cancel_join_thread(self) -> None:
            self.left = True

    monkeypatch.setattr(collecting, "make_expert", lambda name, seed, settings: Counting(seed))
    monkeypatch.setattr(collecting.multiprocessing, "parent_process", Parent)
    monkeypatch.setattr(collecting.signal, "signal", lambda *_: None)
    jobs: queue.Queue[int | None] = queue.Queue()
    for index in range(9):
        jobs.put(index)
    news = News()
    collecting._work(tmp_path / "set", Plan(toy_expert, 9), "toy", jobs, news, threading.Event())
    assert [news.get().index for _ in range(news.qsize())] == [0, 1]
    assert (len(acted), news.left, len(DemoSet(tmp_path / "set"))) == (15, True, 2)


def test_experts_and_worlds_share_no_draws() -> None:
    from cadenza.agents.demos.cable_expert import CableExpert

    reaching: Any = ReachingExpert(7)
    cable: Any = CableExpert(7)
    route = cable._primitives["route"]
    world, _ = gym.utils.seeding.np_random(7)
    for generator in (reaching._random, route._random):
        assert generator.bit_generator.state != world.bit_generator.state
    # As the task of the sequencer draws for the same episode.
    assert route._random.bit_generator.state == np.random.default_rng([7, 5]).bit_generator.state


def test_entries_of_the_action_are_named_where_the_environment_says_so() -> None:
    toy: Any = Toy()
    assert schema_of(toy, "toy", {}).action.names is None
    toy.action_names = ("push",)
    named = schema_of(toy, "toy", {})
    assert named.action.entry_names("action") == ["action.push"]
    assert named.differences(schema_of(Toy(), "toy", {})) == []  # sets of before go on


def test_an_expert_may_end_an_episode_and_judge_it(
    toy_expert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Judge(ToyExpert):
        @property
        def done(self) -> bool:
            return self._steps == 4

        def success(self) -> bool:
            return True

    monkeypatch.setattr("cadenza.agents.demos.collecting.make_expert", lambda name, seed, settings: Judge(seed))
    collect(tmp_path / "set", Plan(toy_expert, 2))
    demos = DemoSet(tmp_path / "set")
    assert [(info.length, info.success) for info in demos.episodes] == [(4, True), (4, True)]
    assert not demos.load(0).truncated.any()


def test_who_says_whether_it_was_a_success() -> None:
    assert succeeded(object(), {"is_success": np.array(True)})
    assert not succeeded(object(), {"success": 0.0})
    with pytest.raises(DemoError, match="Nobody says"):
        succeeded(object(), {})


def test_what_cannot_be_recorded_is_told() -> None:
    class Still(Toy):
        def __init__(self) -> None:
            super().__init__()
            del self.time_s

    with pytest.raises(DemoError, match="no clock"):
        clock_of(Still())
    with pytest.raises(DemoError, match="Discrete"):
        schema_of(gym.make("CartPole-v1"), "CartPole-v1", {})


def test_experts_are_found_by_name_and_by_environment() -> None:
    assert expert_for("Reacher-v5") == "reacher"
    assert expert_for("cadenza/CableRouting-v0") == "cable"
    with pytest.raises(DemoError, match="no expert for Hopper-v5"):
        expert_for("Hopper-v5")
    with pytest.raises(UnknownNameError, match="reachr"):
        expert_for("Reacher-v5", "reachr")
    with pytest.raises(DemoError, match="cannot be made"):
        make_expert("reacher", 0, {"colour": 3})
    assert isinstance(make_expert("reacher", 0, {}), ReachingExpert)
    assert all(":" in entry.maker and entry.env_ids and entry.task for entry in EXPERTS.values())


# ------------------------------------------------------------------ the expert that ships


@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_inverse_kinematics(bend: float) -> None:
    place = np.array([0.08, 0.11])
    shoulder, elbow = inverse_kinematics(place, bend)
    angles = np.array([shoulder, shoulder + elbow])
    reached = [float(np.dot([0.1, 0.11], np.cos(angles))), float(np.dot([0.1, 0.11], np.sin(angles)))]
    assert np.allclose(reached, place)
    assert np.sign(elbow) == bend


def test_joint_angles() -> None:
    observation = np.array([0.0, -1.0, 1.0, 0.0])
    assert joint_angles(observation) == pytest.approx([np.pi / 2, np.pi])


def test_the_reaching_expert_reaches(tmp_path: Path) -> None:
    result = collect(tmp_path / "set", Plan("Reacher-v5", 20))
    assert result.successes >= 17
    episode = DemoSet(tmp_path / "set").load(0)
    assert np.linalg.norm(episode.observation["state"][0, 8:10]) > 0.02
    assert set(episode.primitive.tolist()) <= {0, 1}


def test_what_an_expert_tells_of_a_step_is_kept_beside_what_it_meant() -> None:
    from cadenza.agents.demos.collecting import _extras

    class Expert:
        intended = (0.5, -0.25)
        extras = {"attempt": 2.0}  # noqa: RUF012

    assert _extras(Expert()) == {"intended.0": 0.5, "intended.1": -0.25, "attempt": 2.0}
    assert _extras(object()) == {}
