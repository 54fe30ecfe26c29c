"""The card of a policy to ship: its figures are the bundle's own, its command is the run's, nothing is half-written."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents import card as card_module
from cadenza.agents.card import readme_row, render_card, ship_policy, training_command
from cadenza.agents.runs.evaluation import duration, evaluate
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import train
from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.shipped import POLICIES_VARIABLE, read_shipped
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env
from cadenza.scripts.parse import parse
from cadenza.scripts.train import Train, run_settings

SETTINGS = RunSettings(
    agent="symphony", env_id="Hopper-v5", preset="cpu", total_steps=80, seed=3, evaluate_every=50,
    evaluate_episodes=1, checkpoint_every=50,
    overrides={"learning_starts": 60, "batch_size": 32, "buffer_size": 2000, "hidden_size": 32, "critic_nodes": 8},
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "hopper"
    train(SETTINGS, folder)
    return folder


@pytest.fixture(scope="module")
def shipped(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped hopper; tests only read it."""
    path = tmp_path_factory.mktemp("policies") / "hopper"
    ship_policy(run, path, episodes=3, seed=7, note="Alone on the machine.")
    return path


@pytest.fixture
def card(shipped: Path) -> dict[str, Any]:
    return dict(json.loads((shipped / "card.json").read_text()))


def test_the_figures_are_those_of_an_evaluation_of_the_bundle(shipped: Path, card: dict[str, Any]) -> None:
    env = make_env("Hopper-v5")
    independent = evaluate(PolicyBundle.load(shipped).act, env, episodes=3, seed=7)
    env.close()
    expected = json.loads(json.dumps(independent.to_dict()))  # tuples are lists in JSON
    assert {name: card["evaluation"][name] for name in expected} == expected
    assert card["evaluation"]["command"] == "cadenza evaluate hopper --episodes 3 --seed 7"
    assert card["evaluation"]["motors"]["steps"] == sum(independent.lengths)
    other = evaluate(PolicyBundle.load(shipped).act, make_env("Hopper-v5"), episodes=3, seed=8)
    assert other.returns != independent.returns


def test_the_training_is_the_runs(run: Path, card: dict[str, Any]) -> None:
    best = json.loads((run / "best" / "evaluation.json").read_text())
    config = json.loads((run / "config.json").read_text())
    training = card["training"]
    assert (training["step"], training["seed"], training["which"]) == (best["step"], 3, "best")
    assert training["elapsed_s"] == round(best["elapsed_s"], 1)
    assert (training["versions"], training["machine"]) == (config["versions"], config["machine"])
    assert training["settings_without_option"] == {}


def settings_of(command: str) -> RunSettings:
    """What `cadenza train` makes of a command."""
    options = parse(Train, "train", shlex.split(command)[2:])
    assert options.agent is not None
    assert options.env is not None
    return run_settings(options, options.agent, options.env)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        RunSettings(agent="sac", env_id="cadenza/Humanoid-v0", torch_threads=2, n_envs=4, overrides={"gamma": 0.98}),
        RunSettings(
            agent="ppo",
            env_id="cadenza/OP3Walk-v0",
            n_envs=8,
            teacher="alp-gmm",
            env_kwargs={"terrain": "rough"},
            training_kwargs={"randomised": True, "push_every_s": [1.0, 3.0], "conditions": {"push": [0.0, 4.0]}},
        ),
        RunSettings(agent="slim", env_id="cadenza/PandaPlay-v0", preset="lsd", n_envs=16),
        RunSettings(agent="slim", env_id="cadenza/PandaPlay-v0", preset="slim", n_envs=1),
        RunSettings(agent="symphony", env_id="Hopper-v5", preset="s3", overrides={"resine": "width", "tau": 1e-3}),
    ],
)
def test_the_command_gives_the_same_settings(settings: RunSettings) -> None:
    command = training_command(settings, "runs/some where")
    assert settings_of(command) == settings
    assert "--run 'runs/some where'" in command


def test_what_the_command_cannot_say_stands_in_the_card(run: Path, card: dict[str, Any]) -> None:
    odd = replace(SETTINGS, evaluate_every_s=60.0)
    policy = card_module.open_policy(run)
    found = card_module._training(run, odd, policy, "best")["settings_without_option"]
    assert found == {"evaluate_every_s": 60.0}
    card["training"]["settings_without_option"] = found
    assert "`evaluate_every_s = 60.0`" in render_card(card)


def test_the_page_tells_what_the_file_holds(shipped: Path, card: dict[str, Any]) -> None:
    page = (shipped / "card.md").read_text()
    assert page == render_card(card)
    result = card["evaluation"]
    low, high = result["return_ci95"]
    hottest, joint = result["motors"]["winding_peak_c"], result["motors"]["worst_joint"]["winding_peak_c"]
    for text in (
        card["training"]["command"],
        f"**{result['return_mean']:,.0f}** ± {result['return_std']:,.0f}",
        f"{low:,.0f} to {high:,.0f}",
        "3 noise-free episodes, seeds 7 to 9",
        f"{result['forward_velocity_mean']:.2f} m/s",
        f"{result['survived']} of 3",
        f"| {hottest:,.1f} | {hottest:,.1f} (`{joint}`) |",
        card["training"]["machine"]["processor"],
        f"torch {card['training']['versions']['torch']}",
        "Alone on the machine.",
    ):
        assert text in page
    row = readme_row(card)
    assert f"**{result['return_mean']:,.0f}** ({low:,.0f} to {high:,.0f}) | 3 |" in row
    assert "assets/policies/hopper/card.md" in row


def test_a_single_episode_has_no_interval(run: Path, tmp_path: Path) -> None:
    one = ship_policy(run, tmp_path / "one", which="last", episodes=1).card
    assert one["evaluation"]["return_ci95"] is None
    assert one["training"]["step"] == 80
    assert "the last checkpoint" in render_card(one)
    assert "| - |" in render_card(one)
    assert "(" not in readme_row(one).split("**")[2]


def test_it_is_found_by_its_name(shipped: Path, card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POLICIES_VARIABLE, str(shipped.parent))
    found = read_shipped("hopper")
    assert found.card == card
    assert {file.name for file in found.path.iterdir()} == {
        "manifest.json", "policy.onnx", "policy.safetensors", "card.json", "card.md",
    }  # fmt: skip
    assert {file.stat().st_mode & 0o777 for file in found.path.iterdir()} == {0o644}


def test_too_large_a_bundle_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module, "MAX_BUNDLE_BYTES", 10_000)
    with pytest.raises(CadenzaError, match=r"0\.01 MB is the limit"):
        ship_policy(run, tmp_path / "large", episodes=1)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_interrupted_evaluation(run: Path, tmp_path: Path) -> None:
    def interrupt(index: int, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ship_policy(run, tmp_path / "half", episodes=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_unless_told(run: Path, shipped: Path, tmp_path: Path) -> None:
    place = tmp_path / "hopper"
    ship_policy(run, place, episodes=1)
    before = (place / "card.json").read_bytes()
    with pytest.raises(CadenzaError, match="already a policy bundle"):
        ship_policy(run, place, episodes=2)
    assert (place / "card.json").read_bytes() == before
    assert ship_policy(run, place, episodes=2, overwrite=True).card["evaluation"]["n"] == 2
    (place / "thesis.tex").write_text("precious")
    with pytest.raises(CadenzaError, match="left as it is"):
        ship_policy(run, place, episodes=1, overwrite=True)
    with pytest.raises(CadenzaError, match="is a bundle already"):
        ship_policy(shipped, tmp_path / "again", episodes=1)


def test_durations() -> None:
    words = [duration(seconds) for seconds in (47.6, 60, 1930, 3599, 3600, 11_100)]
    assert words == ["48 s", "1 min", "32 min", "1 h 00 min", "1 h 00 min", "3 h 05 min"]
