"""Making one thread punctual on a machine that is not made for it: as far as it is permitted, and undone afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

PRIORITY = 50
_SWITCH_S = 0.0001
_LOCK_CURRENT_AND_FUTURE = 1 | 2


@contextlib.contextmanager
def realtime(priority: int = PRIORITY) -> Iterator[list[str]]:
    """A block whose thread is not held up by garbage collection, other threads or, where permitted, other programs.

    The collector is off; other Python threads must let go of the interpreter after 0.1 ms; the thread runs under
    SCHED_FIFO, and memory is locked. The last two need privileges.

    Yields:
        Warnings: what was not permitted, and what would permit it.
    """
    warnings: list[str] = []
    collecting, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(_SWITCH_S)
    before = _become_fifo(priority, warnings)
    locked = _lock_memory(warnings)
    try:
        yield warnings
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, *before)
        if locked:
            _libc().munlockall()
        sys.setswitchinterval(switch_s)
        gc.unfreeze()
        if collecting:
            gc.enable()


def _become_fifo(priority: int, warnings: list[str]) -> tuple[int, os.sched_param] | None:
    if not hasattr(os, "sched_setscheduler"):
        warnings.append("this system has no SCHED_FIFO: other programs can hold the loop up")
        return None
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        # Threads that are started meanwhile (there should be none) are not to inherit it.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        warnings.append(
            "SCHED_FIFO is not permitted: other programs can hold the loop up "
            f"(give this user `rtprio {priority}` in /etc/security/limits.conf, or CAP_SYS_NICE)"
        )
        return None
    return before


def _lock_memory(warnings: list[str]) -> bool:
    if not sys.platform.startswith("linux") or _libc().mlockall(_LOCK_CURRENT_AND_FUTURE) != 0:
        warnings.append(
            "memory cannot be locked: a page fault can hold the loop up "
            "(give this user `memlock unlimited` in /etc/security/limits.conf, or CAP_IPC_LOCK)"
        )
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
