"""A run that was stopped, or killed, and resumed ends exactly where the unbroken one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from cadenza.agents.runs import training
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import resume, train

Same = Callable[..., None]
Tiny = Callable[..., RunSettings]

CASES: dict[str, dict[str, Any]] = {
    "symphony": {},
    "symphony, repeated fill": {"overrides": {"prefill_repeats": True, "buffer_size": 300}},
    "symphony, two environments": {"n_envs": 2},
    "symphony, repeated fill, two environments": {
        "n_envs": 2,
        "overrides": {"prefill_repeats": True, "buffer_size": 300},
    },
    "symphony, the ring wraps": {"total_steps": 300, "overrides": {"buffer_size": 70}},
    "symphony, the filled ring wraps": {"total_steps": 300, "overrides": {"buffer_size": 70, "prefill_repeats": True}},
    "symphony, saya": {"preset": "saya"},
    "symphony, MuJoCo": {"env_id": "Hopper-v5", "total_steps": 150},
    "sac": {"agent": "sac"},
    "sac, the ring wraps": {"agent": "sac", "total_steps": 300, "overrides": {"buffer_size": 70}},
    "sac, two environments": {"agent": "sac", "n_envs": 2},
    "td3": {"agent": "td3"},
    "tqc": {"agent": "tqc"},
    "ppo": {"agent": "ppo", "total_steps": 256},
    "ppo, normalised": {"agent": "ppo", "total_steps": 256, "normalize": True},
    "ppo, two environments": {"agent": "ppo", "total_steps": 256, "n_envs": 2},
    "multi_critic_ppo": {"agent": "multi_critic_ppo", "total_steps": 256},
    "slim": {"agent": "slim", "total_steps": 256, "n_envs": 2},
    "slim, metra": {"agent": "slim", "preset": "metra", "total_steps": 256},
}


# The long ones: their promise is also kept by a short one.
SLOW = {"symphony, saya", "tqc", "sac, two environments", "ppo, two environments", "symphony, repeated fill"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES])
def test_interrupted_twice_and_resumed(
    case: str, tiny: Tiny, interrupt_at: Any, models: list[BaseAlgorithm], same_runs: Same, same_live: Same,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Ctrl-C before the end of the exploration (step 40) and after it (step 110), between two checkpoints."""
    settings = tiny(**{"total_steps": 150, **CASES[case]})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(settings, whole).step >= settings.total_steps

    first = train(settings, broken, interrupt_at(40))
    assert first.interrupted
    assert 40 <= first.step < 110
    second = resume(broken, interrupt_at(110))
    assert second.interrupted
    assert 110 <= second.step < settings.total_steps
    last = resume(broken)
    assert not last.interrupted
    assert last.step >= settings.total_steps
    same_runs(whole, broken)
    same_live(models[0], models[-1], whole)


def test_every_checkpoint_continues_alike(tiny: Tiny, same_runs: Same, tmp_path: Path) -> None:
    """Stopped after every single stretch of 37 steps, by moving the end; the ring wraps several times."""
    settings = tiny(total_steps=37, evaluate_every=0, overrides={"buffer_size": 70})
    train(replace(settings, total_steps=10 * 37), tmp_path / "whole")
    train(settings, tmp_path / "pieces")
    for index in range(2, 11):
        resume(tmp_path / "pieces", total_steps=index * 37)
    same_runs(tmp_path / "whole", tmp_path / "pieces")


def test_time_limit(tiny: Tiny, same_runs: Same, spy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The session ends in order, with an evaluation of its own; resuming goes on as if it had not ended."""
    settings = tiny(total_steps=200)
    train(settings, tmp_path / "whole")
    clock = {"now": 0.0}
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: clock["now"]))
    spy.at = {step: lambda step=step: clock.update(now=float(step)) for step in range(1, 200)}
    result = train(settings, tmp_path / "broken", spy, time_limit_s=110)
    assert (result.step, result.interrupted, result.elapsed_s) == (111, False, 111.0)
    assert [step for step, _, _ in spy.evaluations] == [50, 100, 111]
    clock["now"] = 0.0
    result = resume(tmp_path / "broken")
    assert result.elapsed_s == 111.0  # the clock stood still in the second session
    same_runs(tmp_path / "whole", tmp_path / "broken", skip=(111,))


def test_stopped_before_the_first_step(tiny: Tiny, same_runs: Same, tmp_path: Path) -> None:
    """A time limit of nothing leaves a run that can be resumed, though nothing has been learned."""
    settings = tiny(total_steps=80, evaluate_every=0)
    train(settings, tmp_path / "whole")
    assert train(settings, tmp_path / "broken", time_limit_s=0).step == 0
    assert resume(tmp_path / "broken").step == 80
    same_runs(tmp_path / "whole", tmp_path / "broken")


def test_resuming_a_finished_run_changes_nothing(tiny: Tiny, spy: Any, tmp_path: Path) -> None:
    train(tiny(total_steps=70), tmp_path / "run")
    tables = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.csv")}
    before = CheckpointStore(tmp_path / "run" / "checkpoints").latest()
    assert resume(tmp_path / "run", spy).step == 70
    assert spy.steps == []
    assert CheckpointStore(tmp_path / "run" / "checkpoints").latest() == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.csv")} == tables


# ------------------------------------------------------------------ kill -9

# Every written block of a checkpoint waits, so that a kill mostly finds one half written.
_SLOW_SAVE = """
import sys, time
from cadenza.agents.runs import checkpoint, settings
real_fsync = settings.os.fsync
def slow(number):
    time.sleep({delay})
    real_fsync(number)
settings.os.fsync = slow
from cadenza.scripts.main import main
main(sys.argv[1:])
"""


def command(run: Path, *, resume: bool = False, delay: float = 0.0) -> list[str]:
    start = [sys.executable, "-c", _SLOW_SAVE.format(delay=delay), "train"]
    if resume:
        return [*start, "--resume", str(run)]
    sets = ["learning_starts=60", "batch_size=32", "buffer_size=150", "hidden_size=32", "critic_nodes=8"]
    schedule = ["--steps", "400", "--checkpoint-every", "10", "--evaluate-every", "100", "--evaluate-episodes", "1"]
    schedule += ["--torch-threads", "1"]  # each is a process of its own, which would measure for itself
    return [*start, "symphony", "Pendulum-v1", *schedule, "--run", str(run), "--set", *sets]


def kill_once(arguments: list[str], run: Path, pause_s: float) -> None:
    """Start, wait for the first checkpoint of this session, and SIGKILL after ``pause_s`` more."""
    known = set(run.glob("checkpoints/*.json"))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while set(run.glob("checkpoints/*.json")) <= known and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint within 90 s"
        time.sleep(0.01)
    time.sleep(pause_s)
    os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), errors


@pytest.mark.slow
def test_killed_at_random_moments(same_runs: Same, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(whole), check=True, capture_output=True, timeout=120)
    draw = random.Random(3)
    seen = []
    for attempt in range(3):
        # Four files a checkpoint, 10 ms each: most of the time goes into saving.
        kill_once(command(broken, resume=attempt > 0, delay=0.01), broken, draw.uniform(0.0, 0.4))
        seen.append(CheckpointStore(broken / "checkpoints").latest()["step"])
    assert seen == sorted(seen)
    assert seen[-1] < 400, "the kills came too late to test anything"
    subprocess.run(command(broken, resume=True), check=True, capture_output=True, timeout=120)
    same_runs(whole, broken)
    assert not [path for path in broken.rglob("*") if path.name.endswith(".tmp")]
