"""A copy that blows up ends its own episode and no other's; the evidence is kept once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.envs.dumps import HISTORY, read_dump
from cadenza.envs.legged.vectorized import LeggedVecEnv
from cadenza.envs.registration import make_vec_env

N, JOINTS, WHEN, WHICH = 4, 20, 20, 2


class Listener:
    """Stands where a curriculum would."""

    def __init__(self) -> None:
        self.returns: list[tuple[int, float]] = []

    def next_parameters(self, index: int) -> dict[str, float]:
        return {}

    def finish(self, index: int, total: float) -> None:
        self.returns.append((index, total))


def vec_env(dump: Path | None = None, **settings: Any) -> LeggedVecEnv:
    made = make_vec_env("cadenza/OP3Walk-v0", N, threads=1, dump_path=dump, **settings)
    assert isinstance(made, LeggedVecEnv)
    made.seed(5)
    made.reset()
    return made


@pytest.mark.parametrize("poison", ["action", "infinite action", "qvel", "huge qvel", "qpos"])
@pytest.mark.parametrize("settings", [{}, {"randomised": True, "history": 2}], ids=["nominal", "randomised"])
def test_only_the_copy_that_blew_up_ends(
    poison: str, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / "non_finite.npz"
    env, calm = vec_env(path, **settings), vec_env(**settings)
    env.curriculum = Listener()
    others = [index for index in range(N) if index != WHICH]
    actions = 0.1 * np.random.default_rng(0).uniform(-1, 1, (60, N, JOINTS)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        for step, chosen in enumerate(actions):
            given = chosen.copy()
            if step in (WHEN, WHEN + 10):
                if "action" in poison:
                    given[WHICH, 3] = np.nan if poison == "action" else np.inf
                else:
                    field = env.physics.qpos if poison == "qpos" else env.physics.qvel
                    field[WHICH, 8] = 1e20 if poison == "huge qvel" else np.nan
            observations, rewards, dones, infos = env.step(given)
            expected, expected_rewards, expected_dones, _ = calm.step(chosen)
            assert np.isfinite(observations).all()
            assert observations[others].tobytes() == expected[others].tobytes()
            assert rewards[others].tobytes() == expected_rewards[others].tobytes()
            assert dones[others].tolist() == expected_dones[others].tolist()
            if step in (WHEN, WHEN + 10):
                assert dones[WHICH]
                assert rewards[WHICH] == 0.0
                assert infos[WHICH]["non_finite"] is True
                assert infos[WHICH]["TimeLimit.truncated"] is False
                assert np.isfinite(infos[WHICH]["terminal_observation"]).all()
                assert set(infos[WHICH]["reward_terms"].values()) == {0.0}
                assert np.isnan(env.curriculum.returns[-1][1]), "a spoilt episode teaches nothing"
            else:
                assert not any("non_finite" in info for info in infos)
            if step == WHEN:
                written = path.read_bytes()
    assert path.read_bytes() == written
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    dump = read_dump(path)
    assert (len(dump), dump.env_id) == (HISTORY, "cadenza/OP3Walk-v0")
    assert dump.env_kwargs == {**settings}
    assert dump.qpos is not None
    assert dump.qvel is not None
    np.testing.assert_array_equal(dump.action[:-1], actions[WHEN - HISTORY + 1 : WHEN, WHICH])
    held = {"action": dump.action, "qvel": dump.qvel, "qpos": dump.qpos}[poison.split()[-1]]
    assert np.isfinite(held[:-1]).all()
    assert not (np.isfinite(held[-1]) & (np.abs(held[-1]) < 1e10)).all()


def test_without_a_path_it_goes_on_too(caplog: pytest.LogCaptureFixture) -> None:
    env = vec_env()
    with caplog.at_level(logging.WARNING):
        dones = env.step(np.full((N, JOINTS), np.nan, np.float32))[2]
    assert dones.all()
    assert "no file was asked for" in caplog.text
    assert not env.step(np.zeros((N, JOINTS), np.float32))[2].any()
