"""Decisions in a file: nothing complete is lost, the same command goes on, another one is refused."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.agents.demos import MismatchError
from cadenza.agents.sequencer.choosers import OracleRetry
from cadenza.agents.sequencer.collecting import CollectionPlan, collect_into
from cadenza.agents.sequencer.decisions import Decisions, collect, read_collection
from cadenza.agents.sequences import make_task
from cadenza.agents.sequences.latches import LatchTask
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.main import run


def plan(**more: Any) -> CollectionPlan:
    given: dict[str, Any] = {"episodes": 6, "seed": 50, "stages": (1, 2), "settings": {"jam": 0.5}}
    return CollectionPlan("latches", **{**given, **more})


def same(one: Decisions, two: Decisions) -> bool:
    names = ("history", "signals", "label", "layout")
    return one.names == two.names and all(
        np.array_equal(mine, theirs)
        for mine, theirs in [
            (one.observation["state"], two.observation["state"]),
            *((getattr(one, name), getattr(two, name)) for name in names),
        ]
    )


class Cut(OracleRetry):
    """Does something in the second decision of the fifth episode."""

    def __init__(self, do: Callable[[], None]):
        self._do, self._episodes, self._decisions = do, 0, 0

    def begin(self, task: Any, seed: int) -> None:
        super().begin(task, seed)
        self._episodes, self._decisions = self._episodes + 1, 0

    def choose(self, decision: Any) -> str | None:
        self._decisions += 1
        if (self._episodes, self._decisions) == (5, 2):
            self._do()
        return super().choose(decision)


def ctrl_c() -> None:
    raise KeyboardInterrupt


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("cut", [ctrl_c, sigterm])
def test_what_was_complete_stays_and_the_same_plan_goes_on(cut: Callable[[], None], tmp_path: Path) -> None:
    whole = collect_into(tmp_path / "whole.npz", plan(stray=0.0), make_task)
    assert (whole.episodes, whole.successes, whole.interrupted) == (6, 6, False)
    path = tmp_path / "cut.npz"
    found = collect_into(path, plan(stray=0.0), make_task, Cut(cut))
    assert (found.episodes, found.successes, found.interrupted) == (4, 4, True)
    assert set(Decisions.load(path).layout) == {50, 51, 52, 53}
    played: list[int] = []

    def counted(*given: Any, **settings: Any) -> Any:
        task = make_task(*given, **settings)
        reset = task.reset
        task.reset = lambda seed: (played.append(seed), reset(seed))[1]  # type: ignore[method-assign]
        return task

    rest = collect_into(path, plan(stray=0.0), counted)
    assert (rest.episodes, rest.interrupted, played) == (6, False, [54, 55])
    assert rest.decisions is not None
    assert same(rest.decisions, Decisions.load(tmp_path / "whole.npz"))
    assert same(Decisions.load(path), Decisions.load(tmp_path / "whole.npz"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_every_episode_is_on_the_disk_when_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.agents.sequencer.collecting._SAVING_SHARE", float("inf"))
    path, seen = tmp_path / "some.npz", []

    def tell(done: int, successes: int) -> None:
        record = read_collection(path) if path.is_file() else None
        seen.append((done, len(record["done"]) if record else 0))

    collect_into(path, plan(), make_task, tell=tell)
    assert seen == [(count, count) for count in range(7)]


def test_a_file_holds_what_playing_gives(tmp_path: Path) -> None:
    collect_into(tmp_path / "some.npz", plan(stages=(2,), episodes=4), make_task)
    assert same(Decisions.load(tmp_path / "some.npz"), collect(LatchTask(2, 0.5), episodes=4, seed=50))


def test_episodes_may_grow(tmp_path: Path) -> None:
    one = plan(stages=(2,))
    for name, counts in (("short.npz", (3, 6)), ("long.npz", (6,))):
        for count in counts:
            collect_into(tmp_path / name, dataclasses.replace(one, episodes=count), make_task)
    assert same(Decisions.load(tmp_path / "short.npz"), Decisions.load(tmp_path / "long.npz"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 51}, "seed 50, not 51"),
        ({"stray": 0.3}, r"stray 0\.2, not 0\.3"),
        ({"settings": {"jam": 0.4}}, "settings"),
        ({"stages": (2, 1)}, "stages"),
        ({"episodes": 8}, "not the first of these 8"),
        ({"episodes": 3}, "not the first of these 3"),
    ],
)
def test_other_settings_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    collect_into(path, plan(), make_task)
    before = path.read_bytes()
    with pytest.raises(MismatchError, match=said) as caught:
        collect_into(path, plan(**change), make_task)
    assert "--out" in caught.value.advice
    assert path.read_bytes() == before
    assert collect_into(path, plan(), make_task).episodes == 6


def test_what_stands_in_front_is_known_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    collect_into(first, plan(), make_task)
    more = plan(seed=90, add_to=first)
    collect_into(second, more, make_task)
    front, all_of_them = Decisions.load(first), Decisions.load(second)
    assert same(all_of_them.rows(np.arange(len(front))), front)
    assert set(all_of_them.layout[len(front) :]) == set(range(90, 96))
    assert collect_into(second, more, make_task).episodes == 6
    collect_into(tmp_path / "other.npz", plan(seed=70), make_task)
    first.write_bytes((tmp_path / "other.npz").read_bytes())
    with pytest.raises(MismatchError, match="add_to"):
        collect_into(second, more, make_task)
    with pytest.raises(MismatchError, match="both --out and --add-to"):
        collect_into(first, more, make_task)
    with pytest.raises(CadenzaError, match="is not there"):
        plan(add_to=tmp_path / "nothing.npz")


def test_a_file_that_does_not_say_how_it_was_made_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    collect(LatchTask(), episodes=2, seed=1).save(path)
    before = path.read_bytes()
    with pytest.raises(MismatchError, match="does not say how") as caught:
        collect_into(path, plan(), make_task)
    assert f"--add-to {path}" in caught.value.advice
    assert path.read_bytes() == before


def test_the_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cadenza.agents.sequencer import collecting

    real, path = collecting.collect_episode, tmp_path / "some.npz"

    def cut(task: Any, chooser: Any, seed: int) -> Any:
        if seed == 10_003:
            raise KeyboardInterrupt
        return real(task, chooser, seed)

    command = ["sequence", "collect", "latches", "--out", str(path), "--episodes", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "collect_episode", cut)
        assert run(command) == 130
    shown = " ".join(capsys.readouterr().out.split())
    assert "interrupted: 3 of 5 episodes are stored" in shown
    assert "the same command goes on" in shown
    assert run(command) == 0
    assert set(Decisions.load(path).layout) == set(range(10_000, 10_005))
    assert run([*command, "--stray", "0.5"]) == 1
    assert "stray 0.2, not 0.5" in " ".join(capsys.readouterr().err.split())
    for wrong in (["--seed", "-1"], ["--episodes", "0"]):
        assert run([*command, *wrong]) == 1
