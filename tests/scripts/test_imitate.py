"""``cadenza imitate``: what each command learns from, refuses, and leaves behind when it is interrupted."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from cadenza.agents.demos import DemoRecorder, DemoSet, Feature, Schema
from cadenza.agents.imitation.cloning import read_run
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.robots import load_arm
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts import imitate, imitate_tasks
from cadenza.scripts.main import run

SMALL = "--set primitive=press steps=20 hidden=8 validate_every=20 batch_size=16"
TINY_DAGGER = "--task latches --rounds 2 --episodes 2 --steps 3 --evaluation-episodes 1"


def demonstrations(folder: Path, rate_hz: float = 10.0, episodes: int = 6) -> Path:
    """Presses and advances; meant is 0.5 where 1 was done, and the last episode failed."""
    schema = Schema("latches", {}, rate_hz, {"state": Feature("float32", (5,))}, Feature("float32", (2,)), cameras=())
    recorder, rng = DemoRecorder(folder, schema), np.random.default_rng(0)
    for seed in range(episodes):
        recorder.start(seed, "latches", {})
        for step in range(10):
            state = np.array([step / 10, *rng.normal(size=4)], np.float32)
            recorder.add(
                {"state": state}, np.ones(2, np.float32), timestamp_s=step / rate_hz, primitive=0 if step < 6 else 2,
                extras={"intended.0": 0.5, "intended.1": 0.5},
            )  # fmt: skip
        recorder.finish(seed < episodes - 1)
    return folder


@pytest.fixture
def demos(elsewhere: Path) -> Path:
    return demonstrations(Path("demos"))


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Ctrl-C as soon as the bar says these words for that update or episode."""

    def at(words: str, done: int) -> None:
        @contextmanager
        def bar() -> Iterator[Any]:
            def told(step: int, steps: int, said: str) -> None:
                if words in said and step == done:
                    os.kill(os.getpid(), signal.SIGINT)

            yield told

        for module in (imitate, imitate_tasks):
            monkeypatch.setattr(module, "updates_bar", bar)

    return at


def do(line: str) -> int:
    return run(shlex.split(line))


# ------------------------------------------------------------------ inverse dynamics


def test_inverse_dynamics_learns_what_was_done_at_all_steps_but_those_held_out(
    demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cadenza.agents.imitation import inverse_dynamics

    seen: list[Any] = []
    real = inverse_dynamics.pretrain
    monkeypatch.setattr(
        inverse_dynamics, "pretrain", lambda *given, **more: seen.append(given[0]) or real(*given, **more)
    )
    assert do(f"imitate bc demos --run press --inverse-dynamics 3 {SMALL} held_out=0.3") == 0
    (transitions,) = seen
    assert np.all(transitions.action == 1.0)  # done, not meant
    assert 5 in transitions.layout  # it failed
    assert set(np.bincount(transitions.episode)) == {0, 10}  # presses and advances; 0: held out
    held_out = set(range(6)) - set(transitions.layout.tolist())
    policy = ImitationPolicy.load("press")
    assert policy.facts["steps_of_demonstrations"] == 6 * len(set(range(5)) - held_out)
    assert len(held_out) == 2  # of the five that cloning learns from
    for facts in (read_run("press")["facts"], policy.facts):
        assert (facts["inverse_dynamics"]["steps"], facts["inverse_dynamics"]["pairs"]) == (3, 36)


def test_inverse_dynamics_is_remembered_by_a_run_that_goes_on(demos: Path, interrupts: Any) -> None:
    interrupts("loss", 20)
    assert do(f"imitate bc demos --run press --inverse-dynamics 3 {SMALL} steps=30") == 130
    assert do("imitate bc --resume press") == 0
    assert ImitationPolicy.load("press").facts["inverse_dynamics"]["steps"] == 3


def test_a_policy_that_has_learned_is_not_pretrained(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert do(f"imitate bc demos --run press {SMALL}") == 0
    assert do("imitate bc demos --run two --start press --inverse-dynamics 3") == 1
    assert "--inverse-dynamics" in capsys.readouterr().err


# ------------------------------------------------------------------ interrupts


def test_ctrl_c_in_the_pretraining_keeps_nothing(
    demos: Path, interrupts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupts("", 1)  # before the first validation
    assert do(f"imitate bc demos --run press --inverse-dynamics 50 {SMALL}") == 130
    assert not Path("press").exists()
    assert "interrupted" in capsys.readouterr().err


def test_ctrl_c_in_a_comparison_records_no_half_row(
    demos: Path, interrupts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupts("held out", 20)  # after the last update of the first row
    line = f"imitate pretraining demos --counts 2 --pretrain-steps 2 --json few.json {SMALL} validate_every=10"
    assert do(line) == 130
    assert not Path("few.json").exists()
    assert "from scratch" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "done", "rows", "rounds"),
    [("round 2: driving", 1, 2, 1), ("loss", 3, 1, 0), ("round 1: measuring", 1, 1, 1)],
)
def test_dagger_goes_on_after_its_last_finished_round(
    words: str, done: int, rows: int, rounds: int, demos: Path, interrupts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do(f"imitate bc demos --run press {SMALL}") == 0
    assert do(f"imitate dagger press --demos demos --run whole {TINY_DAGGER}") == 0
    interrupts(words, done)
    assert do(f"imitate dagger press --demos demos --run cut {TINY_DAGGER}") == 130
    assert "imitate dagger --resume cut" in capsys.readouterr().out
    stored = json.loads(Path("cut/dagger.json").read_text())["rounds"]
    assert [row["round"] for row in stored] == list(range(rows))
    assert {info.metadata["dagger_round"] for info in DemoSet("cut/corrections").episodes} == set(range(1, rounds + 1))
    assert Path("cut/policy").exists() == (rounds > 0)
    interrupts("nothing", 0)
    assert do("imitate dagger --resume cut") == 0
    one, two = (json.loads(Path(name, "dagger.json").read_text())["rounds"] for name in ("whole", "cut"))
    assert one == two
    ours, theirs = (ImitationPolicy.load(name).state_dict() for name in ("whole", "cut"))
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert do("imitate dagger --resume cut --rounds 5") == 1
    assert "give it alone" in capsys.readouterr().err


# ------------------------------------------------------------------ what does not fit


def test_what_was_made_for_another_rate_is_refused(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demonstrations(Path("quick"), rate_hz=20.0)
    assert do(f"imitate bc quick --run press {SMALL}") == 0
    for line, said in (
        (f"imitate bc demos --run two --start press {SMALL}", "rate: 20 Hz against 10 Hz"),
        ("imitate evaluate press --task latches --primitive press --episodes 1", "made for 20 Hz, the task has 10 Hz"),
        (f"imitate dagger press --demos demos --run two {TINY_DAGGER}", "rate: 20 Hz against 10 Hz"),
        (f"imitate dagger press --demos quick --run two {TINY_DAGGER}", "made for 20 Hz, the task has 10 Hz"),
    ):
        capsys.readouterr()
        assert do(line) == 1
        assert said in " ".join(capsys.readouterr().err.split())
        assert not Path("two").exists()


def test_a_damaged_episode_is_left_out_and_told(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = demos / "episodes" / "episode-000002.parquet"
    data = bytearray(file.read_bytes())
    data[80] ^= 0xFF
    file.write_bytes(data)
    assert do(f"imitate bc demos --run press {SMALL} held_out=0") == 0
    assert ImitationPolicy.load("press").facts["steps_of_demonstrations"] == 4 * 6
    assert "left out: episode-000002.parquet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("imitate bc demos --run r --set steps=abc", "steps must be a whole number, not 'abc'"),
        ("imitate bc demos --run r --set steps=10.5", "steps must be a whole number, not 10.5"),
        ("imitate bc demos --run r --set seed=-3", "seed must not be negative"),
        ("imitate bc demos --run r --inverse-dynamics -5", "--inverse-dynamics must not be negative"),
        ("imitate evaluate r --seed -3", "--seed must not be negative"),
        ("imitate evaluate r --episodes 0", "--episodes must be at least 1"),
        ("imitate dagger r --demos demos --run q --seed -3", "--seed must not be negative"),
        ("imitate dagger r --demos demos --run q --seed 70000", "would drive"),
        ("imitate dagger r --run q", "needs a policy, its demonstrations and a folder"),
        ("imitate dagger --resume nowhere", "no run of DAgger"),
        ("imitate pretraining demos --counts 0", "--counts"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    line: str, said: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do(line) == 1
    assert said in " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------ cameras


@pytest.mark.slow
@pytest.mark.skipif(not is_fetched(load_arm("panda").menagerie), reason="the Panda is not fetched: make robots")
def test_a_camera_policy_of_the_cable(elsewhere: Path, needs_gl: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Collected, learned, evaluated and corrected; what was seen is the default, and what does not fit is told."""
    collect = "demos collect --env cadenza/CableRouting-v0 --episodes 2 --out views --set observe=camera cameras=side"
    assert do(collect) == 0
    learn = "--set primitive=route cameras=side parts=tcp_pose batch_size=4 steps=3 validate_every=3 hidden=8"
    assert do(f"imitate bc views --run route {learn} successes_only=False held_out=0") == 0
    inputs = ImitationPolicy.load("route").inputs
    assert (inputs.env_settings["observe"], dict(inputs.cameras)) == ("camera", {"side": (64, 64, 3)})
    evaluate = "imitate evaluate route --episodes 1 --stages 1"
    assert do(f"{evaluate} --json found.json") == 0
    settings = json.loads(Path("found.json").read_text())["settings"]
    assert settings == {"observe": "camera", "cameras": "side"}
    capsys.readouterr()
    assert do(f"{evaluate} --task-set observe=state") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "of shape (8,)" in said
    assert "--task-set observe=camera cameras=side" in said
    dagger = "imitate dagger route --demos views --run more --stages 1 --rounds 1 --episodes 1 --steps 2"
    dagger += " --evaluation-episodes 1 --seed 100"
    assert do(f"{dagger} --task-set cameras=wrist_left") == 1
    assert "'side'" in capsys.readouterr().err
    assert not Path("more").exists()
    assert do(dagger) == 0
    corrections = DemoSet("more/corrections")
    episode = corrections.load(corrections.episodes[0].index)
    assert episode.observation["side"].shape[1:] == (64, 64, 3)
    assert episode.final_observation is not None
