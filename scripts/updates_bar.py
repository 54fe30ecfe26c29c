"""A bar for everything that counts to a number: updates of a training, episodes of a measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.scripts.console import escape, out

_REFRESH_S = 0.2
_PLAIN_EVERY_S = 30.0


@contextmanager
def updates_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Gives a function to be told: done, of how many, a few words. In a log file a line now and then."""
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[words]}"), console=out,
        transient=True, disable=not out.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=None, words="")
    last = plain = time.perf_counter()

    def told(done: int, total: int, words: str) -> None:
        nonlocal last, plain
        now = time.perf_counter()
        if now - last < _REFRESH_S and done < total:
            return
        last = now
        bar.update(task, completed=done, total=total, words=escape(words))
        if not out.is_terminal and now - plain > _PLAIN_EVERY_S:
            plain = now
            out.print(f"{done:,} of {total:,}  {escape(words)}")

    with bar:
        yield told
