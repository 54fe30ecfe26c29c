"""The benchmark's loop: every planned run in its turn, each continued from where it was left."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

from cadenza.agents.runs.lock import alone_in
from cadenza.agents.wallclock.child import run_child
from cadenza.agents.wallclock.plan import Plan, PlannedRun, progress_of

Tell = Callable[[PlannedRun, dict[str, Any]], None]


def run_plan(plan: Plan, tell: Tell, after_each: Callable[[], object]) -> None:
    """Do what is left of ``plan``, one run at a time.

    Args:
        plan: what to run.
        tell: called with a run and an event: ``skipped``, ``started`` (with ``train_s`` done before), then the
            child's (see ``child.py``), then ``finished``.
        after_each: called when a run has finished, e.g. to write the report of what there is.

    Raises:
        CadenzaError: a folder that holds other runs or is another program's (nothing has been started then), or a run
            that failed.
        KeyboardInterrupt: Ctrl-C; the run at work is stored.
    """
    for run in plan.runs():
        progress_of(run, plan)
    with alone_in(plan.out):
        _run_plan(plan, tell, after_each)


def _run_plan(plan: Plan, tell: Tell, after_each: Callable[[], object]) -> None:
    for run in plan.runs():
        done = progress_of(run, plan)
        if done.final is not None:
            tell(run, {"event": "skipped", "step": done.final["step"]})
            continue
        if not done.resumable and run.folder.is_dir():
            shutil.rmtree(run.folder)  # ours, with the same settings, and killed before its first checkpoint
        tell(run, {"event": "started", "train_s": done.train_s})
        job = {
            "settings": dataclasses.asdict(run.settings),
            "folder": str(run.folder),
            "budget_s": plan.budget_s,
            "final_episodes": plan.final_episodes,
            "resume": done.resumable,
        }
        run_child(job, partial(tell, run))
        tell(run, {"event": "finished"})
        after_each()
