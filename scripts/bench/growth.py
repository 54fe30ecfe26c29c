"""``cadenza bench growth``: how time and memory grow with width, batch, buffer capacity and number of environments."""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record, adder, ms_per_call
from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from gymnasium import Env
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.agents.symphony import FadingReplayBuffer, Symphony

Rows = list[dict[str, Any]]

_OBS, _ACTIONS = 376, 17
_ROUND_MS = 40.0
"""Each point is timed for about this long per round."""
_EVICT_BYTES = 96 << 20
"""Read between two cold draws: three times this machine's last-level cache."""
_RAM_RESERVE = 2 << 30
_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Growth:
    """Measure how an update, the replay buffer and the environments grow, one size at a time; the rest is a preset's.

    The replay buffers are full, in float16, and all in memory at once (8.5 GB by default), so that they take turns.
    """

    preset: str = "cpu"
    """whose other sizes; see `cadenza list presets`"""
    env: str = "cadenza/HumanoidPaper-v0"
    """stepped and trained on in the series over the number of environments"""
    largest: int = 4_000_000
    """largest replay capacity; capacities for which RAM is short are left out with a message"""
    repeats: int = 15
    """rounds over all points of a series; medians are reported"""
    quick: bool = False
    """fewer points and at most 5 rounds: well under a minute"""
    json: Path | None = None
    """write the figures to this file"""
    plot: Path | None = None
    """draw them, log-log, into this file"""

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden widths."""
        return (64, 256) if self.quick else (64, 128, 256, 512, 1024)

    @property
    def batches(self) -> tuple[int, ...]:
        """Transitions per update."""
        return (32, 128) if self.quick else (32, 64, 128, 256, 512, 1024)

    @property
    def capacities(self) -> tuple[int, ...]:
        """Replay capacities up to ``largest``, which is always among them."""
        usual = (10_000, 100_000) if self.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000, 4_000_000)
        largest = min(self.largest, 100_000) if self.quick else self.largest
        return (*(c for c in usual if c < largest), largest)

    @property
    def env_counts(self) -> tuple[int, ...]:
        """Numbers of environments."""
        return (1, 4) if self.quick else (1, 2, 4, 8, 16)

    @property
    def rounds(self) -> int:
        """Rounds that are made."""
        return min(self.repeats, 5) if self.quick else self.repeats


class Turns:
    """Times several calls in turns: every point once per round, so that a slow minute hits all of them alike."""

    def __init__(self, rounds: int, tick: Callable[[], None] = lambda: None):
        self.rounds = rounds
        self._tick = tick

    def measure(
        self, calls: dict[Hashable, Callable[[], object]], before: Callable[[], object] | None = None
    ) -> dict[Hashable, dict[str, float]]:
        """Per key: ``ms`` and ``fastest_ms`` of wall-clock and ``cpu_ms`` of processor time per call.

        Args:
            calls: what to time; each is called often enough to fill a share of a second per round.
            before: called, untimed, before every single call.
        """
        counts: dict[Hashable, int] = {}
        for key, call in calls.items():
            ms_per_call(call, 2)  # the first calls warm up
            counts[key] = 4 if before else max(1, min(400, round(_ROUND_MS / max(ms_per_call(call, 2), 1e-3))))
        wall: dict[Hashable, list[float]] = {key: [] for key in calls}
        cpu: dict[Hashable, list[float]] = {key: [] for key in calls}
        for number in range(self.rounds):
            # The order turns too: a point must not always follow the one that empties the caches.
            keys = list(calls)
            for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
                spent = _timed(calls[key], counts[key], before)
                wall[key].append(spent[0])
                cpu[key].append(spent[1])
            self._tick()
        return {
            key: {
                "ms": round(median(wall[key]), 5),
                "fastest_ms": round(min(wall[key]), 5),
                "cpu_ms": round(median(cpu[key]), 5),
            }
            for key in calls
        }


def _timed(call: Callable[[], object], count: int, before: Callable[[], object] | None) -> tuple[float, float]:
    """Milliseconds of wall-clock and of processor time per call."""
    if before is None:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            call()
        return 1e3 * (time.perf_counter() - wall) / count, 1e3 * (time.process_time() - cpu) / count
    wall_ms, cpu_ms = [], []
    for _ in range(count):
        before()
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        cpu_ms.append(1e3 * (time.process_time() - cpu))
        wall_ms.append(1e3 * (time.perf_counter() - wall))
    return median(wall_ms), median(cpu_ms)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y over log x: y grows as x to this power; nan for fewer than two points."""
    if len(x) < 2:
        return math.nan
    u, v = [math.log(a) for a in x], [math.log(b) for b in y]
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    over = sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True))
    return over / sum((a - mean_u) ** 2 for a in u)


def measure_growth(options: Growth) -> Record:
    """Four series, one torch thread; every series on its own, its points in turns."""
    from cadenza.agents.symphony.presets import PRESETS
    from cadenza.envs.names import unknown_name

    if options.preset not in PRESETS:
        raise unknown_name("preset", options.preset, PRESETS, see="cadenza list presets")
    _check_picture(options.plot)
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    torch.set_num_threads(1)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        # Rounds: width and batch one each; the buffers add, draw and draw cold; the environments step and train.
        task = bar.add_task("", total=7 * options.rounds)
        turns = Turns(options.rounds, lambda: bar.advance(task))
        record: Record = {"preset": options.preset, "env": options.env, "repeats": options.rounds, "threads": 1}
        for name, title, series in (
            ("width", "hidden width", _widths),
            ("batch", "batch size", _batches),
            ("replay", "replay capacity", _capacities),
            ("envs", "environments", _env_counts),
        ):
            bar.update(task, description=title)
            record[name] = series(options, turns)
    record["exponents"] = exponents(record)
    _print(record)
    if options.plot is not None:
        from cadenza.scripts.bench.growth_plot import draw_growth

        try:
            draw_growth(record, options.plot)
        except OSError as error:
            # The figures of some minutes are not lost for a picture.
            out.print(f"[yellow]note:[/] cannot draw {escape(str(options.plot))}: {error.strerror}")
        else:
            out.print(f"drawn: {escape(str(options.plot))}")
    return record


def _check_picture(path: Path | None) -> None:
    """Refuse before the measuring what could not be drawn after it."""
    if path is None:
        return
    if path.suffix not in _PICTURES:
        raise CadenzaError(
            f"Cannot draw {path}: not one of {', '.join(_PICTURES)}.", "Choose another name with --plot."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CadenzaError(f"Cannot write {path}: {error.strerror}.", "Choose another place with --plot.") from error


# ---------------------------------------------------------------------- updates


def _model(options: Growth, env: Env | VecEnv, **overrides: Any) -> Symphony:
    from cadenza.agents.symphony import Symphony

    small = {"buffer_size": 4096, "learning_starts": 64, **overrides}
    try:
        return Symphony("MlpPolicy", env, preset=options.preset, seed=0, device="cpu", **small)
    except ValueError as error:
        raise CadenzaError(str(error)) from error


def _learner(options: Growth, **overrides: Any) -> Symphony:
    """An agent with random transitions in its buffer, ready for updates."""
    from cadenza.envs.registration import make_env

    env = make_env(options.env)
    model = _model(options, env, **overrides)
    env.close()  # only its spaces are needed
    ms_per_call(adder(model.replay_buffer), 2048)
    model.policy.set_training_mode(True)
    return model


def _widths(options: Growth, turns: Turns) -> Rows:
    from itertools import chain

    import torch

    models = {width: _learner(options, hidden_size=width) for width in options.widths}
    times = turns.measure(
        {width: partial(m.update, m.replay_buffer.sample_batch(m.batch_size)) for width, m in models.items()}
    )
    rows: Rows = []
    for width, model in models.items():
        held = sum(t.nbytes for t in chain(model.policy.parameters(), model.policy.buffers()))
        moments = sum(v.nbytes for s in model.policy.optimizer.state.values() for v in s.values() if torch.is_tensor(v))
        rows.append({"width": width, **times[width], "parameter_mb": held / 1e6, "optimizer_mb": moments / 1e6})
    return rows


def _batches(options: Growth, turns: Turns) -> Rows:
    model = _learner(options)
    # sample_batch() reuses its tensors for one batch size only; the clones stay.
    drawn = {size: _cloned(model.replay_buffer, size) for size in options.batches}
    times = turns.measure({size: partial(model.update, batch) for size, batch in drawn.items()})
    return [{"batch": size, **times[size]} for size in options.batches]


def _cloned(buffer: FadingReplayBuffer, size: int) -> Any:
    batch = buffer.sample_batch(size)
    return type(batch)(*(tensor.clone() for tensor in batch))


# ---------------------------------------------------------------------- replay buffer


def _capacities(options: Growth, turns: Turns) -> Rows:
    import numpy as np

    from cadenza.agents.symphony.presets import PRESETS

    batch = PRESETS[options.preset].batch_size
    buffers: dict[Hashable, FadingReplayBuffer] = {}
    resident: dict[Hashable, float | None] = {}
    for capacity in options.capacities:
        need, there = capacity * (2 * (2 * _OBS + _ACTIONS) + 5), available_bytes()
        if there is not None and need + _RAM_RESERVE > there:
            out.print(
                f"[yellow]note:[/] a full buffer of {capacity:,} needs {need / 1e9:.1f} GB; {there / 1e9:.1f} GB "
                f"are free and {_RAM_RESERVE / 1e9:.0f} must stay so: left out. A smaller one: --largest."
            )
            continue
        before = resident_bytes()
        buffers[capacity] = full_buffer(capacity, options.preset)
        after = resident_bytes()
        resident[capacity] = None if before is None or after is None else (after - before) / 1e6
    adds = turns.measure({capacity: adder(buffer) for capacity, buffer in buffers.items()})
    draws: dict[Hashable, Callable[[], object]] = {c: partial(b.sample_batch, batch) for c, b in buffers.items()}
    warm = turns.measure(draws)
    evicting = np.zeros(_EVICT_BYTES // 8)
    # In training an update stands between two draws and takes the caches for itself.
    cold = turns.measure(draws, before=evicting.sum)
    return [
        {
            "capacity": capacity,
            "batch": batch,
            **{f"add_{name}": value for name, value in adds[capacity].items()},
            **{f"draw_{name}": value for name, value in warm[capacity].items()},
            **{f"cold_draw_{name}": value for name, value in cold[capacity].items()},
            "array_mb": sum(array.nbytes for array in buffer.storage().values()) / 1e6,
            "resident_mb": resident[capacity],
        }
        for capacity, buffer in buffers.items()
    ]


def full_buffer(capacity: int, preset: str) -> FadingReplayBuffer:
    """A float16 buffer of the preset's age law with every slot written, filled the way a checkpoint is read."""
    import numpy as np
    from gymnasium import spaces

    from cadenza.agents.symphony.presets import PRESETS
    from cadenza.agents.symphony.replay import FadingReplayBuffer

    boxes = spaces.Box(-np.inf, np.inf, (_OBS,)), spaces.Box(-1, 1, (_ACTIONS,))
    law = PRESETS[preset].age_law
    buffer = FadingReplayBuffer(capacity, *boxes, device="cpu", age_law=law, storage="float16", seed=0)
    count = min(capacity, 10_000)
    ms_per_call(adder(buffer), count)
    for array in buffer.storage().values():
        for start in range(count, capacity, count):
            array[start : start + count] = array[: min(count, capacity - start)]
    buffer.set_extra_state({**buffer.get_extra_state(), "pos": 0, "full": True, "writes": capacity})
    return buffer


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not tell."""
    # Memory that was freed but kept would be reused unseen: hand it back first, where the C library can.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """RAM that a program can still take without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


# ---------------------------------------------------------------------- environments


def _env_counts(options: Growth, turns: Turns) -> Rows:
    import numpy as np

    venvs = {count: _venv(options.env, count) for count in options.env_counts}
    for venv in venvs.values():
        venv.seed(0)
        venv.reset()
    draw = np.random.default_rng(0)
    steps: dict[Hashable, Callable[[], object]] = {}
    for count, venv in venvs.items():
        low, high = venv.action_space.low, venv.action_space.high  # type: ignore[attr-defined]
        actions = draw.uniform(low, high, (256, count, len(low))).astype(np.float32)
        steps[count] = partial(_step, venv, actions, iter(range(10**9)))
    stepping = turns.measure(steps)
    models = {count: _model(options, venv) for count, venv in venvs.items()}
    for count, model in models.items():
        model.learn(64 + 5 * count, log_interval=None)
    training = turns.measure({count: partial(_train, model, count) for count, model in models.items()})
    for venv in venvs.values():
        venv.close()
    return [
        {
            "envs": count,
            "env_steps_per_cpu_s": round(1e3 * count / stepping[count]["cpu_ms"], 1),
            **{f"step_{name}": value for name, value in stepping[count].items()},
            **{f"train_{name}": round(value / _TRAIN_STEPS, 5) for name, value in training[count].items()},
            "updates_per_step": models[count].gradient_steps,
        }
        for count in options.env_counts
    ]


_TRAIN_STEPS = 5
"""Steps per timed call of learn(), which has costs of its own."""


def _venv(env: str, count: int) -> VecEnv:
    """The environments as a run builds them: guarded, monitored, stepped in turn in one process."""
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    from cadenza.envs.guard import FiniteGuard
    from cadenza.envs.registration import make_env

    return DummyVecEnv([lambda: Monitor(FiniteGuard(make_env(env))) for _ in range(count)])


def _step(venv: VecEnv, actions: Any, numbers: Any) -> None:
    venv.step(actions[next(numbers) % len(actions)])


def _train(model: Symphony, count: int) -> None:
    model.learn(_TRAIN_STEPS * count, reset_num_timesteps=False, log_interval=None)


# ---------------------------------------------------------------------- report

CURVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "width": ("width", ("cpu_ms", "parameter_mb", "optimizer_mb")),
    "batch": ("batch", ("cpu_ms",)),
    "replay": ("capacity", ("add_cpu_ms", "draw_cpu_ms", "cold_draw_cpu_ms", "array_mb")),
    "envs": ("envs", ("env_steps_per_cpu_s", "step_cpu_ms", "train_cpu_ms")),
}
"""Per series of the record: the size, and the columns whose growth is fitted."""


def exponents(record: Record) -> dict[str, dict[str, float]]:
    """Fitted exponents by series and column."""
    return {
        series: {
            c: round(exponent([r[size] for r in record[series]], [r[c] for r in record[series]]), 4) for c in columns
        }
        for series, (size, columns) in CURVES.items()
    }


def _print(record: Record) -> None:
    out.print(f"[bold]growth[/] preset {record['preset']}, 1 thread, processor time, n = {record['repeats']} rounds")
    for series, (size, columns) in CURVES.items():
        rows = record[series]
        out.print(f"  [bold]{size:>10}{''.join(f'{column:>22}' for column in columns)}[/]")
        for row in rows:
            out.print(f"  {row[size]:10,}{''.join(f'{row[column]:22,.4g}' for column in columns)}")
        fits = [f"x^{record['exponents'][series][column]:.2f}" for column in columns]
        out.print(f"  {'grows as':>10}{''.join(f'{fit:>22}' for fit in fits)}\n")
