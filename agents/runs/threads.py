"""How many threads torch uses within an operation: measured before a new run begins, and watched while it learns.

More threads are faster on idle cores, and several times slower as soon as another program takes one of those cores,
because every operation waits for its slowest thread. So more threads must earn their place by a clear margin, and a
run that measured them falls back to one thread when they stop paying. A number given by hand is never touched.

The measuring happens in a process of its own (``python -m cadenza.agents.runs.threads``, a job as JSON on standard
input, the result as JSON on standard output). Saving and restoring the global generators would keep the random numbers
too, but not the rest: OpenMP's pools of threads, torch's flag for denormals and the memory of a second model would stay
behind in the run. A process costs some seconds of imports and leaves nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from cadenza.agents.runs.settings import AUTO, RunFolder, RunSettings, machine, write_json
from cadenza.envs.errors import CadenzaError
from cadenza.envs.processors import fastest

_log = logging.getLogger(__name__)

BUDGET_S = 4.0
"""Time for the turns of all candidates together [s]; the turn under way is finished."""
_TURN_S = 0.08
_ROUNDS = 15
_TIMEOUT_S = 180.0
_TRANSITIONS = 512

SLOWER = 2.5
"""Updates that take this many times as long as measured are no longer worth their threads ..."""
SUSTAINED_S = 10.0
"""... when they have done so for this long [s of updates]."""
_WINDOW_S = 1.0
_WINDOWS = 5

Measure = Callable[[RunSettings, spaces.Box, spaces.Box, list[int]], dict[int, float]]
"""Settings, observation space, action space, candidates -> ms per gradient step of each."""


@dataclass(frozen=True)
class ThreadChoice:
    """How many threads, and why so many."""

    threads: int
    chosen: str
    """``given``: by hand; ``unmeasured``: there was nothing to measure; ``measured``."""
    why: str = ""
    ms_per_update: dict[int, float] = field(default_factory=dict)
    """Candidate -> median duration of a gradient step [ms]."""
    took_s: float = 0.0
    """What measuring took in all [s]."""
    watch_ms: float | None = None
    """What a gradient step should take [ms]; None where the run is not watched."""

    def record(self) -> dict[str, Any]:
        """For ``config.json``."""
        told: dict[str, Any] = {"number": self.threads, "chosen": self.chosen}
        if self.why:
            told["why"] = self.why
        if self.ms_per_update:
            told["ms_per_update"] = {str(n): round(ms, 4) for n, ms in self.ms_per_update.items()}
        if self.took_s:
            told["took_s"] = round(self.took_s, 3)
        return told

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> ThreadChoice:
        """Of a run that goes on: the number it began with, or changed to; watched only on the processor it measured."""
        threads = int(record["settings"]["torch_threads"])
        told = record.get("threads") or {}  # not in runs of before
        watch_ms = None
        same_processor = (record.get("machine") or {}).get("processor") == machine()["processor"]
        if told.get("chosen") == "measured" and threads == told["number"] > 1 and same_processor:
            watch_ms = float(told["ms_per_update"][str(threads)])
        return cls(threads, told.get("chosen", "given"), watch_ms=watch_ms)


# ------------------------------------------------------------------ choosing


def choose_threads(
    settings: RunSettings, observations: Any, actions: Any, measure: Measure | None = None
) -> ThreadChoice:
    """The threads of a new run.

    Args:
        settings: of the run; a number in ``torch_threads`` is taken as it is.
        observations: observation space of the run's environments.
        actions: their action space.
        measure: times the candidates; a child process by default.
    """
    if settings.torch_threads != AUTO:
        return ThreadChoice(int(settings.torch_threads), "given")
    candidates, why = candidates_of(settings, int(machine()["cores"] or 1))
    if not (isinstance(observations, spaces.Box) and isinstance(actions, spaces.Box)):
        candidates, why = [1], "these spaces are refused"  # by build_model, with its advice
    if len(candidates) == 1:
        return ThreadChoice(1, "unmeasured", why)
    began = time.perf_counter()
    try:
        ms = (measure or _measure_in_child)(settings, observations, actions, candidates)
    except (CadenzaError, OSError, subprocess.SubprocessError) as error:
        _log.warning("The number of torch threads was not measured, so it is 1: %s", error)
        return ThreadChoice(1, "unmeasured", f"measuring failed: {error}", took_s=time.perf_counter() - began)
    threads = fastest(ms)
    _log.info("%d torch threads; ms per update: %s", threads, ms)
    return ThreadChoice(
        threads,
        "measured",
        ms_per_update=ms,
        took_s=time.perf_counter() - began,
        watch_ms=ms[threads] if threads > 1 else None,
    )


def candidates_of(settings: RunSettings, cores: int) -> tuple[list[int], str]:
    """1, 2, 4, ... threads that may be worth a try on ``cores`` cores; why, where 1 is the only one."""
    if settings.device != "cpu":
        from stable_baselines3.common.utils import get_device

        try:
            device = get_device(settings.device).type
        except RuntimeError:  # build_model says what is wrong with it
            device = settings.device
        if device != "cpu":
            return [1], f"updates run on {device}"
    if settings.agent in ("slim", "multi_critic_ppo"):
        return [1], "its networks are small, and several run one after the other"
    most = cores // 2 if settings.agent == "symphony" else cores
    if most > 1:
        return [2**i for i in range(most.bit_length())], ""
    if cores == 1:
        return [1], "one core"
    return [1], f"Symphony runs its two branches beside each other, which fills {cores} cores"


def time_in_turns(
    update: Callable[[int, int], None],
    candidates: list[int],
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Median duration of an update on each number of threads [ms].

    The candidates take turns, so that a program that comes or goes meanwhile is met by all of them.

    Args:
        update: does ``(threads, count)`` updates.
        candidates: numbers of threads.
        budget_s: no further round begins after this time [s]; the first is always made.
        clock: seconds.
    """

    def turn(threads: int, count: int) -> float:
        update(threads, 1)  # starting threads and filling caches belongs to the change, not to an update
        began = clock()
        update(threads, count)
        return 1e3 * (clock() - began) / count

    began = clock()
    times = {threads: [turn(threads, 1)] for threads in candidates}
    # Each by its own estimate: a number of threads that collapses must not use up the time of the others.
    counts = {threads: max(1, round(1e3 * _TURN_S / max(1e-3, first))) for threads, (first,) in times.items()}
    for index in range(1, _ROUNDS):
        if clock() - began > budget_s:
            break
        for threads in candidates[:: 1 if index % 2 == 0 else -1]:
            times[threads].append(turn(threads, counts[threads]))
    return {threads: median(values) for threads, values in times.items()}


# ------------------------------------------------------------------ measuring, in a child process


def _measure_in_child(
    settings: RunSettings, observations: spaces.Box, actions: spaces.Box, candidates: list[int]
) -> dict[int, float]:
    from cadenza.agents.symphony.storage import box_to_json

    job = {
        "settings": dataclasses.asdict(settings),
        "observations": box_to_json(observations),
        "actions": box_to_json(actions),
        "candidates": candidates,
    }
    command = [sys.executable, "-m", "cadenza.agents.runs.threads"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise CadenzaError(said[-1])
    try:
        return {int(threads): float(ms) for threads, ms in json.loads(done.stdout.splitlines()[-1]).items()}
    except (ValueError, IndexError, AttributeError) as error:
        raise CadenzaError(f"the measuring process said something else: {done.stdout[-200:]!r}") from error


class _Spaces(gym.Env[Any, Any]):
    """An environment of which only the spaces matter."""

    def __init__(self, observations: spaces.Box, actions: spaces.Box):
        self.observation_space, self.action_space = observations, actions


class Throwaway:
    """A model with a run's settings and random data in its buffer, to be updated for the clock only.

    Args:
        settings: of the run; its environment is not needed.
        observations: observation space of the run's environments.
        actions: their action space.
    """

    steps: int
    """Gradient steps that an update here consists of."""

    def __init__(self, settings: RunSettings, observations: spaces.Box, actions: spaces.Box):
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.vec_env import DummyVecEnv

        from cadenza.agents.runs.catalogue import build_model

        self._draw = np.random.default_rng(0)
        envs = DummyVecEnv([lambda: _Spaces(observations, actions) for _ in range(settings.n_envs)])
        extra: dict[str, Any]
        if settings.agent == "ppo":
            # An epoch of a few minibatches stands for all of them.
            given = {"batch_size": 64, "n_steps": 2048, **settings.overrides}
            enough = -(-8 * given["batch_size"] // settings.n_envs)
            extra = {"n_epochs": 1, "target_kl": None, "n_steps": min(given["n_steps"], enough)}
        else:
            extra = {"buffer_size": 8 * _TRANSITIONS * settings.n_envs, "learning_starts": _TRANSITIONS}
        if settings.agent == "symphony":
            extra["branches"] = "together"
        self.model: Any = build_model(settings, envs, **extra)
        self.model.set_logger(Logger(None, []))
        if settings.agent == "ppo":
            self._fill_rollouts()
            self.steps = _steps_per_count(self.model)
        else:
            self._fill_replay()
            # An update of the actor among as many of the critics as in the run.
            self.steps = int(getattr(self.model, "policy_delay", 1))
            self.model.num_timesteps = 10**9  # past everything that happens early or now and then
        self._branches: dict[int, Any] = {}

    def update(self, threads: int, count: int) -> None:
        """``count`` times :attr:`steps` gradient steps on ``threads`` threads."""
        model = self.model
        torch.set_num_threads(threads)
        if hasattr(model, "branches"):
            model.branches = self._branches.setdefault(threads, copy.copy(model.branches))
        if hasattr(model, "replay_buffer"):
            model.train(gradient_steps=count * self.steps, batch_size=model.batch_size)
            return
        for _ in range(count):
            model.train()

    def _observations(self) -> Any:
        """(n_envs, ...) numbers that the observation space allows."""
        space = self.model.observation_space
        numbers = self._draw.standard_normal((self.model.n_envs, *space.shape))
        return np.clip(numbers, space.low, space.high).astype(space.dtype)

    def _fill_replay(self) -> None:
        model, n_envs = self.model, self.model.n_envs
        for _ in range(-(-_TRANSITIONS // n_envs)):
            action = self._draw.uniform(-1, 1, (n_envs, *model.action_space.shape)).astype(np.float32)
            reward = self._draw.standard_normal(n_envs).astype(np.float32)
            before, after = self._observations(), self._observations()
            model.replay_buffer.add(before, after, action, reward, np.zeros(n_envs, bool), [{}] * n_envs)

    @torch.no_grad()
    def _fill_rollouts(self) -> None:
        model, buffer = self.model, self.model.rollout_buffer
        buffer.reset()
        while not buffer.full:
            obs = self._observations()
            action, value, log_prob = model.policy(torch.as_tensor(obs).float())
            reward = self._draw.standard_normal(model.n_envs)
            buffer.add(obs, action.numpy(), reward, np.zeros(model.n_envs), value, log_prob)
        buffer.compute_returns_and_advantage(value, np.zeros(model.n_envs))


def _steps_per_count(model: Any) -> int:
    """Gradient steps for each of what the model counts as an update, which for PPO is an epoch."""
    buffer = getattr(model, "rollout_buffer", None)
    return 1 if buffer is None else -(-buffer.buffer_size * buffer.n_envs // model.batch_size)


def main() -> int:
    """The child: read the job, time, write the result."""
    from cadenza.agents.symphony.storage import box_from_json

    job = json.loads(sys.stdin.read())
    settings = RunSettings(**job["settings"])
    try:
        throwaway = Throwaway(settings, box_from_json(job["observations"]), box_from_json(job["actions"]))
        ms = time_in_turns(throwaway.update, job["candidates"])
    except CadenzaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({threads: value / throwaway.steps for threads, value in ms.items()}) + "\n")
    return 0


# ------------------------------------------------------------------ watching


class ThreadWatch:
    """Notices that updates have become much slower than they were measured to be, and stayed so.

    Args:
        ms_per_update: a gradient step as it was measured [ms].
    """

    def __init__(self, ms_per_update: float):
        self._ms = ms_per_update
        self._window_s, self._window_steps = 0.0, 0
        self._slow: list[float] = []
        self._slow_s = 0.0

    def note(self, elapsed_s: float, steps: int) -> float | None:
        """Take in that ``steps`` gradient steps took ``elapsed_s`` [s].

        Returns:
            how many times slower than measured, once that is more than :data:`SLOWER` in every window of the last
            :data:`SUSTAINED_S`; else None. Several windows are asked for, as a machine that stands still makes one.
        """
        self._window_s += elapsed_s
        self._window_steps += steps
        if self._window_s < _WINDOW_S or not self._window_steps:
            return None
        window_s, factor = self._window_s, 1e3 * self._window_s / self._window_steps / self._ms
        self._window_s, self._window_steps = 0.0, 0
        if factor <= SLOWER:
            self._slow, self._slow_s = [], 0.0
            return None
        self._slow.append(factor)
        self._slow_s += window_s
        return median(self._slow) if len(self._slow) >= _WINDOWS and self._slow_s >= SUSTAINED_S else None


@contextmanager
def watched_threads(model: Any, choice: ThreadChoice, folder: RunFolder, tell: Callable[[str], None]) -> Iterator[None]:
    """Watch a model's updates while it learns; once they are slow for long, go on with one thread and say so.

    Does nothing for a number given by hand, nor for one thread. The change is written into ``config.json``
    (``threads_changed``), so that a resumed run goes on with one thread too.

    Args:
        model: an algorithm of Stable-Baselines3.
        choice: how its threads were chosen.
        folder: of the run.
        tell: told of the change, in a sentence.
    """
    if choice.watch_ms is None:
        yield
        return
    watch, train, steps_per_count = ThreadWatch(choice.watch_ms), model.train, _steps_per_count(model)

    def timed(*arguments: Any, **keywords: Any) -> None:
        counted, began = model._n_updates, time.perf_counter()
        train(*arguments, **keywords)
        slower = watch.note(time.perf_counter() - began, steps_per_count * (model._n_updates - counted))
        if slower is not None:
            del model.train
            _fall_back(model, choice.threads, slower, folder, tell)

    model.train = timed  # on the instance; the class's own is found again when this is deleted
    try:
        yield
    finally:
        vars(model).pop("train", None)


def _fall_back(model: Any, threads: int, slower: float, folder: RunFolder, tell: Callable[[str], None]) -> None:
    torch.set_num_threads(1)
    if hasattr(model, "branches"):
        model.branches = copy.copy(model.branches)  # its thread was set up with the old number; a copy starts its own
    step = int(model.num_timesteps)
    tell(
        f"Updates on {threads} torch threads have become {slower:.1f} times slower than measured at the start, as if "
        f"another program used the cores: from step {step:,} on with 1 thread, so this run is not bit-equal to one "
        f"that keeps {threads}."
    )
    try:
        record = folder.read_record()
        record["settings"]["torch_threads"] = 1
        change = {"step": step, "from": threads, "to": 1, "slower": round(slower, 2)}
        write_json(folder.config, {**record, "threads_changed": change})
    except (OSError, CadenzaError) as error:
        tell(f"The change to 1 torch thread was not written into {folder.config}: {error}")


if __name__ == "__main__":
    sys.exit(main())
