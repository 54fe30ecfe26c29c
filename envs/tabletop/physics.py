"""Stepping n copies of a table top: one MjData, or MuJoCo's batch. Both give the same bits.

Unlike :mod:`cadenza.envs.legged.physics`, all that derives from positions and velocities (kinematics, ``qfrc_bias``,
whether things touch) belongs to the present state after every step, as after ``mj_step1``: controllers see no delay,
and a restored state goes on with the same bits. Forces belong to the step that was just made.
"""

from __future__ import annotations

from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.guard import BAD_STATE
from cadenza.envs.processors import stepping_threads

Array = NDArray[np.float64]
Ids = NDArray[np.intp]
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value


class Physics(Protocol):
    """Copies of one model. All arrays have the shape (n, ...) and are live; ``qpos`` to ``mocap_pos`` are the state."""

    model: mujoco.MjModel
    n: int
    qpos: Array
    qvel: Array
    ctrl: Array
    mocap_pos: Array

    def read(self, name: str) -> NDArray[Any]:
        """A derived field of mjData; ask once and keep it, it stays current."""

    def step(self) -> None:
        """Advance every copy by one physics step."""

    def reset(self, ids: Ids) -> None:
        """Put these copies into the model's initial state, with nothing derived yet."""

    def derive(self, ids: Ids) -> None:
        """Derive what belongs to positions and velocities of these copies' state, which was written to."""

    def state(self, index: int) -> Array:
        """All that the next steps of a copy depend on, a vector."""

    def set_states(self, ids: Ids, states: Array) -> None:
        """Put :meth:`state` of these copies back, (len(ids), size), and derive."""

    def data(self, index: int) -> mujoco.MjData:
        """A copy's mjData, to look at until the next call."""

    def bad(self) -> NDArray[np.bool_]:
        """Whose state MuJoCo itself found bad since the last call, shape (n,)."""


class SinglePhysics:
    """One MjData as n = 1."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.n = model, 1
        self._data = mujoco.MjData(model)
        data = self._data
        self.qpos, self.qvel, self.ctrl = data.qpos[None], data.qvel[None], data.ctrl[None]
        self.mocap_pos = data.mocap_pos[None]

    def read(self, name: str) -> NDArray[Any]:
        return getattr(self._data, name)[None]

    def step(self) -> None:
        # The first half was done at the end of the last step, or by derive.
        mujoco.mj_step2(self.model, self._data)
        mujoco.mj_step1(self.model, self._data)

    def reset(self, ids: Ids) -> None:
        if len(ids):
            mujoco.mj_resetData(self.model, self._data)

    def derive(self, ids: Ids) -> None:
        if len(ids):
            mujoco.mj_step1(self.model, self._data)

    def state(self, index: int) -> Array:
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self._data, state, _STATE)
        return state

    def set_states(self, ids: Ids, states: Array) -> None:
        if len(ids):
            mujoco.mj_resetData(self.model, self._data)
            mujoco.mj_setState(self.model, self._data, states[0], _STATE)
            self.derive(ids)

    def data(self, index: int) -> mujoco.MjData:
        return self._data

    def bad(self) -> NDArray[np.bool_]:
        # Counted and cleared by the guard around the environment (envs/guard.py).
        return np.zeros(1, dtype=bool)


class BatchPhysics:
    """n copies on MuJoCo's batch, each with an MjData of its own.

    Args:
        model: shared.
        n: copies.
        threads: that step them, the caller's included; 0 takes what steps them fastest, measured.
    """

    def __init__(self, model: mujoco.MjModel, n: int, threads: int = 0):
        from mujoco import batch

        self.model, self.n = model, n
        self._stage = mujoco.mjtStage.mjSTAGE_VEL.value

        def made(count: int) -> Any:
            # Persistent: a step goes on from the stages that the last one ended with, which makes these free.
            return batch.Batch(model, nsim=n, nthread=count, persistent=True)

        self.batch = made(threads or stepping_threads(made, self._timed, n))
        self.qpos, self.qvel, self.ctrl = (self.batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self.mocap_pos = self.batch.bind("mocap_pos")
        self._error = batch.SimulationError
        self._failed = np.zeros(n, dtype=bool)
        self._warnings = np.array([int(warning) for warning in BAD_STATE])
        self._seen = self.batch.warning[:, self._warnings, 1].copy()
        self._scratch = mujoco.MjData(model)

    def _timed(self, one: Any) -> None:
        for _ in range(4):
            one.step(stage=self._stage)

    def read(self, name: str) -> NDArray[Any]:
        return self.batch.bind(name)

    def step(self) -> None:
        try:
            self.batch.step(stage=self._stage)
        except self._error as error:  # those copies kept their state, the others went on
            self._failed[error.ids] = True

    def reset(self, ids: Ids) -> None:
        if len(ids):
            self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def derive(self, ids: Ids) -> None:
        if len(ids):
            self.batch.forward(ids, stage=self._stage)

    def state(self, index: int) -> Array:
        row: Array = self.batch.state[index].copy()
        return row

    def set_states(self, ids: Ids, states: Array) -> None:
        if len(ids):
            self.reset(ids)
            self.batch.state[ids] = states
            self.derive(ids)

    def data(self, index: int) -> mujoco.MjData:
        return self.batch.get_data(index, self._scratch)

    def bad(self) -> NDArray[np.bool_]:
        now = self.batch.warning[:, self._warnings, 1]
        # A reset clears the counters, so "different and not zero" rather than "more".
        bad = self._failed | ((now != self._seen) & (now > 0)).any(axis=1)
        self._seen, self._failed = now.copy(), np.zeros(self.n, dtype=bool)
        return bad
