"""``cadenza bench wallclock``: Symphony against the peers, same machine, same training time."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.progress import BarColumn, Progress, TextColumn

from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from cadenza.agents.wallclock.plan import PlannedRun


@dataclass(frozen=True)
class Wallclock:
    """Train Symphony and the peers (SAC, TD3, PPO, TQC, CrossQ with their tuned Humanoid settings) for the same time.

    cadenza bench wallclock --minutes 20 --seeds 3 --peer-seeds 1

    cadenza bench wallclock --agents symphony:cpu sac --minutes 5 --seeds 1 --out runs/short

    One run at a time, seed by seed. Evaluations and checkpoints are not counted. Ctrl-C loses nothing: the same command
    goes on, and with more --minutes, --seeds or --agents it extends what is there. Writes wallclock.md, .csv, .png and
    .json into --out. Leave the machine alone meanwhile.
    """

    minutes: float = 20.0
    """training time of each run"""
    seeds: int = 3
    """of Symphony: 0, 1, ..."""
    peer_seeds: int | None = None
    """of the peers (default: as many)"""
    env: str = "cadenza/HumanoidPaper-v0"
    """environment id; the peers' settings are those for Humanoid whatever it is"""
    agents: tuple[str, ...] = ("symphony:cpu", "symphony:saya", "sac", "td3", "ppo", "tqc", "crossq")
    """symphony:PRESET, sac, td3, ppo, tqc, crossq"""
    out: Path = Path("runs/wallclock")
    """folder of the runs and the report"""
    beside: Path | None = None
    """folder of an earlier report (wallclock.json, wallclock.csv), whose runs are to stand in the same tables"""
    evaluate_every_minutes: float = 1.0
    """training time between evaluations"""
    episodes: int = 10
    """of each evaluation during training"""
    final_episodes: int = 25
    """of the evaluation of the last policy"""
    torch_threads: int | Literal["auto"] = "auto"
    """of every agent; auto: of each what updates it fastest, measured when its run begins"""


def run_wallclock(options: Wallclock, command: str) -> None:
    """Do what is left to do, and write the report after every run.

    Raises:
        CadenzaError: bad arguments, or a folder with other runs; nothing has been started then.
        KeyboardInterrupt: Ctrl-C; the run at work is stored.
    """
    from cadenza.agents.wallclock.earlier import earlier_runs
    from cadenza.agents.wallclock.plan import Plan
    from cadenza.agents.wallclock.report import write_report
    from cadenza.agents.wallclock.running import run_plan

    given = {
        field.name: getattr(options, field.name) for field in fields(options) if field.name not in ("env", "beside")
    }
    plan = Plan(env_id=options.env, **given)
    if options.beside is not None:
        earlier_runs(options.beside, plan)  # a wrong folder is told now, not after hours
    runs = plan.runs()
    hours = len(runs) * plan.minutes / 60
    out.print(f"{len(runs)} runs of {plan.minutes:g} min ({hours:.1f} h) and evaluations, in {escape(str(plan.out))}")
    with _Display([run.folder for run in runs], plan.budget_s) as display:
        try:
            run_plan(plan, display.tell, partial(write_report, plan, command, options.beside))
        except KeyboardInterrupt:
            out.print("everything is stored. The same command goes on:")
            out.print(f"  {escape(command)}")
            raise
    for path in write_report(plan, command, options.beside):
        out.print(f"written: {escape(str(path))}")


class _Display:
    """A line for everything that happens; on a terminal also a bar for the run at work."""

    def __init__(self, folders: list[Path], budget_s: float):
        self._folders, self._budget_s = folders, budget_s
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, said="")
        self._before = self._began = 0.0

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def tell(self, run: PlannedRun, event: dict[str, Any]) -> None:
        """One event of ``agents/wallclock/running.py``."""
        place = f"[{self._folders.index(run.folder) + 1}/{len(self._folders)}] [bold]{escape(run.label)}[/]"
        match event["event"]:
            case "skipped":
                out.print(f"{place}: done before, {event['step']:,} steps")
            case "started":
                self._before, self._began = event["train_s"], time.perf_counter()
                since = f" from {event['train_s'] / 60:.1f} min" if event["train_s"] else ""
                out.print(f"{place}: training{since}")
                self._bar.reset(self._task, total=None, description=escape(run.label), said="")
            case "step":
                # Evaluations run on this clock too: near enough for a bar.
                passed = self._before + time.perf_counter() - self._began
                said = f"{passed / 60:.1f} of {self._budget_s / 60:.1f} min, step {event['step']:,}"
                self._bar.update(self._task, total=self._budget_s, completed=passed, said=said)
            case "evaluation":
                out.print(
                    f"  {event['train_s'] / 60:.1f} min, step {event['step']:,}: noise-free return "
                    f"{event['return_mean']:,.0f} (n={event['n']})"
                )
            case "problem":
                out.print(f"  [yellow]note:[/] {escape(event['message'])}")
            case "final evaluation":
                out.print(f"  step {event['step']:,}: evaluating the last policy")
