"""What every test may rely on: one thread, fixed seeds, a graphics library chosen before MuJoCo is imported."""

from __future__ import annotations

import os

# Before the first import of torch: on two cores, beside a training run, more threads make tests slower and less even.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from cadenza.envs.rendering.gl import NoGraphicsLibraryError, ensure_gl_backend

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("cadenza", deadline=None)
hypothesis.settings.load_profile("cadenza")

# A job that a script started in the background ignores Ctrl-C, and so would every test that presses it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


def _choose_graphics() -> str:
    """Set MUJOCO_GL; what is missing, or an empty string. MuJoCo reads the variable once, when it is imported."""
    try:
        ensure_gl_backend()
    except NoGraphicsLibraryError as error:
        return str(error)
    return ""


_MISSING_GRAPHICS = _choose_graphics()


@pytest.fixture
def needs_gl() -> None:
    """For tests that render: skips them, with the reason, on a machine without EGL and OSMesa."""
    if _MISSING_GRAPHICS:
        pytest.skip(_MISSING_GRAPHICS)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Every test starts from the same global generators and on one thread, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party code still draws from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder that does not exist yet (training refuses one that does)."""
    return tmp_path / "runs" / "run"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, so that commands with default output paths write nothing into the checkout."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# ---------------------------------------------------------------------- policies to deploy


@pytest.fixture(scope="session")
def op3_is_here() -> None:
    """Skips where OP3's model has not been fetched."""
    from cadenza.robots import load_humanoid
    from cadenza.robots.menagerie import is_fetched

    if not is_fetched(load_humanoid("op3").menagerie):
        pytest.skip("robotis_op3 is not on this computer: make robots")


@pytest.fixture(scope="session")
def facts_of(op3_is_here: None) -> Callable[..., Any]:
    """``facts_of("walk", history=2)``: an OP3 environment and its deployment facts."""

    def make(task: str, **settings: Any) -> Any:
        from cadenza.agents.deployment_facts import legged_facts
        from cadenza.envs.registration import make_env

        env: Any = make_env(f"cadenza/OP3{task.capitalize()}-v0", pictures=False, **{"visuals": False, **settings})
        return env, legged_facts(env.unwrapped)

    return make


@pytest.fixture(scope="session")
def small_bundle(op3_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``small_bundle("stand")``: folder of a bundle for OP3 with an untrained policy and deployment facts."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task in made:
            return made[task]
        from stable_baselines3 import SAC

        from cadenza.agents import deployment_facts
        from cadenza.agents.export import export_bundle, task_facts
        from cadenza.envs.registration import make_env

        env_id, kwargs = f"cadenza/OP3{task.capitalize()}-v0", {"visuals": False}
        env = make_env(env_id, pictures=False, **kwargs)
        model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [32, 32]}, seed=0, device="cpu", buffer_size=10)
        steps, deployment_facts.ROLLOUT_STEPS = deployment_facts.ROLLOUT_STEPS, 300
        try:
            folder = tmp_path_factory.mktemp("bundles") / task
            export_bundle(model, folder, env_id=env_id, env_kwargs=kwargs, agent="sac", **task_facts(env_id, kwargs))
        finally:
            deployment_facts.ROLLOUT_STEPS = steps
        made[task] = folder
        return folder

    return make
