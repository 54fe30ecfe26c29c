"""Shipped policies on the command line: made from a run, listed, evaluated and filmed by name, and in the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import train
from cadenza.controllers.shipped import POLICIES_VARIABLE
from cadenza.scripts.main import run

SMALL = {"learning_starts": 60, "batch_size": 32, "buffer_size": 2000, "hidden_size": 32, "critic_nodes": 8}


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "hopper"
    settings = RunSettings(
        agent="symphony", env_id="Hopper-v5", preset="cpu", total_steps=70, evaluate_every=0, overrides=SMALL
    )
    train(settings, folder)
    return folder


@pytest.fixture(scope="module")
def policies(hopper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one policy, ``leaper``, made by the command."""
    folder = tmp_path_factory.mktemp("policies")
    assert run(["export", str(hopper), "--out", str(folder / "leaper"), "--card", "--episodes", "2"]) == 0
    return folder


@pytest.fixture
def shipped(policies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(POLICIES_VARIABLE, str(policies))
    return policies


@pytest.fixture
def none_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POLICIES_VARIABLE, str(tmp_path / "nothing"))


def test_export_with_a_card_tells_what_it_measured(
    hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "policies" / "leaper"
    command = ["export", str(hopper), "--out", str(place), "--card", "--episodes", "2", "--note", "Beside [tests]."]
    assert run(command) == 0
    shown = capsys.readouterr().out
    card = json.loads((place / "card.json").read_text())
    assert (card["evaluation"]["n"], card["note"]) == (2, "Beside [tests].")
    assert f"return {card['evaluation']['return_mean']:,.0f}" in shown
    assert "| [`leaper`](assets/policies/leaper/card.md) |" in shown
    assert run([*command[:-2], "--seed", "-1"]) == 1
    assert run([*command[:5], "--episodes", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_evaluate_by_name_repeats_the_card(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "again.json"
    assert run(["evaluate", "leaper", "--episodes", "2", "--json", str(file)]) == 0
    assert "leaper, 70 steps on Hopper-v5" in capsys.readouterr().out
    again, card = json.loads(file.read_text()), json.loads((shipped / "leaper" / "card.json").read_text())
    assert again["command"] == card["evaluation"]["command"]
    for name in ("returns", "return_ci95", "lengths", "forward_velocity_mean", "motors"):
        assert again[name] == card["evaluation"][name], name


@pytest.mark.usefixtures("elsewhere")
def test_list_shows_the_card_s_figures(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((shipped / "leaper" / "card.json").read_text())["evaluation"]
    assert run(["list", "policies"]) == 0
    shown = capsys.readouterr().out
    (row,) = [line.split() for line in shown.splitlines() if "leaper" in line]
    mean, std = f"{result['return_mean']:,.0f}", f"{result['return_std']:,.0f}"
    velocity = f"{result['forward_velocity_mean']:.2f}"
    assert row == ["leaper", "Hopper-v5", mean, "±", std, "2", velocity, "m/s", *row[-2:]]
    assert row[-1] == "MB"
    assert "presets of symphony" not in shown.lower()


@pytest.mark.usefixtures("elsewhere", "none_shipped")
def test_without_a_shipped_policy_the_commands_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "policies"]) == 0
    assert "none in" in capsys.readouterr().out
    for command in ("evaluate", "record", "export"):
        assert run([command, "walker"]) == 1
        assert "No trained policy ships with this copy of Cadenza" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere", "shipped")
def test_an_unknown_name_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "record"):
        assert run([command, "leper"]) == 1
        told = capsys.readouterr().err
        assert "Did you mean leaper?" in told
        assert "Shipped policies: leaper" in told
        assert run([command, "runs/first"]) == 1
        assert "Did you mean" not in capsys.readouterr().err
    assert run(["export", "leaper", "--card"]) == 1
    assert "is a bundle already" in capsys.readouterr().err


@pytest.mark.usefixtures("shipped", "needs_gl")
def test_record_by_name_leaves_the_shipped_folder_alone(elsewhere: Path, shipped: Path) -> None:
    before = sorted(shipped.rglob("*"))
    size = ["--width", "96", "--height", "64", "--steps", "20"]
    assert run(["record", "leaper", *size, "--gif"]) == 0
    assert {file.name for file in elsewhere.iterdir()} == {"leaper.mp4", "leaper.gif"}
    assert (elsewhere / "leaper.gif").read_bytes().startswith(b"GIF89a")
    (elsewhere / "leaper.mp4").unlink()
    assert run(["record", str(shipped / "leaper"), *size]) == 0  # by its path too
    assert (elsewhere / "leaper.mp4").is_file()
    assert sorted(shipped.rglob("*")) == before


def test_the_wheel_carries_policies(repository: Path, policies: Path, tmp_path: Path) -> None:
    """Source distribution, wheel, unpacked: the policy is found away from the checkout."""
    checkout, place = tmp_path / "checkout", tmp_path / "site"
    for room in ("agents", "assets", "controllers", "envs", "robots", "scripts"):
        shutil.copytree(repository / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__", "policies"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, checkout)
    shutil.copytree(policies / "leaper", checkout / "assets" / "policies" / "leaper")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(checkout)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    code = (
        "from cadenza.controllers.bundle import PolicyBundle\n"
        "from cadenza.controllers.shipped import shipped_policies\n"
        "for policy in shipped_policies(): PolicyBundle.load(policy.path); print(policy.name, policy.path)"
    )
    environment = {name: value for name, value in os.environ.items() if name != POLICIES_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"PYTHONPATH": str(place)}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert f"leaper {place / 'cadenza' / 'assets' / 'policies' / 'leaper'}" in done.stdout, done.stderr
