"""Two programs in one folder: the second is refused, and nothing of the first is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cadenza.agents.runs.lock import alone_in
from cadenza.agents.runs.settings import RunFolder
from cadenza.agents.runs.training import resume
from cadenza.agents.slim.comparison import SkillPlan, run_plan
from cadenza.agents.wallclock.plan import Plan
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.main import run as command

HOLDER = """
import sys
from pathlib import Path
from cadenza.agents.runs.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is at work in the folder."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
    finally:
        other.kill()
        other.wait()


def test_a_folder_is_held_until_its_process_ends(tmp_path: Path) -> None:
    with at_work(tmp_path / "run") as other:
        with pytest.raises(CadenzaError, match="Another program is at work"), alone_in(tmp_path / "run"):
            pass
        other.kill()
        other.wait()
        with alone_in(tmp_path / "run"):
            pass


def test_a_run_is_not_resumed_twice(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = f"train symphony cadenza/HumanoidPaper-v0 --preset demo --steps 40 --evaluate-every 0 --run {run}"
    assert command([*train.split(), "--set", "learning_starts=30", "buffer_size=100"]) == 0
    before = RunFolder(run).config.read_bytes()
    with at_work(run), pytest.raises(CadenzaError, match="Another program"):
        resume(run, total_steps=60)
    assert RunFolder(run).config.read_bytes() == before
    assert resume(run, total_steps=60).step == 60


def test_nor_is_a_comparison_made_twice(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    plan = SkillPlan(folder, presets=("slim",), seeds=1, steps=100)
    with at_work(folder), pytest.raises(CadenzaError, match="Another program"):
        run_plan(plan, None, lambda *_: None, lambda: None)  # type: ignore[arg-type]
    assert not (folder / "runs").exists()


def test_a_comparison_on_an_environment_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="Nope"):
        Plan(out=tmp_path, env_id="cadenza/Nope-v0")
