"""``copy.deepcopy`` and ``pickle`` of our environments: copies that move, and move alike."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import legged_ids, make_env, table_ids
from cadenza.robots.menagerie import is_fetched


def need(env_id: str) -> None:
    """Skip where a model has not been fetched."""
    for model in table_ids()[env_id][0].models if env_id in table_ids() else legged_ids()[env_id][0].models:
        if not is_fetched(model):
            pytest.skip(f"{model} is not on this computer: make robots")


def observed(observation: Any) -> Any:
    return observation["observation"] if isinstance(observation, dict) else observation


@pytest.mark.parametrize("env_id", ["cadenza/PandaPush-v0", "cadenza/PandaPlay-v0", "cadenza/OP3Walk-v0"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_alike(env_id: str, how: Any) -> None:
    need(env_id)
    env = make_env(env_id, pictures=False)
    new = how(env)
    np.testing.assert_array_equal(observed(env.reset(seed=3)[0]), observed(new.reset(seed=3)[0]))
    actions = np.random.default_rng(0).uniform(-1, 1, (8, *env.action_space.shape)).astype(np.float32)
    for action in actions[:4]:
        env.step(action)
    middle, before = how(env), observed(env.unwrapped.step(actions[4])[0])
    assert middle.spec == env.spec
    np.testing.assert_array_equal(observed(middle.unwrapped.step(actions[4])[0]), before)
    for action in actions[5:]:
        ours, theirs = env.step(action), middle.step(action)
        np.testing.assert_array_equal(observed(ours[0]), observed(theirs[0]))
        assert ours[1:4] == theirs[1:4]
    np.testing.assert_array_equal(observed(env.reset()[0]), observed(middle.reset()[0]))


@pytest.mark.parametrize("env_id", ["cadenza/PandaPush-v0", "cadenza/OP3Walk-v0"])
def test_unknown_cameras_and_modes_are_refused(env_id: str) -> None:
    need(env_id)
    with pytest.raises(CadenzaError, match="no camera 'side'"):
        make_env(env_id, render_mode="rgb_array", camera_name="side")
    with pytest.raises(CadenzaError, match="no render_mode 'depth'"):
        make_env(env_id, render_mode="depth")
