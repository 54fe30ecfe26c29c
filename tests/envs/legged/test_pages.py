"""docs/tasks.md and docs/randomisation.md against the tables they speak of, and their Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.envs.legged.events import EVENTS
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.tasks import TASKS, task_class
from cadenza.envs.registration import ENVIRONMENTS
from cadenza.robots import humanoid_names, load_humanoid

MakeTask = Callable[..., LeggedTask]


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table whose first heading this is."""
    table = page[page.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


@pytest.fixture
def tasks_page(repository: Path) -> str:
    return (repository / "docs/tasks.md").read_text(encoding="utf-8")


def test_events(repository: Path) -> None:
    page = (repository / "docs/randomisation.md").read_text(encoding="utf-8")
    assert rows(page, "Event") == [
        [f"`{e.name}`", e.when, f"{e.low:g} to {e.high:g}", f"{e.nominal:g}", e.per, e.meaning] for e in EVENTS
    ]


@pytest.mark.parametrize("name", ["tasks.md", "randomisation.md"])
def test_the_python_runs(name: str, repository: Path) -> None:
    page = (repository / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)


def test_observation_terms(tasks_page: str, make_task: MakeTask) -> None:
    stated = {row[0].strip("`"): row[1:] for row in rows(tasks_page, "Term")}
    seen: dict[str, list[str]] = {}
    for name, entry in TASKS.items():
        task = make_task(name, **({"poses": 1} if name == "get_up" else {}))
        for term in task.layout.actor:
            seen.setdefault(term.name, []).append(entry.label)
            size = "n" if term.size == len(task.home) else str(term.size)
            assert stated[term.name][:4] == [size, term.source, f"{term.scale:g}", f"{term.noise:g}"]
    assert list(stated) == list(make_task("walk").layout.slices())
    for name, titles in seen.items():
        assert stated[name][4] == ("all" if len(titles) == len(TASKS) else ", ".join(titles))
    for term in make_task("walk", privileged=True).layout.privileged:
        assert re.search(rf"`{term.name}` \({term.size}[):]", tasks_page), term.name


def test_reward_terms(tasks_page: str) -> None:
    table = tasks_page[tasks_page.index("| Term | Kind |") :]
    stated = {row[0].strip("`"): row[1:3] for row in rows(table, "Term")}
    found: dict[str, tuple[list[str], list[float]]] = {}
    for name, entry in TASKS.items():
        for term, weight in task_class(name).weights.items():
            titles, weights = found.setdefault(term, ([], []))
            titles.append(entry.label)
            weights.append(weight)
    expected = {
        term: ["cost" if min(weights) < 0 else "reward", ", ".join(titles)] for term, (titles, weights) in found.items()
    }
    assert stated == expected


def test_ids_and_robots(tasks_page: str) -> None:
    ids = re.findall(r"`(cadenza/\w+-v0)`", tasks_page)
    assert set(ids) <= set(ENVIRONMENTS)
    stated = {row[0]: row[1:] for row in rows(tasks_page, "Robot")}
    for name in humanoid_names():
        robot = load_humanoid(name)
        assert stated[robot.title] == [
            f"`cadenza/{robot.prefix}Walk-v0`", str(len(robot.joints)), f"{robot.speed_m_s:g} m/s",
            f"{robot.gait_period_s:g} s", f"{robot.action_scale:.3g} rad",
        ]  # fmt: skip
