"""``cadenza sequence`` and ``cadenza imitate`` on the toy: the pages' commands, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.scripts import imitate, sequence
from cadenza.scripts.main import run


def commands(page: Path, languages: tuple[str, ...] = ("", "sh")) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if language in languages]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("cadenza ")]


def test_the_tour_of_the_page(repository: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tour = commands(repository / "docs" / "sequencer.md", ("sh",))
    assert [line.split()[2] for line in tour] == ["run", "collect", "train", "run", "compare"]
    for line in tour:
        smaller = line.replace("--episodes 50", "--episodes 4").replace("steps=2000", "steps=300")
        assert run(shlex.split(smaller)[1:]) == 0, line
    found = json.loads((elsewhere / "comparison" / "comparison.json").read_text())
    assert found["methods"]["learned"]["3"]["success"]["n"] == 4
    assert "| learned | 3 | 4 |" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["sequencer", "imitation"])
def test_every_command_of_the_pages_is_understood(page: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are parsed; what they would do takes a robot and minutes."""
    asked: list[Any] = []

    def note(options: Any, *_: Any) -> int:
        asked.append(options)
        return 0

    for module, names in ((sequence, ("_collect", "_train", "_run", "_compare")),
                          (imitate, ("_bc", "_pretraining", "_dagger", "_evaluate"))):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, note)
    found = [one for one in commands(repository / "docs" / f"{page}.md") if one.split()[1] in ("imitate", "sequence")]
    for line in found:
        assert run(shlex.split(line)[1:]) == 0, line
    assert len(asked) == len(found) >= 7


@pytest.fixture
def press_demos(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow")
    from cadenza.agents.demos import DemoRecorder, Feature, Schema
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequencer.machine import run_episode
    from cadenza.agents.sequences.latches import ENV_ID, LatchTask

    schema = Schema(ENV_ID, {}, 10.0, {"state": Feature("float32", (5,))}, Feature("float32", (2,)), cameras=())
    recorder, task = DemoRecorder(tmp_path / "demos", schema), LatchTask(stages=3, jam=0.5)
    names, before = list(task.primitives), {}

    def keep(observation: Any, action: np.ndarray, info: Any, name: str) -> None:
        recorder.add(
            before.get("observation", observation), action, timestamp_s=recorder.steps / 10, primitive=names.index(name)
        )
        before["observation"] = observation

    for seed in range(8):
        before.clear()
        recorder.start(seed, "latches", {})
        recorder.finish(run_episode(task, OracleRetry(), seed, on_step=keep).success)
    return tmp_path / "demos"


def test_imitate_from_demonstrations_to_dagger(
    press_demos: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "primitive=press", "steps=60", "hidden=16", "validate_every=60", "learning_rate=0.01"]
    assert run(["imitate", "bc", str(press_demos), "--run", "press", "--inverse-dynamics", "5", *small]) == 0
    assert "on held-out layouts" in capsys.readouterr().out
    toy = ["--task", "latches"]
    assert run(["imitate", "evaluate", "press", *toy, "--primitive", "press", "--episodes", "3",
                "--json", "found.json"]) == 0  # fmt: skip
    found = json.loads((elsewhere / "found.json").read_text())
    assert (found["n"], found["n_tries"]) == (3, 6)
    assert run(["imitate", "dagger", "press", "--demos", str(press_demos), "--run", "press-2", *toy, "--rounds", "1",
                "--episodes", "2", "--steps", "5", "--evaluation-episodes", "2"]) == 0  # fmt: skip
    assert "round 1: first tries" in capsys.readouterr().out
    assert run(["imitate", "pretraining", str(press_demos), "--counts", "2", "4", "--pretrain-steps", "3", *small[:-1],
                *toy, "--episodes", "1", "--json", "few.json"]) == 0  # fmt: skip
    assert len(json.loads((elsewhere / "few.json").read_text())["rows"]) == 4
    assert run(["sequence", "train", str(press_demos), "--run", "chooser", "--set", "steps=5"]) == 0
    alone = int(capsys.readouterr().out.split("updates on ")[1].split(" ")[0])
    assert run(["sequence", "collect", "latches", "--out", "more.npz", "--episodes", "2"]) == 0
    more = int(capsys.readouterr().out.split(" decisions")[0].split()[-1])
    assert run(["sequence", "train", str(press_demos), "more.npz", "--run", "both", "--set", "steps=5"]) == 0
    assert f"on {alone + more} decisions" in capsys.readouterr().out


def test_a_damaged_episode_is_left_out_and_told(
    press_demos: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "steps=5", "hidden=8"]
    assert run(["sequence", "train", str(press_demos), "--run", "whole", *small]) == 0
    whole = int(capsys.readouterr().out.split("updates on ")[1].split(" ")[0])
    path = sorted((press_demos / "episodes").iterdir())[3]
    data = bytearray(path.read_bytes())
    data[60] ^= 1  # within the first page: the ends of the file are as they were
    path.write_bytes(data)
    assert run(["sequence", "train", str(press_demos), "--run", "damaged", *small]) == 0
    shown = capsys.readouterr().out
    assert f"left out: {path.name}" in shown
    assert 0 < int(shown.split("updates on ")[1].split(" ")[0]) < whole


def test_a_training_goes_on_with_the_settings_it_was_begun_with(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sequence", "collect", "latches", "--out", "some.npz", "--episodes", "4"]) == 0
    train = ["sequence", "train", "some.npz", "--run", "chooser"]
    assert run([*train, "--set", "steps=20", "hidden=8", "history=3"]) == 0
    assert run(train) == 1
    assert "--resume" in capsys.readouterr().err
    assert run([*train, "--resume"]) == 0  # hidden and history are those of the run
    assert "20 updates" in capsys.readouterr().out
    assert run([*train, "--resume", "--set", "steps=10"]) == 1
    assert "steps 20, not 10" in " ".join(capsys.readouterr().err.split())
    assert run(["sequence", "train", "some.npz", "--run", "nowhere", "--resume"]) == 1
    assert "is not a run of" in " ".join(capsys.readouterr().err.split())


def test_a_policy_tuned_from_another_keeps_its_normaliser(press_demos: Path, elsewhere: Path) -> None:
    from cadenza.agents.imitation.policy import ImitationPolicy

    small = ["--set", "steps=20", "hidden=16", "validate_every=20"]
    assert run(["imitate", "bc", str(press_demos), "--run", "one", *small]) == 0
    assert run(["imitate", "bc", str(press_demos), "--run", "two", "--start", "one", "--set", "steps=5"]) == 0
    one, two = ImitationPolicy.load("one"), ImitationPolicy.load("two")
    assert (one.normaliser.mean == two.normaliser.mean).all()
    assert (two.config.steps, two.config.learning_rate) == (5, 3e-5)
    assert two.config.hidden == (16,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sequence run latch", "no task to sequence named"),
        ("sequence run latches --chooser learned", "--selector"),
        ("sequence run latches --seed -1", "--seed must not be negative"),
        ("sequence compare latches --seed -1", "--seed must not be negative"),
        ("sequence collect latches --out x.npz --seed -1", "--seed must not be negative"),
        ("sequence compare latches", "--selector"),
        ("sequence train nothing.npz --run r", "holds no decisions"),
        ("imitate bc", "needs demonstrations"),
        ("imitate bc nowhere --run r", "no set of demonstrations"),
        ("imitate bc --resume nowhere", "not an imitation run"),
        ("imitate evaluate nowhere --task latches", "holds no imitation policy"),
    ],
)
def test_what_is_wrong_is_said(line: str, said: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 1
    assert said in capsys.readouterr().err
