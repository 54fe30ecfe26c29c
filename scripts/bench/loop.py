"""``cadenza bench loop``: whole training steps, with and without what runs beside each other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record
from cadenza.scripts.console import out


@dataclass(frozen=True)
class Loop:
    """Time whole training steps: act, step the environment, store, draw a batch, update.

    Four ways take turns in one process: the environment beside the update or before it (overlap), the update's two
    branches beside each other or in turn. Each way trains a policy of its own from the same seed.
    """

    preset: str = "cpu"
    """of Symphony"""
    env: str = "cadenza/HumanoidPaper-v0"
    """where it trains"""
    n_envs: int = 1
    """environments stepped in turn"""
    steps: int = 300
    """training steps per repeat"""
    repeats: int = 9
    """rounds over the four ways; medians are reported"""
    json: Path | None = None
    """write the figures to this file"""


def measure_loop(options: Loop) -> Record:
    """Milliseconds per environment step of the four ways."""
    from cadenza.agents.symphony.presets import PRESETS
    from cadenza.envs.names import unknown_name

    if options.preset not in PRESETS:
        raise unknown_name("preset", options.preset, PRESETS, see="cadenza list presets")
    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv

    from cadenza.agents.symphony import Symphony
    from cadenza.envs.registration import make_env

    torch.set_num_threads(1)
    explore = min(PRESETS[options.preset].learning_starts, 1_000)
    ways: dict[tuple[bool, str], Any] = {}
    for overlap, branches in product((True, False), ("together", "in_turn")):
        envs = DummyVecEnv([lambda: make_env(options.env) for _ in range(options.n_envs)])
        try:
            model = Symphony(
                "MlpPolicy", envs, preset=options.preset, seed=0, device="cpu", branches=branches, overlap=overlap,
                learning_starts=explore, buffer_size=50_000,
            )  # fmt: skip
        except ValueError as error:
            raise CadenzaError(str(error)) from error
        model.learn(explore + 20 * options.n_envs)  # explores, compiles, warms up
        ways[overlap, branches] = model
    ms: dict[tuple[bool, str], list[float]] = {way: [] for way in ways}
    cpu: dict[tuple[bool, str], list[float]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, model in ways.items():
            before, began, busy = model.num_timesteps, time.perf_counter(), time.process_time()
            model.learn(options.steps, reset_num_timesteps=False)
            done = model.num_timesteps - before
            ms[way].append(1e3 * (time.perf_counter() - began) / done)
            cpu[way].append(1e3 * (time.process_time() - busy) / done)
    rows = []
    out.print(
        f"[bold]loop[/] preset {options.preset} on {options.env}, {options.n_envs} environment(s), "
        f"n = {options.repeats} x {options.steps} steps"
    )
    out.print(f"  {'environment':20}{'branches':18}{'ms per step':>12}{'fastest':>10}{'processor ms':>14}")
    for way, model in ways.items():
        overlap, branches = way
        row = {
            "overlap": overlap,
            "branches": branches,
            "ms_per_step": round(median(ms[way]), 4),
            "ms_per_step_fastest": round(min(ms[way]), 4),
            "cpu_ms_per_step": round(median(cpu[way]), 4),
        }
        rows.append(row)
        where = "beside the update" if overlap else "before the update"
        out.print(
            f"  {where:20}{branches.replace('_', ' '):18}{row['ms_per_step']:12.2f}{row['ms_per_step_fastest']:10.2f}"
            f"{row['cpu_ms_per_step']:14.2f}"
        )
        model.get_env().close()
    return {
        "preset": options.preset,
        "env": options.env,
        "n_envs": options.n_envs,
        "steps": options.steps,
        "repeats": options.repeats,
        "ways": rows,
    }
