"""docs/cable_routing.md: its snippet runs, its tables say what the code and the stored results say."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from cadenza.agents.cable_routing.scripted import PRIMITIVES
from cadenza.envs.cable.layouts import LAYOUTS
from cadenza.envs.cable.observation import state_layout
from cadenza.envs.cable.settings import CAMERAS, DISTURBANCES, CableConfig
from cadenza.robots.menagerie import is_fetched


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "cable_routing.md").read_text()


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of all rows of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.skipif(not is_fetched("franka_emika_panda"), reason="the Panda is not fetched: make robots")
def test_the_snippet(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page.split("## The world")[0], re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(snippet, "docs/cable_routing.md", "exec"), names)
    assert names["episode"].success  # type: ignore[attr-defined]
    assert "('route', 1, 'success')" in capsys.readouterr().out


def test_settings_and_names(page: str) -> None:
    task = section(page, "The task")
    stated = {name for row in rows(task) for name in re.findall(r"`(\w+)`", row[0])}
    settings = {field.name for field in fields(CableConfig)} - {"visuals"}
    assert settings <= stated
    assert set(state_layout("state")) <= stated
    for name in (*LAYOUTS, *CAMERAS, *DISTURBANCES):
        assert f"`{name}`" in task, name
    kept = {row[0].strip("`") for row in rows(task) if row[-1] == "kept"}
    assert kept == set(state_layout("camera"))
    sizes = {row[0].strip("`"): row[1] for row in rows(task) if row[0].strip("`") in state_layout("state")}
    for name, part in state_layout("state").items():
        assert sizes[name].startswith(f"{part.stop - part.start}:"), name
    assert [row[0].strip("`") for row in rows(section(page, "Primitives"))[1:]] == [
        "go_next", "route", "tighten", "regrasp",
    ]  # fmt: skip
    assert set(PRIMITIVES) == {"go_next", "route", "tighten", "regrasp"}


def test_results_are_those_of_the_files(page: str, repository: Path) -> None:
    found = [row for row in rows(section(page, "The expert")) if "results/" in row[0]]
    assert found
    for row in found:
        file = re.findall(r"\((results/.*?\.json)\)", row[0])[0]
        figures = json.loads((repository / "docs" / file).read_text())
        count, told = figures["episodes"], figures["settings"]
        assert f"{told['clips']}, `{told['layout']}`" in row[0]
        assert row[2:] == [
            f"{figures['successes']} of {count}",
            f"{figures['first_route_of_first_clip']} of {count}",
            f"{figures['primitives_per_episode']:.1f}",
            f"{figures['real_time_factor']:.1f} x",
        ]
