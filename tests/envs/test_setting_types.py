"""Settings of the wrong kind are refused before a run begins, in words that name the setting."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from cadenza.agents.slim.presets import PRESETS as SLIM_PRESETS
from cadenza.agents.slim.presets import resolve_config as resolve_slim
from cadenza.agents.symphony.presets import PRESETS, resolve_config
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.parse import settings_from

SYMPHONY_WRONG = [
    ("overlap", "of", "overlap must be true or false, not 'of'"),
    ("batch_size", 1.5, "batch_size must be a whole number, not 1.5"),
    ("batch_size", True, "batch_size must be a whole number, not True"),
    ("hidden_size", "abc", "hidden_size must be a whole number"),
    ("learning_rate", "fast", "learning_rate must be a number, not 'fast'"),
    ("mirror", "perhaps", "mirror must be true or false or one of auto"),
    ("resine", "wide", "resine must be one of scaled, width, scaled_width"),
    ("reward_weights", {"reach": "much"}, "reward_weights must be names in braces"),
    ("gamma", 1.5, r"gamma must lie in \[0, 1\]"),
    ("tau", 5, r"tau must lie in \[0, 1\]"),
    ("gradient_steps", -1, "gradient_steps must be positive"),
]
SLIM_WRONG = [
    ("n_steps", 1.5, "n_steps must be a whole number, not 1.5"),
    ("normalize_returns", "of", "normalize_returns must be true or false"),
    ("hidden", [64, "wide"], "hidden must be a list, each a whole number"),
    ("weights", 3, "weights must be names in braces"),
    ("gammas", {"safety": 2}, r"safety must lie in \[0, 1\]"),
    ("ent_coef", float("nan"), "ent_coef must be finite"),
    ("max_grad_norm", 0, "max_grad_norm must be above 0"),
    ("vf_coef", -1, "vf_coef must not be below 0"),
    ("hidden", [64, True], "hidden must be a list, each a whole number"),
    ("weights", {"reach": float("inf")}, "weights must be finite"),
    ("hidden", [0], "hidden must name at least one layer"),
    ("clip_range", 0, "clip_range must be above 0"),
]


@pytest.mark.parametrize(("name", "value", "told"), SYMPHONY_WRONG)
def test_symphony_says_what_is_wrong(name: str, value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        resolve_config("cpu", {name: value})


@pytest.mark.parametrize(("name", "value", "told"), SLIM_WRONG)
def test_slim_says_what_is_wrong(name: str, value: object, told: str) -> None:
    with pytest.raises(CadenzaError, match=told):
        resolve_slim("slim", {name: value})


def test_every_preset_passes_its_own_check_also_as_json() -> None:
    for name, config in PRESETS.items():
        assert resolve_config(name, json.loads(json.dumps(config.to_dict()))) == config
    for name, slim in SLIM_PRESETS.items():
        assert resolve_slim(name, json.loads(json.dumps(dataclasses.asdict(slim)))) == slim


def test_numbers_of_numpy_and_whole_numbers_for_others_are_fine() -> None:
    config = resolve_config("cpu", {"batch_size": np.int64(64), "tau": np.float32(0.01), "gamma": 1})
    assert (config.batch_size, config.gamma) == (64, 1)


@pytest.mark.parametrize("text", ["false", "False", "no", "off"])
def test_off_is_off(text: str) -> None:
    assert not resolve_config("cpu", settings_from((f"overlap={text}",))).overlap
    assert settings_from(("group_balance=none",)) == {"group_balance": "none"}
