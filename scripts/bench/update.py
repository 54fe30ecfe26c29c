"""``cadenza bench update``: one Symphony update against its floor."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record, adder, ms_per_call
from cadenza.scripts.console import out

if TYPE_CHECKING:
    from cadenza.agents.symphony.arithmetic import Product


@dataclass(frozen=True)
class Update:
    """Time one Symphony update, and compare it with the time its matrix products must take on this machine.

    efficiency = floor / measured, where floor = operations of the products / the best float32 matmul rate measured.
    """

    preset: str = "cpu"
    """whose sizes; see `cadenza list presets`"""
    env: str = "cadenza/HumanoidPaper-v0"
    """whose observation and action sizes (376 and 17)"""
    batch: int | None = None
    """transitions per update; the preset's if not given"""
    threads: int = 1
    """cores to use; from two on, both ways are tried: the update's two branches beside each other, and every single
    operation spread over torch's threads"""
    kernels: Literal["auto", "compiled", "torch"] = "auto"
    """what runs between the products: compiled passes where Numba is installed, or plain torch"""
    repeats: int = 30
    """how often updates and bare products take turns; medians are reported"""
    json: Path | None = None
    """write the figures to this file"""


def measure_update(options: Update, *, table: bool = True) -> Record:
    """Updates on random transitions and bare matrix products in turns, in one process on the same threads."""
    with _kernels(options.kernels):
        return _measure(options, table)


@contextmanager
def _kernels(choice: str) -> Iterator[None]:
    """What runs between the products, as ``CADENZA_KERNELS`` says it; the caller's choice comes back."""
    from cadenza.agents.symphony.block import compiled

    before = os.environ.get("CADENZA_KERNELS")
    try:
        if choice != "auto":
            os.environ["CADENZA_KERNELS"] = choice
            compiled.cache_clear()
        yield
    finally:
        if choice != "auto":
            os.environ.pop("CADENZA_KERNELS") if before is None else os.environ.update(CADENZA_KERNELS=before)
            compiled.cache_clear()


def _measure(options: Update, table: bool) -> Record:
    from cadenza.agents.symphony.presets import PRESETS
    from cadenza.envs.names import unknown_name

    if options.preset not in PRESETS:
        raise unknown_name("preset", options.preset, PRESETS, see="cadenza list presets")
    import torch
    from gymnasium import spaces

    from cadenza.agents.symphony import Symphony
    from cadenza.agents.symphony.arithmetic import HEADS, gflop, update_products
    from cadenza.agents.symphony.block import compiled
    from cadenza.agents.symphony.branches import Pair
    from cadenza.envs.registration import make_env

    if options.kernels == "compiled" and compiled() is None:
        raise CadenzaError("Numba is not installed, so there are no compiled kernels.", "pip install numba")
    batch_size = options.batch or PRESETS[options.preset].batch_size
    env = make_env(options.env)
    try:
        small: dict[str, Any] = {"buffer_size": 4096, "learning_starts": 64, "batch_size": batch_size}
        model = Symphony("MlpPolicy", env, preset=options.preset, seed=0, device="cpu", **small)
    except ValueError as error:
        raise CadenzaError(str(error)) from error
    obs_size, action_size = spaces.flatdim(env.observation_space), spaces.flatdim(env.action_space)
    ms_per_call(adder(model.replay_buffer), 4096)
    env.close()
    model.policy.set_training_mode(True)
    batch = model.replay_buffer.sample_batch(batch_size)

    # The hidden layer of the three critics, the commonest product of the update.
    hidden = model.config.hidden_size
    left, right = torch.randn(HEADS, batch_size, hidden), torch.randn(HEADS, hidden, hidden)
    results = [torch.empty(HEADS, batch_size, hidden) for _ in range(2)]
    probe_gflop = 2e-9 * HEADS * batch_size * hidden * hidden

    def update() -> None:
        model.update(batch)

    def probe() -> None:
        torch.bmm(left, right, out=results[0])

    def probe_again() -> None:
        torch.bmm(left, right, out=results[1])

    ways = {"in_turn": options.threads}
    if options.threads > 1:
        ways["together"] = options.threads // 2
    pairs = {}
    for way, threads in ways.items():
        torch.set_num_threads(threads)
        pairs[way] = model.branches = Pair(way)
        ms_per_call(update, 3)  # compiles, starts threads, warms up
    count = max(1, round(60 / ms_per_call(update, 3)))
    torch.set_num_threads(options.threads)
    probes = max(1, round(60 / ms_per_call(probe, 3)))
    update_ms: dict[str, list[float]] = {way: [] for way in ways}
    cpu_ms: dict[str, list[float]] = {way: [] for way in ways}
    probe_ms, beside_ms = [], []
    for _ in range(options.repeats):
        for way, threads in ways.items():
            torch.set_num_threads(threads)
            model.branches = pairs[way]
            update()
            began = time.process_time()
            update_ms[way].append(ms_per_call(update, count))
            cpu_ms[way].append(1e3 * (time.process_time() - began) / count)
        torch.set_num_threads(options.threads)
        probe()
        probe_ms.append(ms_per_call(probe, probes))
        if "together" in pairs:
            torch.set_num_threads(ways["together"])
            both = partial(
                pairs["together"].run, partial(ms_per_call, probe, probes), partial(ms_per_call, probe_again, probes)
            )
            beside_ms.append(ms_per_call(both, 1) / probes)

    way = min(ways, key=lambda name: median(update_ms[name]))
    products = update_products(model.config, obs_size, action_size, batch_size, model.actor_observation_size)
    work, measured = gflop(products), median(update_ms[way])
    split = 1e3 * probe_gflop / median(probe_ms)
    beside = 2e3 * probe_gflop / median(beside_ms) if beside_ms else None
    rate = max(split, beside or 0.0)  # a floor is no floor if the same machine multiplies faster another way
    record: Record = {
        "preset": options.preset,
        "env": options.env,
        "obs": obs_size,
        "actions": action_size,
        "batch": batch_size,
        "threads": options.threads,
        "repeats": options.repeats,
        "updates_per_repeat": count,
        "kernels": "torch" if compiled() is None else "compiled",
        "branches": way,
        "ms_per_update": round(measured, 4),
        "ms_per_update_fastest": round(min(update_ms[way]), 4),
        "ms_per_update_by_branches": {name: round(median(values), 4) for name, values in update_ms.items()},
        "cpu_ms_per_update": round(median(cpu_ms[way]), 4),
        "gflop_per_update": round(work, 6),
        "matmul_gflops": round(split, 3),
        "matmul_gflops_beside": None if beside is None else round(beside, 3),
        "floor_gflops": round(rate, 3),
        "floor_ms": round(1e3 * work / rate, 4),
        "efficiency": round(1e3 * work / rate / measured, 4),
    }
    if table:
        _print_products(products)
    _print_update(record)
    return record


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
    way = "branches beside each other" if r["branches"] == "together" else "one operation after the other"
    out.print(
        f"[bold]update[/] preset {r['preset']}, batch {r['batch']}, {r['threads']} thread(s), {way}, "
        f"{r['kernels']} kernels, n = {r['repeats']}"
    )
    out.print(f"  measured     {r['ms_per_update']:9.2f} ms per update ({fastest})")
    out.print(f"  products     {r['gflop_per_update']:9.3f} GFLOP per update")
    split, beside = r["matmul_gflops"], r["matmul_gflops_beside"]
    ways = f" ({split:.1f} in one product, {beside:.1f} in two independent ones)" if beside else ""
    out.print(f"  this machine {r['floor_gflops']:9.1f} GFLOP/s in torch's float32 products of these sizes{ways}")
    out.print(f"  floor        {r['floor_ms']:9.2f} ms; efficiency {100 * r['efficiency']:.0f} %")
