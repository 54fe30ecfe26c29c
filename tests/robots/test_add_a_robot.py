"""The sixth robot of docs/add-a-robot.md, from the page's own code block."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.robots import humanoid_names, humanoids, load_humanoid
from cadenza.robots.checking import CHECKS
from cadenza.robots.menagerie import is_fetched
from cadenza.robots.motors import MOTORS


@pytest.fixture
def apollo(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's complete file in a folder of its own, put on the package's path as the page says."""
    page = (repository / "docs/add-a-robot.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "ROBOT = LeggedRobot(" in block
    ]
    (tmp_path / "apollo.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(humanoids, "__path__", [*humanoids.__path__, str(tmp_path)])
    known = dict(MOTORS)
    yield "apollo"
    MOTORS.clear()
    MOTORS.update(known)
    sys.modules.pop("cadenza.robots.humanoids.apollo", None)
    load_humanoid.cache_clear()


def test_it_is_found_by_its_file(apollo: str) -> None:
    assert apollo in humanoid_names()
    assert len(load_humanoid(apollo).joints) == 32


@pytest.mark.parametrize("check", CHECKS)
def test_it_conforms(apollo: str, check: str) -> None:
    robot = load_humanoid(apollo)
    if not is_fetched(robot.menagerie):
        pytest.skip(f"{robot.menagerie} is not on this computer: make robots")
    assert CHECKS[check](robot) == []


def test_without_the_folder_it_is_gone() -> None:
    assert "apollo" not in humanoid_names()
