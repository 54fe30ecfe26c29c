"""Two functions beside each other, in turn, or as measured."""

import copy
import threading
import time

import pytest

from cadenza.agents.symphony import branches
from cadenza.agents.symphony.branches import Pair


def test_together_uses_a_second_thread_and_in_turn_does_not() -> None:
    assert Pair("in_turn").run(threading.get_ident, threading.get_ident) == (threading.get_ident(),) * 2
    first, second = Pair("together").run(threading.get_ident, threading.get_ident)
    assert first == threading.get_ident() != second


@pytest.mark.parametrize("mode", ["together", "in_turn"])
@pytest.mark.parametrize("which", [0, 1])
def test_an_error_of_either_branch_is_raised_after_both_have_ended(mode: str, which: int) -> None:
    ended = []

    def fine() -> None:
        time.sleep(0.02)
        ended.append(True)

    def broken() -> None:
        raise ArithmeticError("broken")

    pair = Pair(mode)
    with pytest.raises(ArithmeticError):
        pair.run(*((broken, fine) if which == 0 else (fine, broken)))
    if mode == "together":
        assert ended == [True]
    assert pair.run(lambda: 1, lambda: 2) == (1, 2)


@pytest.mark.parametrize("overlap_pays", [True, False])
def test_auto_keeps_the_faster_mode_and_measures_again(monkeypatch: pytest.MonkeyPatch, overlap_pays: bool) -> None:
    monkeypatch.setattr(branches, "usable_processors", lambda: 2)
    clock = [0.0]
    monkeypatch.setattr(branches.time, "perf_counter", lambda: clock[0])
    pair = Pair("auto")
    fast = overlap_pays
    used = []
    for update in range(2 * branches._AGAIN_AFTER):
        if update == branches._AGAIN_AFTER:
            fast = not fast  # the machine's load changes
        pair.begin_update()
        clock[0] += 1.0 if pair.together == fast else 2.0
        used.append(pair.together)
        pair.end_update()
    settled = used[100 : branches._AGAIN_AFTER]
    assert set(settled) == {overlap_pays}
    assert set(used[branches._AGAIN_AFTER + 100 :]) == {not overlap_pays}


def test_one_core_never_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "usable_processors", lambda: 1)
    assert not Pair("auto").together
    assert Pair("together").together, "what is asked for is done"


def test_unknown_mode_is_refused_and_copies_start_their_own_thread() -> None:
    with pytest.raises(ValueError, match="in_turn"):
        Pair("sideways")
    pair = Pair("together")
    pair.run(lambda: 1, lambda: 2)
    assert copy.deepcopy(pair).run(lambda: 3, lambda: 4) == (3, 4)
