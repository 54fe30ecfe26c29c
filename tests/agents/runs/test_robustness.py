"""The list of conditions under which a legged robot's policy is played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cadenza.agents.runs.policies import OpenedPolicy
from cadenza.agents.runs.robustness import STRESSES, Stress, robustness, stresses_of, under, wilson
from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.commands import AXES, CommandRanges
from cadenza.envs.legged.tasks import task_class
from cadenza.envs.registration import make_env
from cadenza.robots import load_humanoid
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.main import run as command

needs_op3 = pytest.mark.skipif(not is_fetched("robotis_op3"), reason="the OP3 is not fetched: make robots")


def still(env_id: str, **env_kwargs: object) -> OpenedPolicy:
    """A policy that keeps every target at home."""
    env = make_env(env_id, **env_kwargs)
    action = 0 * env.action_space.sample()
    env.close()
    return OpenedPolicy(lambda _: action, env_id, dict(env_kwargs), "still", 0, None)


def test_wilson_agrees_with_the_worked_example_of_a_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == pytest.approx(1.0)


def test_every_condition_of_the_list_is_one_that_the_tasks_know() -> None:
    from cadenza.envs.legged.events import planned

    for stress in STRESSES:
        assert planned(False, under(stress, {}, 0.004).get("conditions", {}))


def test_commands_of_the_list_are_within_what_the_tasks_are_trained_for() -> None:
    asked = 0
    for task in ("walk", "run"):
        robot = load_humanoid("op3")
        ranges = CommandRanges(**{axis: getattr(task_class(task).config_type.of(robot), axis) for axis in AXES})
        for stress in stresses_of("cadenza/OP3Walk-v0" if task == "walk" else "cadenza/OP3Run-v0"):
            forward, left, turn = stress.command or (1.0, 0.0, 0.0)
            ranges.checked((forward * robot.speed_m_s, left * robot.speed_m_s, turn), task)
            asked += stress.command is not None
    assert asked > 5


def test_a_stand_is_pushed_harder_than_a_walk() -> None:
    hardest = {
        task: max(stress.conditions.get("push", 0.0) for stress in stresses_of(f"cadenza/OP3{task}-v0"))
        for task in ("Stand", "Walk")
    }
    assert hardest["Stand"] > hardest["Walk"] > 1.0


def test_twenty_milliseconds_are_five_physics_steps_of_the_op3() -> None:
    late = next(stress for stress in STRESSES if stress.delay_s)
    assert under(late, {}, load_humanoid("op3").physics_dt_s) == {"conditions": {"command_delay": 5.0}}


def test_conditions_that_were_there_stay() -> None:
    made = under(Stress("pushed", {"push": 1.0}), {"conditions": {"friction": 0.4}}, 0.004)
    assert made == {"conditions": {"friction": 0.4, "push": 1.0}}


@needs_op3
def test_a_robot_that_stands_falls_when_it_is_kicked_over_and_not_before() -> None:
    policy = still("cadenza/OP3Stand-v0", episode_s=9.0, conditions={"push": 0.0})
    stresses = (Stress("nominal", {}), Stress("kicked", {"push": 15.0}))
    quiet, kicked = robustness(policy, episodes=2, seed=0, stresses=stresses)
    assert (quiet.evaluation.survived, kicked.evaluation.survived) == (2, 0)
    assert quiet.survived_ci95[0] > 0.3
    assert json.loads(json.dumps(kicked.to_dict()))["stress"] == "kicked"


@needs_op3
def test_the_knee_that_is_weak_is_the_right_one() -> None:
    env = make_env("cadenza/OP3Walk-v0", conditions={"weak_knee": 0.5})
    env.reset(seed=0)
    model = env.unwrapped.model
    limits = {name: model.actuator(name).forcerange[1] for name in ("r_knee", "l_knee", "r_ank_pitch")}
    assert limits["r_knee"] == pytest.approx(0.5 * limits["l_knee"])
    assert limits["r_ank_pitch"] == limits["l_knee"]
    env.close()


def test_environments_without_conditions_are_refused() -> None:
    with pytest.raises(CadenzaError, match="no conditions"):
        robustness(still("cadenza/Humanoid-v0"), episodes=1, seed=0)


@needs_op3
def test_the_command_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, table = tmp_path / "run", tmp_path / "stress.json"
    train = f"train ppo cadenza/OP3Stand-v0 --steps 64 --evaluate-every 0 --run {run} --env-set episode_s=0.2"
    assert command([*train.split(), "--set", "n_steps=64"]) == 0
    assert command(["evaluate", str(run), "--which", "last", "--stress", "--episodes", "1", "--json", str(table)]) == 0
    assert "right knee at half its torque" in capsys.readouterr().out
    rows = json.loads(table.read_text())["robustness"]
    assert [row["stress"] for row in rows] == [stress.name for stress in stresses_of("cadenza/OP3Stand-v0")]
