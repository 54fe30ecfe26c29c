"""docs/arms.md and docs/controllers.md: their commands and their Python run, their tables are the arms'."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from cadenza.robots import arm_names, load_arm
from cadenza.robots.arm_description import ArmRobot
from cadenza.scripts.main import run


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_run(arm: ArmRobot, repository: Path) -> None:
    """What has been fetched is left alone, so no network is needed here."""
    lines = [
        line.split("#")[0].strip() for block in blocks(repository / "docs/arms.md", "sh") for line in block.splitlines()
    ]
    assert [line.split()[:3] for line in lines] == [["cadenza", "robots", "fetch"], ["cadenza", "robots", "check"]]
    assert lines[0].split()[3:] == ["panda", "ur5e", "so101"]
    assert run(shlex.split(f"robots fetch {arm.name}")) == 0
    if arm.name == "panda":
        assert run(shlex.split(lines[1])[1:]) == 0


def test_a_check_that_fails_ends_with_1(panda: ArmRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    from cadenza.robots import arm_checking

    monkeypatch.setattr(arm_checking, "CHECKS", {"table": lambda arm: ["it is bent."]})
    assert run(["robots", "check", panda.name]) == 1


def test_the_examples_do_what_they_say(panda: ArmRobot, repository: Path) -> None:
    names: dict[str, object] = {}
    for page in ("arms.md", "controllers.md"):
        for example in blocks(repository / "docs" / page, "python"):
            exec(compile(example, page, "exec"), names)
    np.testing.assert_allclose(names["moved"], (0, 0.16, 0), atol=0.01)  # type: ignore[arg-type]
    np.testing.assert_allclose(names["left"], 0, atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", arm_names())
def test_every_arm_has_its_row(repository: Path, name: str) -> None:
    arm = load_arm(name)
    page = (repository / "docs/arms.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("|") and f"| `{name}` |" in line]
    closed, wide = (f"{1000 * width:.0f}" for width in arm.gripper.width_m)
    for text in (
        arm.title,
        f"| {len(arm.joints)}",
        f"{arm.mass_kg:.1f} kg",
        arm.licence,
        f"{closed} to {wide} mm",
        *arm.models,
    ):
        assert text in row
