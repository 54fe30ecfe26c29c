"""The experiment: figures by hand, the same episodes for everybody, nothing is played twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.sequencer.comparison import Plan, cell_figures, figures, read_cell, run_plan, share
from cadenza.agents.sequencer.machine import Attempt, EpisodeResult
from cadenza.agents.sequencer.report import write_report
from cadenza.agents.sequences import make_task
from cadenza.envs.errors import CadenzaError


def attempt(stage: int, name: str, outcome: str, after: bool) -> Attempt:
    return Attempt(stage, name, outcome, 10, 1.0, False, after, 0.0, 0.5, 0.0)


def episode(seed: int, finished: list[bool], *attempts: Attempt) -> EpisodeResult:
    return EpisodeResult(seed, len(finished), finished, all(finished), "over", 30, 3.0, list(attempts))


def test_figures_by_hand() -> None:
    results = [
        episode(0, [True, True], attempt(0, "route", "success", True), attempt(1, "route", "success", True)),
        episode(1, [True, False], attempt(0, "route", "failure", False), attempt(0, "route", "success", True),
                attempt(1, "route", "timeout", False)),
        episode(2, [False, False], attempt(0, "go", "success", False), attempt(0, "route", "failure", False)),
    ]  # fmt: skip
    found = cell_figures(results, "route")
    assert (found["success"]["count"], found["success"]["n"]) == (1, 3)
    assert [part["count"] for part in found["by_stage"]] == [2, 1]
    # Three stages whose first route failed; one of them was done in the end.
    assert (found["recovery"]["count"], found["recovery"]["n"]) == (1, 3)
    assert found["primitives_per_episode"] == pytest.approx(7 / 3)
    route = found["primitives"]["route"]
    assert (route["attempts"], route["success"]["count"], route["failure"], route["timeout"]) == (6, 3, 2, 1)


def test_a_success_that_counts_only_later_is_no_failure_to_recover_from() -> None:
    """The cable lies in the clip when route ends, and counts as routed when tighten does."""
    done = episode(0, [True], attempt(0, "route", "success", False), attempt(0, "tighten", "success", True))
    assert cell_figures([done], "route")["recovery"]["n"] == 0
    assert attempt(0, "route", "cut", True).good
    assert not attempt(0, "route", "timeout", False).good


def test_shares_have_wilsons_interval() -> None:
    """10 of 10: from n / (n + z²) = 10 / 13.8415 on."""
    found = share(10, 10)
    assert found["low"] == pytest.approx(0.722467, abs=1e-5)
    assert found["high"] == pytest.approx(1.0)
    assert share(0, 0)["share"] is None


def plan(out: Path, **more: Any) -> Plan:
    given = {"methods": ("script", "oracle"), "stages": (1, 2), "episodes": 6, "settings": {"jam": 0.5}}
    return Plan("latches", out, **{**given, **more})


def test_all_methods_play_the_same_episodes_and_nothing_twice(tmp_path: Path) -> None:
    run_plan(plan(tmp_path), make_task)
    before = {path.name: path.read_text() for path in (tmp_path / "episodes").iterdir()}
    assert {len(text.splitlines()) for text in before.values()} == {6}
    made: list[Any] = []
    run_plan(plan(tmp_path), lambda *a, **k: made.append(a))  # type: ignore[arg-type,return-value]
    assert made == []
    run_plan(plan(tmp_path, episodes=8), make_task)
    longer = {path.name: path.read_text() for path in (tmp_path / "episodes").iterdir()}
    assert all(longer[name].startswith(text) and len(longer[name].splitlines()) == 8 for name, text in before.items())
    seeds = [[result.seed for result in read_cell(tmp_path, name, 2)] for name in ("script", "oracle")]
    assert seeds[0] == seeds[1] == [90_000 + index for index in range(8)]


def test_a_killed_line_is_played_again(tmp_path: Path) -> None:
    run_plan(plan(tmp_path), make_task)
    file = tmp_path / "episodes" / "oracle-2.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-30])
    assert len(read_cell(tmp_path, "oracle", 2)) == 5
    run_plan(plan(tmp_path), make_task)
    assert file.read_text() == whole


def test_the_power_of_the_script_stands_beside(tmp_path: Path) -> None:
    run_plan(plan(tmp_path, episodes=20), make_task)
    found = figures(plan(tmp_path, episodes=20), "press")
    single = found["methods"]["script"]["1"]["success"]
    assert 0 < single["share"] < 1
    assert found["script_at_one_stage_to_the_k"]["2"]["share"] == pytest.approx(single["share"] ** 2)
    assert found["script_at_one_stage_to_the_k"]["2"]["low"] == pytest.approx(single["low"] ** 2)
    oracle = found["methods"]["oracle"]["2"]
    assert oracle["success"]["share"] == oracle["recovery"]["share"] == 1.0


def test_the_report_agrees_with_the_episodes(tmp_path: Path) -> None:
    made = plan(tmp_path)
    run_plan(made, make_task)
    paths = write_report(made, "press", "cadenza sequence compare latches")
    assert [path.suffix for path in paths] == [".json", ".csv", ".md", ".png"]
    assert all(path.stat().st_size > 0 for path in paths)
    found = json.loads(paths[0].read_text())
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    for method, stages in made.cells():
        counted = sum(int(row["success"]) for row in rows if (row["method"], row["stages"]) == (method, str(stages)))
        assert counted == found["methods"][method][str(stages)]["success"]["count"]
        line = next(one for one in paths[2].read_text().splitlines() if one.startswith(f"| {method} | {stages} | 6 |"))
        assert f"| {100 * counted / 6:.0f} (" in line


def test_one_row_is_of_one_policy(tmp_path: Path) -> None:
    """Trained anew at the same path it is another; a folder of before weights were noted goes on."""
    from cadenza.agents.sequencer.config import SelectorConfig
    from cadenza.agents.sequencer.decisions import collect
    from cadenza.agents.sequencer.training import train_selector
    from cadenza.agents.sequences.latches import LatchTask

    decisions, out = collect(LatchTask(2, 0.5), episodes=4, seed=1), tmp_path / "out"
    chooser = tmp_path / "chooser"

    def train(seed: int) -> None:
        train_selector(decisions, SelectorConfig(steps=2, hidden=8, seed=seed)).selector.save(chooser)

    train(0)
    learned = {"methods": ("learned",), "stages": (1,), "selector": str(chooser)}
    run_plan(plan(out, episodes=2, **learned), make_task)
    run_plan(plan(out, episodes=3, **learned), make_task)
    train(1)
    with pytest.raises(CadenzaError, match="trained anew since: selector") as caught:
        run_plan(plan(out, episodes=4, **learned), make_task)
    assert "--out" in caught.value.advice
    assert len(read_cell(out, "learned", 1)) == 3
    record = json.loads((out / "plan.json").read_text())
    assert set(record.pop("weights")) == {"selector"}
    (out / "plan.json").write_text(json.dumps(record))
    run_plan(plan(out, episodes=4, **learned), make_task)
    assert len(read_cell(out, "learned", 1)) == 4


def test_weights_behind_a_policy_and_a_setting_count_too(tmp_path: Path) -> None:
    from cadenza.agents.sequencer.weights import weights_of, weights_sha256

    (tmp_path / "flat" / "policy").mkdir(parents=True)
    (tmp_path / "flat" / "policy" / "policy.safetensors").write_bytes(b"abc")
    (tmp_path / "flat" / "checkpoint.safetensors").write_bytes(b"of no account")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert weights_sha256(tmp_path / "flat") == weights_sha256(tmp_path / "flat" / "policy") == expected
    made = plan(tmp_path, flat=str(tmp_path / "flat"), settings={"route": str(tmp_path / "flat"), "jam": 0.5})
    assert made.weights() == {"flat": expected, "route": expected}
    assert weights_of({"route": str(tmp_path / "nowhere"), "layout": "train"}) == {}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="--selector"):
        Plan("latches", tmp_path, methods=("learned",))
    with pytest.raises(CadenzaError, match="method"):
        Plan("latches", tmp_path, methods=("scirpt",))
    run_plan(plan(tmp_path, episodes=1), make_task)
    with pytest.raises(CadenzaError, match="different: settings"):
        run_plan(plan(tmp_path, settings={"jam": 0.1}), make_task)
