"""Finding shipped policies in a folder of our own, and what really lies in ``assets/policies``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from stable_baselines3 import SAC

from cadenza.agents.card import readme_row, render_card
from cadenza.agents.export import export_bundle
from cadenza.controllers.bundle import BundleError, PolicyBundle
from cadenza.controllers.shipped import (
    CARD_FILE,
    CARD_PAGE,
    MAX_BUNDLE_BYTES,
    POLICIES_VARIABLE,
    locate,
    naming_advice,
    policies_folder,
    read_shipped,
    shipped_names,
    shipped_policies,
)
from cadenza.envs.errors import CadenzaError

GIF_BYTES = 2_000_000
WALKS = 6000
"""On HumanoidPaper a return of 5,000 is standing still for an episode; what is called walker walks."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy; tests copy it."""
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, seed=0)
    export_bundle(model, path, env_id="Pendulum-v1", env_kwargs={}, agent="sac")
    return path


@pytest.fixture
def folder(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two policies without cards, a file, a folder without a bundle, and a bundle that is being written."""
    place = tmp_path / "policies"
    for name in ("swinger", "acrobat", ".acrobat.12.card"):
        shutil.copytree(bundle, place / name)
    (place / "README").write_text("not a policy")
    (place / "empty").mkdir()
    monkeypatch.setenv(POLICIES_VARIABLE, str(place))
    return place


def write_card(folder: Path, **changes: object) -> None:
    sha256 = json.loads((folder / "manifest.json").read_text())["sha256"]["policy.onnx"]
    card = {
        "format": "cadenza-card-1",
        "policy_sha256": sha256,
        "evaluation": {"return_mean": -1200.0},
        "training": {"elapsed_s": 9},
    }
    (folder / CARD_FILE).write_text(json.dumps(card | changes))


def test_bundles_are_policies_and_nothing_else_is(folder: Path) -> None:
    assert shipped_names() == ["acrobat", "swinger"]
    first, second = shipped_policies()
    assert (first.name, second.name) == ("acrobat", "swinger")
    assert first.path == folder / "acrobat"
    assert first.size_bytes == sum(file.stat().st_size for file in (folder / "acrobat").iterdir())
    assert (first.card, first.evaluation, first.trained_s) == (None, None, None)
    assert PolicyBundle.load(first.path).act([1.0, 0.0, 0.0]).shape == (1,)


def test_without_the_variable_ours_are_found_in_the_package(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POLICIES_VARIABLE, raising=False)
    assert policies_folder().resolve() == repository / "assets" / "policies"


def test_a_path_that_exists_comes_first(folder: Path, elsewhere: Path) -> None:
    assert locate("swinger") == (folder / "swinger", "swinger")
    assert locate(Path("swinger")) == (folder / "swinger", "swinger")
    (elsewhere / "swinger").mkdir()
    assert locate("swinger") == (Path("swinger"), None)
    assert locate("unheard/of") == (Path("unheard/of"), None)
    assert locate("../policies/swinger")[1] is None  # a name is no path


def test_advice_names_what_ships(folder: Path) -> None:
    assert "Shipped policies: swinger, acrobat " in naming_advice("swingr")
    assert "Shipped policies: acrobat, swinger " in naming_advice("zzz")
    shutil.rmtree(folder)
    assert "No trained policy ships" in naming_advice("swingr")
    with pytest.raises(CadenzaError, match="No policy 'swinger'"):
        read_shipped("swinger")


def test_a_card_is_read_if_it_is_this_policys(folder: Path) -> None:
    write_card(folder / "swinger")
    policy = read_shipped("swinger")
    assert policy.evaluation == {"return_mean": -1200.0}
    assert policy.trained_s == 9.0
    write_card(folder / "swinger", policy_sha256="0" * 64)
    with pytest.raises(BundleError, match="another policy"):
        read_shipped("swinger")
    write_card(folder / "swinger", format="cadenza-card-9")
    with pytest.raises(BundleError, match="cadenza-card-1"):
        read_shipped("swinger")
    for damaged in ("{", "[]", '{"format": "cadenza-card-1"}'):
        (folder / "swinger" / CARD_FILE).write_text(damaged)
        with pytest.raises(BundleError, match="damaged"):
            read_shipped("swinger")


# ------------------------------------------------------------------ what the checkout really ships


def test_what_ships_is_whole_small_and_shown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every policy in assets/policies opens, has its card and page, and is in the README with picture and figures."""
    monkeypatch.delenv(POLICIES_VARIABLE, raising=False)
    policies = shipped_policies()
    readme = (repository / "README.md").read_text()
    assert ("None ships with this version yet." in readme) == (not policies)
    for policy in policies:
        PolicyBundle.load(policy.path)
        assert policy.card is not None, policy.name
        assert policy.card["name"] == policy.name
        assert policy.card["env_id"] == policy.manifest.env_id
        assert policy.card["training"]["step"] == policy.manifest.num_timesteps
        assert (policy.path / CARD_PAGE).read_text() == render_card(policy.card)
        assert policy.size_bytes <= MAX_BUNDLE_BYTES
        if policy.name == "walker":
            assert policy.card["evaluation"]["return_mean"] >= WALKS
        assert readme_row(policy.card) in readme.splitlines()
        picture = f"docs/images/{policy.name}.gif"
        assert f"]({picture})" in readme
        assert (repository / picture).stat().st_size <= GIF_BYTES


@pytest.mark.slow
def test_what_ships_does_what_its_card_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three episodes of each shipped policy; other machines round differently, so that only the level must agree."""
    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.agents.runs.policies import act_on, open_policy, staged
    from cadenza.envs.registration import make_env

    monkeypatch.delenv(POLICIES_VARIABLE, raising=False)
    policies = shipped_policies()
    if not policies:
        pytest.skip("no policy ships")
    for policy in policies:
        opened = open_policy(policy.path)
        env = staged(opened.skills, make_env(opened.env_id, **opened.env_kwargs))
        found = evaluate(act_on(opened, env), env, episodes=3, seed=100)
        env.close()
        claimed = policy.evaluation
        assert claimed is not None
        assert found.return_mean >= min(claimed["returns"]) - claimed["return_std"], policy.name
