"""A task of a legged robot over n copies at once: the part that Stand, Walk, Run and GetUp have in common.

A control step is: action -> joint targets around home -> delays -> physics -> signals -> reward and termination ->
disturbances and commands -> observation. :mod:`cadenza.envs.legged.single` makes a Gymnasium environment of it (n = 1),
:mod:`cadenza.envs.legged.vectorized` one of Stable-Baselines3's; the numbers are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.legged.commands import CommandError, as_command
from cadenza.envs.legged.conditions import Conditioner
from cadenza.envs.legged.delays import Delays
from cadenza.envs.legged.events import planned
from cadenza.envs.legged.frames import DOWN, into_heading, rotate_back, yaw
from cadenza.envs.legged.ground import build_scene, make_ground
from cadenza.envs.legged.mirror import task_mirror
from cadenza.envs.legged.observations import privileged_terms
from cadenza.envs.legged.physics import Physics
from cadenza.envs.legged.settings import LeggedConfig
from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.terms import ObservationLayout, ObservationTerm, RewardTerm
from cadenza.envs.mirror import Mirror
from cadenza.robots import observing
from cadenza.robots.description import LeggedRobot
from cadenza.robots.mirror import joint_mirror
from cadenza.robots.names import unknown_name
from cadenza.robots.pose import home_qpos, joint_addresses

Array = NDArray[np.float64]
Ids = NDArray[np.intp]


class LeggedTask:
    """n copies of a robot at one task.

    Args:
        robot: from :func:`cadenza.robots.load_humanoid`.
        config: of the task's ``config_type``.
        n: copies.
        physics: makes their physics of the compiled model.
    """

    config_type: ClassVar[type[LeggedConfig]] = LeggedConfig
    weights: ClassVar[Mapping[str, float]] = {}
    """Of the reward terms, where the configuration does not name them."""

    def __init__(self, robot: LeggedRobot, config: LeggedConfig, n: int, physics: Callable[[mujoco.MjModel], Physics]):
        self.robot, self.config, self.n = robot, config, n
        made = {"contacts": config.contacts, "backlash": config.backlash}
        spec = robot.build_spec(**made, visuals=config.visuals)
        bare = robot.build_spec(**made, visuals=False).compile()
        self.home_qpos = home_qpos(robot, bare)
        self.home_height = float(self.home_qpos[2])
        self.ground = make_ground(config.terrain, self.home_height, config.terrain_seed)
        self.model = build_scene(spec, self.ground, robot.base, self.home_height)
        self.physics = physics(self.model)
        self.dt = config.control_dt_s
        self.substeps = round(self.dt / robot.physics_dt_s)
        if abs(self.substeps * robot.physics_dt_s - self.dt) > 1e-9:
            raise ValueError(f"{self.dt} s of control are no whole number of physics steps of {robot.physics_dt_s} s.")
        self.episode_steps = round(config.episode_s / self.dt)

        joints = robot.joints
        self.home = np.array([joint.home_rad for joint in joints])
        self.limits = np.array([joint.limits_rad for joint in joints])
        self.torque_limit = np.array([joint.torque_nm for joint in joints])
        self.action_scale = robot.action_scale if config.action_scale_rad is None else config.action_scale_rad
        self.weight_n = robot.mass_kg * 9.81
        self.addresses = joint_addresses(self.model, robot)
        self.sensors = self.physics.read("sensordata")
        self.force = self.physics.read("actuator_force")
        self._damping = self.physics.field("dof_damping")
        self._feet = [self._sensor_slices(foot.name) for foot in robot.feet]
        self._home_feet_ahead = self._feet_at_home()

        known = privileged_terms(robot) if config.privileged else ()
        self.layout = ObservationLayout((*self.observation_terms(), *known), config.history)
        self._reward_terms = tuple(self.reward_terms())
        names = [term.name for term in self._reward_terms]
        for name in config.weights:
            if name not in names:
                raise unknown_name("reward term", name, names)
        weights = {**self.weights, **config.weights}
        self.reward_weights = np.array([weights[name] for name in names])
        self.reward_names = tuple(names)

        self.events = planned(config.randomised, config.conditions)
        self.conditioner = Conditioner(
            robot, self.model, self.physics, self.events, self.addresses, self.home_height, config.push_every_s
        )
        self.delays = Delays(n, self.substeps, self.events, len(joints), self.robot.physics_dt_s)

        count = len(joints)
        self.random = [np.random.default_rng(index) for index in range(n)]
        self.steps = np.zeros(n, dtype=np.int64)
        self.action, self.last_action, self.action_before_last = (np.zeros((n, count)) for _ in range(3))
        self.command = np.zeros((n, 3))
        self.command_steps = np.zeros(n, dtype=np.int64)
        self.phase = np.zeros(n)
        self.history = np.zeros((n, config.history, self.layout.sample_size))
        self.parameters: list[dict[str, float]] = [{} for _ in range(n)]
        self._all = np.arange(n)

    # ------------------------------------------------------------------ what a task says

    def observation_terms(self) -> Sequence[ObservationTerm]:
        """What the actor sees, in the order of the vector; privileged terms are the same for all tasks."""
        raise NotImplementedError

    def reward_terms(self) -> Sequence[RewardTerm]:
        """Each with its name, in [0, 1]."""
        raise NotImplementedError

    def draw_command(self, index: int, random: np.random.Generator) -> Array:
        """A new command for a copy, shape (3,)."""
        return np.zeros(3)

    def command_hold_s(self) -> float:
        """How long a command holds."""
        return float("inf")

    def fallen(self, s: Signals) -> NDArray[np.bool_]:
        """Which copies' episodes terminate, shape (n,)."""
        return (s.up < self.config.fall_up) | (s.height < self.config.fall_height_share * self.home_height)

    def start(self, index: int, random: np.random.Generator, qpos: Array, qvel: Array) -> None:
        """Write a copy's first state; it comes as the home pose, upright, at rest."""
        count = len(self.home)
        noise = random.uniform(-1.0, 1.0, count) * self.config.start_noise_rad
        qpos[self.addresses.qpos] = np.clip(self.home + noise, self.limits[:, 0], self.limits[:, 1])
        turn = random.uniform(-np.pi, np.pi)
        qpos[3:7] = np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)
        if self.config.terrain != "flat":
            reach = 0.5 * self.ground.half_width_m
            qpos[:2] = random.uniform(-reach, reach, 2)
            around = qpos[:2] + self.home_height * 0.3 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
            qpos[2] += self.ground.height(around).max()

    def measures(self) -> dict[str, Array]:
        """What an evaluation reports beside the reward, after a step, (n,) each."""
        return {}

    def parameter_ranges(self) -> dict[str, tuple[float, float]]:
        """What a curriculum may choose at a reset, with the ranges of the configuration: (low, high) by name."""
        push = self.events["push"]
        return {"push": (push.low, push.high)} if push.high > push.low else {}

    def joints_named(self, *parts: str) -> Ids:
        """Rows of the joints whose name has one of these parts."""
        names = self.robot.joint_names
        return np.array([row for row, name in enumerate(names) if any(part in name for part in parts)], dtype=np.intp)

    # ------------------------------------------------------------------ the loop

    def seed(self, index: int, seed: int) -> None:
        """Give a copy its generator; what it draws depends on nothing else."""
        self.random[index] = np.random.default_rng(seed)
        self.conditioner.forget(index)

    def reset(self, ids: Ids) -> Array:
        """Begin episodes of these copies; their observations, shape (len(ids), size)."""
        if not len(ids):
            return np.zeros((0, self.layout.size))
        self.physics.reset(ids)
        for index in ids.tolist():
            random = self.random[index]
            drawn = self.conditioner.draw(index, random, self.parameters[index])
            self.delays.set(index, drawn["command_delay"][0], drawn["observation_delay"][0])
            qpos, qvel = self.physics.qpos[index], self.physics.qvel[index]
            qpos[:], qvel[:] = self.home_qpos, 0.0
            self.start(index, random, qpos, qvel)
            self.command[index] = self.draw_command(index, random)
            self.phase[index] = random.uniform()
        self.command_steps[ids] = round(min(self.command_hold_s(), 1e6) / self.dt)
        self.conditioner.apply(ids)
        self.physics.ctrl[ids] = self.physics.qpos[ids][:, self.addresses.qpos]
        self.physics.forward(ids)
        for array in (self.steps, self.action, self.last_action, self.action_before_last):
            array[ids] = 0
        self.delays.begin(ids, self.physics.ctrl[ids], self._sensed(ids))
        signals = self._signals(ids)
        sample = self._noisy(self.layout.sample(signals), ids)
        self.history[ids] = sample[:, None]
        return self._observation(signals, ids)

    def step(self, actions: NDArray[np.floating]) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """One control step of every copy.

        Args:
            actions: in [-1, 1], shape (n, joints); values beyond are cut.

        Returns:
            observations (n, size), rewards (n,), terminated (n,), and the unweighted reward terms by name, (n,) each.
            An episode that ends is not begun anew.
        """
        self.action_before_last[:], self.last_action[:] = self.last_action, self.action
        self.action[:] = np.clip(actions, -1.0, 1.0)
        targets = np.clip(self.home + self.action_scale * self.action, self.limits[:, 0], self.limits[:, 1])
        self.delays.run(self.physics, targets, self._sensed)
        self.steps += 1
        moves = self._moves(self._all)
        self.phase[:] = observing.advanced_phase(self.phase, moves, self.dt, self.gait_period_s())

        self.last_signals = signals = self._signals(self._all)
        terms = {term.name: term.read(signals) for term in self._reward_terms}
        # Summed term by term: the order of a sum over an axis may differ with the number of copies.
        reward = np.zeros(self.n)
        for weight, values in zip(self.reward_weights, terms.values(), strict=True):
            reward += weight * values
        reward = np.maximum(reward, 0.0)
        terminated = self.fallen(signals)

        if self._disturb():
            # The next action answers to the new commands, so that is what it sees; the reward was for the old ones.
            signals = replace(signals, command=self.command.copy())
        sample = self._noisy(self.layout.sample(signals), self._all)
        if self.config.history > 1:
            self.history[:, 1:] = self.history[:, :-1].copy()
        self.history[:, 0] = sample
        return self._observation(signals, self._all), reward, terminated, terms

    def checked_command(self, command: Sequence[float]) -> Array:
        """A command that somebody gives, shape (3,), if the task takes it.

        Raises:
            CommandError: the task takes none, or not this one; the message names the ranges.
        """
        as_command(command)
        label = f"{self.robot.prefix}{type(self).__name__}"
        raise CommandError(
            f"{label} takes no velocity command.",
            f"Walk and Run do: cadenza/{self.robot.prefix}Walk-v0, cadenza/{self.robot.prefix}Run-v0.",
        )

    def hold_command(self, index: int, command: Sequence[float]) -> Array:
        """Fix a copy's command for the rest of its episode; its observation, as the next action is to see it.

        Raises:
            CommandError: the task takes none, or not this one; nothing has changed then.
        """
        self.command[index] = self.checked_command(command)
        self.command_steps[index] = np.iinfo(np.int64).max
        ids = np.array([index])
        signals = self._signals(ids)
        part = self.layout.slices().get("command")
        if part is not None:
            self.history[index, :, part] = self.layout.sample(signals)[0, part]
        return self._observation(signals, ids)[0]

    @property
    def mirror(self) -> Mirror:
        """How observations and actions look in a mirror."""
        return task_mirror(self.layout, joint_mirror(self.robot, self.model))

    def gait_period_s(self) -> float:
        """Of a full cycle of the phase."""
        return self.robot.gait_period_s

    # ------------------------------------------------------------------ parts of it

    def _disturb(self) -> bool:
        """Pushes, felt in the next step, and new commands; whether there are any of these."""
        self.conditioner.push(self.random, self.physics.qvel, self.dt, self.parameters)
        self.command_steps -= 1
        due = np.flatnonzero(self.command_steps <= 0)
        for index in due.tolist():
            self.command[index] = self.draw_command(index, self.random[index])
            self.command_steps[index] = round(self.command_hold_s() / self.dt)
        return len(due) > 0

    def _moves(self, rows: Ids) -> Array:
        return observing.moves(self.command[rows])

    def _noisy(self, sample: Array, ids: Ids) -> Array:
        factor = self.conditioner.values["sensor_noise"]
        for row, index in enumerate(ids):
            if factor[index, 0] > 0.0:
                sample[row] += (
                    self.random[index].uniform(-1.0, 1.0, sample.shape[1]) * self.layout.noise * factor[index]
                )
        return sample

    def _observation(self, signals: Signals, ids: Ids) -> Array:
        out = np.empty((len(ids), self.layout.size))
        out[:, : self.layout.actor_size] = self.history[ids].reshape(len(ids), -1)
        known = self.layout.known_to_critics(signals)
        if known is not None:
            out[:, self.layout.actor_size :] = known
        return out

    def _sensor_slices(self, foot: str) -> dict[str, slice]:
        out = {}
        for kind in ("position", "velocity", "contact"):
            sensor = self.model.sensor(f"{foot}_{kind}")
            start = int(sensor.adr[0])
            out[kind] = slice(start, start + int(sensor.dim[0]))
        return out

    def _feet_at_home(self) -> Array:
        """Middle of the soles seen from the base in the home pose, forward and left, m."""
        data = mujoco.MjData(self.model)
        data.qpos[:] = self.home_qpos
        mujoco.mj_forward(self.model, data)
        middle = np.mean([data.sensordata[foot["position"]] for foot in self._feet], axis=0)
        return _ahead(data.qpos[None, 3:7], (middle - data.qpos[:3])[None])[0]

    def _sensed(self, rows: Ids | slice) -> Array:
        """What is there to sense: joint angles and velocities, the base's quaternion and rotation, (len(rows), ...)."""
        qpos, qvel = self.physics.qpos[rows], self.physics.qvel[rows]
        angle, velocity = self.addresses.angles(qpos), self.addresses.velocities(qvel)
        return np.concatenate([angle, velocity, qpos[:, 3:7], qvel[:, 3:6]], axis=1)

    def _signals(self, rows: Ids) -> Signals:
        """Everything about these copies; their state must be stepped or forwarded."""
        count = len(self.home)
        qpos, qvel, sensors = self.physics.qpos[rows], self.physics.qvel[rows], self.sensors[rows]
        truth = self._sensed(rows)
        angle, velocity = truth[:, :count], truth[:, count : 2 * count]
        measured = self.conditioner.measure(self.delays.delayed(rows, truth), rows)
        quaternion = qpos[:, 3:7]
        gravity = rotate_back(quaternion, DOWN)
        feet = [{kind: sensors[:, part] for kind, part in foot.items()} for foot in self._feet]
        position = np.stack([foot["position"] for foot in feet], axis=1)
        below = np.stack([self.ground.height(position[:, side]) for side in (0, 1)], axis=1)
        contact = np.stack([foot["contact"][:, 0] > 0 for foot in feet], axis=1).astype(np.float64)
        return Signals(
            joint_angle=measured.angle,
            joint_velocity=measured.velocity,
            gyro=measured.gyro,
            gravity=measured.gravity,
            command=self.command[rows],
            action=self.action[rows],
            last_action=self.last_action[rows],
            action_before_last=self.action_before_last[rows],
            phase=self.phase[rows],
            angle=angle,
            velocity=velocity,
            home=self.home,
            torque=self.force[rows] - self.conditioner.back_emf(self._damping[rows]) * velocity,
            torque_limit=self.torque_limit,
            limits=self.limits,
            up=-gravity[:, 2],
            tilt_gravity=gravity,
            height=qpos[:, 2] - self.ground.height(qpos),
            home_height=self.home_height,
            base_velocity=into_heading(yaw(quaternion), qvel[:, :3]),
            base_rotation=qvel[:, 3:6],
            feet_ahead=_ahead(quaternion, position.mean(axis=1) - qpos[:, :3]),
            home_feet_ahead=self._home_feet_ahead,
            foot_height=position[:, :, 2] - below,
            foot_velocity=np.stack([foot["velocity"] for foot in feet], axis=1),
            foot_contact=contact,
            foot_force=np.stack([np.abs(foot["contact"][:, 3]) for foot in feet], axis=1),
            weight_n=self.weight_n,
            friction=self.conditioner.values["friction"][rows],
            push_soon=self.conditioner.push_soon(rows),
            moves=self._moves(rows),
        )

    # ------------------------------------------------------------------ state of a run

    def state(self) -> dict[str, Any]:
        """All that a step depends on beside mjData, as arrays and plain values; see :meth:`set_state`."""
        names = (
            "steps", "action", "last_action", "action_before_last", "command", "command_steps", "phase", "history",
        )  # fmt: skip
        return {
            "arrays": {name: getattr(self, name).copy() for name in names},
            "random": [random.bit_generator.state for random in self.random],
            "parameters": [dict(parameters) for parameters in self.parameters],
            "conditions": self.conditioner.state(),
            "delays": self.delays.state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of the same task with the same configuration."""
        for name, value in state["arrays"].items():
            getattr(self, name)[...] = value
        for random, saved in zip(self.random, state["random"], strict=True):
            random.bit_generator.state = saved
        self.parameters = [dict(parameters) for parameters in state["parameters"]]
        self.conditioner.set_state(state["conditions"])
        self.delays.set_state(state["delays"])


def _ahead(quaternion: Array, offset: Array) -> Array:
    """Forward and left part of world vectors (n, 3) in the heading frame of a base, (n, 2)."""
    return into_heading(yaw(quaternion), offset)[:, :2]


def configured(task: type[LeggedTask], robot: LeggedRobot, settings: Mapping[str, Any]) -> LeggedConfig:
    """A task's configuration for a robot, with settings by name.

    Raises:
        UnknownNameError: a setting that the task does not have; the message names the nearest that it has.
    """
    config = task.config_type.of(robot)
    known = config.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise unknown_name("setting of this task", name, known)
    as_tuples: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    if "conditions" in as_tuples:
        # Beside those that belong to the task, such as Stand's pushes: a slippery floor must not end them.
        as_tuples["conditions"] = {**config.conditions, **as_tuples["conditions"]}
    return replace(config, **as_tuples)
