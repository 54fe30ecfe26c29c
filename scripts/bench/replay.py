"""``cadenza bench replay``: adding to and drawing from the replay buffer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from cadenza.scripts.bench.timing import Record, adder, ms_per_call
from cadenza.scripts.console import out


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
    calls = {key: (adder(buffer), partial(buffer.sample_batch, options.batch)) for key, buffer in buffers.items()}
    add_ms: dict[tuple[str, int], list[float]] = {key: [] for key in buffers}
    draw_ms: dict[tuple[str, int], list[float]] = {key: [] for key in buffers}
    for key, (add, draw) in calls.items():
        ms_per_call(add, min(options.stored, buffers[key].buffer_size))
        ms_per_call(draw, 20)
    for _ in range(options.repeats):
        for key, (add, draw) in calls.items():
            add_ms[key].append(ms_per_call(add, 200))
            draw_ms[key].append(ms_per_call(draw, 50))
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
