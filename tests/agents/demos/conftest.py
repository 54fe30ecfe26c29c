"""A small set with two cameras and every kind of number, and a small environment with an expert."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from cadenza.agents.demos import DemoRecorder, DemoSet
from cadenza.agents.demos.experts import EXPERTS, ExpertEntry

pytest.importorskip("pyarrow")
if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))
pytest.register_assert_rewrite("toys", "lerobot_reader")

from toys import TOY, Toy, make_toy_expert, record_toy, toy_observation, toy_schema  # noqa: E402


@pytest.fixture
def write_toy(tmp_path: Path) -> Callable[..., DemoSet]:
    """``write_toy("set", lengths=(8, 12), jitter_s=0.0, ...)`` records it and opens it."""

    def write(
        name: str = "toy", lengths: tuple[int, ...] = (8, 12, 10), jitter_s: float = 0.0, rate_hz: float = 10.0,
        final: bool = True, pictures: str = "raw", **schema: Any,
    ) -> DemoSet:  # fmt: skip
        recorder = DemoRecorder(tmp_path / name, toy_schema(**schema), description="a toy", pictures=pictures)
        for episode, length in enumerate(lengths):
            record_toy(recorder, episode, length, jitter_s, rate_hz)
            recorder.finish(episode != 1, toy_observation(episode, length) if final else None, {"layout": episode})
        return DemoSet(tmp_path / name)

    return write


@pytest.fixture
def toy_expert(monkeypatch: pytest.MonkeyPatch) -> str:
    """Registers environment and expert; the environment's id."""
    if TOY not in gym.registry:
        gym.register(TOY, entry_point=Toy)
    monkeypatch.setitem(EXPERTS, "toy", ExpertEntry("nowhere:make", (TOY,), "go to the goal", "a toy"))
    monkeypatch.setattr(
        "cadenza.agents.demos.collecting.make_expert", lambda name, seed, settings: make_toy_expert(seed, **settings)
    )
    return TOY
