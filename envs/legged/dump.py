"""The last states of simulated robots, kept in memory, written once when one of them blows up."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
HISTORY = 16
"""Steps that a dump holds."""


class DumpHistory:
    """States before the last steps of n copies, and the file they go to.

    Args:
        path: an ``.npz``; None only logs.
        about: of the environment, so that ``cadenza replay`` can make it again.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]):
        self.path, self.about = path, about
        self._steps: deque[tuple[NDArray, NDArray, NDArray]] = deque(maxlen=HISTORY)
        self._reported = False

    def remember(self, qpos: NDArray, qvel: NDArray, actions: NDArray) -> None:
        """Before a step; the arrays (n, ...) are copied."""
        self._steps.append((qpos.copy(), qvel.copy(), actions.copy()))

    def dump(self, which: NDArray[np.intp]) -> None:
        """Write the history of the first of these copies, unless something was written before."""
        if self._reported:
            return
        self._reported = True
        index = int(which[0])
        saved = "no file was asked for" if self.path is None else self._write(self.path, index)
        logger.warning(
            "Not finite: simulation %d of the batch; its episode was ended with reward 0 (%s).", index, saved
        )

    def _write(self, path: Path, index: int) -> str:
        arrays: dict[str, Any] = {
            name: np.stack([step[part][index] for step in self._steps])
            for part, name in enumerate(("qpos", "qvel", "action"))
        }
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, about=np.array(json.dumps(self.about, default=str)), **arrays)
            os.replace(part, path)
        except (OSError, ValueError) as error:
            return f"its history could not be written to {path}: {error}"
        return f"the last {len(self._steps)} states and actions are in {path}"
