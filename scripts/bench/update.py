"""``cadenza bench update``: one Symphony update against its floor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record, adder, ms_per_call
from cadenza.scripts.console import out

if TYPE_CHECKING:
    from cadenza.agents.symphony.arithmetic import Product


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
    ms_per_call(adder(model.replay_buffer), 4096)
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

    estimates = ms_per_call(update, 3), ms_per_call(probe, 3)  # the first calls warm up
    estimates = ms_per_call(update, 3), ms_per_call(probe, 3)
    counts = [max(1, round(60 / ms)) for ms in estimates]
    update_ms, cpu_ms, probe_ms = [], [], []
    for _ in range(options.repeats):
        began = time.process_time()
        update_ms.append(ms_per_call(update, counts[0]))
        cpu_ms.append(1e3 * (time.process_time() - began) / counts[0])
        probe_ms.append(ms_per_call(probe, counts[1]))

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
