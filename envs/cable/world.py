"""The simulated world of cable routing: what happens, and everything that can be known about it.

The environment shows policies some of it; scripted primitives and labels read all of it and are privileged for that.
"""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.controllers.gripper import finger_width
from cadenza.envs.cable import model as parts
from cadenza.envs.cable.grasp import Grasp, Held
from cadenza.envs.cable.hand import CONTROL_DT_S, HandControl, yaw_of
from cadenza.envs.cable.layouts import ClipPose, Layout, draw_layout
from cadenza.envs.cable.routing import Crossing, RoutedTest, seated_crossing
from cadenza.envs.cable.settings import CableConfig
from cadenza.robots import load_arm
from cadenza.robots.arm_pose import arm_index, tcp_pose

Array = NDArray[np.float64]

SETTLE_S = 0.4
"""How long the cable lies down before an episode begins."""
CHUNK = 5
"""Physics steps between two looks at the force of the grasp."""
START_M = (0.45, 0.0, 0.12)
START_SPREAD_M = (0.03, 0.05, 0.02)


class CableWorld:
    """Arm, cable and clips, stepped by actions of the hand.

    Args:
        config: settings, checked.
    """

    def __init__(self, config: CableConfig) -> None:
        self.config = config
        self.arm = load_arm("panda")
        self.model: mujoco.MjModel = parts.build_spec(config, self.arm).compile()
        self.data = mujoco.MjData(self.model)
        self.index = arm_index(self.model, self.arm)
        self.hand = HandControl(self.arm, self.index)
        self.grasp = Grasp(self.model, self.arm.tool_body, assist=config.grasp == "assist")
        self.clips: Layout = ()
        """Poses of the clips, in the order in which the cable is routed."""
        self.gaps_m: list[float] = []
        """Between the walls of each clip."""
        self.stiffness_scale = 1.0
        """On the cable's nominal bending stiffness."""
        self._test = RoutedTest(config.clips, CONTROL_DT_S)
        self._aim: int | None = None
        self._push: tuple[int, Array, float] | None = None
        self._random = np.random.default_rng(0)
        model = self.model
        hinges = [model.joint(f"cable{n}_{axis}").id for n in range(parts.SEGMENTS) for axis in ("across", "up")]
        self._hinges = np.array(hinges, dtype=np.intp)
        self._across = model.jnt_qposadr[self._hinges[0::2]]
        self._last = model.geom(f"cable{parts.SEGMENTS - 1}_end").id
        self._walls = [
            [int(model.body_mocapid[model.body(name).id]) for name in parts.wall_names(clip)]
            for clip in range(config.clips)
        ]
        self._substeps = round(CONTROL_DT_S / config.physics_dt_s)

    # --- what can be known ---------------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Since the episode began."""
        return float(self.data.time)

    @property
    def nodes(self) -> Array:
        """Ends of the cable's segments, from the anchor on, (25, 3), m."""
        return np.concatenate((self.data.xpos[self.grasp.segments], self.data.geom_xpos[self._last][None]))

    @property
    def points(self) -> Array:
        """Middles of the cable's segments, (24, 3), m."""
        return self.data.geom_xpos[self.grasp.capsules].copy()

    @property
    def tcp(self) -> Array:
        """Of the hand, (3,), m."""
        return self.data.site_xpos[self.index.tcp].copy()

    @property
    def tcp_quaternion(self) -> Array:
        """wxyz, (4,)."""
        return tcp_pose(self.data, self.index)[1]

    @property
    def yaw(self) -> float:
        """Of the hand, rad; 0 where the fingers close along x."""
        return yaw_of(self.data.site_xmat[self.index.tcp].reshape(3, 3))

    @property
    def width_m(self) -> float:
        """Between the pads."""
        return finger_width(self.data, self.index)

    @property
    def held(self) -> Held | None:
        """Where the hand has hold of the cable."""
        return self.grasp.held

    @property
    def force(self) -> Array:
        """Of the hand on the cable, N, along the world's axes, (3,)."""
        return self.grasp.force(self.data)

    @property
    def force_n(self) -> float:
        """Between hand and cable; 0 without a hold."""
        return self.grasp.force_n(self.data)

    @property
    def routed(self) -> list[bool]:
        """Of each clip."""
        return self._test.routed

    def seat(self, clip: int) -> Crossing | None:
        """Where the cable lies in this clip's gap now; None if it does not."""
        return seated_crossing(self.nodes, self.clips[clip], self.gaps_m[clip])

    @property
    def current_clip(self) -> int:
        """The clip in work: the one that was aimed at, else the first that is not routed (the last, if all are)."""
        if self._aim is not None:
            return self._aim
        return next((clip for clip, routed in enumerate(self.routed) if not routed), self.config.clips - 1)

    def aim_at(self, clip: int | None) -> None:
        """Name the clip in work, for whoever does not go by what is routed; None: the first that is not routed.

        Raises:
            ValueError: no such clip.
        """
        if clip is not None and not 0 <= clip < self.config.clips:
            raise ValueError(f"There is no clip {clip}; there are 0 to {self.config.clips - 1}.")
        self._aim = clip

    # --- what happens --------------------------------------------------------------------------------------------

    def reset(self, random: np.random.Generator) -> None:
        """A new episode: clips, stiffness, cable and hand are drawn from ``random``."""
        config, model, data = self.config, self.model, self.data
        self._random = random
        mujoco.mj_resetData(model, data)
        self.grasp.reset()
        self._aim = self._push = None
        clips = draw_layout(config.checked_layout, config.clips, random)
        low, high = parts.GAP_CLEARANCE_M
        gaps = [2 * parts.RADIUS_M + float(random.uniform(low, high)) for _ in clips]
        self.place_clips(clips, gaps)
        spread = config.stiffness_range
        scale = float(random.uniform(1.0 - spread, 1.0 + spread))
        self.set_stiffness(scale if config.stiffness_scale is None else config.stiffness_scale)
        self._lay_cable(random)
        start = np.array(START_M) + random.uniform(-1.0, 1.0, 3) * START_SPREAD_M
        self.hand.place(model, data, start, float(random.uniform(-0.2, 0.2)))
        mujoco.mj_step(model, data, nstep=round(SETTLE_S / config.physics_dt_s))
        data.time = 0.0
        mujoco.mj_forward(model, data)
        self._test = RoutedTest(config.clips, CONTROL_DT_S)
        self._look()

    def step(self, action: ArrayLike) -> None:
        """One control step.

        Raises:
            ValueError: an action of another size or with a number that is not finite.
        """
        model, data = self.model, self.data
        self.hand.apply(model, data, action)
        self.grasp.update(data, self.nodes, closing=self.hand.closing, width_m=self.width_m)
        self._disturb()
        for first in range(0, self._substeps, CHUNK):
            mujoco.mj_step(model, data, nstep=min(CHUNK, self._substeps - first))
            self.grasp.check(data)
        mujoco.mj_forward(model, data)  # what is read belongs to this state, not to the one before
        self._look()

    def place_clips(self, clips: Layout, gaps_m: list[float]) -> None:
        """Move the clips' walls; ``mj_forward`` has to follow."""
        self.clips, self.gaps_m = clips, gaps_m
        for clip, gap, walls in zip(clips, gaps_m, self._walls, strict=True):
            for wall, side in zip(walls, (1.0, -1.0), strict=True):
                self.data.mocap_pos[wall] = clip.position + side * gap / 2 * clip.v
                turn = clip.yaw if side > 0 else clip.yaw + math.pi
                self.data.mocap_quat[wall] = (math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2))

    def set_stiffness(self, scale: float) -> None:
        """Make the cable ``scale`` times as stiff as nominal."""
        self.stiffness_scale = scale
        stiffness = parts.joint_stiffness(scale)
        self.model.jnt_stiffness[self._hinges] = stiffness
        damping = parts.joint_damping(stiffness, self.config.physics_dt_s)
        self.model.dof_damping[self.model.jnt_dofadr[self._hinges]] = damping

    def lay_cable(self, headings_rad: ArrayLike) -> None:
        """Lay the cable on the table, at rest; ``mj_forward`` has to follow.

        Args:
            headings_rad: of each segment, (24,), from +y, counter-clockwise as yaw.
        """
        headings = np.asarray(headings_rad, dtype=np.float64)
        self.data.qpos[self._across] = np.diff(headings, prepend=parts.HEADING_RAD)
        self.data.qpos[self._across + 1] = 0.0
        self.data.qvel[:] = 0.0

    def _lay_cable(self, random: np.random.Generator) -> None:
        """In a bow around the clips, on the side away from the arm."""
        heading = parts.HEADING_RAD + float(random.uniform(-0.07, 0.07))
        share = np.clip((np.arange(parts.SEGMENTS) - 3.0) / 8.0, 0.0, 1.0)
        wiggle = np.cumsum(random.uniform(-0.05, 0.05, parts.SEGMENTS))
        self.lay_cable(heading * (1.0 - share) + wiggle - wiggle.mean())

    def push(self, segment: int, force_n: ArrayLike, seconds: float) -> None:
        """Push a segment of the cable for some time from the next step on; a push replaces the last one."""
        self._push = (int(segment), np.asarray(force_n, dtype=np.float64), float(seconds))

    def _disturb(self) -> None:
        told = self.config.disturbance
        random, dt = self._random, CONTROL_DT_S
        if told.push_hz and random.random() < told.push_hz * dt:
            around = random.uniform(0.0, 2 * math.pi)
            direction = np.array((math.cos(around), math.sin(around), random.uniform(0.0, 1.0)))
            force = direction / np.linalg.norm(direction) * random.uniform(0.3, 1.0) * told.push_n
            self.push(int(random.integers(parts.SEGMENTS // 4, parts.SEGMENTS)), force, told.push_s)
        if told.slip_hz and random.random() < told.slip_hz * dt and self.held is not None:
            self.grasp.slip(self.data)
        self.data.xfrc_applied[self.grasp.segments] = 0.0
        if self._push is not None:
            segment, force, left_s = self._push
            self.data.xfrc_applied[self.grasp.segments[segment], :3] = force
            self._push = (segment, force, left_s - dt) if left_s > dt + 1e-9 else None

    def _look(self) -> None:
        self._test.update([self.seat(clip) is not None for clip in range(self.config.clips)])

    # --- to go on later ------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """What is not in ``mjData``, in plain values."""
        held = self.grasp.held
        return {
            "clips": [(clip.x, clip.y, clip.yaw) for clip in self.clips],
            "gaps_m": list(self.gaps_m),
            "stiffness_scale": self.stiffness_scale,
            "hand": self.hand.get_state(),
            "held": None if held is None else (held.segment, held.share),
            "must_open": self.grasp.must_open,
            "eq_data": self.model.eq_data.copy(),
            "seated_steps": list(self._test.steps),
            "aim": self._aim,
            "push": self._push,
        }

    def set_state(self, state: dict[str, Any], random: np.random.Generator) -> None:
        """Go on from a saved state, with ``mjData`` restored before and the generator given."""
        self.clips = tuple(ClipPose(*numbers) for numbers in state["clips"])
        self.gaps_m = list(state["gaps_m"])
        self.set_stiffness(float(state["stiffness_scale"]))
        self.hand.set_state(state["hand"], self.data)
        self.grasp.held = None if state["held"] is None else Held(*state["held"])
        self.grasp.must_open = bool(state["must_open"])
        self.model.eq_data[:] = state["eq_data"]
        self._test.steps = list(state["seated_steps"])
        self._aim, self._push = state["aim"], state["push"]
        self._random = random
