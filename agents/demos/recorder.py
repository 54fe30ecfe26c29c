"""Recording demonstrations: steps are kept in memory, an episode becomes a file when it is finished."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.agents.demos.episode_file import PICTURES, encode_picture, write_episode
from cadenza.agents.demos.errors import DemoError, MismatchError, needs
from cadenza.agents.demos.schema import Feature, Schema
from cadenza.agents.runs.settings import provenance, write_json

SET_FILE = "set.json"
SET_FORMAT = "cadenza-demos-1"
EPISODES = "episodes"
EPISODE_NAME = re.compile(r"episode-(\d{6,})\.parquet$")


def episode_path(folder: Path, index: int) -> Path:
    """Where the episode of that index stands in a set."""
    return folder / EPISODES / f"episode-{index:06d}.parquet"


def read_set_file(folder: Path) -> dict[str, Any]:
    """A set's ``set.json``.

    Raises:
        DemoError: there is none, or none that this version reads.
    """
    path = folder / SET_FILE
    if not path.is_file():
        raise DemoError(f"{folder} is no set of demonstrations: it has no {SET_FILE}.", "cadenza demos collect --help")
    try:
        record: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DemoError(f"{path} cannot be read: {error}.") from error
    if not isinstance(record, dict) or record.get("format") != SET_FORMAT:
        known = record.get("format") if isinstance(record, dict) else None
        raise DemoError(f"{path} has the format {known!r}; this version reads {SET_FORMAT!r}.")
    return record


class DemoRecorder:
    """Writes a set of demonstrations, or goes on with one.

    Nothing is written between :meth:`start` and :meth:`finish`, so that a control loop never waits for a disk; a
    process that dies in between loses that one episode.

    Args:
        folder: of the set; made if it is not there.
        schema: what each step holds.
        description: for whoever finds the set later; of a set that is continued the first one stays.
        pictures: ``raw`` keeps every bit and is small where a camera stands still; ``png`` keeps every bit too, and is
            for noisy cameras; ``jpeg`` (quality 95) does not. The last two are encoded in :meth:`add`.

    Raises:
        MismatchError: the folder holds a set with another schema.
        DemoError: it cannot be written, or pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, schema: Schema, *, description: str = "", pictures: str = "raw"):
        needs("pyarrow")  # now rather than after the first episode
        if pictures not in PICTURES:
            raise DemoError(f"Pictures cannot be stored as {pictures!r}.", f"There are: {', '.join(PICTURES)}.")
        self.folder, self.schema = Path(folder), schema
        self._pictures = pictures
        self._columns: defaultdict[str, list[Any]] | None = None
        self._open(description)

    def _open(self, description: str) -> None:
        if (self.folder / SET_FILE).is_file():
            found = Schema.from_json(read_set_file(self.folder)["schema"])
            if unlike := found.differences(self.schema):
                raise MismatchError(
                    f"{self.folder} holds demonstrations of another kind: {'; '.join(unlike)}.",
                    "Named first is what the set has. Record into another folder.",
                )
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise DemoError(f"{self.folder} is not empty and no set of demonstrations.", "Choose another folder.")
        try:
            (self.folder / EPISODES).mkdir(parents=True, exist_ok=True)
            record = {"format": SET_FORMAT, "description": description, "schema": self.schema.to_json()}
            write_json(self.folder / SET_FILE, {**record, **provenance()})
        except OSError as error:
            raise DemoError(
                f"Cannot make the set {self.folder}: {error.strerror}.", "Choose another folder."
            ) from error

    # ------------------------------------------------------------------ an episode

    @property
    def is_open(self) -> bool:
        """Whether an episode has been started and not ended."""
        return self._columns is not None

    @property
    def steps(self) -> int:
        """Of the open episode."""
        return len(self._columns["reward"]) if self._columns else 0

    def start(self, seed: int | None, task: str, metadata: Mapping[str, Any], *, index: int | None = None) -> None:
        """Begin an episode.

        Args:
            seed: that the environment was reset with; None without one.
            task: in words, e.g. "route the cable through two clips".
            metadata: anything JSON-able to be kept with it.
            index: its number in the set, whose file it replaces; None for one after the last.
        """
        if self._columns is not None:
            raise DemoError("An episode is open already.", "finish() or discard() it first.")
        self._columns = defaultdict(list)
        self._seed, self._task, self._metadata = seed, task, dict(metadata)
        self._index = index

    def add(
        self,
        observation: Mapping[str, ArrayLike],
        action: ArrayLike,
        *,
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
        timestamp_s: float,
        primitive: int = -1,
        extras: Mapping[str, float] | None = None,
    ) -> None:
        """Add one step.

        Args:
            observation: what the action was chosen from, one entry for each of the schema's; copied.
            action: what was done; copied.
            reward: that followed.
            terminated: whether the episode ended by itself with this step.
            truncated: whether it was cut off with this step.
            timestamp_s: when the observation was made, read from a clock [s]; later than the step before.
            primitive: id of the primitive that acted.
            extras: further numbers, by name.

        Raises:
            DemoError: something is missing, of another shape, not finite, or no later than the step before.
        """
        columns = self._columns
        if columns is None:
            raise DemoError("No episode is open.", "start() one first.")
        if unlike := set(observation) ^ set(self.schema.observation):
            raise DemoError(
                f"The observation does not fit the set: {', '.join(sorted(unlike))} is too much or missing.",
                f"The set has: {', '.join(self.schema.observation)}.",
            )
        if not math.isfinite(timestamp_s) or (columns["timestamp_s"] and timestamp_s <= columns["timestamp_s"][-1]):
            before = f"{columns['timestamp_s'][-1]:g} s before it" if columns["timestamp_s"] else "none before it"
            raise DemoError(
                f"Step {self.steps} has the timestamp {timestamp_s:g} s, with {before}.",
                "Timestamps are read from a clock that moves on with every step.",
            )
        row: dict[str, Any] = {}
        for key, feature in self.schema.observation.items():
            array = _checked(f"observation {key!r}", observation[key], feature, self.steps)
            row[f"observation.{key}"] = encode_picture(array, self._pictures) if key in self.schema.cameras else array
        row["action"] = _checked("action", action, self.schema.action, self.steps)
        count = self.steps
        row |= {"reward": float(reward), "terminated": bool(terminated), "truncated": bool(truncated)}
        row |= {"timestamp_s": float(timestamp_s), "primitive": int(primitive)}
        for name, value in row.items():
            columns[name].append(value)
        for name, value in (extras or {}).items():
            column = columns[f"extras.{name}"]
            column += [math.nan] * (count - len(column)) + [float(value)]

    def finish(
        self,
        success: bool,
        final_observation: Mapping[str, ArrayLike] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the episode.

        Args:
            success: whether the task was done.
            final_observation: what was observed after the last step; Minari's format has a place for it.
            metadata: to be added to what :meth:`start` was given.

        Returns:
            The file.

        Raises:
            DemoError: there is no step, or the file cannot be written; the episode is still open then.
        """
        columns = self._columns
        if columns is None or not columns["reward"]:
            raise DemoError("There is no step to write.", "start() an episode and add() to it first.")
        count = self.steps
        for name, column in columns.items():
            if name.startswith("extras."):
                column += [math.nan] * (count - len(column))
        last = None
        if final_observation is not None:
            last = {
                key: _checked(f"final observation {key!r}", final_observation[key], feature, count)
                for key, feature in self.schema.observation.items()
            }
        path = episode_path(self.folder, self._next_index() if self._index is None else self._index)
        try:
            write_episode(
                path, self.schema, columns, seed=self._seed, task=self._task, success=bool(success),
                metadata={**self._metadata, **(metadata or {})}, final_observation=last, pictures=self._pictures,
            )  # fmt: skip
        except OSError as error:
            raise DemoError(
                f"The episode was not stored in {path}: {error.strerror or error}.",
                "It is still in memory: make room and call finish() again. Earlier episodes are whole.",
            ) from error
        self._columns = None
        return path

    def discard(self) -> None:
        """Forget the open episode, if there is one."""
        self._columns = None

    def _next_index(self) -> int:
        numbers = [EPISODE_NAME.fullmatch(path.name) for path in (self.folder / EPISODES).iterdir()]
        return max((int(match[1]) for match in numbers if match), default=-1) + 1


def _checked(what: str, value: ArrayLike, feature: Feature, step: int) -> NDArray[Any]:
    """A copy in the feature's dtype."""
    array = np.asarray(value)
    if array.shape != feature.shape:
        raise DemoError(f"The {what} of step {step} has the shape {array.shape}; the set has {feature.shape}.")
    if not np.can_cast(array.dtype, feature.dtype, casting="same_kind"):
        raise DemoError(f"The {what} of step {step} is {array.dtype}; the set has {feature.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DemoError(f"The {what} of step {step} is not finite.", "A learner could do nothing with it.")
    return np.array(array, dtype=feature.dtype)
