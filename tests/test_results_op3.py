"""Pages of OP3's policies against the JSON that they quote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SOURCES = (
    "assets/policies/op3-walk/card.json",
    "docs/results/op3-walk-unmirrored.json",
    "docs/results/op3-walk-ppo.json",
)


def cells(page: str, first: str) -> list[str]:
    """The row of a table that begins with this."""
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.split("|")[2:-1]]


@pytest.fixture
def evaluations(repository: Path) -> list[dict[str, Any]]:
    """What the three policies did."""
    found = [json.loads((repository / source).read_text()) for source in SOURCES]
    return [each.get("evaluation", each) for each in found]


def test_walk_beside_ppo(repository: Path, evaluations: list[dict[str, Any]]) -> None:
    page = (repository / "docs/results/op3-walk.md").read_text()
    card = json.loads((repository / SOURCES[0]).read_text())
    steps = [card["training"]["step"], *(each["step"] for each in evaluations[1:])]
    assert cells(page, "Steps of the policy") == [f"{step:,}" for step in steps]

    def row(first: str, text: str, *values: str) -> None:
        expected = []
        for each in evaluations:
            flat = {**each, **each["measures"], **{f"motor_{k}": v for k, v in each["motors"].items()}}
            expected.append(text.format(*(flat[value] for value in values)))
        assert cells(page, first) == expected

    assert cells(page, "Episodes, seeds from 0") == [str(each["n"]) for each in evaluations]
    assert {each["seed"] for each in evaluations} == {0}
    intervals = [each["return_ci95"] for each in evaluations]
    assert cells(page, "Return (95 % interval)") == [
        f"**{each['return_mean']:,.0f}** ({low:,.0f} to {high:,.0f})"
        for each, (low, high) in zip(evaluations, intervals, strict=True)
    ]
    assert cells(page, "Return on seeds 0 to 24") == [f"{np.mean(each['returns'][:25]):,.0f}" for each in evaluations]
    row("Survived 20 s", "{} of {}", "survived", "n")
    row("Velocity error, mean", "{:.3f} m/s", "velocity_error")
    row("Yaw rate error, mean", "{:.2f} rad/s", "yaw_error")
    row("Change of the command per step, mean [half ranges]", "{:.3f}", "motor_action_change_mean")
    row("Jerk of the command per step³, RMS [half ranges]", "{:.2f}", "motor_jerk_rms")
    assert cells(page, "Command power above 1/4 Nyquist") == [
        f"{100 * each['motors']['high_frequency_power_share']:.0f} %" for each in evaluations
    ]
    row("Torque, RMS [times rated]", "{:.2f}", "motor_torque_rms_over_rated")
    row("Hottest winding, if it went on for ever", "{:,.0f} °C", "motor_winding_settled_c")
    row("Gearbox shocks per minute", "{:,.0f}", "motor_gearbox_shocks_per_min")
    assert card["training"]["command"] in page


def test_stand_under_pushes(repository: Path) -> None:
    folder = repository / "docs/results"
    page = (folder / "op3-stand.md").read_text()
    rows = json.loads((folder / "op3-stand-pushes.json").read_text())["rows"]
    assert rows
    for row in rows:
        assert cells(page, row["label"])[1:] == [str(row["survived"][push]) for push in ("2", "2.5", "3", "4")]


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("g1-walk.json", "Symphony, 200,000 steps, random commands"),
        ("g1-walk-forward.json", "Symphony, 200,000 steps, 0.5 m/s forward"),
        ("g1-walk-ppo.json", "PPO, 6,000,640 steps, random commands"),
        ("g1-walk-ppo-forward.json", "PPO, 6,000,640 steps, 0.5 m/s forward"),
    ],
)
def test_g1(repository: Path, file: str, first: str) -> None:
    folder = repository / "docs/results"
    found = json.loads((folder / file).read_text())
    page = (folder / "g1-walk.md").read_text()
    low, high = found["return_ci95"]
    assert cells(page, f"[{first}]({file})") == [
        str(found["n"]),
        f"{found['return_mean']:,.0f} ({low:,.0f} to {high:,.0f})",
        f"{found['survived']} of {found['n']}",
        f"{found['forward_velocity_mean']:.2f} m/s",
        f"{found['measures']['velocity_error']:.3f} m/s",
        f"{found['measures']['yaw_error']:.2f} rad/s",
    ]
    assert found["command"] in page
