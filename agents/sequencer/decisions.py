"""Decisions as arrays: what was seen when a primitive had to be chosen, and what the expert would have chosen."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.errors import MismatchError
from cadenza.agents.imitation.samples import layout_of
from cadenza.agents.runs.settings import write_bytes
from cadenza.agents.sequencer.choosers import OracleRetry, Straying
from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.machine import Chooser, Decision, EpisodeResult, run_episode
from cadenza.agents.sequencer.signals import FIRST_VERSION, SIGNAL_COUNT, SIGNALS_VERSION
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.envs.errors import CadenzaError

FORMAT = "cadenza-decisions-1"
NO_SIGNALS = 0
"""As :attr:`Decisions.signals_version`: there are none, or of several definitions; nothing can be learned from them."""
_ARRAYS = ("history", "signals", "label", "layout")


def padded(history: Sequence[int], length: int, padding: int) -> tuple[int, ...]:
    """The last ``length`` ids, oldest first; before the first primitive there is ``padding``."""
    kept = tuple(history[-length:])
    return (padding,) * (length - len(kept)) + kept


@dataclass(frozen=True)
class Decisions:
    """N decisions of one task."""

    names: tuple[str, ...]
    """Primitives, by id."""
    observation: dict[str, NDArray[Any]]
    """Key -> (N, ...), float32 vectors and uint8 pictures."""
    history: NDArray[np.int64]
    """(N, longest history), padded with ``len(names)``."""
    signals: NDArray[np.float32]
    """(N, 3)."""
    label: NDArray[np.int64]
    """Id that the expert would choose, (N,)."""
    layout: NDArray[np.int64]
    """Seed of the episode, (N,)."""
    rate_hz: float | None = None
    """Of control; None where it was not recorded."""
    signals_version: int = SIGNALS_VERSION
    """Definition of ``signals`` (:mod:`cadenza.agents.sequencer.signals`), or :data:`NO_SIGNALS`."""

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, which: NDArray[Any]) -> Decisions:
        """Those at the indices, or under the mask, ``which``."""
        picked = {name: array[which] for name, array in self.observation.items()}
        return replace(self, observation=picked, **{name: getattr(self, name)[which] for name in _ARRAYS})

    def differences(self, other: Decisions) -> list[str]:
        """In words, why the two cannot be joined; empty where they can."""
        found = []
        if self.names != other.names:
            found.append(f"primitives: {', '.join(self.names)} against {', '.join(other.names)}")
        if None not in (self.rate_hz, other.rate_hz) and self.rate_hz != other.rate_hz:
            found.append(f"rate: {self.rate_hz:g} Hz against {other.rate_hz:g} Hz")
        for key in dict.fromkeys([*self.observation, *other.observation]):
            mine, theirs = (_words(one.observation.get(key)) for one in (self, other))
            if mine != theirs:
                found.append(f"observation {key!r}: {mine} against {theirs}")
        if self.history.shape[1:] != other.history.shape[1:]:
            found.append(f"history: {self.history.shape[1]} primitives against {other.history.shape[1]}")
        return found

    def joined(self, *others: Decisions) -> Decisions:
        """These and then those of ``others``. Signals of several definitions become :data:`NO_SIGNALS`.

        Raises:
            MismatchError: they are of other primitives, another rate or other observations; with every reason.
        """
        for other in others:
            if unlike := self.differences(other):
                raise MismatchError(
                    f"These decisions cannot be joined: {'; '.join(unlike)}.",
                    "Collect them anew with the same settings of the task (observe, cameras, camera_size).",
                )
        every = (self, *others)
        rates = [one.rate_hz for one in every if one.rate_hz is not None]
        arrays: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in every]) for name in _ARRAYS}
        return replace(
            self,
            observation={key: np.concatenate([one.observation[key] for one in every]) for key in self.observation},
            **arrays,
            rate_hz=rates[0] if rates else None,
            signals_version=self.signals_version if len({one.signals_version for one in every}) == 1 else NO_SIGNALS,
        )

    def split(self, share: float, seed: int) -> tuple[Decisions, Decisions]:
        """Training and validation; whole layouts are held out."""
        layouts = np.unique(self.layout)
        count = min(max(1, round(share * len(layouts))), len(layouts) - 1) if share else 0
        chosen = np.random.default_rng([seed, 1]).permutation(layouts)[:count]
        held_out = np.isin(self.layout, chosen)
        return self.rows(~held_out), self.rows(held_out)

    def save(self, path: Path, collection: Mapping[str, Any] | None = None) -> None:
        """Write arrays without objects; a kill leaves the file of before, or this one.

        Args:
            path: the file.
            collection: JSON-able, how they were collected; :func:`read_collection` gives it back.
        """
        facts = {
            "format": FORMAT,
            "names": self.names,
            "rate_hz": self.rate_hz,
            "observation": {key: _description(array) for key, array in self.observation.items()},
            "signals_version": self.signals_version,
            **({} if collection is None else {"collection": collection}),
        }
        head = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        arrays = {f"observation/{name}": array for name, array in self.observation.items()}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, head=head, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getbuffer())

    @classmethod
    def load(cls, path: str | Path) -> Decisions:
        """Read :meth:`save`'s file, or one of before it noted rate and definition of the signals.

        Raises:
            CadenzaError: there is none, or it is damaged.
        """
        head, arrays = _read(path, arrays=True)
        prefix = "observation/"
        seen = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        noted = head.get("observation")
        if noted is not None and noted != {key: _description(array) for key, array in seen.items()}:
            raise CadenzaError(f"{path} is damaged: its arrays are not those that its head describes.")
        return cls(
            tuple(head["names"]),
            seen,
            **{name: arrays[name] for name in _ARRAYS},
            rate_hz=head.get("rate_hz"),
            signals_version=head.get("signals_version", FIRST_VERSION),
        )


def read_collection(path: str | Path) -> dict[str, Any] | None:
    """How the decisions in a file were collected; None where it does not say.

    Raises:
        CadenzaError: there is none, or it is damaged.
    """
    found: dict[str, Any] | None = _read(path, arrays=False)[0].get("collection")
    return found


def _read(path: str | Path, *, arrays: bool) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Head and, where asked for, arrays of a file of decisions."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head: dict[str, Any] = json.loads(file["head"].tobytes().decode())
            if head["format"] != FORMAT:
                raise CadenzaError(f"{path} has the format {head['format']!r}; this version reads {FORMAT!r}.")
            if missing := {"head", *_ARRAYS} - set(file.files):
                raise KeyError(", ".join(sorted(missing)))
            return head, {name: file[name] for name in file.files} if arrays else {}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CadenzaError(
            f"{path} holds no decisions: {error}.", "`cadenza sequence collect TASK --out FILE` writes some."
        ) from error


def _description(array: NDArray[Any]) -> dict[str, Any]:
    """Of one decision's entry, JSON-able."""
    return {"dtype": str(array.dtype), "shape": list(array.shape[1:])}


def _words(array: NDArray[Any] | None) -> str:
    return "none" if array is None else f"{array.dtype} {array.shape[1:]}"


class DecisionLog:
    """Gathers decisions with the expert's answers while episodes are played.

    Args:
        task: its expert is asked.
        longest: how much of the history is kept.
    """

    def __init__(self, task: SequenceTask, longest: int = 16):
        self._task, self._longest = task, longest
        self._names = tuple(task.primitives)
        self._rows: list[tuple[dict[str, NDArray[Any]], tuple[int, ...], NDArray[np.float32], int, int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, decision: Decision, seed: int) -> None:
        """Ask the expert, and keep both."""
        label = self._names.index(self._task.expert_choice())
        history = padded(decision.history, self._longest, len(self._names))
        observation = {name: array.copy() for name, array in as_mapping(decision.observation).items()}
        self._rows.append((observation, history, decision.signals.vector(), label, seed))

    def decisions(self) -> Decisions:
        """All that were gathered.

        Raises:
            CadenzaError: none were.
        """
        if not self._rows:
            raise CadenzaError("No decision was gathered: every episode was over before it began.")
        observations, histories, signals, labels, seeds = zip(*self._rows, strict=True)
        return Decisions(
            self._names,
            {name: np.stack([one[name] for one in observations]) for name in observations[0]},
            np.array(histories, dtype=np.int64),
            np.stack(signals).reshape(-1, SIGNAL_COUNT),
            np.array(labels, dtype=np.int64),
            np.array(seeds, dtype=np.int64),
            rate_hz=float(self._task.rate_hz),
        )


def as_mapping(observation: Any) -> dict[str, NDArray[Any]]:
    """An observation as a dict of float32 vectors and uint8 pictures; one array is called ``state``."""
    if not isinstance(observation, Mapping):
        observation = {"state": observation}
    return {
        name: np.asarray(value) if np.asarray(value).dtype == np.uint8 else np.asarray(value, dtype=np.float32)
        for name, value in observation.items()
    }


def collect(
    task: SequenceTask,
    episodes: int,
    seed: int,
    *,
    chooser: Chooser | None = None,
    stray: float = 0.2,
    limits: MachineLimits | None = None,
    progress: Callable[[int, EpisodeResult], None] | None = None,
) -> Decisions:
    """Play episodes and ask the expert at every decision.

    Args:
        task: what is played.
        episodes: how many; episode i is reset with ``seed + i``.
        seed: of the first.
        chooser: who plays; None: the expert. With what was learned before, this is DAgger of the high level.
        stray: share of decisions in which any primitive is taken instead, so that the set holds ways back.
        limits: of the machine.
        progress: told the episode's number and result.
    """
    player = Straying(chooser or OracleRetry(), stray)
    parts = []
    for index in range(episodes):
        made, result = collect_episode(task, player, seed + index, limits)
        if made is not None:
            parts.append(made)
        if progress is not None:
            progress(index, result)
    return joined(parts)


def collect_episode(
    task: SequenceTask, chooser: Chooser, seed: int, limits: MachineLimits | None = None
) -> tuple[Decisions | None, EpisodeResult]:
    """Play one episode and ask the expert at every decision; None where it was over before the first."""
    log = DecisionLog(task)
    result = run_episode(task, chooser, seed, limits, on_decision=lambda decision, _: log.note(decision, seed))
    return (log.decisions() if len(log) else None), result


def joined(parts: Sequence[Decisions]) -> Decisions:
    """All of them, one after the other.

    Raises:
        MismatchError: they do not fit together.
        CadenzaError: there are none.
    """
    if not parts:
        raise CadenzaError("No decision was gathered: every episode was over before it began.")
    return parts[0].joined(*parts[1:])


def from_demonstrations(demos: Any, names: Sequence[str], longest: int = 16) -> Decisions:
    """Decisions of recorded expert episodes: where a primitive begins, the expert chose it.

    A primitive begins where ``Episode.primitive`` changes, or where ``extras["attempt"]``, if it was recorded, does.
    How attempts ended was not recorded, so that there are no struggle signals (:data:`NO_SIGNALS`). Episodes that turn
    out to be damaged are left out; ``demos.corrupt`` lists them.

    Args:
        demos: a :class:`cadenza.agents.demos.DemoSet` of whole tasks.
        names: primitives by the numbers in ``Episode.primitive``.
        longest: how much of the history is kept.

    Raises:
        CadenzaError: no episode has primitives.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    histories, labels, layouts = [], [], []
    for episode in demos.read():
        starts = primitive_starts(episode)
        if not len(starts):
            continue
        ids = [int(episode.primitive[start]) for start in starts]
        parts.append(as_mapping({name: np.asarray(array)[starts] for name, array in episode.observation.items()}))
        histories += [padded(ids[:place], longest, len(names)) for place in range(len(ids))]
        labels += ids
        layouts += [layout_of(episode.info)] * len(ids)
    if not parts:
        raise CadenzaError("No whole episode of these demonstrations says which primitive was at work.")
    observation = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Decisions(
        tuple(names),
        observation,
        np.array(histories, np.int64),
        np.zeros((len(labels), SIGNAL_COUNT), dtype=np.float32),
        np.array(labels, np.int64),
        np.array(layouts, np.int64),
        rate_hz=float(demos.schema.rate_hz),
        signals_version=NO_SIGNALS,
    )


def primitive_starts(episode: Any) -> NDArray[np.int64]:
    """Steps at which a primitive begins; none where no step has one (ids below 0)."""
    ids = np.asarray(episode.primitive)
    changes = np.ones(len(ids), dtype=bool)
    changes[1:] = ids[1:] != ids[:-1]
    attempt = episode.extras.get("attempt")
    if attempt is not None:
        changes[1:] |= attempt[1:] != attempt[:-1]
    return np.flatnonzero(changes & (ids >= 0))
