"""The README's commands, run as written but for the amount of work; its links; its Python."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.main import run

SMALLER = {"--steps 40000": "--steps 2100 --evaluate-every 2050", "--episodes 25": "--episodes 2"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("cadenza ")]


def part_of_readme(repository: Path, title: str) -> str:
    """The section of that title."""
    return (repository / "README.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.usefixtures("needs_gl")
def test_the_tour(repository: Path, elsewhere: Path) -> None:
    tour = commands(part_of_readme(repository, "The five-minute tour"))
    assert [line.split()[1] for line in tour] == ["train", "evaluate", "record", "plot", "export", "evaluate"]
    for line in tour:
        for full, small in SMALLER.items():
            line = line.replace(full, small)
        assert run(shlex.split(line)[1:]) == 0, line
    for name in ("first.mp4", "first.png", "first.json", "first-bundle/policy.onnx"):
        assert (elsewhere / name).stat().st_size > 0


@pytest.mark.skipif(not is_fetched("robotis_op3"), reason="the OP3 is not fetched: make robots")
def test_the_way_to_motors(repository: Path, elsewhere: Path) -> None:
    way = commands(part_of_readme(repository, "From policy to motors"))
    assert [line.split()[1] for line in way] == ["deploy", "deploy", "log"]
    for line in way:
        short = line.replace("--seconds 10", "--seconds 0.3 --lockstep")
        assert run(shlex.split(short)[1:]) == 0, line
    assert (elsewhere / "walk.mcap").stat().st_size > 0


@pytest.mark.slow
def test_the_python_example(repository: Path, elsewhere: Path) -> None:
    (example,) = blocks((repository / "README.md").read_text(), "python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["env"].action_space.contains(names["action"])  # type: ignore[attr-defined]
    assert (elsewhere / "hopper.zip").is_file()


def pages(repository: Path) -> list[Path]:
    return [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").rglob("*.md"))]


def test_links_and_pictures_exist(repository: Path) -> None:
    missing = [
        f"{page.name}: {target}"
        for page in pages(repository)
        for target in re.findall(r"\]\(([^)#]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_cadenza_command_in_the_docs_exists(repository: Path) -> None:
    from cadenza.scripts.main import COMMANDS

    unknown = [
        f"{page.name}: {name}"
        for page in pages(repository)
        for name in re.findall(r"^cadenza ([a-z]+)", page.read_text(), re.MULTILINE)
        if name not in COMMANDS
    ]
    assert unknown == []


def test_results_quote_their_json(repository: Path) -> None:
    """The figures of a results table are those of the JSON beside it."""
    folder = repository / "docs" / "results"
    evaluations = sorted(folder.glob("*-evaluation.json"))
    assert evaluations
    for file in evaluations:
        figures = json.loads(file.read_text())
        low, high = figures["return_ci95"]
        mean, velocity = f"{figures['return_mean']:,.0f}", f"{figures['forward_velocity_mean']:.2f} m/s"
        for page in (folder / "README.md", repository / "README.md"):
            rows = [line for line in page.read_text().splitlines() if line.startswith("|") and file.name in line]
            assert len(rows) == 1, f"{page.name} has {len(rows)} rows for {file.name}"
            for text in (mean, velocity, f"{low:,.0f} to {high:,.0f}", f"n={figures['n']}", f"{figures['step']:,}"):
                assert text in rows[0], f"{page.name}: {text} is not in the row of {file.name}"
