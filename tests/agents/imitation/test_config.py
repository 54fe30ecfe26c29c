from __future__ import annotations

from typing import Any

import pytest

from cadenza.agents.imitation.config import CloningConfig, resolve_config
from cadenza.envs.errors import CadenzaError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": "abc"}, "steps must be a whole number, not 'abc'"),
        ({"steps": 10.5}, "steps must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"jitter": float("nan")}, "jitter must be finite, not nan"),
        ({"jitter": -0.1}, "jitter must not be negative"),
        ({"seed": -3}, "seed must not be negative"),
        ({"augment": 3}, "augment must be true or false"),
        ({"primitive": 3}, "primitive must be a word or None"),
        ({"cameras": 3}, "cameras must be a list, each a word"),
        ({"hidden": "wide"}, "hidden must be a list, each a whole number"),
        ({"hidden": ()}, "sizes of one or more layers"),
        ({"log_std_bounds": 1.0}, "log_std_bounds must be a list of 2: a number, a number"),
        ({"log_std_bounds": (1.0, -1.0)}, "a lower and a higher number"),
        ({"encoder": "big"}, "encoder"),
    ],
)
def test_settings_of_another_kind_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CadenzaError, match=said):
        resolve_config(settings)


def test_whole_numbers_are_numbers() -> None:
    assert CloningConfig(learning_rate=1, jitter=0).learning_rate == 1
    assert resolve_config({"hidden": 16, "cameras": "side"}).hidden == (16,)
