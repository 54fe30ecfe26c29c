"""The training loop of a run: learn, evaluate, checkpoint, and continue from where it was cut.

Everything happens at the start of a rollout, where Stable-Baselines3's state is consistent: the last transition is
stored and nothing is under way. (Where Symphony steps environments beside its updates, the update of that last
transition is still to come; a resumed run makes it up.)
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cadenza.agents.runs.catalogue import build_model, check_settings
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.evaluation import Evaluation, evaluate
from cadenza.agents.runs.lock import alone_in
from cadenza.agents.runs.metrics import ForgivingWriter, Table, TableWriter
from cadenza.agents.runs.motors import MotorBook, evaluation_columns
from cadenza.agents.runs.normalizing import normalized
from cadenza.agents.runs.policies import act_of, save_policy, staged
from cadenza.agents.runs.settings import RunFolder, RunSettings, provenance, write_json
from cadenza.agents.runs.stalls import StallMeter
from cadenza.agents.runs.threads import ThreadChoice, choose_threads, watched_threads
from cadenza.envs.errors import CadenzaError
from cadenza.envs.guard import FiniteGuard
from cadenza.envs.motor_watch import MotorWatch
from cadenza.envs.registration import make_env, make_vec_env
from cadenza.envs.teachers import ParameterSpace, make_teacher
from cadenza.envs.teachers.curriculum import Curriculum, TeacherWrapper

_log = logging.getLogger(__name__)
EVALUATION_SEED = 10_000
"""First reset seed of the evaluations during training."""


class Watcher(Protocol):
    """Who is told how training goes; the command line draws its progress bar from it."""

    def on_step(self, step: int, total: int) -> None: ...
    def on_episode(self, step: int, episode_return: float, length: int) -> None: ...
    def on_evaluation(self, step: int, result: Evaluation, best: bool) -> None: ...
    def on_problem(self, message: str) -> None: ...


class SilentWatcher:
    """Tells nobody."""

    def on_step(self, step: int, total: int) -> None: ...
    def on_episode(self, step: int, episode_return: float, length: int) -> None: ...
    def on_evaluation(self, step: int, result: Evaluation, best: bool) -> None: ...
    def on_problem(self, message: str) -> None: ...


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    folder: Path
    step: int
    elapsed_s: float
    """Training wall-clock over all sessions of the run, evaluations included [s]."""
    best_return: float | None
    interrupted: bool


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived; everything is stored."""


class _TimeUp(Exception):
    """The session's time limit is reached."""


def train(
    settings: RunSettings,
    run: str | Path,
    watcher: Watcher | None = None,
    *,
    time_limit_s: float | None = None,
    train_limit_s: float | None = None,
) -> TrainResult:
    """Train from scratch in a new folder; it ends early, in order, at a limit of wall-clock.

    Args:
        settings: what to train.
        run: the folder to make.
        watcher: told how it goes.
        time_limit_s: wall-clock of this session [s].
        train_limit_s: training clock of the run, over all its sessions and without evaluations and checkpoints [s].

    Raises:
        CadenzaError: bad settings, unknown names, an existing folder; nothing has been written then.
    """
    check_settings(settings)
    folder = RunFolder(run)
    folder.check_free()
    for kwargs in (settings.env_kwargs, {**settings.env_kwargs, **settings.training_kwargs}):
        make_env(settings.env_id, pictures=False, **kwargs).close()
    return _run(settings, folder, None, None, watcher or SilentWatcher(), time_limit_s, train_limit_s)


def resume(
    run: str | Path,
    watcher: Watcher | None = None,
    *,
    total_steps: int | None = None,
    time_limit_s: float | None = None,
    train_limit_s: float | None = None,
) -> TrainResult:
    """Continue a run from its newest whole checkpoint; ``total_steps`` moves its end, limits are those of ``train``.

    Raises:
        CadenzaError: no run there, no checkpoint that is whole, or another program that is training it.
    """
    folder = RunFolder(run)
    folder.read_record()  # where no run is, no folder is made to lock
    with alone_in(folder.path):
        return _resume(folder, watcher or SilentWatcher(), total_steps, time_limit_s, train_limit_s)


def _resume(
    folder: RunFolder,
    watcher: Watcher,
    total_steps: int | None,
    time_limit_s: float | None,
    train_limit_s: float | None,
) -> TrainResult:
    record = folder.read_record()
    settings = folder.read_settings()
    manifest = CheckpointStore(folder.checkpoints).latest()
    if total_steps is not None:
        settings = replace(settings, total_steps=total_steps)
        record["settings"]["total_steps"] = total_steps
    now = provenance()
    record.setdefault("resumed", []).append({"step": manifest["step"], **now})
    for name in ("mujoco", "torch", "stable_baselines3", "gymnasium"):
        before, here = record["versions"].get(name), now["versions"].get(name)
        if before != here:
            watcher.on_problem(f"This run began with {name} {before}, here is {here}: it goes on, but not bit for bit.")
    try:
        write_json(folder.config, record)
    except OSError as error:
        raise CadenzaError(f"Cannot write {folder.config}: {error.strerror}.", "Make room, then resume.") from error
    threads = ThreadChoice.of_record(record)
    return _run(settings, folder, manifest, threads, watcher, time_limit_s, train_limit_s)


def _run(
    settings: RunSettings,
    folder: RunFolder,
    manifest: dict[str, Any] | None,
    threads: ThreadChoice | None,
    watcher: Watcher,
    time_limit_s: float | None,
    train_limit_s: float | None,
) -> TrainResult:
    dump = folder.path / "non_finite.npz"
    plain = _training_envs(settings, dump)
    envs: VecEnv = normalized(plain, settings) if settings.normalize else plain
    evaluation_env = FiniteGuard(make_env(settings.env_id, pictures=False, **settings.env_kwargs))
    held = ExitStack()
    try:
        if threads is None:
            threads = choose_threads(settings, envs.observation_space, envs.action_space)
        settings = replace(settings, torch_threads=threads.threads)
        torch.set_num_threads(threads.threads)  # before the model: drawing the first weights is a computation too
        model = build_model(settings, envs)
        if manifest is None:
            # Only now: a model that cannot be built leaves nothing behind.
            notes = {"events": found[0]} if (found := _events(envs)) else {}
            folder.create(settings, threads=threads.record(), **notes)
            held.enter_context(alone_in(folder.path))
        store = CheckpointStore(folder.checkpoints)
        extra: dict[str, Any] = {}
        if manifest is not None:
            store.restore(manifest, model, settings.device)
            extra = manifest["extra"]
        step = model.num_timesteps
        writers = [TableWriter(folder.progress, step), TensorBoardOutputFormat(str(folder.tensorboard))]
        model.set_logger(Logger(None, [ForgivingWriter(writer, watcher.on_problem) for writer in writers]))
        keeper = _Keeper(settings, folder, store, evaluation_env, extra, watcher, time_limit_s, train_limit_s)
        with _signals(keeper), watched_threads(model, threads, folder, watcher.on_problem):
            try:
                with suppress(_TimeUp):
                    if step < settings.total_steps:
                        model.learn(settings.total_steps - step, callback=keeper, reset_num_timesteps=False)
                keeper.finish(model)
            except _Interrupted:
                pass
        model.logger.close()
        return TrainResult(folder.path, model.num_timesteps, keeper.elapsed(), keeper.best_return, keeper.interrupted)
    finally:
        held.close()
        envs.close()
        evaluation_env.close()


def _training_envs(settings: RunSettings, dump: Path) -> VecEnv:
    """Several copies of a legged task on MuJoCo's batch; of everything else each in its turn."""
    kwargs = {**settings.env_kwargs, **settings.training_kwargs}
    curriculum = _curriculum(settings, kwargs)
    if settings.n_envs > 1:
        together = make_vec_env(settings.env_id, settings.n_envs, dump_path=dump, **kwargs)
        if together is not None:
            together.set_attr("curriculum", curriculum)
            return together
    return DummyVecEnv(
        [lambda: _training_env(settings.env_id, kwargs, dump, curriculum) for _ in range(settings.n_envs)]
    )


def _curriculum(settings: RunSettings, kwargs: dict[str, Any]) -> Curriculum | None:
    """The teacher of the settings, over what the task offers it."""
    if settings.teacher is None:
        return None
    env = make_env(settings.env_id, pictures=False, **kwargs)
    try:
        ranges = getattr(env.unwrapped, "parameter_ranges", None)
    finally:
        env.close()
    if not ranges:
        raise CadenzaError(
            f"{settings.env_id} has no parameters that a teacher could choose.",
            "Legged robots' Stand, Walk and Run have: `cadenza list envs`.",
        )
    return Curriculum(make_teacher(settings.teacher, ParameterSpace(ranges), settings.seed))


def _training_env(env_id: str, kwargs: dict[str, Any], dump: Path, curriculum: Curriculum | None) -> Monitor:
    env: gym.Env = FiniteGuard(MotorWatch(make_env(env_id, pictures=False, **kwargs)), dump_path=dump)
    return Monitor(env if curriculum is None else TeacherWrapper(env, curriculum))


def _events(envs: VecEnv) -> list[dict[str, Any]]:
    """What randomises and disturbs the training environments, where they say."""
    try:
        return [found for found in envs.get_attr("events_record") if found]
    except AttributeError:
        return []


@contextmanager
def _signals(keeper: _Keeper) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the keeper to stop in order; a second Ctrl-C stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if keeper.interrupted:
            raise KeyboardInterrupt
        keeper.interrupted = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _passed(every: float, before: float, now: float) -> bool:
    """Whether a multiple of ``every`` lies between two readings; never for 0."""
    return bool(every) and now // every > before // every


class _Keeper(BaseCallback):
    """Keeps the run's books: episodes, evaluations, best policy, checkpoints."""

    def __init__(
        self,
        settings: RunSettings,
        folder: RunFolder,
        store: CheckpointStore,
        env: Any,
        extra: dict[str, Any],
        watcher: Watcher,
        time_limit_s: float | None,
        train_limit_s: float | None,
    ):
        super().__init__()
        self._time_limit_s, self._train_limit_s = time_limit_s, train_limit_s
        self.settings, self.folder, self.store, self.env, self.watcher = settings, folder, store, env, watcher
        self.interrupted = False  # by a signal handler, which must not wait for a lock
        self.best_return: float | None = extra.get("best_return")
        self._evaluated = int(extra.get("evaluated", 0))
        self._stored: int | None = extra.get("stored")  # None: not even the start is stored
        self._tried = self._stored or 0
        self._non_finite = 0
        self._elapsed_before = float(extra.get("elapsed_s", 0.0))
        self._began = time.perf_counter()
        self._train_before = float(extra.get("train_s", self._elapsed_before))  # runs of before had one clock
        self._train_since: float | None = self._began
        self._stalls, self._stalled_s = StallMeter(), float(extra.get("stalled_s", 0.0))
        self._evaluated_s, self._tried_s = float(extra.get("evaluated_s", 0.0)), self._train_before
        keep = self._stored or 0
        self._episodes = Table(folder.episodes, keep)
        self._evaluations = Table(folder.evaluations, keep)
        self._motors = MotorBook(folder.motors, keep)

    @property
    def _evaluates(self) -> bool:
        return bool(self.settings.evaluate_every or self.settings.evaluate_every_s)

    def elapsed(self) -> float:
        """Wall-clock of this run over all its sessions [s]."""
        return self._elapsed_before + time.perf_counter() - self._began

    def train_s(self) -> float:
        """The training clock of this run over all its sessions [s].

        Evaluations and checkpoints are left out, and time in which the whole machine stood still.
        """
        return self._train_before + (0.0 if self._train_since is None else time.perf_counter() - self._train_since)

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        self._leave_out_stalls()
        self._train_before, self._train_since = self.train_s(), None
        try:
            yield
        finally:
            self._train_since = time.perf_counter()
            self._stalls.lap()

    def _leave_out_stalls(self) -> None:
        stalled_s = self._stalls.lap()
        self._train_before -= stalled_s
        self._stalled_s += stalled_s

    def _on_rollout_start(self) -> None:
        self._leave_out_stalls()
        step, train_s, settings = self.num_timesteps, self.train_s(), self.settings
        if _passed(settings.evaluate_every, self._evaluated, step) or _passed(
            settings.evaluate_every_s, self._evaluated_s, train_s
        ):
            self._evaluate(self.model)
        if _passed(settings.checkpoint_every, self._tried, step) or _passed(
            settings.checkpoint_every_s, self._tried_s, train_s
        ):
            self._checkpoint(self.model)
        if self.interrupted:
            if self._stored != step:
                self._store(self.model)
            raise _Interrupted
        if self._time_limit_s is not None and time.perf_counter() - self._began > self._time_limit_s:
            raise _TimeUp
        if self._train_limit_s is not None and self.train_s() >= self._train_limit_s:
            raise _TimeUp

    def _on_step(self) -> bool:
        self._leave_out_stalls()
        for info in self.locals["infos"]:
            if "episode" in info:
                self._note_episode(info["episode"], terminated=not info.get("TimeLimit.truncated", False))
            if info.get("non_finite"):
                self._note_non_finite()
        self.watcher.on_step(self.num_timesteps, self.settings.total_steps)
        return True

    def _note_non_finite(self) -> None:
        self._non_finite += 1
        if str(self._non_finite).rstrip("0") == "1":  # at 1, 10, 100, ...: an environment may do it all the time
            self.watcher.on_problem(
                f"Non-finite numbers from the environment at step {self.num_timesteps} (number {self._non_finite}): "
                f"the episode was ended; the states before the first are in {self.folder.path / 'non_finite.npz'}."
            )

    def _note_episode(self, episode: dict[str, Any], *, terminated: bool) -> None:
        step, total, length = self.num_timesteps, round(float(episode["r"]), 4), int(episode["l"])
        row = {
            "step": step,
            "elapsed_s": round(self.elapsed(), 3),
            "train_s": round(self.train_s(), 3),
            "return": total,
            "length": length,
            "terminated": int(terminated),
        }
        self._write(self._episodes, row)
        self.watcher.on_episode(step, total, length)

    def _write(self, table: Table, row: dict[str, Any]) -> None:
        try:
            table.append(row)
        except OSError as error:
            self.watcher.on_problem(f"A row of {table.path.name} was not written: {error.strerror}.")

    def _evaluate(self, model: BaseAlgorithm) -> None:
        with self._off_the_clock():
            self._evaluate_and_note(model)

    def _evaluate_and_note(self, model: BaseAlgorithm) -> None:
        env = staged(model, self.env)
        result = evaluate(act_of(model), env, episodes=self.settings.evaluate_episodes, seed=EVALUATION_SEED)
        step = model.num_timesteps
        self._evaluated, self._evaluated_s = step, self.train_s()
        ranked = getattr(model, "ranks_by_return", True)
        best = ranked and (self.best_return is None or result.return_mean > self.best_return)
        row = {
            "step": step,
            "elapsed_s": round(self.elapsed(), 3),
            "train_s": round(self.train_s(), 3),
            "return_mean": result.return_mean,
            "return_std": result.return_std,
            "length_mean": result.length_mean,
            "survived": result.survived,
            "n": result.n,
        }
        if result.forward_velocity_mean is not None:
            row["forward_velocity_mean"] = result.forward_velocity_mean
        if "success" in result.measures:
            row["success"] = result.measures["success"]
        row |= evaluation_columns(result)
        if hasattr(env, "columns"):
            row |= (measured := env.columns())
            result = replace(result, measures={**result.measures, **measured})
        self._write(self._evaluations, row)
        for name, value in row.items():
            if name not in ("step", "n"):
                model.logger.record(f"evaluation/{name}", value)
        self._note_motors(model)
        model.logger.dump(step)
        if best:
            self.best_return = result.return_mean
            try:
                save_policy(model, self.folder.best, {"step": step, "elapsed_s": self.elapsed(), **result.to_dict()})
            except OSError as error:
                self.watcher.on_problem(f"The best policy was not stored: {error.strerror}.")
        self.watcher.on_evaluation(step, result, best)

    def _note_motors(self, model: BaseAlgorithm) -> None:
        row = self._motors.read(model, elapsed_s=round(self.elapsed(), 3), train_s=round(self.train_s(), 3))
        if row is not None:
            self._write(self._motors.table, row)

    def _checkpoint(self, model: BaseAlgorithm) -> None:
        if not self._evaluates:
            self._note_motors(model)
        self._tried, self._tried_s = model.num_timesteps, self.train_s()
        try:
            self._store(model)
        except CadenzaError as error:
            self.watcher.on_problem(f"{error} {error.advice}")

    def _store(self, model: BaseAlgorithm) -> None:
        with self._off_the_clock():
            self.store.save(model, self._extra(model.num_timesteps))
        self._stored = model.num_timesteps

    def _extra(self, step: int) -> dict[str, Any]:
        return {
            "best_return": self.best_return,
            "evaluated": self._evaluated,
            "stored": step,
            "elapsed_s": self.elapsed(),
            "train_s": self.train_s(),
            "stalled_s": self._stalled_s,
            "evaluated_s": self._evaluated_s,
        }

    def finish(self, model: BaseAlgorithm) -> None:
        """The last evaluation and checkpoint."""
        step = model.num_timesteps
        if self._evaluates and self._evaluated != step:
            self._evaluate(model)
        if self._stored != step:
            if not self._evaluates:
                self._note_motors(model)
            self._store(model)
