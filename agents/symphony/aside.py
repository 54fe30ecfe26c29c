"""One function at a time on a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class Aside:
    """Runs at most one function at a time beside the caller, on a thread that is made when first needed.

    The thread takes over torch's thread count and flushes denormals, as both settings belong to the thread that makes
    them. A copied, pickled or forked Aside has nothing under way and starts a thread of its own.
    """

    def __init__(self, name: str):
        self.name = name
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[Any] | None = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"])  # type: ignore[misc]

    @property
    def under_way(self) -> bool:
        """Whether a function was started and its result not yet taken."""
        return self._future is not None and self._process == os.getpid()

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a function; one still under way (its caller was interrupted) is waited for and dropped first."""
        self.drop()
        if self._executor is None or self._process != os.getpid():
            self._executor = ThreadPoolExecutor(1, self.name, _set_up_thread, (torch.get_num_threads(),))
            self._process = os.getpid()
        self._future = self._executor.submit(function, *arguments)

    def wait(self) -> None:
        """Until the function has ended. An interruption leaves it under way."""
        if self.under_way:
            assert self._future is not None
            self._future.exception()

    def take(self) -> Any:
        """Wait for the function and return its result, or raise its error."""
        self.wait()
        future, self._future = self._future, None
        assert future is not None
        return future.result()

    def drop(self) -> bool:
        """Wait for a function under way and forget it, its error too; whether there was one."""
        found = self.under_way
        self.wait()
        self._future = None
        return found

    def close(self) -> None:
        """Drop what is under way and end the thread; a later :meth:`start` makes another."""
        self.drop()
        if self._executor is not None and self._process == os.getpid():
            self._executor.shutdown()
        self._executor = None


def _set_up_thread(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
