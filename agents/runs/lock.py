"""One program at a time in a folder: two that train the same run would write over each other's rows and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cadenza.envs.errors import CadenzaError

LOCK = ".lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, made where there is none; the system lets go of it when the process ends, however it ends.

    Raises:
        CadenzaError: another program holds it; nothing was changed.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CadenzaError(
            f"Another program is at work in {folder}; nothing was changed.",
            "Let it finish, or end it (Ctrl-C stores everything), and then give this command again.",
        ) from error
    except (OSError, NotImplementedError):
        # A disk that is full or not ours is told of where the first file is written; some network drives lock nothing.
        yield
        return
    try:
        yield
    finally:
        lock.release()
