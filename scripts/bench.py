"""``cadenza bench``: how fast this machine updates, steps and replays, and how far an update is from its floor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import out, write_result
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.agents.symphony.arithmetic import Product

Record = dict[str, Any]


@dataclass(frozen=True)
class Overview:
    """Short measurements of all three, in under a minute: what `cadenza bench` alone does."""

    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Update:
    """Time one Symphony update, and compare it with the time its matrix products must take on this machine.

    efficiency = floor / measured, where floor = operations of the products / measured float32 matmul rate.
    """

    preset: str = "cpu"
    """whose sizes; see `cadenza list presets`"""
    env: str = "cadenza/HumanoidPaper-v0"
    """whose observation and action sizes (376 and 17)"""
    batch: int | None = None
    """transitions per update; the preset's if not given"""
    threads: int = 1
    """of torch"""
    repeats: int = 30
    """how often updates and bare products take turns; medians are reported"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Env:
    """Step environments in turn with random actions; resets are timed apart."""

    envs: Annotated[tuple[str, ...], tyro.conf.Positional] = ("cadenza/HumanoidPaper-v0",)
    """one or several ids"""
    steps: int = 500
    """per repeat"""
    repeats: int = 9
    """rounds over all environments; medians are reported"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Replay:
    """Time the replay buffer at several capacities, in float16 and float32: neither adding nor drawing should grow."""

    capacity: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """transitions"""
    stored: int = 10_000
    """transitions written before timing (at most the capacity); memory is taken only for what is written"""
    obs: int = 376
    """observation size"""
    actions: int = 17
    """action size"""
    batch: int = 128
    """transitions per draw"""
    repeats: int = 15
    """rounds over all buffers, each of 200 adds and 50 draws; medians are reported"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Bench:
    """Measure speed on this machine. Without arguments: a short overview of everything.

    cadenza bench
    cadenza bench update --preset cpu --threads 2
    cadenza bench env cadenza/Humanoid-v0 Hopper-v5
    cadenza bench replay --capacity 10000 1000000

    `cadenza bench update --help` explains one. Other programs on the same cores slow everything down; the load average
    is part of what --json writes.
    """

    what: (
        Annotated[Overview, tyro.conf.subcommand("all")]
        | Annotated[Update, tyro.conf.subcommand("update")]
        | Annotated[Env, tyro.conf.subcommand("env")]
        | Annotated[Replay, tyro.conf.subcommand("replay")]
    ) = field(default_factory=Overview)
    """what to measure"""


def main(arguments: list[str]) -> int:
    """Parse, measure, print."""
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Bench), "bench", arguments
    ).what
    from cadenza.agents.runs.settings import provenance

    _check(what)
    record: Record = {"command": " ".join(["cadenza bench", *arguments]), "load_average_before": _load()}
    if isinstance(what, Update):
        record |= measure_update(what)
    elif isinstance(what, Env):
        record |= measure_envs(what)
    elif isinstance(what, Replay):
        record |= measure_replay(what)
    else:
        record["update"] = measure_update(Update(repeats=12), table=False)
        record["env"] = measure_envs(Env(("cadenza/Humanoid-v0", "cadenza/HumanoidPaper-v0"), steps=300, repeats=5))
        record["replay"] = measure_replay(Replay(capacity=(10_000, 300_000), repeats=7))
    write_result(what.json, {**record, "load_average_after": _load(), **provenance()})
    return 0


def _check(what: Overview | Update | Env | Replay) -> None:
    for name in ("batch", "threads", "repeats", "steps", "stored", "obs", "actions"):
        value = getattr(what, name, None)
        if value is not None and value < 1:
            raise CadenzaError(f"--{name} must be at least 1, got {value}.")
    if isinstance(what, Replay) and (not what.capacity or min(what.capacity) < 1):
        raise CadenzaError("--capacity takes one or several numbers of transitions, each at least 1.")
    if isinstance(what, Env) and not what.envs:
        raise CadenzaError("Name at least one environment.", "See `cadenza list envs`.")


def _load() -> list[float] | None:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _ms(call: Callable[[], object], count: int) -> float:
    """Milliseconds per call, over ``count`` calls."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return 1e3 * (time.perf_counter() - began) / count


# ---------------------------------------------------------------------- update


def measure_update(options: Update, *, table: bool = True) -> Record:
    """Updates on random transitions and bare matrix products in turns, in one process on the same threads."""
    from cadenza.agents.symphony.presets import PRESETS
    from cadenza.envs.names import unknown_name

    if options.preset not in PRESETS:
        raise unknown_name("preset", options.preset, PRESETS, see="cadenza list presets")
    import torch
    from gymnasium import spaces

    from cadenza.agents.symphony import Symphony
    from cadenza.agents.symphony.arithmetic import HEADS, gflop, update_products
    from cadenza.envs.registration import make_env

    torch.set_num_threads(options.threads)
    batch_size = options.batch or PRESETS[options.preset].batch_size
    env = make_env(options.env)
    try:
        small: dict[str, Any] = {"buffer_size": 4096, "learning_starts": 64, "batch_size": batch_size}
        model = Symphony("MlpPolicy", env, preset=options.preset, seed=0, device="cpu", **small)
    except ValueError as error:
        raise CadenzaError(str(error)) from error
    obs_size, action_size = spaces.flatdim(env.observation_space), spaces.flatdim(env.action_space)
    _ms(_adder(model.replay_buffer), 4096)
    env.close()
    model.policy.set_training_mode(True)
    batch = model.replay_buffer.sample_batch(batch_size)

    # The hidden layer of the three critics, the commonest product of the update.
    hidden = model.config.hidden_size
    left, right = torch.randn(HEADS, batch_size, hidden), torch.randn(HEADS, hidden, hidden)
    result = torch.empty(HEADS, batch_size, hidden)
    probe_gflop = 2e-9 * HEADS * batch_size * hidden * hidden

    def update() -> None:
        model.update(batch)

    def probe() -> None:
        torch.bmm(left, right, out=result)

    estimates = _ms(update, 3), _ms(probe, 3)  # the first calls warm up
    estimates = _ms(update, 3), _ms(probe, 3)
    counts = [max(1, round(60 / ms)) for ms in estimates]
    update_ms, cpu_ms, probe_ms = [], [], []
    for _ in range(options.repeats):
        began = time.process_time()
        update_ms.append(_ms(update, counts[0]))
        cpu_ms.append(1e3 * (time.process_time() - began) / counts[0])
        probe_ms.append(_ms(probe, counts[1]))

    products = update_products(model.config, obs_size, action_size, batch_size)
    work, measured = gflop(products), median(update_ms)
    rate = 1e3 * probe_gflop / median(probe_ms)
    record: Record = {
        "preset": options.preset,
        "env": options.env,
        "obs": obs_size,
        "actions": action_size,
        "batch": batch_size,
        "threads": options.threads,
        "repeats": options.repeats,
        "updates_per_repeat": counts[0],
        "ms_per_update": round(measured, 4),
        "ms_per_update_fastest": round(min(update_ms), 4),
        "cpu_ms_per_update": round(median(cpu_ms), 4),
        "gflop_per_update": round(work, 6),
        "matmul_gflops": round(rate, 3),
        "floor_ms": round(1e3 * work / rate, 4),
        "efficiency": round(1e3 * work / rate / measured, 4),
    }
    if table:
        _print_products(products)
    _print_update(record)
    return record


def _adder(buffer: Any) -> Callable[[], None]:
    """A function that adds one random transition, drawn here, to a buffer of one environment."""
    from itertools import cycle

    import numpy as np

    draw = np.random.default_rng(0)
    obs = draw.standard_normal((65, 1, buffer.obs_size)).astype(np.float32)
    action = draw.uniform(-1, 1, (64, 1, buffer.action_dim)).astype(np.float32)
    rows = cycle(zip(obs[:-1], obs[1:], action, strict=True))
    reward, done = np.ones(1, dtype=np.float32), np.zeros(1, dtype=bool)
    infos: list[dict[str, Any]] = [{}]

    def add() -> None:
        before, after, act = next(rows)
        buffer.add(before, after, act, reward, done, infos)

    return add


def _print_products(products: list[Product]) -> None:
    kinds = ("forward", "weight gradient", "input gradient")
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for product in products:
        rows.setdefault((product.block, product.layer), {})[product.kind] = product.flop / 1e6
    out.print(f"[bold]{'MFLOP per update':22}{'layer':>6}{''.join(f'{kind:>17}' for kind in kinds)}[/]")
    for (block, layer), values in rows.items():
        cells = "".join(f"{values[kind]:17.2f}" if kind in values else f"{'-':>17}" for kind in kinds)
        out.print(f"{block:22}{layer:>6}{cells}")
    sums = "".join(f"{sum(p.flop for p in products if p.kind == kind) / 1e6:17.2f}" for kind in kinds)
    out.print(f"[bold]{'sum':28}{sums}[/]\n")


def _print_update(r: Record) -> None:
    fastest = f"fastest repeat {r['ms_per_update_fastest']:.2f}, processor time {r['cpu_ms_per_update']:.2f}"
    out.print(f"[bold]update[/] preset {r['preset']}, batch {r['batch']}, {r['threads']} thread(s), n = {r['repeats']}")
    out.print(f"  measured     {r['ms_per_update']:9.2f} ms per update ({fastest})")
    out.print(f"  products     {r['gflop_per_update']:9.3f} GFLOP per update")
    out.print(f"  this machine {r['matmul_gflops']:9.1f} GFLOP/s in float32 products of these sizes")
    out.print(f"  floor        {r['floor_ms']:9.2f} ms; efficiency {100 * r['efficiency']:.0f} %")


# ---------------------------------------------------------------------- env


def measure_envs(options: Env) -> Record:
    """Random actions, drawn before the clock starts; every environment once per round."""
    from cadenza.envs.registration import make_env

    envs = {name: make_env(name) for name in options.envs}
    steps_ms: dict[str, list[float]] = {name: [] for name in envs}
    resets_ms: dict[str, list[float]] = {name: [] for name in envs}
    for env in envs.values():
        env.action_space.seed(0)
        env.reset(seed=0)
        _walk(env, min(options.steps, 50))
    for _ in range(options.repeats):
        for name, env in envs.items():
            step_ms, reset_ms = _walk(env, options.steps)
            steps_ms[name].append(step_ms)
            resets_ms[name].append(reset_ms)
    rows = {}
    for name, env in envs.items():
        env.close()
        ms = median(steps_ms[name])
        rows[name] = {
            "steps_per_s": round(1e3 / ms, 1),
            "steps_per_s_fastest": round(1e3 / min(steps_ms[name]), 1),
            "ms_per_step": round(ms, 4),
            "ms_per_reset": round(median(resets_ms[name]), 4),
        }
        out.print(f"[bold]env[/] {name}, n = {options.repeats} x {options.steps} steps")
        out.print(f"  {1e3 / ms:10,.0f} steps/s, {ms:.3f} ms per step, {rows[name]['ms_per_reset']:.3f} ms per reset")
    return {"steps": options.steps, "repeats": options.repeats, "envs": rows}


def _walk(env: Any, steps: int) -> tuple[float, float]:
    """Milliseconds per step and per reset; starts with a reset."""
    actions = [env.action_space.sample() for _ in range(steps)]
    stepping = 0.0
    resets = 1
    began = time.perf_counter()
    env.reset()
    resetting = time.perf_counter() - began
    for action in actions:
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        now = time.perf_counter()
        stepping += now - began
        if terminated or truncated:
            env.reset()
            resetting += time.perf_counter() - now
            resets += 1
    return 1e3 * stepping / steps, 1e3 * resetting / resets


# ---------------------------------------------------------------------- replay


def measure_replay(options: Replay) -> Record:
    """One buffer per capacity and storage; each round visits them all."""
    import numpy as np
    import torch
    from gymnasium import spaces

    from cadenza.agents.symphony.replay import FadingReplayBuffer

    torch.set_num_threads(1)
    boxes = spaces.Box(-np.inf, np.inf, (options.obs,)), spaces.Box(-1, 1, (options.actions,))
    buffers = {
        (storage, capacity): FadingReplayBuffer(capacity, *boxes, device="cpu", storage=storage, seed=0)
        for storage in ("float16", "float32")
        for capacity in options.capacity
    }
    calls = {key: (_adder(buffer), partial(buffer.sample_batch, options.batch)) for key, buffer in buffers.items()}
    add_ms: dict[tuple[str, int], list[float]] = {key: [] for key in buffers}
    draw_ms: dict[tuple[str, int], list[float]] = {key: [] for key in buffers}
    for key, (add, draw) in calls.items():
        _ms(add, min(options.stored, buffers[key].buffer_size))
        _ms(draw, 20)
    for _ in range(options.repeats):
        for key, (add, draw) in calls.items():
            add_ms[key].append(_ms(add, 200))
            draw_ms[key].append(_ms(draw, 50))
    rows = []
    out.print(f"[bold]replay[/] {options.stored:,} stored, batch {options.batch}, n = {options.repeats}")
    out.print(f"  {'storage':10}{'capacity':>12}{'ms per add':>14}{'ms per batch':>14}{'bytes per transition':>22}")
    for (storage, capacity), buffer in buffers.items():
        arrays = buffer.storage().values()
        row = {
            "storage": storage,
            "capacity": capacity,
            "stored": buffer.size(),
            "ms_per_add": round(median(add_ms[storage, capacity]), 5),
            "ms_per_batch": round(median(draw_ms[storage, capacity]), 5),
            "bytes_per_transition": sum(array.nbytes // len(array) for array in arrays),
        }
        rows.append(row)
        out.print(
            f"  {storage:10}{capacity:12,}{row['ms_per_add']:14.4f}{row['ms_per_batch']:14.4f}"
            f"{row['bytes_per_transition']:22,}"
        )
    return {
        "obs": options.obs,
        "actions": options.actions,
        "batch": options.batch,
        "repeats": options.repeats,
        "buffers": rows,
    }
