"""The shafts of motors as a MuJoCo simulation: what emulators turn, and what SimHardware turns directly.

The law of a motor is that of training (robots/actuators.py): MuJoCo's affine actuator

    force = clip(kp (q_goal - q) + kd (dq_goal - dq) + tau, +-limit) - back_emf dq

so a policy meets the same dynamics in its environment, through SimHardware and through an emulated wire. What differs
between motors (registers, ticks, units) belongs to whoever drives the plant; here everything is SI, at the joint.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.robots.actuators import actuation
from cadenza.robots.description import Joint, LeggedRobot
from cadenza.robots.pose import home_qpos

Array = NDArray[np.float64]

_GROUND_FRICTION = (0.0, 0.005, 0.0001)  # of two geoms that touch, MuJoCo takes the larger friction: the soles'


class Plant:
    """Motors with a body on their shafts.

    Arrays of n motors are in the order of ``joints``. They are written before :meth:`advance` and hold until changed.

    Args:
        model: with a joint and an affine position actuator of the name of each of ``joints``.
        joints: rows of the table.
        qpos: first state; None takes the model's.
        base: body with a free joint that carries the inertial unit's site ``imu``; None where there is none.
    """

    def __init__(
        self, model: mujoco.MjModel, joints: Sequence[Joint], qpos: Array | None = None, base: str | None = None
    ):
        self.model, self.joints = model, tuple(joints)
        self.data = mujoco.MjData(model)
        if qpos is not None:
            self.data.qpos[:] = qpos
        self.dt = float(model.opt.timestep)
        n = len(self.joints)
        self._q = np.array([int(model.joint(row.name).qposadr[0]) for row in self.joints])
        self._dq = np.array([int(model.joint(row.name).dofadr[0]) for row in self.joints])
        self._act = np.array([model.actuator(row.name).id for row in self.joints])
        acts = [actuation(row) for row in self.joints]
        self.stall_nm = np.array([act.force_nm for act in acts])
        """Force limit as the table has it, (n,)."""
        self.back_emf = np.array([act.damping for act in acts])
        """Damping of a powered motor beyond its force limit, N m s/rad, (n,)."""
        self.powered = np.zeros(n, dtype=bool)
        """Torque on; a motor without power turns freely but for friction."""
        self.goal = self.q.copy()
        """q_goal, rad."""
        self.goal_velocity = np.zeros(n)
        self.tau = np.zeros(n)
        """Torque added, N m."""
        self.kp = np.array([act.kp for act in acts])
        self.kd = np.array([act.kv for act in acts])
        self.limit_nm = self.stall_nm.copy()
        """Force limit, N m: what is left of the stall torque at the present supply and duty limit."""
        model.actuator_ctrllimited[self._act] = 0  # limits are the business of whoever commands
        self._base = base
        self._site = model.site("imu").id if base is not None else -1
        mujoco.mj_forward(model, self.data)

    # ------------------------------------------------------------------ makers

    @classmethod
    def of_robot(cls, robot: LeggedRobot, *, hung_up: bool = False, visuals: bool = False) -> Plant:
        """A whole robot in its home pose on a plane, or with its base fixed in the air."""
        spec = robot.build_spec(visuals=visuals)
        if hung_up:
            base = spec.body(robot.base)
            for joint in list(base.joints):
                spec.delete(joint)
            base.pos = (0.0, 0.0, 1.0)
            model = spec.compile()
            qpos = np.zeros(model.nq)
            for row in robot.joints:
                qpos[model.joint(row.name).qposadr[0]] = row.home_rad
            plant = cls(model, robot.joints, qpos, None)
            plant._site = model.site("imu").id
            return plant
        spec.worldbody.add_geom(
            name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], friction=_GROUND_FRICTION
        )
        model = spec.compile()
        return cls(model, robot.joints, home_qpos(robot, model), robot.base)

    @classmethod
    def of_joint(cls, joint: Joint, *, inertia_kg_m2: float = 0.002, arm_kg_m: float = 0.0, dt: float = 0.001) -> Plant:
        """One motor on a bench with a lever on its shaft.

        Args:
            joint: its row; armature and friction are the motor's own.
            inertia_kg_m2: of the lever.
            arm_kg_m: mass times distance of its centre from the shaft; it hangs down at 0 rad.
            dt: physics step, s.
        """
        return cls.of_bench([joint], inertia_kg_m2=inertia_kg_m2, arm_kg_m=arm_kg_m, dt=dt)

    @classmethod
    def of_bench(
        cls, joints: Sequence[Joint], *, inertia_kg_m2: float = 0.002, arm_kg_m: float = 0.0, dt: float = 0.001
    ) -> Plant:
        """Several motors side by side, each as in :meth:`of_joint`."""
        from cadenza.robots.actuators import add_actuator

        spec = mujoco.MjSpec()
        spec.option.timestep = dt
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        mass = 0.2
        for index, row in enumerate(joints):
            away = arm_kg_m / mass
            around_centre = max(inertia_kg_m2 - mass * away**2, 1e-6)
            body = spec.worldbody.add_body(name=f"lever_{row.name}", pos=[0.0, 0.3 * index, 0.0])
            body.mass, body.ipos, body.explicitinertial = mass, [0.0, 0.0, -away], True
            body.inertia = [around_centre] * 3
            hinge = body.add_joint(name=row.name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0.0, 1.0, 0.0])
            hinge.armature, hinge.frictionloss = row.armature, row.friction_nm
            if isinstance(hinge.damping, np.ndarray):
                hinge.damping[0] = actuation(row).damping
            else:
                hinge.damping = actuation(row).damping
            add_actuator(spec, row)
        return cls(spec.compile(), joints)

    # ------------------------------------------------------------------ state

    @property
    def time(self) -> float:
        """Simulated, s."""
        return float(self.data.time)

    @property
    def q(self) -> Array:
        """Angles, rad, (n,)."""
        return self.data.qpos[self._q].copy()

    @property
    def dq(self) -> Array:
        """rad/s, (n,)."""
        return self.data.qvel[self._dq].copy()

    @property
    def force(self) -> Array:
        """Torque of each motor at its shaft in the last step, N m, (n,)."""
        return self.data.actuator_force[self._act] - np.where(self.powered, self.back_emf, 0.0) * self.dq

    def imu(self) -> tuple[Array, Array]:
        """Angular velocity, rad/s, (3,) and direction of gravity, (3,), in the inertial unit's axes.

        Taken from ``qpos`` and ``qvel``, not from derived arrays, which are those of one step before.
        """
        if self._base is None:
            if self._site < 0:
                raise ValueError("This plant has no inertial unit: it is no whole robot.")
            turn = self.data.site_xmat[self._site].reshape(3, 3)
            return np.zeros(3), turn.T @ np.array([0.0, 0.0, -1.0])
        body = self.model.body(self._base)
        start = int(self.model.jnt_qposadr[int(body.jntadr[0])])
        first = int(self.model.jnt_dofadr[int(body.jntadr[0])])
        matrix, local = np.zeros(9), np.zeros(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[start + 3 : start + 7])
        mujoco.mju_quat2Mat(local, self.model.site_quat[self._site])
        in_base = matrix.reshape(3, 3).T @ np.array([0.0, 0.0, -1.0])
        turn = local.reshape(3, 3).T
        return turn @ self.data.qvel[first + 3 : first + 6], turn @ in_base

    # ------------------------------------------------------------------ motion

    def advance(self, until_s: float) -> None:
        """Step to the last whole step at or before ``until_s`` of simulated time."""
        steps = int(np.floor((until_s - self.data.time) / self.dt + 1e-6))
        if steps > 0:
            self._apply()
            mujoco.mj_step(self.model, self.data, steps)

    def step(self) -> None:
        """One physics step: for a firmware loop that changes its goals at that rate."""
        self._apply()
        mujoco.mj_step(self.model, self.data)

    def _apply(self) -> None:
        on = self.powered
        kp, kd = np.where(on, self.kp, 0.0), np.where(on, self.kd, 0.0)
        gain, bias, limits = self.model.actuator_gainprm, self.model.actuator_biasprm, self.model.actuator_forcerange
        gain[self._act, 0] = kp
        bias[self._act, 0] = np.where(on, self.tau, 0.0) + kd * self.goal_velocity
        bias[self._act, 1], bias[self._act, 2] = -kp, -kd
        limits[self._act, 0], limits[self._act, 1] = -self.limit_nm, self.limit_nm
        damping = self.model.dof_damping
        damping[self._dq] = np.where(on, self.back_emf, 0.0)
        self.data.ctrl[self._act] = self.goal
