"""What every test may rely on: one thread, fixed seeds, a graphics library chosen before MuJoCo is imported."""

from __future__ import annotations

import os

# Before the first import of torch: on two cores, beside a training run, more threads make tests slower and less even.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from cadenza.envs.rendering.gl import NoGraphicsLibraryError, ensure_gl_backend

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
