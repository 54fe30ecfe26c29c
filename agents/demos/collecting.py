"""Collecting demonstrations from an expert, in this process or in several.

Episode i is reset with seed + i and has a file of its own name, so that the set is the same whichever process collects
what, and a collection that was interrupted goes on with the episodes that are not there. Processes that help end with
the one that started them, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cadenza.agents.demos.dataset import DemoSet
from cadenza.agents.demos.environment import as_mapping, clock_of, schema_of, succeeded
from cadenza.agents.demos.errors import DemoError, MismatchError
from cadenza.agents.demos.experts import EXPERTS, expert_for, make_expert
from cadenza.agents.demos.recorder import EPISODES, SET_FILE, DemoRecorder, read_set_file
from cadenza.agents.demos.schema import Schema
from cadenza.agents.runs.interrupts import sigterm_interrupts
from cadenza.agents.runs.settings import write_json
from cadenza.envs.errors import CadenzaError

PLAN_FILE = "collection.json"
_STOP_S = 20.0
_LOOK_UP_S = 0.5
"""How often a worker without a job looks whether anybody still wants it to work."""


@dataclass(frozen=True)
class Plan:
    """What to collect."""

    env_id: str
    episodes: int
    """In the set, those that are there already included."""
    seed: int = 0
    """Episode i is reset with seed + i."""
    env_settings: Mapping[str, Any] = field(default_factory=dict)
    expert: str | None = None
    """One of :data:`cadenza.agents.demos.experts.EXPERTS`; None for the environment's own."""
    expert_settings: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    """In words; None for the expert's."""
    pictures: str = "raw"
    """One of :data:`cadenza.agents.demos.episode_file.PICTURES`."""
    description: str = ""


@dataclass(frozen=True)
class Collected:
    """One episode that has been stored."""

    index: int
    steps: int
    success: bool


@dataclass
class Collection:
    """How a collection went."""

    episodes: int = 0
    """Stored by this call."""
    successes: int = 0
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    missing: int = 0
    """Of those that were asked for."""


Watch = Callable[[Collected, int, int], None]
"""Told of each episode as it is stored, of how many are there, and of how many are asked for."""


def collect(folder: Path, plan: Plan, *, workers: int = 1, watch: Watch = lambda *_: None) -> Collection:
    """Collect what is missing of a plan. Ctrl-C and SIGTERM keep every episode that is complete.

    Args:
        folder: of the set; one that was begun with the same plan is continued.
        plan: what to collect.
        workers: processes; 1 collects in this one.
        watch: is told of each episode.

    Raises:
        MismatchError: the folder holds demonstrations of another plan.
        CadenzaError: environment or expert cannot be made, or the expert failed.
    """
    if plan.episodes < 1 or workers < 1:
        raise DemoError(f"At least one episode and one worker are needed, not {plan.episodes} and {workers}.")
    expert = expert_for(plan.env_id, plan.expert)
    _check_plan(folder, plan, expert)
    started = time.perf_counter()
    todo = _missing(folder, plan.episodes)
    result = Collection()
    if todo:
        there = plan.episodes - len(todo)

        def stored(one: Collected) -> None:
            result.episodes += 1
            result.successes += one.success
            result.steps += one.steps
            watch(one, there + result.episodes, plan.episodes)

        with sigterm_interrupts():
            if workers == 1:
                _collect_here(folder, plan, expert, todo, stored, result)
            else:
                _collect_beside(folder, plan, expert, todo, stored, result, min(workers, len(todo)))
        result.missing = len(todo) - result.episodes
    result.seconds = time.perf_counter() - started
    return result


def _missing(folder: Path, episodes: int) -> list[int]:
    """Numbers of the episodes that are not there, or not whole."""
    if not (folder / SET_FILE).is_file():
        return list(range(episodes))
    there = {info.index for info in DemoSet(folder).episodes}
    return [index for index in range(episodes) if index not in there]


def _check_plan(folder: Path, plan: Plan, expert: str) -> None:
    """Whether the set was begun with this plan. One of another plan that has no episode yet is taken away."""
    mine = asdict(plan) | {"expert": expert, "task": plan.task or EXPERTS[expert].task}
    mine = {name: value for name, value in mine.items() if name not in ("episodes", "description", "env_settings")}
    path = folder / PLAN_FILE
    if not path.is_file():
        if (folder / SET_FILE).is_file():
            raise MismatchError(f"{folder} was not collected from an expert.", "Choose another folder with --out.")
        return
    theirs = json.loads(path.read_text())
    mine = json.loads(json.dumps(mine))
    unlike = [f"{k} {theirs.get(k)!r}, not {mine[k]!r}" for k in mine if theirs.get(k) != mine[k]]
    if (folder / SET_FILE).is_file():
        schema = Schema.from_json(read_set_file(folder)["schema"])
        unlike += schema.differences(replace(schema, env_settings=plan.env_settings))
    if not unlike:
        return
    there = {path.name for path in folder.rglob("*")}
    if there <= {PLAN_FILE, SET_FILE, EPISODES}:  # a plan that failed before its first episode; nothing is lost
        for name in (PLAN_FILE, SET_FILE):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (folder / EPISODES).rmdir()
        return
    raise MismatchError(
        f"{folder} was begun with {'; '.join(unlike)}.",
        "The same command goes on with it, --episodes may grow. For another plan choose another folder with --out.",
    )


class _Stage:
    """Environment and recorder, and the loop of one episode.

    Args:
        folder: of the set.
        plan: what to collect.
        expert: its name.
        begin: write the plan; by one process only, as two would rename each other's file away.
    """

    def __init__(self, folder: Path, plan: Plan, expert: str, *, begin: bool = True):
        from cadenza.envs.rendering.gl import NoGraphicsLibraryError, ensure_gl_backend

        with contextlib.suppress(NoGraphicsLibraryError):  # the environment says so if it has to draw
            ensure_gl_backend()
        from cadenza.envs.registration import make_env

        self.plan, self.expert = plan, expert
        make_expert(expert, plan.seed, plan.expert_settings)  # what is wrong is told before anything is written
        try:
            self.env = make_env(plan.env_id, **plan.env_settings)
        except TypeError as error:
            raise DemoError(
                f"{plan.env_id} cannot be made with the settings {dict(plan.env_settings)}: {error}.", "See --set."
            ) from error
        self.clock = clock_of(self.env)
        schema = schema_of(self.env, plan.env_id, plan.env_settings)
        self.recorder = DemoRecorder(folder, schema, description=plan.description, pictures=plan.pictures)
        task = plan.task or EXPERTS[expert].task
        self.task = task
        if begin:
            notes = asdict(plan) | {"expert": expert, "task": task}
            write_json(folder / PLAN_FILE, {k: v for k, v in notes.items() if k not in ("episodes", "description")})

    def play(self, index: int, stopped: Callable[[], bool]) -> Collected | None:
        """Collect one episode; None where it was stopped before its end."""
        seed = self.plan.seed + index
        expert = make_expert(self.expert, seed, self.plan.expert_settings)
        observation, info = self.env.reset(seed=seed)
        expert.reset(self.env, observation, info)
        self.recorder.start(seed, self.task, {"expert": self.expert}, index=index)
        over = False
        while not over:
            if stopped():
                self.recorder.discard()
                return None
            at_s = self.clock()
            action = expert.act(observation)
            following, reward, terminated, truncated, info = self.env.step(action)
            self.recorder.add(
                as_mapping(observation), action, reward=float(reward), terminated=terminated, truncated=truncated,
                timestamp_s=at_s, primitive=expert.label(), extras=_extras(expert),
            )  # fmt: skip
            observation = following
            over = terminated or truncated or bool(getattr(expert, "done", False))
        success = succeeded(expert, info)
        tell = getattr(expert, "metadata", None)
        notes: dict[str, Any] = dict(tell()) if callable(tell) else {}
        if info.get("non_finite"):
            success, notes = False, notes | {"non_finite": True}
        steps = self.recorder.steps
        self.recorder.finish(success, as_mapping(observation), notes)
        return Collected(index, steps, success)

    def close(self) -> None:
        self.recorder.discard()
        self.env.close()


def _extras(expert: Any) -> dict[str, float]:
    """The action without noise, if the expert tells, by entry; and whatever else it tells of a step."""
    intended = getattr(expert, "intended", None)
    told = {} if intended is None else {f"intended.{index}": float(value) for index, value in enumerate(intended)}
    return told | dict(getattr(expert, "extras", {}))


def _collect_here(
    folder: Path, plan: Plan, expert: str, todo: list[int], stored: Callable[[Collected], None], result: Collection
) -> None:
    stage = _Stage(folder, plan, expert)
    try:
        for index in todo:
            one = stage.play(index, lambda: False)
            assert one is not None
            stored(one)
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        stage.close()


# ------------------------------------------------------------------ in several processes


def _collect_beside(
    folder: Path, plan: Plan, expert: str, todo: list[int], stored: Callable[[Collected], None], result: Collection,
    workers: int,
) -> None:  # fmt: skip
    context = multiprocessing.get_context("spawn")
    jobs, news, stop = context.Queue(), context.Queue(), context.Event()
    for index in todo:
        jobs.put(index)
    for _ in range(workers):
        jobs.put(None)
    _Stage(folder, plan, expert).close()  # the set is made once, and what is wrong is told before anything starts
    crew = [
        context.Process(target=_work, args=(folder, plan, expert, jobs, news, stop), daemon=True)
        for _ in range(workers)
    ]
    for process in crew:
        process.start()
    failure: CadenzaError | None = None
    try:
        while failure is None and result.episodes < len(todo):
            failure = _next(news, crew, stored)
    except KeyboardInterrupt:
        result.interrupted = True
    stop.set()
    until = time.monotonic() + _STOP_S
    while any(process.is_alive() for process in crew) and time.monotonic() < until:
        _next(news, [], stored)  # what was stored meanwhile; and a full queue would keep its process alive
    for process in crew:
        if process.is_alive():
            process.kill()
        process.join()
    while not news.empty():
        _next(news, [], stored)
    jobs.cancel_join_thread()  # jobs that nobody took would keep this process from ending
    if failure is not None:
        raise failure


def _next(news: Any, crew: list[Any], stored: Callable[[Collected], None]) -> CadenzaError | None:
    """Wait a little for news of the workers; what went wrong, if anything did."""
    try:
        one = news.get(timeout=0.1)
    except queue.Empty:
        dead = [process for process in crew if process.exitcode not in (None, 0)]
        if dead:
            return DemoError(f"A worker ended with exit code {dead[0].exitcode}.", "What was complete is stored.")
        return None
    if isinstance(one, Collected):
        stored(one)
        return None
    message, advice = one
    return DemoError(message, advice)


def _work(folder: Path, plan: Plan, expert: str, jobs: Any, news: Any, stop: Any) -> None:
    """A worker: episode after episode until there is none, it is told to stop, or nobody is there to tell it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both are for the process that started us; it tells us
        signal.signal(number, signal.SIG_IGN)
    from threadpoolctl import threadpool_limits

    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return stop.is_set() or parent is None or not parent.is_alive()

    try:
        with threadpool_limits(1):  # one process a core: more threads would only wait for each other
            stage = _Stage(folder, plan, expert, begin=False)
            try:
                while not stopped():
                    try:
                        index = jobs.get(timeout=_LOOK_UP_S)
                    except queue.Empty:
                        continue
                    if index is None:
                        break
                    one = stage.play(index, stopped)
                    if one is not None:
                        news.put(one)
            finally:
                stage.close()
    except CadenzaError as error:
        news.put((str(error), error.advice))
    except Exception as error:  # the process that started us tells it
        news.put(
            (f"The expert or its environment failed: {type(error).__name__}: {error}", "What was complete is stored.")
        )
    if parent is None or not parent.is_alive():
        news.cancel_join_thread()  # nobody reads it any more
