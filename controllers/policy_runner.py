"""A policy in a control loop: from a robot's state and a velocity command to joint targets."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.bundle import BundleError, PolicyBundle
from cadenza.controllers.deployment_facts import POSITION_ACTION
from cadenza.controllers.observation import ObservationBuilder, ObservationWatch, UndeployableError
from cadenza.robots.hardware.types import JointCommand, Mode, RobotState

Array = NDArray[np.float64]
WARM_UP_CALLS = 20
EXPORT_AGAIN = "Export it again with this version: cadenza export RUN --out BUNDLE --overwrite"


class PolicyRunner:
    """Runs a bundle's policy, one step a call, on one thread.

    Args:
        bundle: with deployment facts.

    Raises:
        BundleError: a bundle without deployment facts.
        UndeployableError: it reads what a robot cannot measure, or acts by another kind of action.
    """

    def __init__(self, bundle: PolicyBundle):
        facts = bundle.manifest.deployment
        if facts is None:
            raise BundleError(f"The bundle {bundle.path} does not say how to run it on motors.", EXPORT_AGAIN)
        if facts.action != POSITION_ACTION:
            raise UndeployableError(f"This policy acts by {facts.action!r}; only {POSITION_ACTION!r} is known here.")
        if (facts.observation_size, len(facts.joints)) != (
            bundle.manifest.observation_size,
            len(bundle.manifest.action_low),
        ):
            raise BundleError(
                f"The policy reads {bundle.manifest.observation_size} numbers and gives "
                f"{len(bundle.manifest.action_low)}; its deployment facts describe {facts.observation_size} and "
                f"{len(facts.joints)}.",
                EXPORT_AGAIN,
            )
        self.bundle, self.facts = bundle, facts
        self._policy = bundle.bind()
        self._builder = ObservationBuilder(facts)
        self.watch = ObservationWatch(facts.bounds, facts.entry_names()[: facts.sample_size])
        """Of the observations, against those of training."""
        n = len(facts.joints)
        limits = np.array([row.limits_rad for row in facts.joints])
        self._home = np.array([row.home_rad for row in facts.joints])
        self._low, self._high = limits[:, 0].copy(), limits[:, 1].copy()
        self._kp = np.array([row.kp for row in facts.joints])
        self._kd = np.array([row.kd for row in facts.joints])
        self._zero, self._nowhere = np.zeros(n), np.full(n, np.nan)
        for constant in (self._kp, self._kd, self._zero, self._nowhere):
            constant.flags.writeable = False  # commands share them
        self._no_imu = np.full(3, np.nan)
        self._needs_imu = "imu" in facts.sensors()
        self.action = np.zeros(n)
        """The last one, in [-1, 1], (joints,)."""
        self.finite = True
        """Whether the last observation and action were."""
        self.observation = np.zeros(facts.observation_size)
        """The last one, (observation size,); overwritten by the next step."""
        self.notes: deque[str] = deque()
        """What the log should be told of; whoever logs takes them out."""
        for _ in range(WARM_UP_CALLS):
            self._policy()
        self.reset()

    @property
    def period_s(self) -> float:
        """Between two steps."""
        return self.facts.control_dt_s

    @property
    def home(self) -> Array:
        """Joint angles about which it acts, rad, (joints,)."""
        return self._home.copy()

    @property
    def gains(self) -> tuple[Array, Array]:
        """kp, N m/rad, and kd, N m s/rad, (joints,) each."""
        return self._kp, self._kd

    @property
    def sample(self) -> Array:
        """The newest sample of the observation, (sample size,); overwritten by the next step."""
        return self._builder.sample

    @property
    def phase(self) -> float:
        """Of the gait, in [0, 1)."""
        return self._builder.phase

    def reset(self, phase: float = 0.0) -> None:
        """Begin anew: no last action, no history, the gait at ``phase``."""
        self._builder.begin(phase)
        self.action = np.zeros(len(self._home))
        self.finite = True
        self._passed = 0
        self.watch.odd_ticks = self.watch.strange_in_a_row = 0

    def step(self, state: RobotState, command: Array, ticks: int = 1) -> JointCommand:
        """Joint targets for a state.

        A state with numbers that are not finite makes targets that are not: the safety supervisor refuses them, holds
        and counts. The policy is not asked then, and what it remembers stays.

        Args:
            state: joints (n,) in table order, with an inertial unit where the policy is told of one.
            command: forward and left velocity, m/s, and yaw rate, rad/s, (3,).
            ticks: control steps since the last call, more than 1 where some were missed.
        """
        joints, imu = state.joints, state.imu
        gyro, gravity = (self._no_imu, self._no_imu) if imu is None else (imu.gyro, imu.gravity)
        # One number that is not finite makes their sum so.
        known = joints.q.sum() + joints.dq.sum() + command.sum()
        if self._needs_imu:
            known += gyro.sum() + gravity.sum()
        self._passed += ticks
        if not np.isfinite(known):
            self.finite = False
            return self._command(self._nowhere)
        self.observation = self._builder.observe(joints.q, joints.dq, gyro, gravity, command, self.action, self._passed)
        self._passed = 0
        self.watch.look(self._builder.sample)
        self._policy.observation[0] = self.observation
        self._policy()
        action = self._policy.action[0].astype(np.float64)
        self.finite = bool(np.isfinite(action).all())
        if not self.finite:
            return self._command(self._nowhere)
        self.action = action
        return self._command(np.clip(self._home + self.facts.action_scale_rad * action, self._low, self._high))

    def hold_home(self) -> JointCommand:
        """Its home pose with its gains."""
        return self._command(self._home.copy())

    def _command(self, q: Array) -> JointCommand:
        return JointCommand(q, self._zero, self._zero, self._kp, self._kd, Mode.POSITION)
