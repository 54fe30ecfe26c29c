from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError
from cadenza.envs.registration import (
    CABLE_ROUTING,
    ENVIRONMENTS,
    environment_ids,
    make_env,
    register_environments,
    table_ids,
)


def in_new_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import gymnasium as g; g.make('cadenza.envs:cadenza/Humanoid-v0')",
        "from cadenza.envs.registration import *; register_environments(); import gymnasium as g; "
        "g.make('cadenza/Humanoid-v0')",
        "from cadenza.envs.registration import make_env; make_env('cadenza/Humanoid-v0')",
        "from cadenza.envs.registration import make_env; make_env('cadenza.envs:cadenza/Humanoid-v0')",
    ],
)
def test_every_documented_way_to_make_one_works_in_a_new_process(code: str) -> None:
    assert in_new_python(code) == ""


def test_importing_registration_loads_neither_gymnasium_nor_mujoco() -> None:
    code = "import sys, cadenza.envs.registration; print(*({'gymnasium', 'mujoco', 'numpy'} & set(sys.modules)))"
    assert in_new_python(code) == ""


def test_registering_twice_keeps_the_first_registration() -> None:
    register_environments()
    first = {env_id: gym.registry[env_id] for env_id in ENVIRONMENTS}
    register_environments()
    assert all(gym.registry[env_id] is spec for env_id, spec in first.items())
    steps = {env_id: spec.max_episode_steps for env_id, spec in first.items()}
    tables = table_ids()
    assert steps.pop(CABLE_ROUTING) == 480  # 8 primitives of 6 s at 10 Hz for one clip
    assert {env_id: steps.pop(env_id) for env_id in tables} == dict.fromkeys(tables, 100)
    assert all(count == (500 if "GetUp" in env_id else 1000) for env_id, count in steps.items())


def test_every_environment_has_a_one_line_summary() -> None:
    assert all(summary and "\n" not in summary for summary in ENVIRONMENTS.values())


def test_ids_list_ours_first_then_the_newest_mujoco_tasks() -> None:
    ids = environment_ids()
    assert ids[: len(ENVIRONMENTS)] == list(ENVIRONMENTS)
    assert {"Humanoid-v5", "Ant-v5", "Hopper-v5", "Walker2d-v5"} <= set(ids)
    assert "Humanoid-v4" not in ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("Humanod-v5", "Humanoid-v5"),
        ("cadenza/humanoid-v0", "cadenza/Humanoid-v0"),
        ("cadenza/Humanoid-v7", "cadenza/Humanoid-v0"),
        ("Hopper-v9", "Hopper-v5"),
        ("Humanoid v5", "Humanoid-v5"),
        ("Ant-v1", "Ant-v5"),
        ("Walker2d-v3", "Walker2d-v5"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_mistyped_id_is_answered_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match="no environment named") as caught:
        make_env(wrong)
    assert meant in caught.value.advice
    assert "cadenza list envs" in caught.value.advice


def test_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(CadenzaError, match="no_such_module") as caught:
        make_env("no_such_module:Task-v0")
    assert "import no_such_module" in caught.value.advice


def test_a_missing_library_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> gym.Env:
        raise ImportError("No module named 'box2d'")

    monkeypatch.setitem(gym.registry, "Broken-v0", gym.envs.registration.EnvSpec("Broken-v0", entry_point=broken))
    with pytest.raises(CadenzaError, match="box2d") as caught:
        make_env("Broken-v0")
    assert "pip install" in caught.value.advice


def test_arguments_reach_the_environment() -> None:
    env = make_env("cadenza/Humanoid-v0", render_mode="rgb_array", width=64, height=48, max_episode_steps=7)
    assert (env.render_mode, env.unwrapped.width, env.spec.max_episode_steps) == ("rgb_array", 64, 7)
    env.close()
