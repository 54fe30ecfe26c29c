"""The last states of a simulation that blew up, in a file: written once, opened by ``cadenza replay``.

A dump is an ``.npz`` of arrays whose first axis is the step, oldest first: ``qpos`` and ``qvel`` before each step (or
``observation``, of an environment without MuJoCo) and the ``action`` it was given; and ``about``, JSON: ``env_id`` and
``env_kwargs``, of which the environment can be made again.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError

logger = logging.getLogger(__name__)

HISTORY = 16
"""Steps that a dump holds."""
STATES = ("qpos", "qvel", "observation")


@dataclass(frozen=True)
class Dump:
    """What a file holds; arrays have the shape (steps, ...) or are None."""

    path: Path
    env_id: str
    env_kwargs: dict[str, Any]
    action: NDArray[Any]
    qpos: NDArray[Any] | None = None
    qvel: NDArray[Any] | None = None
    observation: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.action)


class DumpHistory:
    """States before the last steps of n copies, and the file they go to.

    Args:
        path: an ``.npz``; None only logs.
        about: of the environment: ``env_id`` and ``env_kwargs``.
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
        saved = "no file was asked for"
        if self.path is not None:
            saved = write_dump(self.path, self.about, self._of(index))
        logger.warning(
            "Not finite: simulation %d of the batch; its episode was ended with reward 0 (%s).", index, saved
        )

    def _of(self, index: int) -> list[dict[str, NDArray]]:
        return [
            {"qpos": qpos[index], "qvel": qvel[index], "action": action[index]} for qpos, qvel, action in self._steps
        ]


def write_dump(path: Path, about: Mapping[str, Any], steps: list[dict[str, Any]]) -> str:
    """Write the steps' arrays; what became of it, as words. A full disk must not end a training run here."""
    names = steps[0] if steps else ()
    arrays: dict[str, Any] = {name: np.stack([step[name] for step in steps]) for name in names}
    # Before the first reset there is no observation to write, and an array of objects would need pickle to load.
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "biufc"}
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about, default=str)), **arrays)
        os.replace(part, path)
    except (OSError, ValueError) as error:
        return f"its history could not be written to {path}: {error}"
    return f"the last {len(steps)} states and actions are in {path}"


def read_dump(path: Path) -> Dump:
    """Read what :func:`write_dump` wrote.

    Raises:
        CadenzaError: there is no such file, or it is no dump.
    """
    advice = "A run that met numbers that are not finite has one: RUN/non_finite.npz."
    if not path.is_file():
        raise CadenzaError(f"There is no file {path}.", advice)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise CadenzaError(f"{path} is no dump: it is no .npz of plain arrays.", advice) from error
    if not any(name in arrays for name in STATES) or "action" not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise CadenzaError(f"{path} is no dump: it holds {found}, not states and actions.", advice)
    if len({len(array) for name, array in arrays.items() if name in (*STATES, "action")}) != 1:
        raise CadenzaError(f"{path} is no dump: its arrays are of different lengths.", advice)
    about: dict[str, Any] = {}
    if "about" in arrays:
        try:
            about = json.loads(str(arrays["about"]))
        except json.JSONDecodeError as error:
            raise CadenzaError(f"{path} does not say what environment it is of.", advice) from error
    return Dump(
        path,
        str(about.get("env_id", "")),
        dict(about.get("env_kwargs", {})),
        arrays["action"],
        *(arrays.get(name) for name in STATES),
    )
