"""The project as a package: what pyproject.toml claims against what the folders hold."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOMS = {"agents", "assets", "controllers", "envs", "robots", "scripts"}
PYTHON_LINES = 500
FILE_BYTES = 2_000_000
# The text of the Apache License 2.0 as published, white space aside.
LICENSE_SHA256 = "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """Files under version control or about to be: what .gitignore leaves out is not looked at."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listing.stdout.split("\0") if name and (repository / name).is_file()]


def read_pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): pinned for name, pinned in pins}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_packages_are_exactly_the_folders(repository: Path, project: dict[str, Any]) -> None:
    folders = {file.parent.relative_to(repository) for room in ROOMS for file in (repository / room).rglob("*.py")}
    declared = project["tool"]["setuptools"]["packages"]

    assert sorted(declared) == sorted("cadenza." + ".".join(folder.parts) for folder in folders)
    assert [folder for folder in folders if not (repository / folder / "__init__.py").is_file()] == []
    assert project["tool"]["setuptools"]["package-dir"] == {f"cadenza.{room}": room for room in ROOMS}


def test_top_level_folders(tracked: list[Path]) -> None:
    folders = {path.parts[0] for path in tracked if len(path.parts) > 1}
    assert {name for name in folders if not name.startswith(".")} == ROOMS | {"tests", "docs"}


def test_installed_version_and_command(project: dict[str, Any]) -> None:
    assert version("cadenza") == project["project"]["version"]
    commands = entry_points(group="console_scripts", name="cadenza")
    assert {command.value for command in commands} == {project["project"]["scripts"]["cadenza"]}
    assert {callable(entry.load()) for entry in commands} == {True}


def test_changelog_names_the_version_or_what_comes(repository: Path) -> None:
    assert "## [Unreleased]" in (repository / "CHANGELOG.md").read_text()


def test_license_is_complete_and_unmodified(repository: Path, project: dict[str, Any]) -> None:
    words = " ".join((repository / "LICENSE").read_text().split())
    assert hashlib.sha256(words.encode()).hexdigest() == LICENSE_SHA256
    assert project["project"]["license"] == "Apache-2.0"


def test_constraints_are_plain_exact_pins(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []  # no +local, no -e, no URL
    assert len(read_pins(repository)) == len(pins)


def test_every_dependency_is_pinned_within_its_range(repository: Path, project: dict[str, Any]) -> None:
    pins = read_pins(repository)
    wanted = [Requirement(line) for line in project["project"]["dependencies"]]
    extras = project["project"]["optional-dependencies"]
    wanted += [Requirement(line) for lines in extras.values() for line in lines if not line.startswith("cadenza[")]
    assert [need.name for need in wanted if normal(need.name) not in pins] == []
    outside = [str(need) for need in wanted if Version(pins[normal(need.name)]) not in need.specifier]
    assert outside == []


def test_development_install_can_run_everything(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    assert set(extras["peers"]) <= set(extras["dev"])


def test_no_path_or_host_of_one_machine(repository: Path, tracked: list[Path]) -> None:
    folders = "|".join(["root", "work", "home/[a-z]", "Users/[A-Za-z]", "opt/(?:pypi|wheels)"])
    hosts = "|".join(["pypi[.]org", "pythonhosted[.]org", "registry[.]npmjs", "deb[.]debian"])
    forbidden = re.compile(rf"(?<![\w.])/(?:{folders})\b/?|{hosts}")
    found = []
    for path in tracked:
        try:
            text = (repository / path).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path}: {match.group()}" for match in forbidden.finditer(text)]
    # The pattern's own pieces above are split so that they do not match.
    assert found == []


def test_files_stay_small(repository: Path, tracked: list[Path]) -> None:
    large = [str(path) for path in tracked if (repository / path).stat().st_size > FILE_BYTES]
    long = [
        str(path)
        for path in tracked
        if path.suffix == ".py" and len((repository / path).read_text().splitlines()) > PYTHON_LINES
    ]
    assert large == []
    assert long == []


def test_make_help_names_every_target(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    targets = set(phony.group(1).split())
    assert {"setup", "demo", "test", "lint", "types", "check", "build", "bench"} <= targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    shown = subprocess.run(["make", "-s"], cwd=repository, capture_output=True, text=True, check=True).stdout
    assert [name for name in targets - {"help", "wheel"} if f"make {name}" not in shown] == []
