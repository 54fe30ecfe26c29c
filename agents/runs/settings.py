"""What a run is: its settings, its folder, and the versions and machine it ran on, as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from cadenza.agents.symphony.presets import SymphonyConfig, resolve_config
from cadenza.envs.errors import CadenzaError
from cadenza.envs.processors import usable_processors

CONFIG = "config.json"
FORMAT = "cadenza-run-1"
AUTO: Final = "auto"
_PACKAGES = ("cadenza", "mujoco", "gymnasium", "stable_baselines3", "sb3_contrib", "torch", "numpy")


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what a run computes. Stored in the run's ``config.json``."""

    agent: str
    env_id: str
    preset: str | None = None
    total_steps: int = 100_000
    seed: int = 0
    n_envs: int = 1
    device: str = "cpu"
    torch_threads: int | Literal["auto"] = 1
    """Threads of torch within an operation. ``auto``: measured when the run begins (``agents/runs/threads.py``), and
    fewer if the machine gets busy; ``config.json`` then holds the number. The default of the command line is ``auto``,
    here it is 1: the same numbers on every machine, and nothing is measured."""
    evaluate_every: int = 10_000
    """Environment steps between evaluations during training; 0 = none."""
    evaluate_episodes: int = 5
    checkpoint_every: int = 10_000
    """Environment steps between checkpoints; 0 = only at the end."""
    evaluate_every_s: float = 0.0
    """Seconds of the training clock between evaluations [s], beside ``evaluate_every``; 0 = none."""
    checkpoint_every_s: float = 0.0
    """Seconds of the training clock between checkpoints [s], beside ``checkpoint_every``; 0 = none."""
    normalize: bool = False
    """Learn from observations and rewards that Stable-Baselines3's VecNormalize has scaled; PPO only."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings of the algorithm that differ from the preset's or from Stable-Baselines3's defaults."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment, in training and evaluation."""
    teacher: str | None = None
    """Who chooses the parameters of each training episode: a name of :data:`cadenza.envs.teachers.TEACHERS`."""
    training_kwargs: dict[str, Any] = field(default_factory=dict)
    """Settings of the training environments alone, e.g. ``{"randomised": True}``; they go before ``env_kwargs``."""

    def __post_init__(self) -> None:
        if isinstance(self.torch_threads, str) and self.torch_threads != AUTO:
            raise CadenzaError(f"torch_threads must be a number or {AUTO!r}, got {self.torch_threads!r}.")
        for name in ("total_steps", "n_envs", "torch_threads", "evaluate_episodes"):
            if getattr(self, name) != AUTO and getattr(self, name) < 1:
                option = "--steps" if name == "total_steps" else f"--{name.replace('_', '-')}"
                raise CadenzaError(f"{name} must be at least 1, got {getattr(self, name)}.", f"Set it with {option}.")
        for name in ("evaluate_every", "checkpoint_every", "evaluate_every_s", "checkpoint_every_s"):
            if getattr(self, name) < 0:
                raise CadenzaError(f"{name} must not be negative, got {getattr(self, name)}.", "0 switches it off.")


class RunFolder:
    """Paths inside a run folder, and its ``config.json``."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / CONFIG
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.episodes = self.path / "episodes.csv"
        self.evaluations = self.path / "evaluations.csv"
        self.progress = self.path / "progress.csv"
        self.motors = self.path / "motors.csv"
        self.tensorboard = self.path / "tensorboard"

    def check_free(self) -> None:
        """Raise CadenzaError where something stands at this path already."""
        if self.path.is_dir() and any(self.path.iterdir()):
            advice = "Choose another with --run, or remove it."
            if self.config.is_file():
                advice = f"Continue it:  cadenza train --resume {self.path}\nor choose another folder with --run."
            raise CadenzaError(f"The run folder {self.path} exists already; nothing was changed.", advice)

    def create(self, settings: RunSettings, **notes: Any) -> None:
        """Make the folder for a new run; ``notes`` (JSON-able) stand beside the settings in ``config.json``.

        Raises:
            CadenzaError: it exists and is not empty, or cannot be written.
        """
        self.check_free()
        record = {"format": FORMAT, "settings": dataclasses.asdict(settings), **notes, **provenance()}
        if (values := _preset_values(settings)) is not None:
            record["preset_settings"] = values
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.best.mkdir(exist_ok=True)
            write_json(self.config, record)
        except OSError as error:
            raise CadenzaError(
                f"Cannot make the run folder {self.path}: {error.strerror}.", "Choose another place with --run DIR."
            ) from error

    def read_record(self) -> dict[str, Any]:
        """The whole of ``config.json``.

        Raises:
            CadenzaError: no run there, or one that this version cannot read.
        """
        if not self.config.is_file():
            raise CadenzaError(f"{self.path} is not a run: it has no {CONFIG}.", "Runs are made by `cadenza train`.")
        try:
            record: Any = json.loads(self.config.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CadenzaError(f"{self.config} is damaged: {error}.") from error
        if not isinstance(record, dict):
            raise CadenzaError(f"{self.config} is damaged: it holds no settings.")
        if record.get("format") != FORMAT:
            raise CadenzaError(f"{self.config} has the format {record.get('format')!r}; this version reads {FORMAT!r}.")
        return dict(record)

    def read_settings(self) -> RunSettings:
        """The settings the run was started with; where a preset has changed since, what it said then as overrides."""
        record = self.read_record()
        try:
            settings = RunSettings(**record["settings"])
            then = {name: value for name, (value, _) in preset_changes(settings, record.get("preset_settings")).items()}
            return dataclasses.replace(settings, overrides={**then, **settings.overrides})
        except (TypeError, KeyError, ValueError) as error:
            raise CadenzaError(f"{self.config} holds settings that this version does not know: {error}.") from error


def preset_changes(settings: RunSettings, then: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    """Setting -> what the preset of a run said when it began, and what it says today, where these differ.

    A setting that there was not yet did what its class's default does, whatever the preset says today.

    Args:
        settings: of the run.
        then: the ``preset_settings`` of its ``config.json``; None where they were not recorded.

    Raises:
        ValueError: a preset that is no more.
    """
    if not then or (today := _preset_values(settings)) is None:
        return {}
    before = {**(_preset_values(settings, defaults=True) or {}), **then}
    return {
        name: (value, today.get(name))
        for name, value in before.items()
        if name != "summary" and today.get(name) != value
    }


def _preset_values(settings: RunSettings, defaults: bool = False) -> dict[str, Any] | None:
    """What the preset of these settings says today, or its class where it says nothing, as JSON values; None for agents
    without presets.
    """
    if settings.agent == "symphony":
        return (SymphonyConfig() if defaults else resolve_config(settings.preset or "cpu", {})).to_dict()
    if settings.agent == "slim":
        from cadenza.agents.slim.presets import SlimConfig
        from cadenza.agents.slim.presets import resolve_config as resolve_slim

        config = SlimConfig() if defaults else resolve_slim(settings.preset or "slim", {})
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
        return values
    return None


def provenance() -> dict[str, Any]:
    """Versions, git commit and machine, JSON-able."""
    return {"versions": versions(), "git_commit": git_commit(), "machine": machine()}


def versions() -> dict[str, str]:
    """Installed versions of what decides a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The checkout's commit, with ``+changes`` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # an installed copy; a repository around it would be another project's
        return None
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, usable cores and system."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {"processor": model, "cores": usable_processors(), "system": f"{platform.system()} {platform.machine()}"}


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a crash leaves either the old file or the new one, never half a file."""
    write_bytes(path, (json.dumps(data, indent=1, default=_plain) + "\n").encode())


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file durably under a temporary name and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
