"""``cadenza bench``: measurements of this machine, one file each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.critics import Critics, measure_critics
from cadenza.scripts.bench.deploy import Deploy, measure_deploy
from cadenza.scripts.bench.env import Env, measure_envs
from cadenza.scripts.bench.growth import Growth, measure_growth
from cadenza.scripts.bench.loop import Loop, measure_loop
from cadenza.scripts.bench.replay import Replay, measure_replay
from cadenza.scripts.bench.skills import Skills, run_skills
from cadenza.scripts.bench.timing import Record, load_average
from cadenza.scripts.bench.update import Update, measure_update
from cadenza.scripts.bench.wallclock import Wallclock, run_wallclock
from cadenza.scripts.console import write_result
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class Overview:
    """Short measurements of update, environments and replay buffer, in under a minute: `cadenza bench` alone."""

    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Bench:
    """Measure speed on this machine. Without arguments: a short overview of everything.

    cadenza bench
    cadenza bench update --preset cpu --threads 2
    cadenza bench loop --preset cpu
    cadenza bench env cadenza/Humanoid-v0 Hopper-v5
    cadenza bench env --env cadenza/OP3Walk-v0
    cadenza bench replay --capacity 10000 1000000
    cadenza bench growth --plot growth.png
    cadenza bench wallclock --minutes 20 --seeds 3
    cadenza bench skills --presets slim lsd --steps 1000000
    cadenza bench critics cadenza/PandaPlay-v0 --seeds 0 1 2
    cadenza bench deploy --seconds 60

    `cadenza bench update --help` explains one. Other programs on the same cores slow everything down; the load average
    is part of what --json writes.
    """

    what: (
        Annotated[Overview, tyro.conf.subcommand("all")]
        | Annotated[Update, tyro.conf.subcommand("update")]
        | Annotated[Loop, tyro.conf.subcommand("loop")]
        | Annotated[Env, tyro.conf.subcommand("env")]
        | Annotated[Replay, tyro.conf.subcommand("replay")]
        | Annotated[Growth, tyro.conf.subcommand("growth")]
        | Annotated[Wallclock, tyro.conf.subcommand("wallclock")]
        | Annotated[Deploy, tyro.conf.subcommand("deploy")]
        | Annotated[Critics, tyro.conf.subcommand("critics")]
        | Annotated[Skills, tyro.conf.subcommand("skills")]
    ) = field(default_factory=Overview)
    """what to measure"""


def main(arguments: list[str]) -> int:
    """Parse, measure, print."""
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Bench), "bench", arguments
    ).what
    if isinstance(what, Wallclock):
        run_wallclock(what, shlex.join(["cadenza", "bench", *arguments]))
        return 0
    if isinstance(what, Skills):
        run_skills(what, shlex.join(["cadenza", "bench", *arguments]))
        return 0
    from cadenza.agents.runs.settings import provenance

    _check(what)
    record: Record = {"command": " ".join(["cadenza bench", *arguments]), "load_average_before": load_average()}
    if isinstance(what, Update):
        record |= measure_update(what)
    elif isinstance(what, Loop):
        record |= measure_loop(what)
    elif isinstance(what, Env):
        record |= measure_envs(what)
    elif isinstance(what, Replay):
        record |= measure_replay(what)
    elif isinstance(what, Growth):
        record |= measure_growth(what)
    elif isinstance(what, Deploy):
        record |= measure_deploy(what)
    elif isinstance(what, Critics):
        record |= measure_critics(what)
    else:
        record["update"] = measure_update(Update(repeats=12), table=False)
        record["env"] = measure_envs(Env(("cadenza/Humanoid-v0", "cadenza/HumanoidPaper-v0"), steps=300, repeats=5))
        record["replay"] = measure_replay(Replay(capacity=(10_000, 300_000), repeats=7))
    write_result(what.json, {**record, "load_average_after": load_average(), **provenance()})
    return 0


def _check(what: Overview | Update | Loop | Env | Replay | Growth | Deploy | Critics) -> None:
    for name in ("batch", "threads", "repeats", "steps", "stored", "obs", "actions", "largest", "n_envs", "copies"):
        value = getattr(what, name, None)
        if isinstance(what, Env) and name == "threads":
            continue
        if value is not None and value < 1:
            raise CadenzaError(f"--{name} must be at least 1, got {value}.")
    if isinstance(what, Replay) and (not what.capacity or min(what.capacity) < 1):
        raise CadenzaError("--capacity takes one or several numbers of transitions, each at least 1.")
    if isinstance(what, Env) and what.threads < 0:
        raise CadenzaError(f"--threads must be 0 (all processors) or more, got {what.threads}.")
