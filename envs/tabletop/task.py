"""A task at a table over n copies at once: the part that Reach, Push, PickPlace and Play have in common.

A control step is: action -> driver -> twenty physics steps, each watched for contact forces and speeds -> signals ->
reward and termination -> observation. :mod:`cadenza.envs.tabletop.single` makes a Gymnasium environment of it (n = 1),
:mod:`cadenza.envs.tabletop.vectorized` one of Stable-Baselines3's; the numbers are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from cadenza.controllers.hand_bounds import HandBounds
from cadenza.controllers.poses import length, multiply
from cadenza.envs.errors import CadenzaError
from cadenza.envs.tabletop.driving import hand_at, hand_of, make_driver, put_home
from cadenza.envs.tabletop.observations import Layout, goal_terms, state_terms
from cadenza.envs.tabletop.physics import Physics
from cadenza.envs.tabletop.pictures import Pictures
from cadenza.envs.tabletop.scene import build_model
from cadenza.envs.tabletop.settings import TableConfig
from cadenza.envs.tabletop.signals import Signals
from cadenza.envs.tabletop.workspaces import workspace
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import joint_limits, velocity_limits
from cadenza.robots.names import unknown_name

Array = NDArray[np.float64]
Ids = NDArray[np.intp]
OPTIONS = ("object", "goal")
_OVERLAP_M = 1e-4
_TRIES = 1000


class TableTask:
    """n copies of an arm at one task.

    Args:
        arm: from :func:`cadenza.robots.load_arm`.
        config: settings.
        n: copies.
        physics: makes their physics of the compiled model.
    """

    has_goal: ClassVar[bool] = True
    has_object: ClassVar[bool] = True
    """Whether the cube is there to be used, and observed."""

    def __init__(self, arm: ArmRobot, config: TableConfig, n: int, physics: Callable[[mujoco.MjModel], Physics]):
        if self.has_goal and config.object_limit_n is not None:
            raise CadenzaError("object_limit_n is of Play: tasks with a goal have no reward for safety.")
        self.arm, self.config, self.n = arm, config, n
        self.place = workspace(arm.name)
        self.model = build_model(arm, self.place, config, goal=self.has_goal)
        self.physics = physics(self.model)
        self.dt = 1.0 / config.control_hz
        self.substeps = round(self.dt / config.physics_dt_s)
        self.episode_steps = config.episode_steps
        self.limits, self.speed_limits = joint_limits(arm), velocity_limits(arm)

        self.hand = hand_of(self.physics, arm)
        self.index = self.hand.index
        self.home_qpos = put_home(self.model, arm, self.index, self.place.fingers)
        bounded = (self.has_goal if config.bounds is None else config.bounds) and config.actions != "joints"
        self.bounds = self._hand_bounds() if bounded else None
        """Of the hand's target; None where it may go anywhere."""
        self.driver = make_driver(
            arm, self.physics, self.hand, actions=config.actions, control=config.control, rate_hz=config.control_hz,
            bounds=self.bounds,
        )  # fmt: skip
        joint = self.model.joint("object")
        self._object, self._object_dof = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._sensors = self.physics.read("sensordata")
        self._touch = np.array([self._sensor(f"{side}_touch").start for side in ("left", "right")])
        self._table, self._self, self._pinch = map(self._sensor, ("table_force", "self_force", "pinch_force"))

        self.pictures = Pictures(self.physics, config.camera, config.camera_size)
        terms = state_terms(arm, with_object=self.has_object)
        self.goal_apart = self.has_goal and config.reward != "shaped"
        """Whether observations are the dictionaries of goal-conditioned environments."""
        in_vector = self.has_goal and not self.goal_apart
        self.layout = Layout((*terms, *goal_terms(self.achieved)) if in_vector else terms)
        self.random = [np.random.default_rng(index) for index in range(n)]
        self.steps = np.zeros(n, dtype=np.int64)
        self.action, self.last_action = np.zeros((n, self.driver.size)), np.zeros((n, self.driver.size))
        self.goal = np.zeros((n, 3))
        self.options: list[dict[str, Any]] = [{} for _ in range(n)]
        """Of each copy's next reset."""
        self.memory: dict[str, NDArray[Any]] = {
            "steps": self.steps, "action": self.action, "last_action": self.last_action, "goal": self.goal,
            **self.driver.memory,
        }  # fmt: skip
        self.force, self.speed_share = np.zeros(n), np.zeros(n)
        """The most within the last control step: of the arm's contacts, N, and of a joint's speed over its limit."""
        self._all = np.arange(n)

    def _hand_bounds(self) -> HandBounds:
        place, quaternion = hand_at(self.model, self.index, self.home_qpos)
        (x, y), (side, top), beside = self.place.center, self.extent(), 2 * self.place.threshold
        high = np.array([x + side + beside, y + side + beside, max(top + beside, place[2])])
        return HandBounds(np.array([x - side - beside, y - side - beside, 0.0]), high, quaternion, self.place.hand_turn)

    # ------------------------------------------------------------------ what a task says

    def draw(self, random: np.random.Generator) -> tuple[Array, float, Array]:
        """Where a cube starts (3,), its yaw, and the goal (3,)."""
        raise NotImplementedError

    def extent(self) -> tuple[float, float]:
        """Half width of the square, and height, in which the hand has work to do, m."""
        return self.place.start_noise, self.place.carry

    def check_goal(self, goal: Sequence[float]) -> Array:
        """The goal that somebody asked for, (3,).

        Raises:
            CadenzaError: it cannot be reached, or the task has none.
        """
        raise NotImplementedError

    def achieved(self, signals: Signals) -> Array:
        """What is to come to the goal, (n, 3)."""
        raise NotImplementedError

    def reward(self, signals: Signals) -> tuple[Array, dict[str, Array]]:
        """The reward (n,), and its terms (n,), which add up to it."""
        raise NotImplementedError

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        """Whose episode ends, (n,)."""
        return np.zeros(self.n, dtype=bool)

    def infos(self, signals: Signals) -> list[dict[str, Any]]:
        """What the infos of a step say beside the reward terms."""
        return [{} for _ in range(self.n)]

    # ------------------------------------------------------------------ spaces

    @property
    def observation_space(self) -> spaces.Space:
        """Flat, or the dictionary of goal-conditioned environments; pictures are further entries of a dictionary."""
        state = spaces.Box(-np.inf, np.inf, (self.layout.size,), np.float32)
        if not self.goal_apart:
            return spaces.Dict({"state": state, **self.pictures.spaces}) if self.pictures.cameras else state
        point = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        goals = {"achieved_goal": point, "desired_goal": point}
        return spaces.Dict({"observation": state, **goals, **self.pictures.spaces})

    @property
    def action_space(self) -> spaces.Box:
        """[-1, 1], one a direction of the hand or a joint, and the gripper."""
        return spaces.Box(-1.0, 1.0, (self.driver.size,), np.float32)

    def observation(self, signals: Signals, ids: Ids | None = None) -> dict[str, NDArray[Any]]:
        """Of all copies, by the name of its part; ``state`` alone where the space is flat.

        Args:
            signals: of all copies.
            ids: whose pictures are taken anew; None: all.
        """
        seen = self.pictures.take(self._all if ids is None else ids) if self.pictures.cameras else {}
        state = self.layout.vector(signals)
        if not self.goal_apart:
            return {"state": state, **seen}
        goals = {"achieved_goal": self.achieved(signals), "desired_goal": signals.goal}
        return {"observation": state, **{name: goal.astype(np.float32) for name, goal in goals.items()}, **seen}

    # ------------------------------------------------------------------ the loop

    def seed(self, index: int, seed: int) -> None:
        """Give a copy its generator; what it draws depends on nothing else."""
        self.random[index] = np.random.default_rng(seed)

    def reset(self, ids: Ids) -> Signals:
        """Begin episodes of these copies; the signals of all."""
        drawn = []
        for index in ids.tolist():
            # Before anything is written: an option that cannot be leaves the copy as it is.
            options, self.options[index] = self.options[index], {}
            position, yaw, goal = self.draw(self.random[index])
            if "object" in options:
                position, yaw = self.check_object(options["object"])
            if "goal" in options:
                goal = self.check_goal(options["goal"])
            drawn.append((position, yaw, goal))
        self.physics.reset(ids)
        for index, (position, yaw, goal) in zip(ids.tolist(), drawn, strict=True):
            qpos = self.physics.qpos[index]
            qpos[:] = self.home_qpos
            qpos[self._object : self._object + 3] = position
            qpos[self._object + 3 : self._object + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
            self.goal[index] = goal
        if self.has_goal:
            self.physics.mocap_pos[ids, 0] = self.goal[ids]
        for array in (self.steps, self.action, self.last_action, self.force, self.speed_share):
            array[ids] = 0
        self.physics.derive(ids)
        self.driver.begin(ids)
        return self.signals()

    def step(self, actions: NDArray[np.floating]) -> tuple[Signals, Array, NDArray[np.bool_], dict[str, Array]]:
        """One control step of every copy.

        Args:
            actions: in [-1, 1], shape (n, size), see :func:`actions_of`; values beyond are cut.

        Returns:
            signals, rewards (n,), terminated (n,) and the terms that add up to the reward, (n,) each. An episode that
            ends is not begun anew.

        Raises:
            CadenzaError: a number that is not finite; nothing has moved then.
        """
        finite = np.isfinite(actions).all(axis=1)
        if not finite.all():
            raise CadenzaError(
                f"An action holds a number that is not finite: {actions[~finite][0].tolist()}.",
                "The environment stands as it did before it.",
            )
        self.last_action[:] = self.action
        self.action[:] = np.clip(actions, -1.0, 1.0)
        self.driver.command(self.action)
        self.watch(begin=True)
        for _ in range(self.substeps):
            self.driver.before_physics()
            self.physics.step()
            self.watch()
        self.steps += 1
        signals = self.signals()
        reward, terms = self.reward(signals)
        return signals, reward, self.terminated(signals), terms

    def watch(self, begin: bool = False) -> None:
        """Keep the most of what passes within a control step, after each physics step; forget it at the ``begin``."""
        if begin:
            self.force[:] = self.speed_share[:] = 0.0
            return
        np.maximum(self.force, self._forces(), out=self.force)
        share = np.abs(self.physics.qvel[:, self.index.dof]) / self.speed_limits
        np.maximum(self.speed_share, share.max(axis=1), out=self.speed_share)

    def signals(self) -> Signals:
        """Everything about all copies; their states must be derived."""
        qpos, qvel, at, dof = self.physics.qpos, self.physics.qvel, self._object, self._object_dof
        position, quaternion = self.hand.pose()
        turn = qpos[:, at + 3 : at + 7].copy()
        return Signals(
            joint_angle=qpos[:, self.index.qpos],
            joint_velocity=qvel[:, self.index.dof],
            gripper=qpos[:, self.index.gripper_qpos],
            object_position=qpos[:, at : at + 3].copy(),
            object_quaternion=turn,
            object_twist=np.concatenate((qvel[:, dof : dof + 3], rotate(turn, qvel[:, dof + 3 : dof + 6])), axis=1),
            hand_position=position,
            hand_quaternion=quaternion,
            hand_twist=self.hand.twist(),
            finger_position=self.hand.fingers(),
            goal=self.goal.copy(),
            touches=self._sensors[:, self._touch] > 0,
            contact_force=self.force.copy(),
            speed_share=self.speed_share.copy(),
            action=self.action.copy(),
            last_action=self.last_action.copy(),
        )

    # ------------------------------------------------------------------ where things may be

    def check_options(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Options of a reset, if all are known and can be.

        Raises:
            UnknownNameError: an option that there is not.
            CadenzaError: an object off the table, or a goal that cannot be reached.
        """
        for name in options or {}:
            if name not in OPTIONS:
                raise unknown_name("option of reset", name, OPTIONS)
        found = dict(options or {})
        if "object" in found:
            self.check_object(found["object"])
        if "goal" in found:
            self.check_goal(found["goal"])
        return found

    def check_object(self, given: Sequence[float]) -> tuple[Array, float]:
        """Position (3,) and yaw of a cube from x, y, (z,) yaw.

        Raises:
            CadenzaError: numbers that do not say that, or a cube that is not on or above the table.
        """
        numbers = numbers_of("object", given, (3, 4), "x, y, yaw or x, y, z, yaw")
        x, y, yaw = float(numbers[0]), float(numbers[1]), float(numbers[-1])
        z = float(numbers[2]) if len(numbers) == 4 else self.place.rest
        # Its footprint, turned by the yaw, must lie on the table, or it tips over the edge.
        side = self.place.cube_half * (abs(np.cos(yaw)) + abs(np.sin(yaw)))
        if not self.place.on_table(x, y, side) or z < self.place.rest - 1e-9:
            (mx, my), (hx, hy) = self.place.table_center, self.place.table_half
            raise CadenzaError(
                f"The object would start off the table, at x {x:g}, y {y:g}, z {z:g} m.",
                f"The table reaches from x {mx - hx:g} to {mx + hx:g} and from y {my - hy:g} to {my + hy:g} m; the "
                f"cube's centre lies at z {self.place.rest:g} m on it, {side:.3g} m or more from the edge.",
            )
        position = np.array([x, y, z])
        if self._inside_the_arm(position, yaw):
            near, far = self.place.radius
            raise CadenzaError(
                f"The object would start inside the arm, at x {x:g}, y {y:g}, z {z:g} m.",
                f"{self.arm.title} works {near:g} to {far:g} m from its axis.",
            )
        return position, yaw

    def _inside_the_arm(self, position: Array, yaw: float) -> bool:
        """Whether a cube there would overlap the arm in its home pose."""
        data = mujoco.MjData(self.model)
        data.qpos[:] = self.home_qpos
        data.qpos[self._object : self._object + 3] = position
        data.qpos[self._object + 3 : self._object + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_collision(self.model, data)
        cube, table = (self.model.geom(name).id for name in ("object", "table"))
        pairs, deep = data.contact.geom, data.contact.dist < -_OVERLAP_M
        return bool((deep & (pairs == cube).any(axis=1) & ~(pairs == table).any(axis=1)).any())

    def square(self, random: np.random.Generator, half: float) -> Array:
        """A point (2,) of the square of half width ``half`` around the middle that the hand can reach."""
        for _ in range(_TRIES):
            x, y = np.array(self.place.center) + random.uniform(-half, half, 2)
            if self.place.within_reach((x, y, 0.0)) and self.place.on_table(x, y):
                return np.array([x, y])
        raise CadenzaError(f"No point within {half} m of {self.place.center} is within reach.", "Choose less noise.")

    def unreachable(self, goal: Sequence[float], why: str) -> CadenzaError:
        """The error for a goal that cannot be reached."""
        (near, far), (_, top) = self.place.radius, self.place.height
        x, y, z = (float(value) for value in goal)
        works = (
            f"{self.arm.title} works before its base (x > 0), {near:g} to {far:g} m from its axis, up to {top:g} m "
            "above the table."
        )
        if self.bounds is not None:
            (x0, y0, z0), (x1, y1, z1) = self.bounds.low.tolist(), self.bounds.high.tolist()
            works += (
                f" Here its hand is kept within x {x0:g} to {x1:g}, y {y0:g} to {y1:g} and z {z0:g} to {z1:g} m; "
                "bounds=False lets it go farther."
            )
        return CadenzaError(f"The goal at x {x:g}, y {y:g}, z {z:g} m is out of reach: {why}.", works)

    def hand_comes_near(self, goal: Array, enough_m: float) -> bool:
        """Whether the hand's target may come within that of a point (3,)."""
        if self.bounds is None:
            return True
        return float(np.linalg.norm(np.clip(goal, self.bounds.low, self.bounds.high) - goal)) <= enough_m

    # ------------------------------------------------------------------ parts of it

    def _sensor(self, name: str) -> slice:
        sensor = self.model.sensor(name)
        return slice(int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0]))

    def _forces(self) -> Array:
        """What table and arm, and the arm's own parts, press on each other, N, (n,).

        Fingers that close on nothing are meant to press on each other: that counts for nothing.
        """
        sensors = self._sensors
        own, pinch = (length(sensors[:, part].reshape(self.n, -1, 3))[..., 0] for part in (self._self, self._pinch))
        between = np.zeros(self.n)
        for contact in range(own.shape[1]):
            between = between + (own[:, contact] - pinch[:, contact])
        force: Array = length(sensors[:, self._table])[:, 0] + np.maximum(between, 0.0)
        return force

    # ------------------------------------------------------------------ state

    def states(self, ids: Ids) -> list[dict[str, Any]]:
        """All that the next steps of these copies depend on, as arrays and plain values."""
        return [
            {
                "task": type(self).__name__,
                "physics": self.physics.state(index),
                "memory": {name: array[index].copy() for name, array in self.memory.items()},
                "random": self.random[index].bit_generator.state,
            }
            for index in ids.tolist()
        ]

    def set_states(self, ids: Ids, states: Sequence[Mapping[str, Any]]) -> Signals:
        """Put :meth:`states` into these copies; the signals of all.

        Raises:
            CadenzaError: states of another model or task, with a number that is not finite, or not one for each copy.
                Nothing is changed then.
        """
        if len(states) != len(ids):
            raise CadenzaError(f"There are {len(ids)} copies to restore and {len(states)} states.")
        size, task = len(self.physics.state(0)), type(self).__name__
        for state in states:
            if set(state) - {"task"} != {"physics", "memory", "random"} or len(state["physics"]) != size:
                raise CadenzaError(
                    "The saved state is of another model.", "Restore it in an environment of the same id and settings."
                )
            if not np.isfinite(state["physics"]).all():
                raise CadenzaError("The saved state holds a number that is not finite.")
            # Push and PickPlace remember the same things, but not for the same goals.
            if set(state["memory"]) != set(self.memory) or state.get("task", task) != task:
                raise CadenzaError(
                    "The saved state is of another task.", "Restore it in an environment of the same id and settings."
                )
        self.physics.set_states(ids, np.array([state["physics"] for state in states]))
        for index, state in zip(ids.tolist(), states, strict=True):
            for name, array in self.memory.items():
                array[index] = state["memory"][name]
            self.random[index].bit_generator.state = state["random"]
        return self.signals()


def rotate(quaternion: Array, vector: Array) -> Array:
    """Vectors (n, 3) turned by unit quaternions wxyz (n, 4)."""
    pure = np.concatenate((np.zeros((len(vector), 1)), vector), axis=1)
    turned: Array = multiply(multiply(quaternion, pure), quaternion * np.array([1.0, -1.0, -1.0, -1.0]))[:, 1:]
    return turned


def actions_of(given: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Actions as an array of floats.

    Raises:
        CadenzaError: another shape; numpy would use one number, or one action, for all.
    """
    actions = np.asarray(given, dtype=np.float64)
    if actions.shape != shape:
        raise CadenzaError(
            f"An action of the shape {actions.shape} was given; here it has {shape}.",
            "action_space says what is taken: the hand's or the joints' numbers, then the gripper's.",
        )
    return actions


def numbers_of(name: str, given: Sequence[float], sizes: tuple[int, ...], meaning: str) -> Array:
    """``given`` as a vector of floats.

    Raises:
        CadenzaError: something else.
    """
    try:
        numbers = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.ndim != 1 or len(numbers) not in sizes or not np.isfinite(numbers).all():
        raise CadenzaError(f"The option {name!r} is {given!r}.", f"It takes {meaning}, in m and rad.")
    return numbers
