"""``cadenza imitate dagger`` and ``evaluate``, and what ``pretraining`` measures: policies at tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.imitate_demos import load, tell_damaged
from cadenza.scripts.parse import settings_from
from cadenza.scripts.updates_bar import updates_bar

if TYPE_CHECKING:
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.sequencer.task import SequenceTask
    from cadenza.scripts.imitate import Dagger, Evaluate, Pretraining

INTERRUPTED = 130


def task_for(
    policy: ImitationPolicy, task: str, stages: int | None, pairs: tuple[str, ...]
) -> tuple[SequenceTask, dict[str, Any]]:
    """A task that shows what the policy's demonstrations did, unless ``pairs`` say otherwise, and its settings."""
    from cadenza.agents.imitation.tasks import seen_settings
    from cadenza.agents.sequences import env_id_of, make_task

    settings = seen_settings(policy.inputs, env_id_of(task), settings_from(pairs))
    return make_task(task, stages, **settings), settings


# ------------------------------------------------------------------ evaluate


def evaluate(options: Evaluate) -> int:
    """Play, count, tell."""
    from cadenza.agents.imitation.dagger import primitive_success
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.imitation.tasks import check_task, put_in
    from cadenza.agents.runs.settings import provenance
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequences import learner_for

    policy = ImitationPolicy.load(options.policy)
    learner = learner_for(options.task, options.primitive)
    task, settings = task_for(policy, options.task, options.stages, options.task_set)
    try:
        check_task(policy, task, options.seed)
        put_in(task, options.primitive, policy, learner)
        with updates_bar() as progress:
            found = primitive_success(
                task, OracleRetry(), options.primitive, options.episodes, options.seed,
                progress=lambda done: progress(done, options.episodes, "playing"),
            ).to_dict()  # fmt: skip
    finally:
        task.close()
    record = {
        "command": f"cadenza imitate evaluate {options.policy.name}", "task": options.task, "settings": settings,
        "seed": options.seed, "primitive": options.primitive, **found, **provenance(),
    }  # fmt: skip
    write_result(options.json, record)
    for words, name, count, n in (
        (f"first tries of {options.primitive}", "first_try", "first_tries", "n_tries"),
        ("whole tasks, retried by the oracle", "task", "tasks", "n"),
    ):
        interval = found[name]["ci95"]
        spread = "" if interval is None else f" (95 %: {interval[0]:.0%} to {interval[1]:.0%})"
        out.print(f"{words}: {found[count]} of {found[n]}{spread}")
    return 0


def measure(options: Pretraining, primitive: str) -> Callable[[ImitationPolicy], dict[str, Any]]:
    """What gives the success of a policy as a primitive, at one stage."""
    from cadenza.agents.imitation.dagger import DaggerConfig, primitive_success
    from cadenza.agents.imitation.tasks import check_task, put_in
    from cadenza.agents.sequencer.choosers import ScriptedOrder
    from cadenza.agents.sequences import learner_for

    learner = learner_for(str(options.task), primitive)

    def success(policy: ImitationPolicy) -> dict[str, Any]:
        task, _ = task_for(policy, str(options.task), 1, options.task_set)
        try:
            seed = DaggerConfig().evaluation_seed
            check_task(policy, task, seed)
            put_in(task, primitive, policy, learner)
            return primitive_success(task, ScriptedOrder(), primitive, options.episodes, seed).to_dict()
        finally:
            task.close()

    return success


# ------------------------------------------------------------------ DAgger


def dagger(options: Dagger) -> int:
    """Begin, or go on with, rounds of driving and learning."""
    from cadenza.agents.imitation.config import config_from
    from cadenza.agents.imitation.dagger import DaggerConfig, read_dagger

    if options.resume is None:
        if options.policy is None or options.demos is None or options.run is None:
            raise CadenzaError(
                "imitate dagger needs a policy, its demonstrations and a folder.",
                "cadenza imitate dagger POLICY --demos DEMOS --run RUN",
            )
        names = [one.name for one in dataclasses.fields(DaggerConfig)]
        config = DaggerConfig(**{name: getattr(options, name) for name in names if hasattr(options, name)})
        facts = {
            "policy": str(options.policy), "demos": str(options.demos), "task": options.task,
            "stages": options.stages, "task_set": list(options.task_set),
        }  # fmt: skip
        return _rounds(options.run, config, facts, resume=False)
    given = [one for one in dataclasses.fields(options) if one.name != "resume"]
    if any(getattr(options, one.name) != one.default for one in given):
        raise CadenzaError("--resume takes everything from the run; give it alone.")
    record = read_dagger(options.resume)
    config = config_from(DaggerConfig, record["config"])
    return _rounds(options.resume, config, record["facts"], resume=True)


def _rounds(run: Path, config: Any, facts: dict[str, Any], *, resume: bool) -> int:
    from cadenza.agents.imitation.dagger import REPORT
    from cadenza.agents.imitation.dagger import dagger as play_rounds
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.imitation.tasks import check_demonstrations
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequences import learner_for

    policy = ImitationPolicy.load(facts["policy"])
    primitive = policy.config.primitive
    if primitive is None:
        raise CadenzaError(f"{facts['policy']} was not made for one primitive.", "Train it with --set primitive=NAME.")
    learner = learner_for(facts["task"], primitive)
    samples, _, demos = load(Path(facts["demos"]), policy.config)
    tell_damaged(demos)
    check_demonstrations(policy, demos.schema)
    task, _ = task_for(policy, facts["task"], facts.get("stages"), tuple(facts.get("task_set", ())))
    try:
        with updates_bar() as progress:
            play_rounds(
                policy, samples, task, OracleRetry(), primitive, learner, demos.schema, run, config,
                facts=facts, resume=resume, tell=_tell_round, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not (run / REPORT).is_file():
            raise
        out.print(
            f"interrupted; rounds that were finished are stored. Continue:  cadenza imitate dagger --resume {run}"
        )
        return INTERRUPTED
    finally:
        task.close()
    out.print(f"written: {escape(str(run))}")
    return 0


def _tell_round(row: dict[str, Any]) -> None:
    share = "-" if row["first_try"]["share"] is None else f"{row['first_try']['share']:.0%}"
    gain = "" if row["gain"] is None else f", gain {100 * row['gain']:+.0f} points"
    out.print(
        f"round {row['round']}: first tries {row['first_tries']} of {row['n_tries']} ({share}){gain}; "
        f"whole task {row['tasks']} of {row['n']}; {row['labels']:,} corrections so far"
    )
