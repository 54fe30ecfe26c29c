"""What a set is of: checked, stored, compared."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from cadenza.agents.demos import DemoError, Feature, MismatchError, Schema, check_compatible


def schema(**given: Any) -> Schema:
    settings: dict[str, Any] = {
        "env_id": "toy", "env_settings": {"clips": 2, "cameras": ("side",)}, "rate_hz": 10.0,
        "observation": {
            "state": Feature("float32", (2,), ("x", "y")), "grid": Feature("float32", (2, 3)),
            "side": Feature("uint8", (8, 8, 3)),
        },
        "action": Feature("float32", (2,)), "cameras": ("side",),
    }  # fmt: skip
    return Schema(**{**settings, **given})


def test_a_schema_survives_json() -> None:
    whole = schema(env_settings={"clips": 2})
    assert Schema.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_tuples_in_settings_are_what_json_makes_of_them() -> None:
    assert schema().differences(Schema.from_json(json.loads(json.dumps(schema().to_json())))) == []


def test_entries_have_names() -> None:
    assert Feature("float32", (2,), ("x", "y")).entry_names("tcp") == ["tcp.x", "tcp.y"]
    assert Feature("float32", (2, 2)).entry_names("cable") == ["cable.0", "cable.1", "cable.2", "cable.3"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate_hz": 0.0}, "above 0 Hz"),
        ({"rate_hz": float("nan")}, "above 0 Hz"),
        ({"observation": {}, "cameras": ()}, "at least one observation"),
        ({"cameras": ("top",)}, "'top' is no observation"),
        ({"cameras": ("state",)}, "must be uint8"),
        ({"action": Feature("float32", (2, 2))}, "must be vectors"),
        ({"observation": {"a/b": Feature("float32", (1,))}, "cameras": ()}, "cannot be the name"),
    ],
)
def test_what_cannot_be_recorded_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DemoError, match=words):
        schema(**given)


def test_features_are_checked() -> None:
    with pytest.raises(DemoError, match="float16"):
        Feature("float16", (2,))
    with pytest.raises(DemoError, match="holds nothing"):
        Feature("float32", (0,))
    with pytest.raises(DemoError, match="3 names do not fit"):
        Feature("float32", (2,), ("a", "b", "c"))


def changed(part: str, feature: Feature | None) -> dict[str, Feature]:
    found = {**schema().observation}
    if feature is None:
        del found[part]
    else:
        found[part] = feature
    return found


MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"rate_hz": 20.0}, "rate: 10 Hz against 20 Hz"),
    ({"action": Feature("float32", (3,))}, r"action: float32 \(2,\) against float32 \(3,\)"),
    (
        {"observation": changed("grid", Feature("float32", (2, 4)))},
        r"'grid': float32 \(2, 3\) against float32 \(2, 4\)",
    ),
    ({"observation": changed("grid", None)}, r"'grid': float32 \(2, 3\) against none"),
    ({"observation": changed("state", Feature("float32", (2,), ("y", "x")))}, "named differently"),
    ({"observation": changed("side", Feature("uint8", (16, 16, 3)))}, "'side'"),
    ({"cameras": ()}, "cameras: side against none"),
    ({"observation": dict(reversed(schema().observation.items()))}, "order of the observations"),
]


@pytest.mark.parametrize(("given", "words"), MISMATCHES)
def test_sets_that_do_not_fit_are_refused_with_the_reason(given: dict[str, Any], words: str) -> None:
    with pytest.raises(MismatchError, match=words):
        check_compatible(schema(), schema(**given))


def test_another_environment_is_another_set_but_may_be_learned_from() -> None:
    other = schema(env_id="other", env_settings={"clips": 3})
    assert [line.split(":")[0] for line in schema().differences(other)] == ["environment", "settings"]
    assert check_compatible([schema(), other]) == schema()


def test_nameless_entries_fit_named_ones() -> None:
    nameless = {**schema().observation, "state": Feature("float32", (2,))}
    assert schema().differences(dataclasses.replace(schema(), observation=nameless)) == []


def test_every_reason_is_told() -> None:
    with pytest.raises(MismatchError) as caught:
        check_compatible(schema(), schema(rate_hz=20.0, action=Feature("float32", (3,))))
    assert "rate" in str(caught.value)
    assert "action" in str(caught.value)
