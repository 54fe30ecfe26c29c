"""``cadenza bench``: the figures agree with each other and with the operation count; mistakes are explained."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cadenza.agents.symphony.arithmetic import gflop, update_products
from cadenza.agents.symphony.block import compiled
from cadenza.agents.symphony.presets import PRESETS
from cadenza.robots import load_humanoid
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.main import run


def test_update_writes_consistent_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "update.json"
    command = ["bench", "update", "--preset", "demo", "--batch", "16", "--repeats", "2", "--json", str(path)]
    assert run(command) == 0
    record = json.loads(path.read_text())
    assert (record["preset"], record["batch"], record["threads"]) == ("demo", 16, 1)
    assert (record["obs"], record["actions"]) == (376, 17)
    assert record["gflop_per_update"] == pytest.approx(gflop(update_products(PRESETS["demo"], 376, 17, 16)), abs=1e-6)
    assert record["floor_gflops"] == record["matmul_gflops"]
    assert record["floor_ms"] == pytest.approx(1e3 * record["gflop_per_update"] / record["floor_gflops"], rel=0.01)
    assert record["efficiency"] == pytest.approx(record["floor_ms"] / record["ms_per_update"], rel=0.01)
    assert record["ms_per_update_fastest"] <= record["ms_per_update"]
    assert record["command"].startswith("cadenza bench update --preset demo")
    assert (record["branches"], record["matmul_gflops_beside"]) == ("in_turn", None)
    assert {"versions", "machine", "git_commit", "load_average_before", "load_average_after"} <= set(record)
    shown = capsys.readouterr().out
    assert "online critics" in shown
    assert "efficiency" in shown


def test_update_on_two_threads_tries_both_ways_and_kernels_can_be_chosen(tmp_path: Path) -> None:
    before, found = os.environ.get("CADENZA_KERNELS"), compiled()
    path = tmp_path / "update.json"
    command = ["bench", "update", "--preset", "demo", "--batch", "16", "--repeats", "2", "--threads", "2"]
    assert run([*command, "--kernels", "torch", "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert (os.environ.get("CADENZA_KERNELS"), compiled()) == (before, found), "the choice is the command's alone"
    torch.set_num_threads(1)
    ways = record["ms_per_update_by_branches"]
    assert set(ways) == {"in_turn", "together"}
    assert record["ms_per_update"] == min(ways.values()) == ways[record["branches"]]
    assert record["kernels"] == "torch"
    assert record["matmul_gflops_beside"] > 0
    assert record["floor_gflops"] == max(record["matmul_gflops"], record["matmul_gflops_beside"])
    assert record["floor_ms"] == pytest.approx(1e3 * record["gflop_per_update"] / record["floor_gflops"], rel=0.01)


def test_the_page_s_floors_follow_from_the_best_measured_rate() -> None:
    """Each file of docs/results, and its row of docs/performance.md."""
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "performance.md").read_text().splitlines()
    files = sorted((docs / "results").glob("bench-quiet-*.json"))
    assert files
    for file in files:
        record = json.loads(file.read_text())
        rate = max(record["matmul_gflops"], record["matmul_gflops_beside"] or 0.0)
        assert record["floor_gflops"] == rate, file.name
        assert record["floor_ms"] == pytest.approx(1e3 * record["gflop_per_update"] / rate, rel=1e-3), file.name
        assert record["efficiency"] == pytest.approx(record["floor_ms"] / record["ms_per_update"], rel=1e-3), file.name
        (row,) = [line for line in page if f"(results/{file.name})" in line and line.startswith("|")]
        *_, measured, fastest, _, floor, efficiency = (cell.strip(" *") for cell in row.strip("|").split("|"))
        told = [f"{record[name]:.1f}" for name in ("ms_per_update", "ms_per_update_fastest", "floor_ms")]
        assert [measured, fastest, floor, efficiency] == [*told, f"{100 * record['efficiency']:.0f} %"], file.name


def test_loop_compares_four_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop.json"
    command = ["bench", "loop", "--preset", "demo", "--env", "InvertedPendulum-v5", "--steps", "20", "--repeats", "2"]
    assert run([*command, "--json", str(path)]) == 0
    ways = json.loads(path.read_text())["ways"]
    assert len({(way["overlap"], way["branches"]) for way in ways}) == 4
    assert all(0 < way["ms_per_step_fastest"] <= way["ms_per_step"] for way in ways)
    assert "beside the update" in capsys.readouterr().out


def test_env_takes_several_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "env.json"
    command = ["bench", "env", "Pendulum-v1", "InvertedPendulum-v5", "--steps", "20", "--repeats", "2"]
    assert run([*command, "--json", str(path)]) == 0
    envs = json.loads(path.read_text())["envs"]
    assert list(envs) == ["Pendulum-v1", "InvertedPendulum-v5"]
    for figures in envs.values():
        assert figures["steps_per_s"] * figures["ms_per_step"] == pytest.approx(1000, rel=0.05)


def test_env_steps_legged_robots_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not is_fetched(load_humanoid("op3").menagerie):
        pytest.skip("robotis_op3 is not on this computer: make robots")
    path = tmp_path / "env.json"
    command = ["bench", "env", "--env", "cadenza/OP3Walk-v0", "--steps", "30", "--repeats", "2", "--copies", "8"]
    assert run([*command, "--threads", "1", "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert list(record["envs"]) == ["cadenza/OP3Walk-v0"]
    assert (record["copies"], record["threads"], record["physics_steps_per_step"]) == (8, 1, 5)
    assert 0 < record["sync_steps_per_s"] < record["steps_per_s"]
    assert record["physics_steps_per_s"] > 0
    assert record["over_sync"] == pytest.approx(record["steps_per_s"] / record["sync_steps_per_s"], abs=0.01)
    assert record["single_steps_per_s"] == record["envs"]["cadenza/OP3Walk-v0"]["steps_per_s"]
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("physics alone", "SyncVectorEnv of 8", "the environments: control"))


def test_replay_counts_bytes(tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    sizes = ["--capacity", "300", "3000", "--stored", "100", "--obs", "10", "--actions", "3", "--batch", "8"]
    assert run(["bench", "replay", *sizes, "--repeats", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["buffers"]
    # Observation, next observation and action; 4 bytes of reward and 1 of flags. 100 + 2 * 200 added: 300 is full.
    found = [(r["storage"], r["capacity"], r["bytes_per_transition"], r["stored"]) for r in rows]
    assert found == [
        ("float16", 300, 51, 300),
        ("float16", 3000, 51, 500),
        ("float32", 300, 97, 300),
        ("float32", 3000, 97, 500),
    ]
    assert all(row["ms_per_add"] > 0 and row["ms_per_batch"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["update", "--preset", "cpuu"], "Did you mean cpu"),
        (["update", "--threads", "0"], "--threads must be at least 1"),
        (["update", "--env", "CartPole-v1"], "Symphony drives continuous actions"),
        (["env", "cadenza/Humanoidd-v0"], "cadenza/Humanoid-v0"),
        (["env", "--copies", "0"], "--copies must be at least 1"),
        (["env", "--threads", "-1"], "--threads must be 0"),
        (["replay", "--capacity", "0"], "--capacity takes"),
        (["growth", "--preset", "cpuu"], "Did you mean cpu"),
        (["growth", "--largest", "0"], "--largest must be at least 1"),
        (["growth", "--plot", "growth.xyz"], "not one of .png"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(["bench", "--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for line in ("cadenza bench update --preset cpu --threads 2", "cadenza bench replay --capacity 10000 1000000"):
        assert line in shown


@pytest.mark.slow
def test_alone_it_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("update", "steps/s", "ms per batch"))


def test_critics_keeps_what_was_trained_before_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"weights": {"reach": 1.0}, "reach": 0.25, "episode_steps": 100.0, "elapsed_s": 1.0}
    row = {"critics": "per_group", "seed": 0, **figures}

    def cut(plan: object, report: Callable[[dict[str, object]], None]) -> None:
        report(row)
        raise KeyboardInterrupt

    monkeypatch.setattr("cadenza.agents.symphony.comparison.compare", cut)
    path = tmp_path / "critics.json"
    assert run(["bench", "critics", "--seeds", "0", "1", "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert record["rows"] == [row]
    assert record["means"] == {"per_group": {"reach": 0.25, "episode_steps": 100.0}}
    assert "interrupted after 1 of 4 trainings" in capsys.readouterr().out
