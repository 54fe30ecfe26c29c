"""The experiment: several ways to do one long task, the same episodes for each, resumable to the episode.

Every finished episode is a line of ``episodes/<method>-<stages>.jsonl``; what is there is not played again. Methods and
lengths may be shared out among processes, since each pair has a file of its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cadenza.agents.runs.robustness import wilson
from cadenza.agents.runs.settings import provenance, write_json
from cadenza.agents.sequencer.choosers import OracleRetry, ScriptedOrder
from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.machine import Attempt, Chooser, EpisodeResult, run_episode, run_flat
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.agents.sequencer.weights import weights_of
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

METHODS = {
    "script": "the order of primitives, each once, no retry",
    "oracle": "the expert, who sees whether a stage is done",
    "learned": "the learned sequencer (--selector)",
    "flat": "one policy for everything, no primitives (--flat)",
}
PLAN, EPISODES = "plan.json", "episodes"


@dataclass(frozen=True)
class Plan:
    """What is compared. All of it but ``methods``, ``stages`` and ``episodes`` must stay when a folder is continued."""

    task: str
    out: Path
    methods: tuple[str, ...] = ("script", "oracle", "learned", "flat")
    stages: tuple[int, ...] = (1, 2, 3)
    episodes: int = 50
    seed: int = 90_000
    """Episode i of every method and length is reset with ``seed + i``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the task: disturbances, layouts, the policy behind a primitive."""
    selector: str | None = None
    flat: str | None = None
    limits: MachineLimits = field(default_factory=MachineLimits)

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise unknown_name("method", method, METHODS)
        if self.episodes < 1 or not self.stages or min(self.stages) < 1:
            raise CadenzaError("A comparison needs at least one episode and lengths from 1 on.")
        for method, given, option in (("learned", self.selector, "--selector"), ("flat", self.flat, "--flat")):
            if method in self.methods and given is None:
                raise CadenzaError(
                    f"The method {method!r} needs {option} FOLDER.", f"Give it, or leave {method} out of --methods."
                )

    @property
    def fixed(self) -> dict[str, Any]:
        """What must not change in a folder."""
        kept = ("task", "seed", "settings", "selector", "flat", "limits")
        record = {name: value for name, value in dataclasses.asdict(self).items() if name in kept}
        plain: dict[str, Any] = json.loads(json.dumps(record))
        return plain

    def weights(self) -> dict[str, str]:
        """sha256 of the weights behind the selector, the flat policy and the settings that name a folder."""
        return weights_of({"selector": self.selector, "flat": self.flat, **self.settings})

    def cells(self) -> list[tuple[str, int]]:
        """Method and length, lengths first, so that early rows can be compared early."""
        return [(method, stages) for stages in self.stages for method in self.methods]


Tell = Callable[[str, int, int, EpisodeResult | None], None]
"""Told method, stages, how many episodes are done, and the last of them (None: done before)."""


def run_plan(plan: Plan, make_task: Callable[..., SequenceTask], tell: Tell = lambda *_: None) -> None:
    """Play what is missing.

    Args:
        plan: what is compared.
        make_task: ``make_task(name, stages, **settings)``.
        tell: told after each episode.

    Raises:
        CadenzaError: a folder with another comparison, or a policy that does not fit; nothing was played then.
    """
    _open(plan)
    for method, stages in plan.cells():
        results = read_cell(plan.out, method, stages)[: plan.episodes]
        tell(method, stages, len(results), None)
        if len(results) == plan.episodes:
            continue
        done = {result.seed for result in results}
        play = _player(plan, method)
        task = make_task(plan.task, stages, **plan.settings)
        try:
            for index in range(plan.episodes):
                if plan.seed + index in done:
                    continue
                result = play(task, plan.seed + index)
                _append(plan.out, method, stages, result)
                tell(method, stages, len(done) + 1, result)
                done.add(plan.seed + index)
        finally:
            task.close()


def _player(plan: Plan, method: str) -> Callable[[SequenceTask, int], EpisodeResult]:
    if method == "flat":
        from cadenza.agents.imitation.policy import ImitationPolicy

        policy = ImitationPolicy.load(str(plan.flat))
        return lambda task, seed: run_flat(task, policy, seed, plan.limits)
    chooser = make_chooser(method, plan.selector)
    return lambda task, seed: run_episode(task, chooser, seed, plan.limits)


def make_chooser(method: str, selector: str | Path | None = None) -> Chooser:
    """``script``, ``oracle`` or ``learned``.

    Raises:
        CadenzaError: another name, or no sequencer in the folder ``selector``.
    """
    if method == "learned":
        from cadenza.agents.sequencer.selector import LearnedSelector

        if selector is None:
            raise CadenzaError("The learned sequencer needs its folder.", "--selector FOLDER")
        return LearnedSelector.load(selector)
    makers: dict[str, Callable[[], Chooser]] = {"script": ScriptedOrder, "oracle": OracleRetry}
    if method not in makers:
        raise unknown_name("chooser", method, [*makers, "learned"])
    return makers[method]()


def _open(plan: Plan) -> None:
    file = plan.out / PLAN
    if file.is_file():
        stored = json.loads(file.read_text())
        before = stored["fixed"]
        different = [name for name, value in plan.fixed.items() if before.get(name) != value]
        if different:
            raise CadenzaError(
                f"{plan.out} holds another comparison; different: {', '.join(different)}.", "Choose another --out."
            )
        weights = stored.get("weights", {})  # without: of before they were noted
        if changed := [name for name, sha256 in plan.weights().items() if weights.get(name, sha256) != sha256]:
            raise CadenzaError(
                f"{plan.out} was begun with other weights at the same place; trained anew since: {', '.join(changed)}.",
                "Choose another --out for the new ones, or put the old ones back: one row is one policy.",
            )
        return
    (plan.out / EPISODES).mkdir(parents=True, exist_ok=True)
    write_json(file, {"fixed": plan.fixed, "weights": plan.weights(), **provenance()})


def _cell(out: Path, method: str, stages: int) -> Path:
    return out / EPISODES / f"{method}-{stages}.jsonl"


def _append(out: Path, method: str, stages: int, result: EpisodeResult) -> None:
    line = json.dumps(dataclasses.asdict(result)) + "\n"
    path = _cell(out, method, stages)
    if path.is_file() and not path.read_bytes().endswith(b"\n"):  # cut off by a kill; the line is played again
        whole = path.read_text().rpartition("\n")[0]
        path.write_text(whole + "\n" if whole else "")
    with open(path, "a") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_cell(out: Path, method: str, stages: int) -> list[EpisodeResult]:
    """Finished episodes of a method at a length; a line cut off by a kill is left out."""
    path = _cell(out, method, stages)
    if not path.is_file():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue
        data["attempts"] = [Attempt(**attempt) for attempt in data["attempts"]]
        found.append(EpisodeResult(**data))
    return found


# ------------------------------------------------------------------ figures


def share(count: int, n: int) -> dict[str, Any]:
    """A proportion with its 95 % Wilson interval, JSON-able; of none: None."""
    if n == 0:
        return {"count": 0, "n": 0, "share": None, "low": None, "high": None}
    low, high = wilson(count, n)
    return {"count": count, "n": n, "share": count / n, "low": low, "high": high}


def cell_figures(results: list[EpisodeResult], first: str | None) -> dict[str, Any]:
    """Of one method at one length.

    Args:
        results: its episodes.
        first: the primitive whose failure is to be recovered from: the first of the script's order.
    """
    stages = results[0].stages
    attempts = [attempt for result in results for attempt in result.attempts]
    names = sorted({attempt.name for attempt in attempts})
    shaken = [  # stages whose first try of that primitive failed, and whether they were finished at last
        result.finished[stage]
        for result in results
        for stage in range(stages)
        if (tried := next((a for a in result.attempts if a.stage == stage and a.name == first), None)) is not None
        and not tried.good
    ]
    return {
        "success": share(sum(result.success for result in results), len(results)),
        "by_stage": [share(sum(r.finished[stage] for r in results), len(results)) for stage in range(stages)],
        "recovery": share(sum(shaken), len(shaken)),
        "primitives_per_episode": len(attempts) / len(results) if attempts else None,
        "duration_s": sum(result.duration_s for result in results) / len(results),
        "primitives": {name: _primitive_figures([a for a in attempts if a.name == name]) for name in names},
    }


def _primitive_figures(attempts: list[Attempt]) -> dict[str, Any]:
    outcomes = [attempt.outcome for attempt in attempts]
    mean = {
        name: sum(getattr(attempt, name) for attempt in attempts) / len(attempts)
        for name in ("steps", "no_progress", "oscillation", "repeated_failure")
    }
    return {
        "attempts": len(attempts),
        "success": share(outcomes.count("success"), len(outcomes)),
        **{name: outcomes.count(name) for name in ("failure", "timeout", "cut")},
        **{f"mean_{name}": value for name, value in mean.items()},
    }


def figures(plan: Plan, first: str | None) -> dict[str, Any]:
    """Of all cells that have episodes, JSON-able, with p^k of the script at one stage beside each length."""
    cells: dict[str, dict[str, Any]] = {}
    for method, stages in plan.cells():
        results = read_cell(plan.out, method, stages)[: plan.episodes]
        if results:
            cells.setdefault(method, {})[str(stages)] = cell_figures(results, first)
    single = cells.get("script", {}).get("1", {}).get("success")
    powers = {} if single is None else {str(stages): power(single, stages) for stages in plan.stages}
    return {"plan": plan.fixed, "episodes": plan.episodes, "methods": cells, "script_at_one_stage_to_the_k": powers}


def power(single: Mapping[str, Any], stages: int) -> dict[str, Any]:
    """p^stages of a proportion and of the ends of its interval: what stages of that quality give without a retry."""
    return {name: single[name] ** stages for name in ("share", "low", "high")}
