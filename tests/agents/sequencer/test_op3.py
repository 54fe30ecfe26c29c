"""The second use: OP3's policies in turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.agents.sequencer.choosers import OracleRetry
from cadenza.agents.sequencer.machine import run_episode
from cadenza.agents.sequences import make_task
from cadenza.envs.errors import CadenzaError

pytestmark = pytest.mark.usefixtures("op3_is_here")


@pytest.fixture(scope="module")
def task() -> Any:
    made = make_task("op3")
    yield made
    made.close()


def test_primitives_play_the_bundle_as_the_environment_would(task: Any) -> None:
    """The first targets of ``walk`` are those of the bundle on the environment's own observation."""
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.shipped import locate

    observation, info = task.reset(3)
    walk = task.primitives["walk"]
    walk.start(observation, task.context(info))
    bundle = PolicyBundle.load(locate("op3-walk")[0])
    read = np.asarray(observation)[: bundle.manifest.observation_size].copy()
    action = walk.act(observation)
    state = task.state()
    assert np.isfinite(action).all()
    assert action.shape == task.home.shape
    # The clock may begin elsewhere; everything else is the same observation.
    seen = walk._runner.observation
    np.testing.assert_allclose(seen[:6], read[:6], atol=1e-9)
    np.testing.assert_allclose(state.joints.q, task._legged.seen().joint_angle[0])


def test_tilt_and_turning_choose(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task.reset(0)
    seen = task._legged.seen()
    for gravity, gyro, expected in (
        ((0.0, 0.0, -1.0), (0.0, 0.0, 0.0), "walk"),
        ((0.0, 0.0, -1.0), (2.0, 0.0, 0.0), "stand"),
        ((0.4, 0.0, -0.92), (0.0, 0.0, 0.0), "stand"),
        ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), "get_up"),
    ):
        seen.gravity[0], seen.gyro[0] = gravity, gyro
        monkeypatch.setattr(task._legged, "seen", lambda: seen)
        assert task.expert_choice() == expected


def test_it_walks(task: Any) -> None:
    result = run_episode(task, OracleRetry(), seed=0)
    assert result.success
    assert {attempt.name for attempt in result.attempts} <= {"stand", "walk"}


def test_from_the_ground_the_placeholder_is_tried_and_the_machine_gives_up_in_order() -> None:
    task = make_task("op3", start="fallen")
    try:
        result = run_episode(task, OracleRetry(), seed=1)
    finally:
        task.close()
    assert result.attempts[0].name == "get_up"
    assert len(result.attempts) <= 8
    assert result.reason


def test_unknown_starts_are_refused() -> None:
    with pytest.raises(CadenzaError, match="start"):
        make_task("op3", start="lying")
    with pytest.raises(CadenzaError, match="one stage"):
        make_task("op3", 2)
