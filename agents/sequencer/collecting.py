"""Collecting decisions into a file, resumable to the episode.

The file is written anew after every episode, or, where writing takes long, after every few; what an interrupted
collection lacks is played by the same command, and the decisions are those of one that was not interrupted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cadenza.agents.demos.errors import MismatchError
from cadenza.agents.runs.interrupts import sigterm_interrupts
from cadenza.agents.sequencer.choosers import OracleRetry, Straying
from cadenza.agents.sequencer.decisions import Decisions, collect_episode, joined, read_collection
from cadenza.agents.sequencer.machine import Chooser
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.agents.sequencer.weights import weights_of, weights_sha256
from cadenza.envs.errors import CadenzaError

_SAVING_SHARE = 0.1
"""Most of the time that goes into saving on the way; every episode is saved where that is less."""


@dataclass(frozen=True)
class CollectionPlan:
    """What is collected. All of it but ``episodes`` must stay when a file is continued."""

    task: str
    episodes: int
    """In the file, those that are there already included, those of ``add_to`` not."""
    seed: int = 10_000
    """Episode i is reset with ``seed + i``."""
    stages: tuple[int, ...] = ()
    """Lengths that take turns; none: the task's own."""
    stray: float = 0.2
    """Share of decisions in which any primitive is taken."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the task."""
    selector: Path | None = None
    """The sequencer that plays; None: the expert."""
    add_to: Path | None = None
    """Decisions that stand in front."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise CadenzaError(f"At least one episode is needed, got {self.episodes}.")
        if self.seed < 0:
            raise CadenzaError(f"The seed must not be negative, got {self.seed}.")
        if not 0.0 <= self.stray <= 1.0:
            raise CadenzaError(f"stray is a share within 0 and 1, got {self.stray}.")
        if self.add_to is not None and not self.add_to.is_file():
            raise CadenzaError(f"{self.add_to}, to which decisions are to be added, is not there.")

    def fixed(self) -> dict[str, Any]:
        """What must not change in a file: networks and files by their content, not by their place."""
        record = {
            "task": self.task,
            "seed": self.seed,
            "stages": self.stages,
            "stray": self.stray,
            "settings": self.settings,
            "weights": weights_of(self.settings),
            "selector": None if self.selector is None else weights_sha256(self.selector),
            "add_to": None if self.add_to is None else hashlib.sha256(self.add_to.read_bytes()).hexdigest(),
        }
        plain: dict[str, Any] = json.loads(json.dumps(record))
        return plain

    def order(self) -> list[tuple[int | None, int]]:
        """Length and seed of every episode: those of one length after each other, so that a task is made once."""
        lengths: tuple[int | None, ...] = self.stages or (None,)
        each = [len(range(index, self.episodes, len(lengths))) for index in range(len(lengths))]
        in_turn = [length for length, count in zip(lengths, each, strict=True) for _ in range(count)]
        return [(length, self.seed + index) for index, length in enumerate(in_turn)]


@dataclass(frozen=True)
class Collected:
    """How a collection went."""

    decisions: Decisions | None
    """All that are in the file; None where there are none yet."""
    episodes: int
    """That are complete, those of before included."""
    successes: int
    interrupted: bool


Tell = Callable[[int, int], None]
"""Told how many episodes are complete, and how many of these were successes."""


def collect_into(
    path: Path,
    plan: CollectionPlan,
    make_task: Callable[..., SequenceTask],
    chooser: Chooser | None = None,
    tell: Tell = lambda *_: None,
) -> Collected:
    """Play what is missing of a plan. Ctrl-C, SIGTERM and errors leave every complete episode in the file.

    Args:
        path: the .npz; one that was begun with the same plan is continued.
        plan: what is collected.
        make_task: ``make_task(name, stages, **settings)``.
        chooser: who plays; None: the expert.
        tell: told at the beginning and after each episode.

    Raises:
        MismatchError: the file is there, and was made otherwise.
        CadenzaError: a task that cannot be made, or no decision at all.
    """
    if plan.add_to is not None and path.is_file() and path.samefile(plan.add_to):
        raise MismatchError(
            f"{path} cannot be both --out and --add-to; nothing was changed.", "Choose another file with --out."
        )
    fixed, order = plan.fixed(), plan.order()
    before, done = _begun(path, fixed, order)
    if before is None and plan.add_to is not None:
        before = Decisions.load(plan.add_to)
    base = [] if before is None else [before]
    fresh: list[tuple[Decisions | None, list[Any]]] = []  # one entry an episode, so that a cut leaves no half of one
    saved, saved_at, saving_s = 0, time.perf_counter(), 0.0

    def all_done() -> list[list[Any]]:
        return done + [row for _, row in fresh]

    def save() -> None:
        nonlocal saved, saved_at, saving_s
        count, started = len(fresh), time.perf_counter()
        parts = base + [made for made, _ in fresh if made is not None]
        if count > saved and parts:
            joined(parts).save(path, {"fixed": fixed, "done": all_done()})
        saved, saved_at = count, time.perf_counter()
        saving_s = saved_at - started

    def say() -> None:
        tell(len(all_done()), sum(bool(success) for *_, success in all_done()))

    say()
    player = Straying(chooser or OracleRetry(), plan.stray)
    interrupted = False
    with sigterm_interrupts():
        try:
            for stages, group in itertools.groupby(order[len(done) :], key=lambda one: one[0]):
                task = make_task(plan.task, stages, **plan.settings)
                try:
                    for _, seed in group:
                        made, result = collect_episode(task, player, seed)
                        fresh.append((made, [stages, seed, bool(result.success)]))
                        if time.perf_counter() - saved_at >= saving_s / _SAVING_SHARE:
                            save()
                        say()
                finally:
                    task.close()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            save()
    parts = base + [made for made, _ in fresh if made is not None]
    if not parts and not interrupted:
        joined(parts)  # says that there are none
    rows = all_done()
    return Collected(
        joined(parts) if parts else None, len(rows), sum(bool(success) for *_, success in rows), interrupted
    )


def _begun(
    path: Path, fixed: dict[str, Any], order: Sequence[tuple[int | None, int]]
) -> tuple[Decisions | None, list[list[Any]]]:
    """What is in the file already, and which episodes these are."""
    if not path.exists():
        return None, []
    record = read_collection(path)
    if record is None:
        raise MismatchError(
            f"{path} exists already and does not say how it was collected; nothing was changed.",
            f"Choose another file with --out; --add-to {path} puts its decisions in front.",
        )
    theirs = record["fixed"]
    if unlike := [name for name in fixed if theirs.get(name) != fixed[name]]:
        raise MismatchError(
            f"{path} was begun with other settings; nothing was changed: "
            + "; ".join(f"{name} {theirs.get(name)!r}, not {fixed[name]!r}" for name in unlike)
            + ".",
            f"The same command goes on with it. For others choose another file with --out; --add-to {path} puts its "
            "decisions in front.",
        )
    done = [list(row) for row in record["done"]]
    if [(stages, seed) for stages, seed, _ in done] != list(order[: len(done)]):
        raise MismatchError(
            f"{path} holds {len(done)} episodes that are not the first of these {len(order)}; nothing was changed.",
            "--episodes may grow, with one length only: where several take turns, their seeds would move. Choose "
            f"another file with --out; --add-to {path} puts its decisions in front.",
        )
    return Decisions.load(path), done
