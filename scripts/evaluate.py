"""``cadenza evaluate``: noise-free episodes of a run's policy or a bundle."""

from __future__ import annotations

import dataclasses
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.commanded import commanded
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse, settings_from

if TYPE_CHECKING:
    from cadenza.agents.runs.evaluation import Evaluation
    from cadenza.agents.runs.policies import OpenedPolicy


@dataclass(frozen=True)
class Evaluate:
    """Play noise-free episodes: return (mean, deviation, 95 % interval), length, the task's measures, motor wear.

    cadenza evaluate runs/first
    cadenza evaluate bundle --episodes 25 --seed 1 --json evaluation.json
    cadenza evaluate runs/op3 --stress --episodes 20

    On Humanoid a return of 5,000 is standing still for 1,000 steps: look at the forward velocity.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """run folder, policy bundle, or the name of a shipped policy (`cadenza list policies`)"""
    episodes: int = 25
    """how many"""
    seed: int = 0
    """episode i is reset with seed + i"""
    which: Literal["best", "last"] = "best"
    """of a run: the policy of the best evaluation, or of the last checkpoint"""
    env: str | None = None
    """another environment than the one trained on (same spaces)"""
    env_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the environment, e.g. --env-set terrain=rough "command=(0.2, 0, 0)\""""
    command: tuple[float, float, float] | None = None
    """one velocity command for ever, for Walk and Run: forward and left, m/s, and turning to the left, rad/s"""
    randomised: bool = False
    """with domain randomisation and pushes (legged robots)"""
    stress: bool = False
    """a table of the policy under pushes, slippery floors, payload, a weak motor, delay (legged robots)"""
    json: Path | None = None
    """write the figures to this file"""


def main(arguments: list[str]) -> int:
    """Parse, play, print."""
    options = parse(Evaluate, "evaluate", arguments)
    if options.episodes < 1:
        raise CadenzaError(f"--episodes must be at least 1, got {options.episodes}.")
    if options.seed < 0:
        raise CadenzaError(f"--seed must not be negative, got {options.seed}.")
    from rich.progress import Progress

    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.agents.runs.policies import act_on, check_fits, open_policy, staged
    from cadenza.agents.runs.settings import provenance
    from cadenza.envs.registration import make_env

    import torch  # isort: skip

    torch.set_num_threads(1)
    policy = open_policy(options.source, options.which)
    env_id = options.env or policy.env_id
    kwargs = {**({} if options.env else policy.env_kwargs), **settings_from(options.env_set)}
    kwargs = commanded(env_id, kwargs, options.command)
    if options.stress:
        return _stress(options, dataclasses.replace(policy, env_id=env_id, env_kwargs=kwargs))
    if options.randomised:
        kwargs["randomised"] = True
    env = make_env(env_id, **kwargs)
    check_fits(policy, env, env_id)
    env = staged(policy.skills, env)
    began = time.perf_counter()
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("playing", total=options.episodes)
        result = evaluate(
            act_on(policy, env),
            env,
            episodes=options.episodes,
            seed=options.seed,
            progress=lambda index, _: bar.update(task, completed=index + 1),
        )
    env.close()
    record: dict[str, Any] = {
        "command": _command(options),
        "policy": policy.label,
        "env": env_id,
        "env_kwargs": kwargs,
        "step": policy.step,
        "seed": options.seed,
        **result.to_dict(),
        "wall_clock_s": round(time.perf_counter() - began, 2),
        **provenance(),
    }
    write_result(options.json, record)  # first: a closed pipe must not cost the figures
    _print(policy.label, env_id, result)
    return 0


def _command(options: Evaluate) -> str:
    """What was asked, without a path of this machine."""
    source = options.source.name if options.source.is_absolute() else options.source
    words = [f"cadenza evaluate {source} --episodes {options.episodes} --seed {options.seed}"]
    words += [f"--env {options.env}"] if options.env else []
    words += ["--which last"] if options.which == "last" else []
    words += ["--env-set", *(shlex.quote(pair) for pair in options.env_set)] if options.env_set else []
    words += ["--command", *(f"{value:g}" for value in options.command)] if options.command is not None else []
    words += ["--randomised"] if options.randomised else []
    words += ["--stress"] if options.stress else []
    return " ".join(words)


def _stress(options: Evaluate, policy: OpenedPolicy) -> int:
    """The table of conditions."""
    from rich.progress import Progress

    from cadenza.agents.runs.robustness import robustness, stresses_of
    from cadenza.agents.runs.settings import provenance

    began = time.perf_counter()
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("playing", total=len(stresses_of(policy.env_id)) * options.episodes)
        outcomes = robustness(
            policy,
            episodes=options.episodes,
            seed=options.seed,
            progress=lambda stress, done: bar.update(task, description=stress.name, advance=float(done > 0)),
        )
    record = {
        "command": _command(options),
        "policy": policy.label,
        "env": policy.env_id,
        "env_kwargs": policy.env_kwargs,
        "step": policy.step,
        "seed": options.seed,
        "robustness": [outcome.to_dict() for outcome in outcomes],
        "wall_clock_s": round(time.perf_counter() - began, 2),
        **provenance(),
    }
    write_result(options.json, record)
    out.print(f"[bold]{policy.label}[/] on [bold]{policy.env_id}[/], {options.episodes} noise-free episodes each")
    out.print(f"  {'':30}{'survived':>10}{'95 %':>12}{'return':>9}{'length':>8}{'forward m/s':>13}")
    for outcome in outcomes:
        result, (low, high) = outcome.evaluation, outcome.survived_ci95
        share, interval = f"{result.survived} of {result.n}", f"{100 * low:.0f} to {100 * high:.0f}"
        line = f"  {outcome.stress:30}{share:>10}{interval:>12}{result.return_mean:9,.0f}{result.length_mean:8,.0f}"
        line += "" if result.forward_velocity_mean is None else f"{result.forward_velocity_mean:13.3f}"
        out.print(escape(line))
    return 0


def _print(label: str, env_id: str, result: Evaluation) -> None:
    out.print(f"[bold]{label}[/] on [bold]{env_id}[/], {result.n} noise-free episodes")
    out.print(f"  return            {result.return_mean:10,.1f} ± {result.return_std:,.1f}")
    if result.return_ci95 is not None:
        low, high = result.return_ci95
        out.print(f"  95 % interval     {low:10,.1f} to {high:,.1f}")
    out.print(
        f"  episode length    {result.length_mean:10,.1f} steps; {result.survived} of {result.n} ran to the time limit"
    )
    if result.forward_velocity_mean is not None:
        out.print(f"  forward velocity  {result.forward_velocity_mean:10.3f} m/s")
    others = {name: value for name, value in result.measures.items() if name != "x_velocity"}
    if others:
        out.print("  means per step of what the environment reports:")
        for name, value in others.items():
            out.print(f"    {name:22} {value:12,.4f}")
    if result.motors is not None:
        _print_motors(result.motors)


def _print_motors(motors: dict[str, Any]) -> None:
    """The whole robot and the joint that fares worst, figure by figure."""
    from cadenza.agents.runs.motors import MOTOR_ROWS
    from cadenza.envs.motor_metrics import TORQUE_METRICS
    from cadenza.robots.motor_thermal import XM430_W350 as WINDING

    seconds, several = motors["seconds"], len(motors["joints"]) > 1
    length = f"{motors['steps']:,} steps" if seconds is None else f"{seconds:,.1f} s"
    out.print(f"  what the motors would say after these {length} (docs/motor-safety.md):")
    out.print(f"    {'':40}{'robot':>10}" + (f"{'worst joint':>13}" if several else ""))
    for name, text, factor, decimals in MOTOR_ROWS:
        if motors[name] is None:
            continue
        line = f"    {text:40}{motors[name] * factor:10,.{decimals}f}"
        worst = motors["worst_joint"].get(name)
        if several and worst is not None:
            line += f"{motors['joints'][worst][name] * factor:13,.{decimals}f}  {worst}"
        out.print(escape(line))
    if motors[TORQUE_METRICS[0]] is None:
        out.print("    torque, winding and gears: not known, this environment has no MuJoCo motors with a limit")
    else:
        out.print(f"    windings: XM430-W350 scaled to each joint, limit {WINDING.limit_c:g} °C, cold at the start")
