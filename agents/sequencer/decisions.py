"""Decisions as arrays: what was seen when a primitive had to be chosen, and what the expert would have chosen."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.imitation.samples import layout_of
from cadenza.agents.runs.settings import write_bytes
from cadenza.agents.sequencer.choosers import OracleRetry, Straying
from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.machine import Chooser, Decision, EpisodeResult, run_episode
from cadenza.agents.sequencer.signals import SIGNAL_COUNT
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.envs.errors import CadenzaError

FORMAT = "cadenza-decisions-1"


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

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, which: NDArray[Any]) -> Decisions:
        """Those at the indices, or under the mask, ``which``."""
        picked = {name: array[which] for name, array in self.observation.items()}
        arrays = (self.history, self.signals, self.label, self.layout)
        return Decisions(self.names, picked, *(array[which] for array in arrays))

    def joined(self, other: Decisions) -> Decisions:
        """These and then ``other``'s.

        Raises:
            CadenzaError: they are of other primitives or observations.
        """
        if self.names != other.names or self.observation.keys() != other.observation.keys():
            raise CadenzaError(
                f"Decisions among {', '.join(self.names)} on {', '.join(self.observation)} cannot be joined with those "
                f"among {', '.join(other.names)} on {', '.join(other.observation)}."
            )
        picked = {k: np.concatenate([v, other.observation[k]]) for k, v in self.observation.items()}
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("history", "signals", "label", "layout"))
        return Decisions(self.names, picked, *(np.concatenate(pair) for pair in pairs))

    def split(self, share: float, seed: int) -> tuple[Decisions, Decisions]:
        """Training and validation; whole layouts are held out."""
        layouts = np.unique(self.layout)
        count = min(max(1, round(share * len(layouts))), len(layouts) - 1) if share else 0
        chosen = np.random.default_rng([seed, 1]).permutation(layouts)[:count]
        held_out = np.isin(self.layout, chosen)
        return self.rows(~held_out), self.rows(held_out)

    def save(self, path: Path) -> None:
        """Write arrays without objects."""
        head = json.dumps({"format": FORMAT, "names": self.names}).encode()
        arrays = {f"observation/{name}": array for name, array in self.observation.items()}
        for name in ("history", "signals", "label", "layout"):
            arrays[name] = getattr(self, name)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, head=np.frombuffer(head, np.uint8), **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getbuffer())

    @classmethod
    def load(cls, path: str | Path) -> Decisions:
        """Read :meth:`save`'s file.

        Raises:
            CadenzaError: there is none, or it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                head = json.loads(file["head"].tobytes().decode())
                if head["format"] != FORMAT:
                    raise CadenzaError(f"{path} has the format {head['format']!r}; this version reads {FORMAT!r}.")
                seen = {n.removeprefix("observation/"): file[n] for n in file.files if n.startswith("observation/")}
                parts = [file[name] for name in ("history", "signals", "label", "layout")]
        except (OSError, ValueError, KeyError) as error:
            raise CadenzaError(
                f"{path} holds no decisions: {error}.", "`cadenza sequence collect TASK --out FILE` writes some."
            ) from error
        return cls(tuple(head["names"]), seen, *parts)


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
    log = DecisionLog(task)
    player = Straying(chooser or OracleRetry(), stray)
    for index in range(episodes):

        def ask(decision: Decision, chosen: str, at: int = seed + index) -> None:
            log.note(decision, at)

        result = run_episode(task, player, seed + index, limits, on_decision=ask)
        if progress is not None:
            progress(index, result)
    return log.decisions()


def from_demonstrations(demos: Any, names: Sequence[str], longest: int = 16) -> Decisions:
    """Decisions of recorded expert episodes: where a primitive begins, the expert chose it.

    A primitive begins where ``Episode.primitive`` changes, or where ``extras["attempt"]``, if it was recorded, does.
    Struggle signals were not recorded; they are 0 here.

    Args:
        demos: a :class:`cadenza.agents.demos.DemoSet` of whole tasks.
        names: primitives by the numbers in ``Episode.primitive``.
        longest: how much of the history is kept.

    Raises:
        CadenzaError: no episode has primitives.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    histories, labels, layouts = [], [], []
    for info in demos.episodes:
        episode = demos.load(info.index)
        starts = primitive_starts(episode)
        if not len(starts):
            continue
        ids = [int(episode.primitive[start]) for start in starts]
        parts.append({name: np.asarray(array)[starts] for name, array in episode.observation.items()})
        histories += [padded(ids[:place], longest, len(names)) for place in range(len(ids))]
        labels += ids
        layouts += [layout_of(info)] * len(ids)
    if not parts:
        raise CadenzaError("None of these demonstrations says which primitive was at work.")
    observation = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    signals = np.zeros((len(labels), SIGNAL_COUNT), dtype=np.float32)
    return Decisions(
        tuple(names), observation, np.array(histories, np.int64), signals, np.array(labels, np.int64),
        np.array(layouts, np.int64),
    )  # fmt: skip


def primitive_starts(episode: Any) -> NDArray[np.int64]:
    """Steps at which a primitive begins; none where no step has one (ids below 0)."""
    ids = np.asarray(episode.primitive)
    changes = np.ones(len(ids), dtype=bool)
    changes[1:] = ids[1:] != ids[:-1]
    attempt = episode.extras.get("attempt")
    if attempt is not None:
        changes[1:] |= attempt[1:] != attempt[:-1]
    return np.flatnonzero(changes & (ids >= 0))
