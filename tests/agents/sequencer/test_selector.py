"""The learned choice: padding, learning, retrying, files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from cadenza.agents.demos import MismatchError
from cadenza.agents.sequencer.choosers import ScriptedOrder
from cadenza.agents.sequencer.config import SelectorConfig, resolve_selector_config
from cadenza.agents.sequencer.decisions import NO_SIGNALS, Decisions, collect, from_demonstrations, padded
from cadenza.agents.sequencer.machine import Decision, run_episode
from cadenza.agents.sequencer.selector import LearnedSelector, SelectorNet, plain_embedding
from cadenza.agents.sequencer.signals import Signals
from cadenza.agents.sequencer.training import train_selector
from cadenza.agents.sequences.latches import LatchTask
from cadenza.envs.errors import CadenzaError

SMALL = SelectorConfig(steps=300, hidden=32, validate_every=100, checkpoint_every=100, learning_rate=3e-3)


@pytest.fixture(scope="module")
def decisions() -> Decisions:
    return collect(LatchTask(stages=3, jam=0.5), episodes=40, seed=1_000)


def test_history_is_padded_in_front_with_an_id_of_its_own() -> None:
    assert padded((), 6, 4) == (4, 4, 4, 4, 4, 4)
    assert padded((2, 0), 6, 4) == (4, 4, 4, 4, 2, 0)
    assert padded((0, 1, 2, 3, 0, 1, 2), 6, 4) == (1, 2, 3, 0, 1, 2)


def test_four_primitives_have_a_5_by_4_table() -> None:
    net = SelectorNet(10, 4, SelectorConfig())
    assert tuple(net.ids.weight.shape) == (5, 4)
    assert net.logits.out_features == 4
    assert net.remembered[0].in_features == 24  # six ids of four numbers
    assert SelectorNet(10, 4, SelectorConfig(signals=True)).remembered[0].in_features == 27


def test_the_first_decision_and_a_later_one_differ_by_padding_alone(decisions: Decisions) -> None:
    selector = train_selector(decisions, SMALL).selector
    state = {"state": decisions.observation["state"][0]}
    begin, later = (Decision(state, 0, history, (), Signals()) for history in ((), (0, 1, 0)))
    assert not np.allclose(selector.probabilities(begin), selector.probabilities(later))
    assert selector.probabilities(begin).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_scripted_failure_is_retried_by_the_trained_sequencer_and_not_by_the_script(decisions: Decisions) -> None:
    selector = train_selector(decisions, SMALL).selector
    task = LatchTask(stages=3, jam=1.0)  # every first press fails
    learned, script = (run_episode(task, chooser, seed=7) for chooser in (selector, ScriptedOrder()))
    assert (learned.success, script.success) == (True, False)
    assert [attempt.name for attempt in learned.attempts] == ["press", "clear", "press", "advance"] * 3
    assert [attempt.name for attempt in script.attempts] == ["press", "advance"] * 3


def test_collected_decisions_hold_the_experts_answers(decisions: Decisions) -> None:
    """What it answers follows from the observation: jammed -> clear, shut -> advance, else press."""
    assert decisions.names == ("press", "clear", "advance")
    state = decisions.observation["state"]
    shut, jammed = state[:, 2] > 0.5, state[:, 3] > 0.5
    expected = np.where(jammed, 1, np.where(shut, 2, 0))
    np.testing.assert_array_equal(decisions.label, expected)
    assert set(np.unique(decisions.layout)) == set(range(1_000, 1_040))
    first = decisions.rows(decisions.layout == 1_000).history[0]
    assert set(first.tolist()) == {3}  # nothing before the first decision


def test_whole_layouts_are_held_out(decisions: Decisions) -> None:
    training, held_out = decisions.split(0.1, seed=0)
    assert len(np.unique(held_out.layout)) == 4
    assert set(training.layout) & set(held_out.layout) == set()


def test_the_embedding_stays_frozen_and_training_repeats(decisions: Decisions) -> None:
    one, two = (train_selector(decisions, SMALL) for _ in range(2))
    ours, theirs = one.selector.net.state_dict(), two.selector.net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert one.rows[-1]["held_out_accuracy"] == pytest.approx(1.0)
    embedding = one.selector.embedding
    before = {name: tensor.clone() for name, tensor in embedding.state_dict().items()}
    train_selector(decisions, SMALL, embedding=embedding)
    assert all(torch.equal(before[name], tensor) for name, tensor in embedding.state_dict().items())


def test_signals_are_inputs_only_where_asked_for(decisions: Decisions) -> None:
    state = {"state": decisions.observation["state"][0]}
    for wanted in (False, True):
        config = resolve_selector_config({"signals": wanted}, SMALL)
        selector = train_selector(decisions, config).selector
        calm, struggling = (
            Decision(state, 0, (0,), (), Signals(no_progress=n, repeated_failure=n)) for n in (0.0, 1.0)
        )
        same = np.array_equal(selector.probabilities(calm), selector.probabilities(struggling))
        assert same is not wanted


def test_saved_and_loaded_it_chooses_the_same(decisions: Decisions, tmp_path: Path) -> None:
    selector = train_selector(decisions, SMALL, run=tmp_path / "run", facts={"task": "latches"}).selector
    loaded = LearnedSelector.load(tmp_path / "run")
    decision = Decision({"state": decisions.observation["state"][3]}, 0, (0, 1), (), Signals())
    np.testing.assert_array_equal(selector.probabilities(decision), loaded.probabilities(decision))
    assert loaded.facts["task"] == "latches"
    with pytest.raises(CadenzaError, match="exists already"):
        train_selector(decisions, SMALL, run=tmp_path / "run")
    with pytest.raises(CadenzaError, match="holds no sequencer"):
        LearnedSelector.load(tmp_path)
    weights = tmp_path / "run" / "selector.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CadenzaError, match="is not the file"):
        LearnedSelector.load(tmp_path / "run")


def test_an_interrupted_training_goes_on_bit_for_bit(decisions: Decisions, tmp_path: Path) -> None:
    def stop(step: int, steps: int, words: str) -> None:
        if step == 150:
            os.kill(os.getpid(), signal.SIGINT)

    whole = train_selector(decisions, SMALL).selector.net.state_dict()
    assert train_selector(decisions, SMALL, run=tmp_path / "run", progress=stop).interrupted
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    shorter = resolve_selector_config({"steps": 200, "hidden": 16}, SMALL)
    with pytest.raises(CadenzaError, match=r"other settings: hidden 32, not 16; steps 300, not 200\."):
        train_selector(decisions, shorter, run=tmp_path / "run", resume=True)
    with pytest.raises(CadenzaError, match="another thing to learn from; different: decisions"):
        train_selector(decisions.joined(decisions), SMALL, run=tmp_path / "run", resume=True)
    with pytest.raises(CadenzaError, match="is not a run of"):
        train_selector(decisions, SMALL, run=tmp_path / "nowhere", resume=True)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    resumed = train_selector(decisions, SMALL, run=tmp_path / "run", resume=True).selector.net.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_sequencer_of_other_primitives_is_refused(decisions: Decisions) -> None:
    selector = train_selector(decisions, resolve_selector_config({"steps": 2}, SMALL)).selector
    task = LatchTask()
    task.primitives = {"press": task.primitives["press"]}
    with pytest.raises(CadenzaError, match="chooses among press, clear, advance; latches has press"):
        run_episode(task, selector, seed=0)


def test_decisions_survive_the_disk(decisions: Decisions, tmp_path: Path) -> None:
    decisions.save(tmp_path / "some.npz")
    found = Decisions.load(tmp_path / "some.npz")
    assert found.names == decisions.names
    for name in ("history", "signals", "label", "layout"):
        np.testing.assert_array_equal(getattr(found, name), getattr(decisions, name))
    np.testing.assert_array_equal(found.observation["state"], decisions.observation["state"])
    assert len(found.joined(decisions)) == 2 * len(decisions)
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(CadenzaError, match="holds no decisions"):
        Decisions.load(tmp_path / "bad.npz")


def made(count: int = 6, size: int = 4, rate_hz: float | None = 10.0, side: int = 0, version: int = 2) -> Decisions:
    """Decisions of nothing in particular; ``side``: of a picture."""
    seen: dict[str, np.ndarray] = {"state": np.zeros((count, size), np.float32)}
    if side:
        seen["wrist"] = np.zeros((count, side, side, 3), np.uint8)
    history, signals, zeros = (
        np.zeros((count, 6), np.int64),
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.int64),
    )
    return Decisions(("a", "b"), seen, history, signals, zeros, np.arange(count), rate_hz, version)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (made(side=128), r"observation 'wrist': uint8 \(64, 64, 3\) against uint8 \(128, 128, 3\)"),
        (made(), r"observation 'wrist': uint8 \(64, 64, 3\) against none"),
        (made(side=64, size=5), r"observation 'state': float32 \(4,\) against float32 \(5,\)"),
        (made(side=64, rate_hz=20.0), "rate: 10 Hz against 20 Hz"),
    ],
)
def test_what_was_observed_otherwise_is_not_joined(other: Decisions, said: str, tmp_path: Path) -> None:
    made(side=64).save(tmp_path / "one.npz")
    other.save(tmp_path / "two.npz")
    with pytest.raises(MismatchError, match=said):
        Decisions.load(tmp_path / "one.npz").joined(Decisions.load(tmp_path / "two.npz"))


def earlier_file(path: Path) -> Decisions:
    """As files were before they noted rate, observation and definition of the signals."""
    head = np.frombuffer(json.dumps({"format": "cadenza-decisions-1", "names": ["a", "b"]}).encode(), np.uint8)
    one = made()
    arrays = {name: getattr(one, name) for name in ("history", "signals", "label", "layout")}
    np.savez_compressed(path, head=head, **{"observation/state": one.observation["state"]}, **arrays)
    return Decisions.load(path)


def test_earlier_files_are_read_and_joined(tmp_path: Path) -> None:
    before = earlier_file(tmp_path / "old.npz")
    assert (len(before), before.rate_hz, before.signals_version) == (6, None, 1)
    assert before.joined(before).signals_version == 1
    both = before.joined(made())
    assert (len(both), both.rate_hz, both.signals_version) == (12, 10.0, NO_SIGNALS)
    train_selector(both, resolve_selector_config({"steps": 1}, SMALL))
    with pytest.raises(CadenzaError, match="signals of several definitions"):
        train_selector(both, resolve_selector_config({"steps": 1, "signals": True}, SMALL))
    with pytest.raises(MismatchError, match=r"float32 \(4,\) against float32 \(5,\)"):
        before.joined(made(size=5))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "old.npz").read_bytes()[:-40])
    with pytest.raises(CadenzaError, match="holds no decisions"):
        Decisions.load(tmp_path / "cut.npz")


def test_a_sequencer_is_told_the_signals_it_learned_with(decisions: Decisions, tmp_path: Path) -> None:
    """Also one of before definitions had numbers: it has learned with the first."""
    config = resolve_selector_config({"signals": True}, SMALL)
    train_selector(decisions, config, run=tmp_path / "run")
    now = LearnedSelector.load(tmp_path / "run")
    file = tmp_path / "run" / "selector.json"
    description = json.loads(file.read_text())
    assert description.pop("signals_version") == now.signals_version == 2
    file.write_text(json.dumps(description))
    then = LearnedSelector.load(tmp_path / "run")
    assert then.signals_version == 1
    state = {"state": decisions.observation["state"][0]}
    calm, hard = Signals(), Signals(no_progress=1.0, repeated_failure=1.0)
    told = Decision(state, 0, (0,), (), hard, {1: calm})
    for selector, expected in ((now, hard), (then, calm)):
        alone = selector.probabilities(Decision(state, 0, (0,), (), expected))
        np.testing.assert_array_equal(selector.probabilities(told), alone)
    assert not np.array_equal(now.probabilities(told), then.probabilities(told))


def test_pictures_are_not_ignored_in_silence() -> None:
    with pytest.raises(CadenzaError, match=r"have pictures \(wrist\)") as caught:
        train_selector(made(side=16), SMALL)
    assert "--embedding" in caught.value.advice
    embedding = plain_embedding(made())
    for given, said in (
        ({"features": "cable"}, "features would"),
        ({"features": "cable", "parts": "hand"}, "and parts"),
    ):
        with pytest.raises(CadenzaError, match=said):
            train_selector(made(), resolve_selector_config(given, SMALL), embedding=embedding)


def test_decisions_of_recorded_episodes() -> None:
    class Info:
        index, seed, metadata = 0, 11, None

    class Episode:
        info = Info
        primitive = np.array([0, 0, 0, 0, 1, 1, 0, -1])
        observation = {"state": np.arange(16, dtype=np.float32).reshape(8, 2)}  # noqa: RUF012
        extras = {"attempt": np.array([0.0, 0, 1, 1, 2, 2, 3, 4])}  # noqa: RUF012

    class Demos:
        class schema:
            rate_hz = 10.0

        def read(self) -> list[type[Episode]]:
            return [Episode]

    found = from_demonstrations(Demos(), ("route", "regrasp"), longest=3)
    assert found.label.tolist() == [0, 0, 1, 0]
    assert found.history.tolist() == [[2, 2, 2], [2, 2, 0], [2, 0, 0], [0, 0, 1]]
    assert found.observation["state"][:, 0].tolist() == [0.0, 4.0, 8.0, 12.0]
    assert found.layout.tolist() == [11] * 4
    assert found.rate_hz == 10.0
    with pytest.raises(CadenzaError, match="no struggle signals"):
        train_selector(found, resolve_selector_config({"signals": True, "history": 3}, SMALL))


def test_it_sees_through_the_encoders_of_an_imitation_policy(tmp_path: Path) -> None:
    """What to choose is in the picture alone: bright or dark."""
    from cadenza.agents.imitation.config import CloningConfig
    from cadenza.agents.imitation.policy import ImitationPolicy, Inputs

    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 80)
    pictures = np.where(label[:, None, None, None] == 1, 220, 30) + rng.integers(0, 20, (80, 16, 16, 3))
    pictures[:, :8] = 0  # an edge, for encoders that look for places
    seen = {"state": rng.normal(size=(80, 3)).astype(np.float32), "wrist": pictures.astype(np.uint8)}
    history = np.full((80, 6), 2, dtype=np.int64)
    decisions = Decisions(("a", "b"), seen, history, np.zeros((80, 3), np.float32), label, np.arange(80))
    inputs = Inputs({"state": (0, 1, 2)}, {"wrist": (16, 16, 3)}, 2, {"state": 3})
    embedding = ImitationPolicy(inputs, CloningConfig(cameras=("wrist",), hidden=(8,)))
    frozen = {name: tensor.clone() for name, tensor in embedding.state_dict().items()}
    result = train_selector(decisions, SMALL, embedding=embedding, run=tmp_path / "run")
    assert result.rows[-1]["held_out_accuracy"] == 1.0
    assert all(torch.equal(frozen[name], tensor) for name, tensor in embedding.state_dict().items())
    loaded = LearnedSelector.load(tmp_path / "run")
    for row in range(4):
        one = {name: array[row] for name, array in seen.items()}
        assert loaded.choose(Decision(one, 0, (), (), Signals())) == ("a", "b")[label[row]]
