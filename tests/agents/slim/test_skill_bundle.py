"""Skills that were exported: a bundle plays, rewards and measures them as the agent does, and refuses damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.agents.card import render_card, ship_policy
from cadenza.agents.runs.policies import act_on, open_policy, staged
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import train
from cadenza.agents.slim import skill_card
from cadenza.agents.slim.hierarchy import SkillTasks
from cadenza.agents.slim.opening import open_skills, skill_envs
from cadenza.agents.slim.skill_bundle import SkillBundle
from cadenza.agents.slim.skill_metrics import play_skills
from cadenza.controllers.bundle import SKILLS_FILE, BundleError, PolicyBundle
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env
from cadenza.scripts import export, skills

Z = np.array([[0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]], dtype=np.float32)


@pytest.fixture
def run(puck_id: str, tmp_path: Path, small: dict[str, Any]) -> Path:
    train(RunSettings("slim", puck_id, "slim", 64, n_envs=2, evaluate_every=16, overrides=small), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def bundle(run: Path) -> Path:
    path = run.parent / "pusher"
    assert export.main([str(run), "--out", str(path)]) == 0
    return path


def test_a_bundles_skills_are_the_agents(run: Path, bundle: Path, puck_id: str) -> None:
    agent, opened = open_skills(run)
    exported, found = open_skills(bundle)
    assert found.step == opened.step == 64  # the last checkpoint, not the best evaluation
    assert exported.config.weights == dict(agent.config.weights)
    observations = np.random.default_rng(0).normal(size=(3, 42)).astype(np.float32)
    assert exported.act(observations, Z) == pytest.approx(agent.act(observations, Z), abs=1e-5)
    assert exported.act(observations[0], Z[0]) == pytest.approx(agent.act(observations[0], Z[0]), abs=1e-5)
    env = skill_envs(puck_id, 3)
    features = agent.features_in(env)
    before, after = features(observations), features(observations + 1.0)
    assert np.array_equal(exported.diversity.reward(before, after, Z), agent.diversity.reward(before, after, Z))
    theirs, ours = play_skills(agent, env, Z, seed=5), play_skills(exported, env, Z, seed=5)
    assert ours.ends == pytest.approx(theirs.ends, abs=1e-3)
    assert SkillTasks(exported, env).zero_shot().shape == (3, 2)
    terms = PolicyBundle.load(bundle).manifest.observation_terms
    assert terms is None or terms[-2:] == ("skill[0]", "skill[1]")


def test_an_evaluation_plays_the_skills_of_its_seeds(run: Path, bundle: Path, puck_id: str) -> None:
    returns = []
    for source in (run, bundle):
        policy = open_policy(source)
        env = staged(policy.skills, make_env(puck_id))
        act, total = act_on(policy, env), 0.0
        observation, info = env.reset(seed=3)
        for _ in range(25):
            observation, reward, _, _, info = env.step(act(observation))
            total += float(reward)
        returns.append((total, info["skill"].tolist()))
        env.close()
    assert returns[0][1] == returns[1][1]
    assert returns[0][0] == pytest.approx(returns[1][0], abs=1e-2)


def test_commands_leave_a_bundle_as_it_is(bundle: Path, elsewhere: Path) -> None:
    before = sorted(file.name for file in bundle.iterdir())
    assert skills.main(["map", str(bundle), "--skills", "4", "--repeats", "1"]) == 0
    assert sorted(file.name for file in bundle.iterdir()) == before
    assert (elsewhere / "pusher-skills.png").is_file()


def test_a_card_tells_of_the_skills(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("skills", 4), ("repeated", 2), ("repeats", 2)):
        monkeypatch.setitem(skill_card.skill_figures.__kwdefaults__, name, count)
    card = ship_policy(run, tmp_path / "pusher", episodes=2).card
    assert card["training"]["which"] == "last"
    assert card["skills"]["command"] == "cadenza skills evaluate pusher --seed 0 --skills 4 --repeated 2 --repeats 2"
    told = tmp_path / "again.json"
    arguments = card["skills"]["command"].replace("evaluate pusher", f"evaluate {tmp_path / 'pusher'}").split()[2:]
    assert skills.main([*arguments, "--json", str(told)]) == 0
    assert json.loads(told.read_text())["figures"] == card["skills"]["figures"]
    page = render_card(card)
    assert (tmp_path / "pusher" / "card.md").read_text() == page
    assert f"| `coverage` | {card['skills']['figures']['coverage'][0]:,.3f} |" in page


def test_what_does_not_fit_is_refused(bundle: Path) -> None:
    player, _ = open_skills(bundle)
    with pytest.raises(CadenzaError, match="A skill of this agent has 2 entries"):
        player.act(np.zeros(42), [1.0, 0.0, 0.0])
    with pytest.raises(CadenzaError, match="have 42 entries here"):
        player.act(np.zeros(44), [1.0, 0.0])
    with pytest.raises(BundleError, match="has no noise"):
        player.act(np.zeros(42), [1.0, 0.0], deterministic=False)
    whole = (bundle / SKILLS_FILE).read_bytes()
    (bundle / SKILLS_FILE).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="sha256 differs"):
        open_skills(bundle)
    (bundle / SKILLS_FILE).unlink()
    with pytest.raises(BundleError, match=f"has no {SKILLS_FILE}"):
        open_skills(bundle)


def test_settings_that_do_not_fit_the_network_are_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for changes in ({"phi_hidden": [3]}, {"objective": "lsb"}, {"speed": 1}, {"skill_size": 3}):
        told = {**manifest, "skills": {**manifest["skills"], **changes}}
        (bundle / "manifest.json").write_text(json.dumps(told))
        with pytest.raises(CadenzaError):
            open_skills(bundle)
    del manifest["skills"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="sha256 must name"):
        open_skills(bundle)


def test_a_bundle_without_skills_says_so(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["skills"], manifest["sha256"][SKILLS_FILE]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CadenzaError, match="has no skills: it holds"):
        open_skills(bundle)
    with pytest.raises(BundleError, match="has no skills"):
        SkillBundle(PolicyBundle.load(bundle))
