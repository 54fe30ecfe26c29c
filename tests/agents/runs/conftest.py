"""Tiny runs, small environments of our own, and what two runs must have in common to count as equal."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from cadenza.agents.runs import catalogue, training
from cadenza.agents.runs.checkpoint import CheckpointStore, replay_of
from cadenza.agents.runs.evaluation import Evaluation
from cadenza.agents.runs.settings import RunSettings

_OFF_POLICY = {"learning_starts": 60, "batch_size": 32, "buffer_size": 2_000}
OVERRIDES: dict[str, dict[str, Any]] = {
    "symphony": {**_OFF_POLICY, "hidden_size": 32, "critic_nodes": 8, "deliberate_fall_steps": 8},
    "sac": {**_OFF_POLICY, "policy_kwargs": {"net_arch": [32]}},
    "td3": {**_OFF_POLICY, "policy_kwargs": {"net_arch": [32]}},
    "tqc": {**_OFF_POLICY, "policy_kwargs": {"net_arch": [32]}},
    "ppo": {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [32]}},
    "multi_critic_ppo": {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "desired_kl": 0.01},
    "slim": {
        "n_steps": 32,
        "batch_size": 32,
        "n_epochs": 2,
        "hidden": [16],
        "phi_hidden": [16],
        "phi_epochs": 1,
        "features": "full_state",
        "weights": {"diversity": 1.0},
    },
}
SHORT = {"max_episode_steps": 25}


@pytest.fixture
def tiny() -> Callable[..., RunSettings]:
    """A run of seconds: ``tiny("sac", total_steps=200, overrides={...})``; overrides are added to small ones."""

    def make(agent: str = "symphony", env_id: str = "Pendulum-v1", **settings: Any) -> RunSettings:
        overrides = {**OVERRIDES[agent], **settings.pop("overrides", {})}
        given: dict[str, Any] = {
            "total_steps": 120,
            "evaluate_every": 50,
            "evaluate_episodes": 1,
            "checkpoint_every": 50,
        }
        if env_id == "Pendulum-v1":
            given["env_kwargs"] = SHORT
        return RunSettings(agent=agent, env_id=env_id, overrides=overrides, **{**given, **settings})

    return make


@dataclass
class Spy:
    """A watcher that remembers what it was told and can act at a step."""

    at: dict[int, Callable[[], None]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    evaluations: list[tuple[int, Evaluation, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def on_step(self, step: int, total: int) -> None:
        self.steps.append(step)
        for due in [due for due in self.at if due <= step]:
            self.at.pop(due)()

    def on_episode(self, step: int, episode_return: float, length: int) -> None: ...

    def on_evaluation(self, step: int, result: Evaluation, best: bool) -> None:
        self.evaluations.append((step, result, best))

    def on_problem(self, message: str) -> None:
        self.problems.append(message)


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def interrupt_at() -> Callable[[int], Spy]:
    """A watcher that presses Ctrl-C at a step."""
    return lambda step: Spy(at={step: lambda: os.kill(os.getpid(), signal.SIGINT)})


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[BaseAlgorithm]:
    """Every model that training builds, in order."""
    built: list[BaseAlgorithm] = []
    original = catalogue.build_model

    def build(*args: Any, **kwargs: Any) -> BaseAlgorithm:
        built.append(original(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr(training, "build_model", build)
    return built


@pytest.fixture
def temporary_env() -> Iterator[Callable[[Callable[..., gym.Env]], str]]:
    """Register an environment class for one test; gives its id."""
    made: list[str] = []

    def register(kind: Callable[..., gym.Env]) -> str:
        env_id = f"CadenzaTest{len(made)}-v0"
        gym.register(env_id, entry_point=kind, max_episode_steps=20)
        made.append(env_id)
        return env_id

    yield register
    for env_id in made:
        del gym.registry[env_id]


# ------------------------------------------------------------------ comparing runs


def _read_csv(path: Path, skip: tuple[int, ...]) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    clocks = ("elapsed_s", "train_s")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows if int(row["step"]) not in skip]


def _without_clocks(tree: Any) -> Any:
    """The tree of a stored state without Monitor's wall-clock times, as index into the arrays or as numbers."""
    tree = json.loads(json.dumps(tree))
    for episode in tree["episodes"]:
        episode.pop("t")
    for env in tree["envs"]:
        for layer in env["layers"]:
            layer["attributes"].pop("episode_times", None)
    return tree


def _stored(run: Path) -> dict[str, Any]:
    store = CheckpointStore(run / "checkpoints")
    manifest = store.latest()
    step = manifest["step"]
    rows: dict[str, dict[int, np.ndarray]] = {}
    for segment in manifest["segments"]:
        with np.load(store.folder / segment["name"], allow_pickle=False) as file:
            for key in file.files:
                name, index = key.rsplit("_", 1)
                start, stop = segment["ranges"][int(index)]
                rows.setdefault(name, {}).update(zip(range(start, stop), file[key], strict=True))
    with np.load(store.folder / f"state-{step:09d}.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "tree"}
        tree = json.loads(file["tree"].tobytes().decode())
    return {
        "step": step,
        "weights": store.read_parameters(manifest, "cpu"),
        "replay": rows,
        "replay_state": manifest["replay"],
        "best": manifest["extra"]["best_return"],
        "tree": _without_clocks(tree),
        "arrays": arrays,
    }


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Bit-equality of nested containers, arrays and tensors."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, np.ndarray | np.generic):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    else:
        assert a == b, where


@pytest.fixture
def same_runs() -> Callable[..., None]:
    """Assert that two runs ended in the same state and wrote the same tables; ``skip`` names steps of extra rows."""

    def check(a: Path, b: Path, skip: tuple[int, ...] = ()) -> None:
        assert_same(_stored(a), _stored(b), "checkpoint")
        for name in ("episodes.csv", "evaluations.csv"):
            assert _read_csv(a / name, skip) == _read_csv(b / name, skip), name

    return check


@pytest.fixture
def same_live() -> Callable[[BaseAlgorithm, BaseAlgorithm, Path], None]:
    """Assert that two models in memory hold the same weights, and the replay rows that ``run`` stored."""

    def check(a: BaseAlgorithm, b: BaseAlgorithm, run: Path) -> None:
        assert_same(a.get_parameters(), b.get_parameters(), "live weights")
        replay_a, replay_b = replay_of(a), replay_of(b)
        if replay_a is None or replay_b is None:
            return
        for name, rows in _stored(run)["replay"].items():
            for row, values in rows.items():
                assert_same(values, replay_a.storage()[name][row], f"stored and live {name}[{row}]")
                assert_same(values, replay_b.storage()[name][row], f"stored and live {name}[{row}]")

    return check
