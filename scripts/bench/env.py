"""``cadenza bench env``: environment steps per second; of legged robots and arms also stepped together."""

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
    """Step environments in turn with random actions; resets are timed apart.

    Legged robots and arms at a table (cadenza list envs) are measured in a second way as well: --copies of them on
    MuJoCo's batch, reward, observation and resets included, beside as many in Gymnasium's SyncVectorEnv, and beside the
    same batch doing nothing but physics, which no environment on it can outrun.
    """

    envs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """one or several ids; none: cadenza/HumanoidPaper-v0"""
    env: str | None = None
    """the same for one id"""
    steps: int = 500
    """per repeat"""
    repeats: int = 9
    """rounds over all environments; medians are reported"""
    copies: int = 128
    """robots: how many are stepped together"""
    threads: int = 0
    """robots: that step them; 0 takes all processors"""
    json: Path | None = None
    """write the figures to this file"""

    @property
    def ids(self) -> tuple[str, ...]:
        """What to measure."""
        named = (*self.envs, *([self.env] if self.env is not None else []))
        return named or ("cadenza/HumanoidPaper-v0",)


def measure_envs(options: Env) -> Record:
    """Random actions, drawn before the clock starts; every environment once per round."""
    from cadenza.envs.registration import legged_ids, make_env, table_ids

    envs = {name: make_env(name, pictures=False) for name in options.ids}
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
    rows: dict[str, Record] = {}
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
    record: Record = {"steps": options.steps, "repeats": options.repeats, "envs": rows}
    together_ids = {**legged_ids(), **table_ids()}
    together = {name: _measure_together(name, options, rows[name]) for name in options.ids if name in together_ids}
    if together:
        record["together"] = together
        # The last one's figures at the top, where a script that asked for one environment looks for them.
        record |= list(together.values())[-1]
    return record


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


def _measure_together(env_id: str, options: Env, alone: Record) -> Record:
    """Steps of all copies per second: environment, SyncVectorEnv and physics alone, in turn within each round."""
    import numpy as np
    from gymnasium.vector import SyncVectorEnv

    from cadenza.envs.legged.vectorized import LeggedVecEnv
    from cadenza.envs.registration import make_env, make_vec_env
    from cadenza.envs.tabletop.vectorized import TableVecEnv

    n = options.copies
    batch = make_vec_env(env_id, n, threads=options.threads)
    assert isinstance(batch, LeggedVecEnv | TableVecEnv)
    small: dict[str, Any] = {"poses": 4} if "GetUp" in env_id else {}
    # What a copy costs does not depend on how many there are: 16 are enough, and made in a sixth of the time.
    beside = min(n, 16)
    sync = SyncVectorEnv([lambda: make_env(env_id, pictures=False, **small) for _ in range(beside)])
    random = np.random.default_rng(0)
    count = max(1, options.steps // 10)
    actions = random.uniform(-1, 1, (count, n, *(batch.action_space.shape or ()))).astype(np.float32)

    def steps() -> None:
        for chosen in actions:
            batch.step(chosen)

    def sync_steps() -> None:
        for chosen in actions[: max(1, count // 4)]:
            sync.step(chosen[:beside])

    def physics_steps() -> None:
        for _ in range(count):
            if isinstance(batch, LeggedVecEnv):
                batch.physics.step(batch.task.substeps)
            else:  # step by step, as it watches every one
                for _ in range(batch.task.substeps):
                    batch.physics.step()

    ways = {
        "steps_per_s": (steps, n * count),
        "sync_steps_per_s": (sync_steps, beside * max(1, count // 4)),
        "physics_steps_per_s": (physics_steps, n * count),
    }
    batch.seed(0)
    batch.reset()
    sync.reset(seed=0)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    steps()
    for _ in range(options.repeats):
        for name, (call, amount) in ways.items():
            began = time.perf_counter()
            call()
            rates[name].append(amount / (time.perf_counter() - began))
    sync.close()
    batch.close()
    found: Record = {name: round(median(values), 1) for name, values in rates.items()}
    found["single_steps_per_s"] = alone["steps_per_s"]
    found["over_sync"] = round(found["steps_per_s"] / found["sync_steps_per_s"], 2)
    found["of_physics"] = round(found["steps_per_s"] / found["physics_steps_per_s"], 3)
    _show(env_id, found, options, beside, batch.physics.batch.nthread)
    return {**found, "copies": n, "threads": batch.physics.batch.nthread, "physics_steps_per_step": batch.task.substeps}


def _show(env_id: str, found: Record, options: Env, beside: int, threads: int) -> None:
    from rich.table import Table

    table = Table(title=f"{env_id} together, {options.copies} copies, {threads} threads, n = {options.repeats}")
    table.add_column("stepped by")
    table.add_column("steps/s", justify="right")
    table.add_column("of physics", justify="right")
    ceiling = found["physics_steps_per_s"]
    for label, key in (
        ("physics alone, the same batch", "physics_steps_per_s"),
        ("the environments: control, reward, resets", "steps_per_s"),
        (f"SyncVectorEnv of {beside}", "sync_steps_per_s"),
        ("one environment, without its resets", "single_steps_per_s"),
    ):
        table.add_row(label, f"{found[key]:,.0f}", f"{found[key] / ceiling:.0%}")
    out.print(table)
    out.print(f"  {found['over_sync']:.1f} x SyncVectorEnv")
