"""Torch threads: measured at the start, stored, watched while learning, and left alone when given by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC

from cadenza.agents.runs import threads
from cadenza.agents.runs.settings import RunFolder, RunSettings, machine
from cadenza.agents.runs.threads import (
    ThreadChoice,
    ThreadWatch,
    Throwaway,
    candidates_of,
    choose_threads,
    fastest,
    time_in_turns,
)
from cadenza.agents.runs.training import resume, train
from cadenza.envs.errors import CadenzaError

Tiny = Callable[..., RunSettings]
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (5,), np.float64)
ACTIONS = spaces.Box(-2.0, 2.0, (3,), np.float32)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretend that this process may use so many cores."""

    def set_cores(number: int) -> None:
        monkeypatch.setattr(threads, "machine", lambda: {**machine(), "cores": number})

    set_cores(2)
    return set_cores


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, cores: Any) -> Callable[..., list[list[int]]]:
    """Replace the measuring process by given ms per number of threads; gives the candidates it was asked for."""

    def replace(ms: dict[int, float]) -> list[list[int]]:
        asked: list[list[int]] = []

        def measure(settings: Any, observations: Any, actions: Any, candidates: list[int]) -> dict[int, float]:
            asked.append(candidates)
            return ms

        monkeypatch.setattr(threads, "_measure_in_child", measure)
        return asked

    return replace


def config(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "config.json").read_text())
    return record


# ------------------------------------------------------------------ choosing


@pytest.mark.parametrize(
    ("ms", "best"),
    [
        ({1: 10.0, 2: 9.1}, 1),
        ({1: 10.0, 2: 9.0}, 2),
        ({1: 10.0, 2: 80.0}, 1),
        ({1: 10.0, 2: 9.5, 4: 8.9}, 4),  # against the best so far, which is one thread
        ({1: 10.0, 2: 6.0, 4: 5.5}, 2),
        ({4: 2.0, 2: 4.0, 1: 8.0}, 4),
        ({1: 3.0}, 1),
    ],
)
def test_more_threads_must_be_a_tenth_faster(ms: dict[int, float], best: int) -> None:
    assert fastest(ms) == best


@pytest.mark.parametrize(
    ("agent", "number", "candidates"),
    [
        ("sac", 1, [1]),
        ("sac", 2, [1, 2]),
        ("ppo", 6, [1, 2, 4]),
        ("td3", 8, [1, 2, 4, 8]),
        ("symphony", 2, [1]),
        ("symphony", 3, [1]),
        ("symphony", 4, [1, 2]),
        ("symphony", 16, [1, 2, 4, 8]),
    ],
)
def test_candidates(agent: str, number: int, candidates: list[int]) -> None:
    found, why = candidates_of(RunSettings(agent=agent, env_id="Pendulum-v1"), number)
    assert found == candidates
    assert bool(why) == (candidates == [1])


def test_another_device_is_not_measured() -> None:
    found, why = candidates_of(RunSettings(agent="sac", env_id="Pendulum-v1", device="meta"), 8)
    assert (found, why) == ([1], "updates run on meta")


def test_turns_on_a_clock_by_hand() -> None:
    """10 ms on one thread; on two 5 ms and, in the first round, 200 ms: the median does not see that round."""
    now, done = {"s": 0.0}, []

    def update(number: int, count: int) -> None:
        first = sum(n == 2 for n, _ in done) < 2
        done.append((number, count))
        now["s"] += count * (0.010 if number == 1 else 0.200 if first else 0.005)

    ms = time_in_turns(update, [1, 2], budget_s=2.0, clock=lambda: now["s"])
    assert ms == {1: pytest.approx(10.0), 2: pytest.approx(5.0)}
    # The first round; then the order turns about, and so many updates a turn that it lasts 80 ms as estimated.
    assert done[:4] == [(1, 1), (1, 1), (2, 1), (2, 1)]
    assert done[4:12] == [(2, 1), (2, 1), (1, 1), (1, 8), (1, 1), (1, 8), (2, 1), (2, 1)]
    # 0.42 s, and 0.1 s for each of the 14 rounds that follow.
    assert len(done) == 4 * 15


def test_the_budget_ends_the_turns() -> None:
    now = {"s": 0.0}

    def update(number: int, count: int) -> None:
        now["s"] += count * 1.0

    assert time_in_turns(update, [1, 2], budget_s=7.0, clock=lambda: now["s"]) == {1: 1000.0, 2: 1000.0}
    assert now["s"] == 8.0  # 4 s a round: a second one began at 4 s, no third at 8 s


def test_a_number_by_hand_is_not_measured(tiny: Tiny, measured: Any) -> None:
    asked = measured({1: 10.0, 2: 1.0})
    choice = choose_threads(tiny("sac", torch_threads=2), OBSERVATIONS, ACTIONS)
    assert (choice.threads, choice.watch_ms, asked) == (2, None, [])
    assert choice.record() == {"number": 2, "chosen": "given"}


def test_symphony_on_two_cores_is_not_measured(tiny: Tiny, measured: Any) -> None:
    asked = measured({1: 10.0, 2: 1.0})
    choice = choose_threads(tiny(torch_threads="auto"), OBSERVATIONS, ACTIONS)
    assert (choice.threads, choice.chosen, choice.watch_ms, asked) == (1, "unmeasured", None, [])
    assert "two branches" in choice.record()["why"]


def test_measuring_that_fails_leaves_one_thread(tiny: Tiny, cores: Any) -> None:
    def fail(*arguments: Any) -> dict[int, float]:
        raise CadenzaError("out of memory")

    choice = choose_threads(tiny("sac", torch_threads="auto"), OBSERVATIONS, ACTIONS, fail)
    assert (choice.threads, choice.chosen, choice.why) == (1, "unmeasured", "measuring failed: out of memory")


def test_the_real_process_measures_and_leaves_no_trace(tiny: Tiny, cores: Any) -> None:
    """The global generators and torch's own number are as before; every candidate has a time."""

    def state() -> tuple[Any, ...]:
        numbers = np.random.get_state(legacy=False)  # noqa: NPY002
        return torch.get_rng_state().tolist(), str(numbers), random.getstate(), torch.get_num_threads()

    before = state()
    choice = choose_threads(tiny("sac", torch_threads="auto"), OBSERVATIONS, ACTIONS)
    assert state() == before
    assert choice.chosen == "measured"
    assert choice.ms_per_update.keys() == {1, 2}
    assert all(0 < ms < 10_000 for ms in choice.ms_per_update.values())


def test_the_real_process_says_why_it_cannot(tiny: Tiny, cores: Any) -> None:
    choice = choose_threads(tiny("sac", torch_threads="auto", seed=-1), OBSERVATIONS, ACTIONS)
    assert choice.why.startswith("measuring failed: sac cannot be built with these settings")


@pytest.mark.parametrize("agent", ["symphony", "sac", "td3", "tqc", "ppo"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_throwaway_model_learns_as_often_as_it_says(agent: str, n_envs: int, tiny: Tiny) -> None:
    given = {"ppo": {"n_steps": 1000, "n_epochs": 7}, "td3": {"policy_delay": 3}}.get(agent, {})
    model = Throwaway(tiny(agent, n_envs=n_envs, overrides=given), OBSERVATIONS, ACTIONS)
    before = {name: value.clone() for name, value in model.model.policy.state_dict().items()}
    model.update(1, 2)
    counted = model.model._n_updates
    if agent == "ppo":
        # Eight minibatches of 32: 256 steps of one environment, 86 of three (258, so a small ninth one).
        assert (model.steps, counted) == ({1: 8, 3: 9}[n_envs], 2)
    else:
        assert (model.steps, counted) == ((3, 6) if agent == "td3" else (1, 2))
    after = model.model.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(bool(torch.isfinite(value).all()) for value in after.values())


# ------------------------------------------------------------------ runs


def test_auto_of_one_is_one(tiny: Tiny, measured: Any, same_runs: Any, tmp_path: Path) -> None:
    """Bit for bit the run with the number given; the record says what was measured."""
    asked = measured({1: 10.0, 2: 9.5})
    train(tiny("sac", torch_threads=1), tmp_path / "given")
    train(tiny("sac", torch_threads="auto"), tmp_path / "auto")
    assert asked == [[1, 2]]
    same_runs(tmp_path / "given", tmp_path / "auto")
    record = config(tmp_path / "auto")
    assert record["settings"] == config(tmp_path / "given")["settings"]
    assert record["threads"].pop("took_s") >= 0
    assert record["threads"] == {"number": 1, "chosen": "measured", "ms_per_update": {"1": 10.0, "2": 9.5}}


def test_a_resumed_run_keeps_its_number(tiny: Tiny, measured: Any, interrupt_at: Any, run_dir: Path) -> None:
    asked = measured({1: 1e6, 2: 1e5})  # so slow that the watch finds nothing slower
    seen: list[int] = []
    spy = interrupt_at(70)
    spy.at[69] = lambda: seen.append(torch.get_num_threads())
    assert train(tiny("sac", torch_threads="auto"), run_dir, spy).interrupted
    assert RunFolder(run_dir).read_settings().torch_threads == 2
    torch.set_num_threads(1)
    spy.at = {90: lambda: seen.append(torch.get_num_threads())}
    resume(run_dir, spy)
    assert (seen, asked) == ([2, 2], [[1, 2]])


def test_runs_of_before_and_other_processors_are_not_watched() -> None:
    settings = {"torch_threads": 2}
    assert ThreadChoice.of_record({"settings": settings}) == ThreadChoice(2, "given")
    told = {"number": 2, "chosen": "measured", "ms_per_update": {"1": 9.0, "2": 4.0}}
    here = {"settings": settings, "threads": told, "machine": machine()}
    assert ThreadChoice.of_record(here).watch_ms == 4.0
    assert ThreadChoice.of_record({**here, "machine": {"processor": "abacus"}}).watch_ms is None
    assert ThreadChoice.of_record({**here, "settings": {"torch_threads": 1}}).watch_ms is None
    given = {**here, "threads": {"number": 2, "chosen": "given"}}
    assert ThreadChoice.of_record(given).watch_ms is None


# ------------------------------------------------------------------ watching


def test_the_watch_waits_for_ten_slow_seconds() -> None:
    watch = ThreadWatch(10.0)
    assert [watch.note(0.026, 1) for _ in range(370)] == [None] * 370  # 9.62 s, in windows of 1.014 s
    assert [watch.note(0.026, 1) for _ in range(20)].count(None) == 19  # the window that ends at 10.14 s tells it


def test_the_watch_forgives() -> None:
    watch = ThreadWatch(10.0)
    for _ in range(5):
        assert [watch.note(0.1, 1) for _ in range(90)] == [None] * 90  # nine seconds ten times too slow
        assert [watch.note(0.01, 1) for _ in range(100)] == [None] * 100  # one as measured
    assert [watch.note(0.0249, 1) for _ in range(2000)] == [None] * 2000  # 2.49 times is borne


def test_standing_still_once_is_not_slow() -> None:
    watch = ThreadWatch(10.0)
    assert watch.note(3600.0, 1) is None
    assert [watch.note(0.01, 1) for _ in range(2000)] == [None] * 2000


def test_no_updates_are_not_slow_updates() -> None:
    watch = ThreadWatch(10.0)
    assert [watch.note(2.0, 0) for _ in range(50)] == [None] * 50


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every update of SAC takes a second: three times as long as the tests below say is measured."""
    now = {"s": 0.0}
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: now["s"]))
    original = SAC.train

    def train_slowly(self: Any, gradient_steps: int, batch_size: int = 64) -> None:
        original(self, gradient_steps, batch_size)
        now["s"] += gradient_steps

    monkeypatch.setattr(SAC, "train", train_slowly)


def test_the_watch_falls_back_once(
    tiny: Tiny, measured: Any, slow: None, spy: Any, models: Any, run_dir: Path
) -> None:  # fmt: skip
    measured({1: 600.0, 2: 300.0})
    seen: dict[int, int] = {}
    spy.at = {step: lambda step=step: seen.update({step: torch.get_num_threads()}) for step in (60, 70, 71, 110)}
    train(tiny("sac", torch_threads="auto", evaluate_every=0), run_dir, spy)
    # The first update is that of step 61 (learning_starts = 60); the tenth ends with step 70.
    assert seen == {60: 2, 70: 2, 71: 1, 110: 1}
    (told,) = spy.problems
    assert "Updates on 2 torch threads have become 3.3 times slower" in told
    assert "from step 70 on with 1 thread" in told
    assert "not bit-equal" in told
    record = config(run_dir)
    assert record["threads_changed"] == {"step": 70, "from": 2, "to": 1, "slower": 3.33}
    assert (record["settings"]["torch_threads"], record["threads"]["number"]) == (1, 2)
    assert "train" not in vars(models[0])

    spy.at, spy.problems = {125: lambda: seen.update({125: torch.get_num_threads()})}, []
    resume(run_dir, spy, total_steps=140)
    assert (seen[125], spy.problems) == (1, [])
    assert config(run_dir)["threads_changed"] == record["threads_changed"]


@pytest.mark.parametrize(("choice", "ms"), [(2, {1: 600.0, 2: 300.0}), ("auto", {1: 300.0, 2: 300.0})])
def test_given_by_hand_and_one_thread_are_left_alone(
    choice: Any, ms: dict[int, float], tiny: Tiny, measured: Any, slow: None, spy: Any, run_dir: Path
) -> None:
    measured(ms)
    number = 2 if choice == 2 else 1
    seen: list[int] = []
    spy.at = {119: lambda: seen.append(torch.get_num_threads())}
    train(tiny("sac", torch_threads=choice, evaluate_every=0), run_dir, spy)
    assert (seen, spy.problems) == ([number], [])
    assert "threads_changed" not in config(run_dir)
    assert config(run_dir)["settings"]["torch_threads"] == number


def test_the_watch_ends_with_the_training(tiny: Tiny, measured: Any, models: Any, run_dir: Path) -> None:
    measured({1: 1e6, 2: 1e5})
    wrapped: list[bool] = []
    spy = SimpleNamespace(**{name: lambda *_: None for name in ("on_episode", "on_evaluation", "on_problem")})
    spy.on_step = lambda *_: wrapped.append("train" in vars(models[0]))
    train(tiny("sac", torch_threads="auto", evaluate_every=0, total_steps=65), run_dir, spy)
    assert all(wrapped)
    assert "train" not in vars(models[0])


def test_a_change_that_cannot_be_written_is_told(
    tiny: Tiny, measured: Any, slow: None, spy: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured({1: 600.0, 2: 300.0})

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(threads, "write_json", full)
    assert train(tiny("sac", torch_threads="auto", evaluate_every=0), run_dir, spy).step == 120
    assert len(spy.problems) == 2
    assert "was not written" in spy.problems[1]


def test_symphonys_branches_take_the_new_number(tiny: Tiny, run_dir: Path) -> None:
    """Its second branch has a thread of its own, on which the number is set when that thread starts."""
    model = Throwaway(tiny(), OBSERVATIONS, ACTIONS).model
    torch.set_num_threads(2)
    assert model.branches.run(torch.get_num_threads, torch.get_num_threads) == (2, 2)
    RunFolder(run_dir).create(tiny(torch_threads=2))
    told: list[str] = []
    threads._fall_back(model, 2, 3.0, RunFolder(run_dir), told.append)
    assert model.branches.run(torch.get_num_threads, torch.get_num_threads) == (1, 1)
    assert len(told) == 1


def test_only_numbers_and_auto() -> None:
    for wrong in (0, -2, "all"):
        with pytest.raises(CadenzaError, match="torch_threads must be"):
            RunSettings(agent="sac", env_id="Pendulum-v1", torch_threads=wrong)  # type: ignore[arg-type]
