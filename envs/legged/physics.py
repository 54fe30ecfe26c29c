"""Stepping n copies of one model: one MjData, or MuJoCo's batch. Both give the same bits.

A task is written once, over arrays whose first axis counts copies. :class:`SinglePhysics` shows the arrays of one
MjData with an axis of length 1 put before them; :class:`BatchPhysics` shows those of :class:`mujoco.batch.Batch`,
which steps its copies on several threads and promises the results of a loop over single ones.

As after ``mj_step``, derived quantities (positions of bodies, sensors, forces) belong to the state one physics step
before ``qpos`` and ``qvel``. After :meth:`Physics.forward` they belong to it.
"""

from __future__ import annotations

from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.guard import BAD_STATE
from cadenza.envs.processors import stepping_threads

Array = NDArray[np.float64]


class Physics(Protocol):
    """Copies of one model. All arrays have the shape (n, ...) and are live: writing to one is writing the state."""

    model: mujoco.MjModel
    n: int
    qpos: Array
    qvel: Array
    ctrl: Array

    def read(self, name: str) -> NDArray[Any]:
        """A derived field of mjData; ask once and keep it, it stays current."""

    def field(self, name: str) -> NDArray[Any]:
        """A field of the model, with values of its own for every copy."""

    def set_const(self, ids: NDArray[np.intp]) -> None:
        """After masses, inertias or centres of mass of these copies were written."""

    def step(self, count: int) -> None:
        """Advance every copy by ``count`` physics steps."""

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Put these copies into the model's initial state, with nothing derived yet."""

    def forward(self, ids: NDArray[np.intp]) -> None:
        """Derive everything of these copies' present state."""

    def bad(self) -> NDArray[np.bool_]:
        """Whose state MuJoCo itself found bad since the last call, shape (n,)."""


class SinglePhysics:
    """One MjData as n = 1."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.n = model, 1
        self.data = mujoco.MjData(model)
        self.qpos, self.qvel, self.ctrl = self.data.qpos[None], self.data.qvel[None], self.data.ctrl[None]

    def read(self, name: str) -> NDArray[Any]:
        return getattr(self.data, name)[None]

    def field(self, name: str) -> NDArray[Any]:
        part, _, inner = name.rpartition(".")
        return getattr(getattr(self.model, part) if part else self.model, inner)[None]

    def set_const(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            # In an MjData of its own, as it moves what it works on to the reference pose.
            mujoco.mj_setConst(self.model, mujoco.MjData(self.model))

    def step(self, count: int) -> None:
        mujoco.mj_step(self.model, self.data, count)

    def reset(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            mujoco.mj_resetData(self.model, self.data)

    def forward(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            mujoco.mj_forward(self.model, self.data)

    def bad(self) -> NDArray[np.bool_]:
        # Counted and cleared by the guard around the environment (envs/guard.py).
        return np.zeros(1, dtype=bool)


class BatchPhysics:
    """n copies on MuJoCo's batch.

    Args:
        model: shared but for the fields asked for with :meth:`field`.
        n: copies.
        threads: that step them, the caller's included; 0 takes what steps them fastest, measured.
    """

    def __init__(self, model: mujoco.MjModel, n: int, threads: int = 0):
        from mujoco import batch

        self.model, self.n = model, n

        def made(count: int) -> Any:
            return batch.Batch(model, nsim=n, nthread=count)

        self.batch = made(threads or stepping_threads(made, lambda one: one.step(nstep=4), n))
        self.qpos, self.qvel, self.ctrl = (self.batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._error = batch.SimulationError
        self._failed = np.zeros(n, dtype=bool)
        self._warnings = np.array([int(warning) for warning in BAD_STATE])
        self._seen = self.batch.warning[:, self._warnings, 1].copy()

    def read(self, name: str) -> NDArray[Any]:
        return self.batch.bind(name)

    def field(self, name: str) -> NDArray[Any]:
        return self.batch.expand(name)

    def set_const(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            self.batch.set_const(ids)

    def step(self, count: int) -> None:
        try:
            self.batch.step(nstep=count)
        except self._error as error:  # those copies kept their state, the others went on
            self._failed[error.ids] = True

    def reset(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def forward(self, ids: NDArray[np.intp]) -> None:
        if len(ids):
            self.batch.forward(ids)

    def bad(self) -> NDArray[np.bool_]:
        now = self.batch.warning[:, self._warnings, 1]
        # A reset clears the counters, so "different and not zero" rather than "more".
        bad = self._failed | ((now != self._seen) & (now > 0)).any(axis=1)
        self._seen, self._failed = now.copy(), np.zeros(self.n, dtype=bool)
        return bad
