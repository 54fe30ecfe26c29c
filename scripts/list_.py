"""``cadenza list``: what can be named in the other commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from cadenza.scripts.console import out
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class List:
    """Show environments, agents, presets, robots and the trained policies that ship, or one of these.

    cadenza list
    cadenza list presets
    """

    what: Annotated[Literal["all", "envs", "agents", "presets", "robots", "policies"], tyro.conf.Positional] = "all"
    """what to show"""


def main(arguments: list[str]) -> int:
    """Parse and print."""
    what = parse(List, "list", arguments).what
    sections = {"envs": _envs, "agents": _agents, "presets": _presets, "robots": _robots, "policies": _policies}
    for name, show in sections.items():
        if what in ("all", name):
            show()
    return 0


def _section(title: str, rows: dict[str, str]) -> None:
    from rich.markup import escape

    width = max(len(name) for name in rows)
    out.print(f"[bold]{title}[/]")
    for name, summary in rows.items():
        out.print(f"  {name:{width}}  {escape(summary)}".rstrip())
    out.print()


def _envs() -> None:
    from cadenza.envs.registration import ENVIRONMENTS, environment_ids

    theirs = [name for name in environment_ids() if name not in ENVIRONMENTS]
    _section("Environments (any other Gymnasium id with continuous actions works too)", ENVIRONMENTS)
    _section("Gymnasium's MuJoCo environments", dict.fromkeys(theirs, ""))


def _agents() -> None:
    from cadenza.agents.runs.catalogue import AGENTS

    _section("Agents", {name: summary for name, (_, _, summary) in AGENTS.items()})


def _presets() -> None:
    from dataclasses import fields

    from cadenza.agents.symphony.presets import PRESETS, SymphonyConfig

    _section("Presets of symphony (train symphony ENV --preset NAME)", {k: v.summary for k, v in PRESETS.items()})
    settings = {f.name: "" for f in fields(SymphonyConfig) if f.name != "summary"}
    out.print("[bold]Settings[/] (--set NAME=VALUE)")
    out.print("  " + ", ".join(settings) + "\n")
    from cadenza.agents.slim.presets import SUMMARIES, SlimConfig

    _section("Presets of slim (train slim ENV --preset NAME)", SUMMARIES)
    out.print("[bold]Settings[/] (--set NAME=VALUE)")
    out.print("  " + ", ".join(f.name for f in fields(SlimConfig)) + "\n")


def _robots() -> None:
    """Humanoids and arms as a table, then what else there is."""
    from collections import Counter

    from cadenza.robots import ROBOTS, load_robot, robot_names
    from cadenza.robots.menagerie import is_fetched

    rows = [("name", "robot", "dof", "mass", "licence", "model (MuJoCo Menagerie)", "motors")]
    missing = False
    for name in robot_names():
        robot = load_robot(name)
        motors = Counter(joint.motor for joint in robot.joints)
        fetched = all(is_fetched(model) for model in robot.models)
        missing = missing or not fetched
        rows.append(
            (
                name,
                robot.title,
                f"{len(robot.joints)}",
                f"{robot.mass_kg:.1f} kg",
                robot.licence,
                " + ".join(robot.models) + ("" if fetched else " (not fetched)"),
                ", ".join(f"{count} {motor}" for motor, count in motors.items()),
            )
        )
    out.print("[bold]Robots[/]")
    _table(rows, right=(2, 3))
    if missing:
        out.print("  What is not fetched: `cadenza robots fetch` brings it to this computer.")
    out.print()
    _section("Benchmark robots", ROBOTS)


def _table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> None:
    """Columns as wide as their widest cell; those of ``right`` are set flush right."""
    from rich.markup import escape

    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        out.print(escape("  " + "  ".join(cells)).rstrip())


def _policies() -> None:
    """Trained policies that ship, with the figures of their cards; that there are none, where there are none."""
    from rich.markup import escape

    from cadenza.controllers.shipped import policies_folder, shipped_policies

    policies = shipped_policies()
    out.print("[bold]Trained policies that ship[/] (cadenza evaluate NAME, cadenza record NAME)")
    if not policies:
        where = escape(str(policies_folder()))
        out.print(f"  none in {where}; train one with `cadenza train`, and `cadenza export RUN --out bundle` it.\n")
        return
    rows = [("name", "environment", "return", "episodes", "velocity", "size")]
    for policy in policies:
        result = policy.evaluation
        figures = ("no card", "", "")
        if result is not None:
            velocity = result["forward_velocity_mean"]
            spread = f"{result['return_mean']:,.0f} ± {result['return_std']:,.0f}"
            figures = (spread, f"{result['n']}", "-" if velocity is None else f"{velocity:.2f} m/s")
        rows.append((policy.name, policy.manifest.env_id, *figures, f"{policy.size_bytes / 1e6:.1f} MB"))
    _table(rows, right=tuple(range(2, len(rows[0]))))
    out.print()
