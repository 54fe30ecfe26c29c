"""``cadenza bench env``: environment steps per second."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from cadenza.scripts.bench.timing import Record
from cadenza.scripts.console import out


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
