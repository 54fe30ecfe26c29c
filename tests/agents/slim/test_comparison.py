"""Comparing presets: what runs, what is refused, how it goes on, and that the page says what the runs gave."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.settings import RunFolder
from cadenza.agents.runs.training import SilentWatcher
from cadenza.agents.slim import comparison
from cadenza.agents.slim.comparison import Group, SkillPlan, groups_of, result_of, run_plan, write_report
from cadenza.agents.slim.comparison_page import verdict
from cadenza.envs.errors import CadenzaError


def plan_of(puck_id: str, out: Path, small: dict[str, Any], **changes: Any) -> SkillPlan:
    given: dict[str, Any] = {
        "presets": ("slim", "lsd"), "seeds": 1, "steps": 64, "n_envs": 2, "skills": 4, "repeated_skills": 2,
        "repeats": 2, "overrides": small,
    }  # fmt: skip
    return SkillPlan(out, puck_id, **{**given, **changes})


def go(plan: SkillPlan) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    run_plan(plan, lambda run: SilentWatcher(), lambda run, what: told.append((run.label, what)), lambda: None)
    return told


def test_runs_continue_and_grow(puck_id: str, tmp_path: Path, small: dict[str, Any]) -> None:
    plan = plan_of(puck_id, tmp_path, small)
    first = go(plan)
    assert first == [(f"{p}, seed 0", what) for p in ("slim", "lsd") for what in ("training", "evaluating", "finished")]
    assert go(plan) == [("slim, seed 0", "done before"), ("lsd, seed 0", "done before")]
    longer = replace(plan, steps=96, presets=("slim",))
    assert [what for _, what in go(longer)] == ["training", "evaluating", "finished"]
    (run,) = longer.runs()
    assert CheckpointStore(RunFolder(run.folder).checkpoints).latest()["step"] == 96
    found = result_of(run, longer)
    assert found is not None
    assert found["step"] == 96
    with pytest.raises(CadenzaError, match="more than --steps 64"):
        go(replace(plan, presets=("slim",)))
    more_skills = replace(longer, skills=5)
    assert go(more_skills)[1] == ("slim, seed 0", "evaluating")
    assert len(json.loads((run.folder / comparison.RESULT).read_text())["z"]) == 5


def test_an_interrupted_run_goes_on(
    puck_id: str, tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training that was cut short, and the one that was not, give the same figures."""
    plan = plan_of(puck_id, tmp_path / "broken", small, presets=("slim",))
    from cadenza.agents.runs.training import resume, train

    (run,) = plan.runs()
    train(replace(run.settings, total_steps=32), run.folder)
    assert result_of(run, plan) is None
    assert [what for _, what in go(plan)] == ["training", "evaluating", "finished"]
    whole = replace(plan, out=tmp_path / "whole")
    go(whole)
    a, b = result_of(run, plan), result_of(whole.runs()[0], whole)
    assert a is not None
    assert b is not None
    assert a["figures"] == b["figures"]
    assert a["displacements_m"] == b["displacements_m"]
    # Ctrl-C: what training says about it is passed on, and nothing is evaluated.
    monkeypatch.setattr(comparison, "resume", lambda *a, **k: replace(resume(*a, **k), interrupted=True))
    (run.folder / comparison.RESULT).unlink()
    with pytest.raises(KeyboardInterrupt):
        go(plan)
    assert result_of(run, plan) is None


def test_the_report_says_what_the_runs_gave(puck_id: str, tmp_path: Path, small: dict[str, Any]) -> None:
    plan = plan_of(puck_id, tmp_path, small, seeds=2)
    assert write_report(plan, "cadenza bench skills") == []
    go(replace(plan, seeds=1))
    paths = write_report(plan, "cadenza bench skills --seeds 2")
    assert [path.name for path in paths] == ["slim.csv", "slim.json", "slim.png", "slim.md"]
    page = paths[3].read_text()
    assert "Not finished: 2 of 4 runs" in page
    rows = list(csv.DictReader(paths[0].open()))
    record = json.loads(paths[1].read_text())
    assert [(row["preset"], row["seed"]) for row in rows] == [("slim", "0"), ("lsd", "0")]
    for row, run in zip(rows, record["runs"], strict=True):
        value, low, high = run["figures"]["displacement_m"]
        assert float(row["displacement_m"]) == pytest.approx(value, rel=1e-4)
        assert float(row["displacement_m_low"]) == pytest.approx(low, rel=1e-4)
        assert f"{100 * value:.1f} (" in page
        assert low <= value <= high
    assert str(tmp_path) not in page + paths[1].read_text()
    go(plan)
    assert "Not finished" not in write_report(plan, "")[3].read_text()
    assert [len(group.results) for group in groups_of(plan)] == [2, 2]


def group(preset: str, *coverages: tuple[float, float, float], violations: float = 10.0) -> Group:
    return Group(
        preset,
        [
            {"seed": i, "figures": {"coverage": list(c), "violations_per_1000": [violations] * 3}}
            for i, c in enumerate(coverages)
        ],
    )


def test_the_interval_holds_seeds_and_episodes() -> None:
    alone = group("slim", (0.2, 0.1, 0.3)).figure("coverage")
    assert alone is not None
    assert alone.value == pytest.approx(0.2)
    assert (alone.low, alone.high) == pytest.approx((0.1, 0.3), abs=0.01)  # with one seed its own
    exact = group("slim", (0.1, 0.1, 0.1), (0.3, 0.3, 0.3)).figure("coverage")
    assert exact is not None
    assert exact.to_list() == pytest.approx([0.2, 0.1, 0.3])
    assert group("slim", (0.2, 0.1, 0.3)).figure("lift_rate") is None


def test_the_verdict_is_against_the_best_single_critic() -> None:
    groups = [
        group("slim", (0.3, 0.2, 0.4), violations=5.0),
        group("lsd", (0.1, 0.1, 0.1), violations=40.0),
        group("single_raw", (0.2, 0.2, 0.2), violations=20.0),
        group("without_safety", (0.9, 0.9, 0.9)),  # has several critics
    ]
    text = verdict(groups)
    assert "`single_raw`" in text
    assert "0.3 against 0.2, 1.50 times" in text
    assert "5 against 20, 0.25 times" in text
    assert "nothing to compare" in verdict(groups[1:])
    assert "no ratio" in verdict([groups[0], group("lsd", (0.0, 0.0, 0.0))])


def test_bad_plans_and_other_runs_are_refused(puck_id: str, tmp_path: Path, small: dict[str, Any]) -> None:
    for changes, message in (
        ({"presets": ("slm",)}, "no SLIM preset named 'slm'"),
        ({"presets": ()}, "at least one preset"),
        ({"presets": ("lsd", "lsd")}, "lsd twice"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"overrides": {"n_stepz": 3}}, "n_stepz"),
    ):
        with pytest.raises(CadenzaError, match=message):
            plan_of(puck_id, tmp_path, small, **changes)
    plan = plan_of(puck_id, tmp_path, small, presets=("lsd",))
    go(plan)
    with pytest.raises(CadenzaError, match="other settings") as caught:
        go(replace(plan, overrides={**small, "gamma": 0.9}, presets=("slim", "lsd")))
    assert "overrides" in caught.value.advice
    assert not (tmp_path / "runs" / "slim-s0").exists()  # nothing has been started
    (plan.runs()[0].folder / comparison.RESULT).write_text("{")
    with pytest.raises(CadenzaError, match="damaged"):
        go(plan)
