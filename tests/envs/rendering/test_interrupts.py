"""Ctrl-C waits for the end of a frame; a second one does not."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cadenza.envs.rendering.interrupts import BetweenFrames


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_waits_for_the_check_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with BetweenFrames() as guard:
        guard.check()
        interrupt()  # raises nothing here: a library may be at work
        with pytest.raises(KeyboardInterrupt):
            guard.check()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter() -> None:
        with BetweenFrames() as guard:
            seen.append(signal.getsignal(signal.SIGINT))
            guard.check()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
