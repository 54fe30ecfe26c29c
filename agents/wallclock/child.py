"""One run of the benchmark in a process of its own: ``python -m cadenza.agents.wallclock.child``.

A process for each run, because a replay buffer of gigabytes then really returns to the system, threads are set before
anything was computed, and no run finds the caches or the random numbers of the one before.

The first line of standard input is the job as JSON. The end of the input, be it Ctrl-C in the parent or its death,
asks to stop in order: the run is stored and can be continued. Standard output carries events, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cadenza.envs.errors import CadenzaError

INTERRUPTED = 130
RETURNS = "evaluation_returns.csv"
FINAL_SEED = 20_000
"""First reset seed of the final evaluation; those of training begin at 10,000."""
_TELL_EVERY_S = 1.0

Tell = Callable[[dict[str, Any]], None]


class ChildError(CadenzaError):
    """A run that failed in its process."""


def run_child(job: dict[str, Any], tell: Tell) -> None:
    """Run ``job`` in a child process and pass its events on.

    Args:
        job: ``settings`` (RunSettings as a dict), ``folder``, ``budget_s``, ``final_episodes``, ``resume``.
        tell: called with every event.

    Raises:
        ChildError: the run failed; its own words.
        KeyboardInterrupt: Ctrl-C here; raised when the child has stored its run.
    """
    # A session of its own: a terminal sends Ctrl-C to everybody in the parent's, and the child would get it twice.
    process = subprocess.Popen(
        [sys.executable, "-m", "cadenza.agents.wallclock.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    error: ChildError | None = None
    try:
        with suppress(BrokenPipeError):  # it died at once: its code says so below
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            event = _event(line)
            if event.get("event") == "error":
                error = ChildError(event["message"], event["advice"])
            elif event:
                tell(event)
        code = process.wait()
    finally:
        with suppress(BrokenPipeError):  # it may be gone already
            process.stdin.close()
        for _ in process.stdout:  # what it says while it stores the run
            pass
        process.wait()
        process.stdout.close()
    if error is not None:
        raise error
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code != 0:
        raise ChildError(f"The run in {job['folder']} ended with code {code}.", "What it wrote above says why.")


def _event(line: str) -> dict[str, Any]:
    """One line of the child; empty for what a library printed."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


# ------------------------------------------------------------------ in the child


class _Reporter:
    """Passes a training on as events, and keeps the return of every evaluation episode beside the run's tables."""

    def __init__(self, folder: Path, keep_until: int, tell: Tell):
        self._folder, self._keep, self._tell = folder, keep_until, tell
        self._table: Any = None
        self._told = 0.0

    def on_step(self, step: int, total: int) -> None:
        now = time.perf_counter()
        if now - self._told > _TELL_EVERY_S:
            self._told = now
            self._tell({"event": "step", "step": step})

    def on_episode(self, step: int, episode_return: float, length: int) -> None: ...

    def on_evaluation(self, step: int, result: Any, best: bool) -> None:
        from cadenza.agents.runs.metrics import Table, read_table
        from cadenza.agents.runs.settings import RunFolder

        if self._table is None:  # training makes the folder, and only when nothing is wrong
            self._table = Table(self._folder / RETURNS, self._keep)
        self._table.append({"step": step, "returns": " ".join(f"{value:.6g}" for value in result.returns)})
        train_s = float(read_table(RunFolder(self._folder).evaluations)[-1]["train_s"])
        told = {"event": "evaluation", "step": step, "train_s": train_s}
        self._tell({**told, "return_mean": result.return_mean, "n": result.n})

    def on_problem(self, message: str) -> None:
        self._tell({"event": "problem", "message": message})


def _work(job: dict[str, Any], tell: Tell) -> int:
    import torch

    from cadenza.agents.runs.checkpoint import CheckpointStore
    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.agents.runs.policies import open_policy
    from cadenza.agents.runs.settings import RunFolder, RunSettings, provenance, write_json
    from cadenza.agents.runs.training import resume, train
    from cadenza.agents.wallclock.plan import FINAL
    from cadenza.envs.guard import FiniteGuard
    from cadenza.envs.registration import make_env

    folder, settings = RunFolder(job["folder"]), RunSettings(**job["settings"])
    load_before, began_cpu, began = load_average(), time.process_time(), time.perf_counter()
    if job["resume"]:
        reporter = _Reporter(folder.path, int(CheckpointStore(folder.checkpoints).latest()["step"]), tell)
        result = resume(folder.path, reporter, train_limit_s=job["budget_s"])
    else:
        result = train(settings, folder.path, _Reporter(folder.path, 0, tell), train_limit_s=job["budget_s"])
    if result.interrupted:
        return INTERRUPTED
    record = folder.read_record()
    chosen = record.get("threads") or {}
    measuring_s = 0.0 if job["resume"] else chosen.get("took_s", 0.0)  # in another process, while this one waited
    cpu_share = (time.process_time() - began_cpu) / (time.perf_counter() - began - measuring_s)
    load_after, threads = load_average(), torch.get_num_threads()
    tell({"event": "final evaluation", "step": result.step})
    policy = open_policy(folder.path, "last")
    env = FiniteGuard(make_env(settings.env_id, **settings.env_kwargs))
    try:
        final = evaluate(policy.act, env, episodes=job["final_episodes"], seed=FINAL_SEED)
    finally:
        env.close()
    manifest = CheckpointStore(folder.checkpoints).latest()
    write_json(
        folder.path / FINAL,
        {
            "budget_s": job["budget_s"],
            "step": result.step,
            "train_s": round(manifest["extra"]["train_s"], 3),
            "elapsed_s": round(result.elapsed_s, 3),
            "stalled_s": round(manifest["extra"]["stalled_s"], 3),
            "evaluation": final.to_dict(),
            "torch_threads": threads,
            "threads": chosen,
            "threads_changed": record.get("threads_changed"),
            # Of the last session: near 1 a thread had a core to itself; much below, something else ran.
            "cpu_seconds_per_second": round(cpu_share, 3),
            "load_average_before": load_before,
            "load_average_after": load_after,
            **provenance(),
        },
    )
    return 0


def load_average() -> list[float] | None:
    """The machine's load over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _interrupt_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def main() -> int:
    """Read the job, do it; 0 done, 130 interrupted and stored, 1 failed."""
    lock = threading.Lock()

    def tell(event: dict[str, Any]) -> None:
        with lock:
            try:
                sys.stdout.write(json.dumps(event) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:  # nobody listens any more; the end of the input says what to do
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays open until the process ends

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
    try:
        return _work(job, tell)
    except CadenzaError as error:
        tell({"event": "error", "message": str(error), "advice": error.advice})
        return 1
    except KeyboardInterrupt:  # before the training began or after it was stored
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
