"""Who runs, in which order, with which settings, and how far each run is."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cadenza.agents.runs.catalogue import check_settings
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.settings import AUTO, RunFolder, RunSettings
from cadenza.agents.wallclock.tuned import PEERS
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env

AGENTS = ("symphony:cpu", "symphony:saya", "sac", "td3", "ppo", "tqc", "crossq")
CHECKPOINT_EVERY_S = 60.0
ENDLESS = 1_000_000_000
"""Environment steps that no budget reaches."""
FINAL = "final.json"


@dataclass(frozen=True)
class PlannedRun:
    """One agent with one seed."""

    agent: str
    """As given: ``sac``, or ``symphony:`` with a preset."""
    seed: int
    settings: RunSettings
    folder: Path

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.agent}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The whole benchmark. Raises CadenzaError for settings that cannot be run, before anything is written."""

    out: Path
    env_id: str = "cadenza/HumanoidPaper-v0"
    agents: tuple[str, ...] = AGENTS
    minutes: float = 20.0
    """Training clock of each run [min]."""
    seeds: int = 3
    """Seeds 0, 1, ... of Symphony."""
    peer_seeds: int | None = None
    """Seeds of everybody else; None = as many."""
    evaluate_every_minutes: float = 1.0
    episodes: int = 10
    """Of each evaluation during training."""
    final_episodes: int = 25
    """Of the evaluation of the last policy."""
    torch_threads: int | Literal["auto"] = "auto"
    """Of every agent; ``auto``: each run measures its own."""

    def __post_init__(self) -> None:
        for name in ("minutes", "evaluate_every_minutes"):
            if not getattr(self, name) > 0:
                raise CadenzaError(f"--{name.replace('_', '-')} must be positive, got {getattr(self, name)}.")
        for name in ("seeds", "peer_seeds", "episodes", "final_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CadenzaError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
        if not self.agents:
            raise CadenzaError("Name at least one agent.", f"For example: --agents {' '.join(AGENTS)}")
        twice = {agent for agent in self.agents if self.agents.count(agent) > 1}
        if twice:
            raise CadenzaError(f"--agents names {', '.join(sorted(twice))} twice.")
        for run in self.runs():
            check_settings(run.settings)
        make_env(self.env_id, pictures=False).close()

    @property
    def budget_s(self) -> float:
        """Training clock of each run [s]."""
        return 60.0 * self.minutes

    def runs(self) -> list[PlannedRun]:
        """Seed by seed, so that an interrupted benchmark has something of everybody."""
        peers = self.seeds if self.peer_seeds is None else self.peer_seeds
        return [
            self._run(agent, seed)
            for seed in range(max(self.seeds, peers))
            for agent in self.agents
            if seed < (self.seeds if is_symphony(agent) else peers)
        ]

    def _run(self, agent: str, seed: int) -> PlannedRun:
        name, _, preset = agent.partition(":")
        common: dict[str, Any] = {
            "env_id": self.env_id,
            "total_steps": ENDLESS,
            "seed": seed,
            "torch_threads": self.torch_threads,
            "evaluate_every": 0,
            "evaluate_every_s": 60.0 * self.evaluate_every_minutes,
            "evaluate_episodes": self.episodes,
            "checkpoint_every": 0,
            "checkpoint_every_s": CHECKPOINT_EVERY_S,
        }
        if is_symphony(agent):
            settings = RunSettings(agent=name, preset=preset or "cpu", **common)
        else:
            if preset:
                raise CadenzaError(f"Presets are Symphony's; got {agent!r}.", f"Give {name} alone.")
            # An unknown name has no entry; check_settings names the nearest.
            tuned = PEERS.get(name)
            if tuned is not None:
                common |= {"overrides": tuned.overrides, "normalize": tuned.normalize}
            settings = RunSettings(agent=name, **common)
        return PlannedRun(agent, seed, settings, self.out / "runs" / f"{agent.replace(':', '-')}-s{seed}")

    def record(self) -> dict[str, Any]:
        """JSON-able; without the place, which is the reader's own."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}


def is_symphony(agent: str) -> bool:
    """Whether this is ours, with or without a preset."""
    return agent.partition(":")[0] == "symphony"


@dataclass(frozen=True)
class Progress:
    """How far a planned run is."""

    train_s: float
    """Stored training clock [s]; 0 where there is nothing to continue."""
    resumable: bool
    """There is a whole checkpoint."""
    final: dict[str, Any] | None
    """What the child wrote at the end of the budget; None until then."""


def progress_of(run: PlannedRun, plan: Plan) -> Progress:
    """Look at a run's folder, changing nothing.

    Raises:
        CadenzaError: the folder holds a run with other settings or a longer budget, or is no run, or is damaged.
    """
    folder = RunFolder(run.folder)
    if not run.folder.is_dir() or not any(run.folder.iterdir()):
        return Progress(0.0, False, None)
    _check_same(folder.read_settings(), run)
    if not any(folder.checkpoints.glob("checkpoint-*.json")):
        return Progress(0.0, False, None)  # killed within its first minute
    manifest = CheckpointStore(folder.checkpoints).latest()
    train_s = float(manifest["extra"]["train_s"])
    final = read_final(run.folder)
    # An extension that was interrupted: what the final evaluation was of is no longer the end of the run's tables.
    extended = final is not None and manifest["step"] != final["step"]
    if final is None or (extended and plan.budget_s > final["budget_s"]):
        # A run killed between its last checkpoint and its final evaluation has gone beyond its budget by a rollout.
        too_long = train_s > 1.02 * plan.budget_s + 5.0
    else:
        too_long = extended or final["budget_s"] > plan.budget_s
    if too_long:
        raise CadenzaError(
            f"{run.folder} has trained for {train_s / 60:.1f} min, longer than --minutes {plan.minutes:g}.",
            "Give at least as many minutes, or another --out.",
        )
    done = final is not None and final["budget_s"] == plan.budget_s and final["evaluation"]["n"] == plan.final_episodes
    return Progress(train_s, True, final if done else None)


def read_final(folder: Path) -> dict[str, Any] | None:
    """What the child wrote when its budget was used; None before."""
    path = folder / FINAL
    if not path.is_file():
        return None
    try:
        final = json.loads(path.read_text())
        return {**final, "budget_s": float(final["budget_s"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CadenzaError(f"{path} is damaged: {error}.", "Remove it; the run's checkpoint is used again.") from error


def _check_same(found: RunSettings, run: PlannedRun) -> None:
    wanted, there = dataclasses.asdict(run.settings), dataclasses.asdict(found)
    if wanted["torch_threads"] == AUTO:
        wanted["torch_threads"] = there["torch_threads"]  # what it was measured to be when the run began
    different = [name for name in wanted if wanted[name] != there[name] and name != "total_steps"]
    if different:
        lines = [f"{name}: there {there[name]!r}, asked {wanted[name]!r}" for name in different]
        raise CadenzaError(
            f"{run.folder} is a run with other settings; nothing was changed.",
            "\n".join([*lines, "Repeat the command that began it (--minutes, --seeds, --agents may grow), or "
                       "choose another --out."]),
        )  # fmt: skip
