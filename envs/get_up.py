"""A humanoid that gets up from the ground and stays standing.

It starts lying as it fell: from one of 32 poses that were found by dropping the robot, limp, from random attitudes.
It is paid for raising its base, turning upright and, once up, for the home pose, and pays for torque, jerk and fast
joints. Nothing terminates an episode, as lying is where it begins; the time limit of 10 s truncates.

Observation: that of :mod:`cadenza.envs.walk` without command and clock. Action: as there, with a wider range of
targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.legged import rewards
from cadenza.envs.legged.observations import actor_terms
from cadenza.envs.legged.settings import LeggedConfig
from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.tasks import TASKS
from cadenza.envs.legged.terms import ObservationTerm, RewardTerm
from cadenza.robots.building import Contacts

Array = NDArray[np.float64]
SETTLE_S = 1.5
"""How long a limp robot is left to fall."""


@dataclass(frozen=True)
class GetUpConfig(LeggedConfig):
    """Settings of GetUp."""

    contacts: Contacts = "all"
    episode_s: float = TASKS["get_up"].episode_s
    action_scale_rad: float | None = 1.2
    """Getting up takes poses far from home."""
    poses: int = 32
    """How many fallen poses there are to start from."""
    pose_seed: int = 0


class GetUp(LeggedTask):
    """``cadenza/<Robot>GetUp-v0``."""

    config_type = GetUpConfig
    config: GetUpConfig
    weights: ClassVar[Mapping[str, float]] = {
        "upright": 1.0,
        "height": 2.0,
        "standing": 2.0,
        "torque": -0.2,
        "action_rate": -0.3,
        "joint_motion": -0.2,
        "joint_limits": -0.3,
    }

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fallen_poses = fallen_poses(self)

    def observation_terms(self) -> Sequence[ObservationTerm]:
        return actor_terms(len(self.home), clock=False)

    def reward_terms(self) -> Sequence[RewardTerm]:
        return (
            RewardTerm("upright", lambda s: 0.5 * (1.0 + s.up)),
            RewardTerm("height", lambda s: np.clip(s.height / s.home_height, 0.0, 1.0)),
            RewardTerm("standing", _standing),
            RewardTerm("torque", rewards.torque),
            RewardTerm("action_rate", rewards.action_rate),
            RewardTerm("joint_motion", lambda s: rewards.joint_motion(s, 5.0)),
            RewardTerm("joint_limits", lambda s: rewards.joint_limits(s, 0.1)),
        )

    def fallen(self, s: Signals) -> NDArray[np.bool_]:
        return np.zeros(s.count, dtype=bool)

    def start(self, index: int, random: np.random.Generator, qpos: Array, qvel: Array) -> None:
        qpos[:] = self.fallen_poses[random.integers(len(self.fallen_poses))]
        turn = random.uniform(-np.pi, np.pi)
        about = np.array([np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)])
        turned = np.empty(4)
        mujoco.mju_mulQuat(turned, about, qpos[3:7].copy())
        qpos[3:7] = turned

    def measures(self) -> dict[str, Array]:
        """1 while it stands: upright and near home height."""
        s = self.last_signals
        return {
            "x_velocity": s.base_velocity[:, 0],
            "standing": ((s.up > 0.9) & (s.height > 0.85 * s.home_height)).astype(np.float64),
        }


def _standing(s: Signals) -> Array:
    """Upright at home height, in the home pose: a product, as each is worth little without the others."""
    up = np.clip((s.up - 0.5) / 0.5, 0.0, 1.0)
    return up * rewards.height(s, 0.15) * (0.3 + 0.7 * rewards.home_pose(s, 0.5))


def fallen_poses(task: LeggedTask) -> Array:
    """``qpos`` of robots that lie, shape (poses, nq): dropped limp from random attitudes and left to settle."""
    config = task.config
    assert isinstance(config, GetUpConfig)
    model, data = task.model, mujoco.MjData(task.model)
    random = np.random.default_rng(config.pose_seed)
    out = np.empty((config.poses, model.nq))
    gain, bias = model.actuator_gainprm.copy(), model.actuator_biasprm.copy()
    model.actuator_gainprm[:], model.actuator_biasprm[:] = 0.0, 0.0
    try:
        for row in range(config.poses):
            mujoco.mj_resetData(model, data)
            data.qpos[:] = task.home_qpos
            spread = random.uniform(0.0, 1.0, len(task.home))
            low, high = task.limits.T
            wild = low + spread * (high - low)
            data.qpos[task.addresses.qpos] = 0.6 * task.home + 0.4 * wild
            attitude = random.standard_normal(4)
            data.qpos[3:7] = attitude / np.linalg.norm(attitude)
            data.qpos[2] = 1.5 * task.home_height
            mujoco.mj_step(model, data, round(SETTLE_S / model.opt.timestep))
            out[row] = data.qpos
            out[row, :2] = 0.0
    finally:
        model.actuator_gainprm[:], model.actuator_biasprm[:] = gain, bias
    return out
