"""Ctrl-C between frames, not inside one: a library called through ctypes swallows the interrupt, or dies of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class BetweenFrames:
    """While entered, the first Ctrl-C waits for :meth:`check`; a second one interrupts at once, as without this.

    Only the main thread can catch signals; in others this does nothing.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None
        self._catches = False

    def __enter__(self) -> Self:
        self._catches = threading.current_thread() is threading.main_thread()
        if self._catches:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt where it was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._catches:
            signal.signal(signal.SIGINT, self._before)
