"""Reports of earlier sittings: read back whole, shown beside new runs, refused where they cannot be compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.symphony.presets import PRESETS
from cadenza.agents.wallclock.earlier import earlier_runs
from cadenza.agents.wallclock.plan import Plan
from cadenza.agents.wallclock.report import page_of, write_report
from cadenza.agents.wallclock.results import write_rows
from cadenza.envs.errors import CadenzaError

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"


def plan(out: Path, **changes: Any) -> Plan:
    return Plan(out=out, **{"agents": ("ppo",), "seeds": 1, **changes})


def test_a_report_is_read_back_whole(tmp_path: Path) -> None:
    runs, command = earlier_runs(RESULTS, plan(tmp_path))
    record = json.loads((RESULTS / "wallclock.json").read_text())
    assert command == record["command"]
    assert [(run.run.agent, run.run.seed) for run in runs] == [(run["agent"], run["seed"]) for run in record["runs"]]
    write_rows(tmp_path / "again.csv", runs)
    assert sorted((tmp_path / "again.csv").read_text().splitlines()) == sorted(
        (RESULTS / "wallclock.csv").read_text().splitlines()
    )


def test_the_page_is_that_of_its_figures() -> None:
    """docs/results/wallclock.md is what its .json and .csv say: after a change of preset or columns, write it anew."""
    assert (RESULTS / "wallclock.md").read_text() == page_of(RESULTS)


def _final_returns() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in earlier_runs(RESULTS, plan(RESULTS))[0]:
        found.setdefault(run.run.agent, []).extend(run.rows[-1]["returns"])
    return found


def test_pages_quote_the_mean_of_the_table() -> None:
    figures = {agent: returns for agent, returns in _final_returns().items() if agent in ("symphony:cpu", "ppo")}
    ours, ppo = (f"{sum(returns) / len(returns):,.0f}" for returns in figures.values())
    for page in (ROOT / "README.md", ROOT / "docs" / "wallclock.md", RESULTS / "README.md"):
        text = " ".join(page.read_text().split())
        assert ours in text, page
        assert ppo in text, page


def test_a_preset_that_changed_since_is_told(tmp_path: Path) -> None:
    """By comparison with what the runs recorded: a setting that did not exist yet was off."""
    for name in ("wallclock.csv", "wallclock.json"):
        shutil.copy(RESULTS / name, tmp_path)
    file = tmp_path / "wallclock.json"
    record = json.loads(file.read_text())
    ours = [run for run in record["runs"] if run["agent"] == "symphony:cpu"]
    today = PRESETS["cpu"].to_dict()

    def told(settings: Any) -> str:
        for run in ours:
            run["preset_settings"] = settings
        file.write_text(json.dumps(record))
        return next((line for line in page_of(tmp_path).splitlines() if "today's preset" in line), "")

    assert told(today) == ""
    assert told({**today, "summary": "another"}) == ""
    assert told({**today, "hidden_size": 64}).endswith("`symphony:cpu` had hidden_size = 64 (today 128).")
    assert "mirror = False (today auto)" in told({name: today[name] for name in today if name != "mirror"})
    assert "had settings that were not recorded" in told(None)
    (tmp_path / "out").mkdir()
    written = write_report(plan(tmp_path / "out"), "again", tmp_path)
    assert "had settings that were not recorded" in written[2].read_text()


def test_earlier_runs_stand_in_the_same_tables(tmp_path: Path) -> None:
    written = write_report(plan(tmp_path), "cadenza bench wallclock --agents ppo", RESULTS)
    assert {path.name for path in written} == {f"wallclock.{suffix}" for suffix in ("csv", "png", "md", "json")}
    page = (tmp_path / "wallclock.md").read_text()
    assert "| symphony:cpu | 0, 1, 2 |" in page
    assert "cadenza bench wallclock --agents ppo" in page
    assert "runs are still to come" in page, "ppo has not run here"
    shown = json.loads((tmp_path / "wallclock.json").read_text())
    assert shown["planned"] == shown["finished"] + 1


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="cannot stand beside") as refused:
        earlier_runs(RESULTS, plan(tmp_path, minutes=5))
    assert "minutes: there 20.0, here 5" in str(refused.value.advice)
    with pytest.raises(CadenzaError, match="holds no report"):
        earlier_runs(tmp_path, plan(tmp_path))
    (tmp_path / "wallclock.csv").write_text("agent,seed\n")
    (tmp_path / "wallclock.json").write_text('{"plan": {}}')
    with pytest.raises(CadenzaError, match="damaged"):
        earlier_runs(tmp_path, plan(tmp_path))
