"""docs/robots.md against the tables it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cadenza.robots import humanoid_names, load_humanoid
from cadenza.robots.actuators import torque


@pytest.mark.parametrize("name", humanoid_names())
def test_every_robot_has_its_row(repository: Path, name: str) -> None:
    robot = load_humanoid(name)
    page = (repository / "docs/robots.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("|") and f"| `{name}` |" in line]
    motors = {joint.motor for joint in robot.joints}
    stated = f"{len(robot.joints)} {motors.pop()}" if len(motors) == 1 else f"{len(motors)} kinds"
    for text in (robot.title, f"| {len(robot.joints)} |", f"{robot.mass_kg:.1f} kg", robot.licence, stated):
        assert text in row
    assert f"`{robot.menagerie}`" in row


def test_the_torque_curve_is_the_motors(repository: Path) -> None:
    page = (repository / "docs/robots.md").read_text(encoding="utf-8")
    speeds, torques = (
        re.findall(rf"^\| {head} \|(.*)$", page, re.MULTILINE)[0].split("|") for head in ("Speed", "Torque")
    )
    row = load_humanoid("op3").joint("l_knee")
    rpm = 0.10471975511965977
    for speed, stated in zip(speeds[:-1], torques[:-1], strict=True):
        found = torque(row, 1.0, float(speed.replace("rpm", "")) * rpm)
        assert found == pytest.approx(float(stated.replace("N m", "")), abs=0.005)
