"""Reading sets of demonstrations, and whether several of them fit together."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cadenza.agents.demos.episode_file import Episode, EpisodeInfo, read_episode, read_facts, verify_episode
from cadenza.agents.demos.errors import DemoError, MismatchError
from cadenza.agents.demos.recorder import EPISODE_NAME, EPISODES, read_set_file
from cadenza.agents.demos.schema import Schema

__all__ = ["DemoSet", "Episode", "EpisodeInfo", "check_compatible"]

_log = logging.getLogger(__name__)


class DemoSet:
    """A folder of demonstrations. Episodes whose files are damaged are left out and listed in :attr:`corrupt`.

    Args:
        folder: of the set.
        verify: read every page and compare its CRC-32 now. Without, only the ends of the files are looked at, and
            damage within is found by :meth:`load`.

    Raises:
        DemoError: there is no set that this version reads, or pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True):
        self.folder = Path(folder)
        record = read_set_file(self.folder)
        self.description = str(record.get("description", ""))
        try:
            self.schema = Schema.from_json(record["schema"])
        except (KeyError, TypeError, ValueError) as error:
            raise DemoError(f"{self.folder} has no schema that can be read: {error!r}.") from error
        self.corrupt: list[tuple[Path, str]] = []
        """Files that were left out, and why."""
        found = []
        for path in sorted((self.folder / EPISODES).glob("*.parquet")):
            try:
                found.append(self._look_at(path, verify))
            except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
                self._leave_out(path, str(error) or type(error).__name__)
            except MismatchError as error:
                self._leave_out(path, str(error))
        self.episodes: tuple[EpisodeInfo, ...] = tuple(sorted(found, key=lambda info: info.index))

    def _look_at(self, path: Path, verify: bool) -> EpisodeInfo:
        match = EPISODE_NAME.fullmatch(path.name)
        if match is None:
            raise ValueError("its name is not that of an episode")
        facts = read_facts(path)
        if unlike := self.schema.differences(Schema.from_json(facts["schema"])):
            raise MismatchError(f"it belongs to another set: {'; '.join(unlike)}")
        if verify:
            verify_episode(path, self.schema)
        return EpisodeInfo(
            index=int(match[1]),
            path=path,
            length=int(facts["length"]),
            success=bool(facts["success"]),
            seed=facts["seed"],
            task=str(facts["task"]),
            metadata=facts["metadata"],
        )

    def _leave_out(self, path: Path, reason: str) -> None:
        self.corrupt.append((path, reason))
        _log.warning("%s is left out: %s", path, reason)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def steps(self) -> int:
        """Of all episodes together."""
        return sum(info.length for info in self.episodes)

    def load(self, index: int, cameras: Sequence[str] | None = None) -> Episode:
        """An episode in arrays.

        Args:
            index: its :attr:`EpisodeInfo.index`, the number in its file's name.
            cameras: which pictures to decode, e.g. () for none; None for all.

        Raises:
            DemoError: there is no such episode or camera, or its file is damaged.
        """
        info = next((info for info in self.episodes if info.index == index), None)
        if info is None:
            numbers = f"{self.episodes[0].index} to {self.episodes[-1].index}" if self.episodes else "none"
            raise DemoError(f"{self.folder} has no whole episode {index}.", f"There are: {numbers}.")
        if unknown := [key for key in cameras or () if key not in self.schema.cameras]:
            raise DemoError(
                f"{self.folder} has no camera {unknown[0]!r}.",
                f"There are: {', '.join(self.schema.cameras) or 'none'}.",
            )
        try:
            return read_episode(info, self.schema, cameras)
        except (OSError, ValueError, KeyError) as error:
            raise DemoError(f"{info.path} is damaged: {error}.", "Delete it, or collect it anew.") from error

    def read(self, cameras: Sequence[str] | None = None) -> Iterator[Episode]:
        """All episodes, one after the other; one that turns out to be damaged is left out and reported."""
        for info in self.episodes:
            try:
                episode = read_episode(info, self.schema, cameras)
            except (OSError, ValueError, KeyError) as error:
                self._leave_out(info.path, str(error))
                continue
            yield episode


def check_compatible(*sets: DemoSet | Schema | Iterable[DemoSet | Schema]) -> Schema:
    """Whether one learner may learn from all of them: same rate, observations, action and cameras.

    Environment and its settings may differ. Sets may be handed in one by one, or as a list.

    Returns:
        The schema of the first.

    Raises:
        MismatchError: two do not fit, with every reason.
    """
    flat: list[DemoSet | Schema] = []
    for one in sets:
        flat += [one] if isinstance(one, DemoSet | Schema) else list(one)
    if not flat:
        raise DemoError("There is no set to compare.")
    schemas = [one.schema if isinstance(one, DemoSet) else one for one in flat]
    names = [str(one.folder) if isinstance(one, DemoSet) else f"schema {i}" for i, one in enumerate(flat)]
    for schema, name in zip(schemas[1:], names[1:], strict=True):
        if unlike := schemas[0].differences(schema, task=False):
            raise MismatchError(
                f"{names[0]} and {name} cannot be used together: {'; '.join(unlike)}.",
                "Collect them anew with one environment, one rate and the same cameras.",
            )
    return schemas[0]
