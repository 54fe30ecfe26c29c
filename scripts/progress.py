"""The live display of a training: steps, rate, time left, returns."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from cadenza.agents.runs.evaluation import Evaluation

_REFRESH_S = 0.2
_PLAIN_EVERY_S = 30.0


class TrainingProgress:
    """A progress bar on a terminal; in a log file a line now and then. Implements the training's ``Watcher``."""

    def __init__(self, name: str):
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[returns]}"),
            console=out,
            refresh_per_second=4,
            speed_estimate_period=60,
            disable=not out.is_terminal,
        )
        self._task = self._bar.add_task(escape(name), total=None, rate="", returns="")
        self._first: tuple[int, float] | None = None
        self._last = self._last_plain = 0.0
        self._returns: list[float] = []
        self._problems: set[str] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_step(self, step: int, total: int) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = (step, now)
            self._last_plain = now
        if now - self._last < _REFRESH_S and step < total:
            return
        self._last = now
        elapsed = now - self._first[1]
        rate = (step - self._first[0]) / elapsed if elapsed > 1 else 0.0
        recent = self._returns[-20:]
        returns = f"return {sum(recent) / len(recent):,.0f}" if recent else ""
        text = f"{rate:,.0f} steps/s" if rate else ""
        self._bar.update(self._task, total=total, completed=step, rate=text, returns=returns)
        if not out.is_terminal and now - self._last_plain > _PLAIN_EVERY_S:
            self._last_plain = now
            out.print(f"step {step:,} of {total:,}  {text}  {returns}")

    def on_episode(self, step: int, episode_return: float, length: int) -> None:
        self._returns.append(episode_return)
        del self._returns[:-100]

    def on_evaluation(self, step: int, result: Evaluation, best: bool) -> None:
        velocity = result.forward_velocity_mean
        speed = "" if velocity is None else f", {velocity:.2f} m/s"
        moved = result.measures.get("displacement_mean_m")
        speed += "" if moved is None else f", object moved {100 * moved:.1f} cm"
        mark = " [green](best)[/]" if best else ""
        out.print(
            f"step {step:,}: noise-free return {result.return_mean:,.0f} ± {result.return_std:,.0f}, "
            f"{result.length_mean:,.0f} steps{speed} (n={result.n}){mark}"
        )

    def on_problem(self, message: str) -> None:
        if message not in self._problems:
            self._problems.add(message)
            out.print(f"[yellow]note:[/] {escape(message)}")
