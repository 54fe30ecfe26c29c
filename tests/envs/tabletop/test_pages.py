"""docs/tabletop.md against the tables it speaks of, and its Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cadenza.envs.registration import ENVIRONMENTS, table_ids
from cadenza.envs.tabletop.observations import state_terms
from cadenza.envs.tabletop.safety import OBJECT_FORCE, safety_terms
from cadenza.envs.tabletop.settings import TableConfig
from cadenza.envs.tabletop.tasks import ARMS, TASKS
from cadenza.envs.tabletop.workspaces import WORKSPACES
from cadenza.robots import load_arm
from tests.envs.tabletop.conftest import need
from tests.envs.tabletop.test_tasks import LIMITS, signals


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs/tabletop.md").read_text(encoding="utf-8")


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table whose first heading this is."""
    table = page[page.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


def test_the_python_runs(page: str) -> None:
    need("cadenza/PandaPlay-v0")
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "tabletop.md", "exec"), names)
    assert names["model"].num_timesteps >= 450  # type: ignore[attr-defined]


def test_tasks(page: str) -> None:
    stated = rows(page, "Task")
    assert [(row[0], row[1].strip("`"), row[2]) for row in stated] == [
        (entry.label, f"cadenza/Panda{entry.label}-v0", entry.summary) for entry in TASKS.values()
    ]
    assert {row[1].strip("`") for row in stated} <= set(ENVIRONMENTS)
    assert len(table_ids()) == len(ARMS) * len(TASKS)
    assert set(ARMS) == set(WORKSPACES)


def test_observation_terms(page: str) -> None:
    arm = load_arm("so101")
    sizes = {"n": len(arm.arm_joints), "g": len(arm.gripper.joints)}
    stated = [(row[0].strip("`"), sizes.get(row[1]) or int(row[1]), row[2], row[3]) for row in rows(page, "Term")]
    assert stated == [
        (term.name, term.size, term.source, term.unit or term.meaning) for term in state_terms(arm, with_object=True)
    ]


def test_safety_terms(page: str) -> None:
    table = page[page.index("## Play's rewards") :]
    stated = {row[0].strip("`"): row[1] for row in rows(table, "Term")}
    terms = (*safety_terms(signals(), LIMITS, 10.0), OBJECT_FORCE)
    assert stated == {"reach": "reach", **dict.fromkeys(terms, "safety")}


def test_settings_exist(page: str) -> None:
    named = {name for row in rows(page, "Setting") for name in re.findall(r"`(\w+)", row[0])}
    assert named <= set(TableConfig.__dataclass_fields__)
    left = set(TableConfig.__dataclass_fields__) - named
    assert left == {"camera_size", "control_hz", "visuals"}


@pytest.mark.parametrize("task", ["reach", "push"])
def test_goals_held_are_those_measured(task: str, page: str, repository: Path) -> None:
    found = json.loads((repository / f"docs/results/panda-{task}.json").read_text())
    line = next(line for line in page.splitlines() if f"(results/panda-{task}.json)" in line)
    assert f"**{round(found['n'] * found['measures']['success'])} of {found['n']}**" in line
    assert f"{found['step']:,} steps" in line
    assert found["command"] in page
