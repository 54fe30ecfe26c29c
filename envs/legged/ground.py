"""What a robot stands on: a plane, a rough field or slopes, as data and as part of a MuJoCo model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Terrain = Literal["flat", "rough", "slopes"]
TERRAINS: tuple[Terrain, ...] = ("flat", "rough", "slopes")

CELLS = 129
"""Grid points along each side of a field."""
START_SHARE = 0.06
"""Half width of the level square in the middle, where robots start, as a share of the field's half width."""
GRADE = 0.15
"""Steepest slope of ``slopes``: rise over run."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A square field around the origin, or a plane without end where ``heights`` is None."""

    terrain: Terrain
    half_width_m: float
    heights: Array | None = None
    """m over the level of the start, shape (CELLS, CELLS); row = y, column = x, from -half width on."""

    def height(self, position: Array) -> Array:
        """Height below points (n, 2 or more), m, shape (n,); beyond the edge it is that of the edge."""
        if self.heights is None:
            return np.zeros(len(position))
        scaled = (position[:, :2] / self.half_width_m + 1.0) * (0.5 * (CELLS - 1))
        scaled = np.clip(scaled, 0.0, CELLS - 1 - 1e-9)
        column, row = np.floor(scaled).astype(np.intp).T
        across, along = scaled[:, 0] - column, scaled[:, 1] - row
        h = self.heights
        near = h[row, column] * (1 - across) + h[row, column + 1] * across
        far = h[row + 1, column] * (1 - across) + h[row + 1, column + 1] * across
        return near * (1 - along) + far * along

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the geom ``floor`` to the world."""
        world = spec.worldbody
        # Of two geoms that touch, MuJoCo takes the larger friction: the soles'.
        friction = [0.0, 0.005, 0.0001]
        if self.heights is None:
            world.add_geom(
                name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], material="ground", friction=friction
            )
            return
        low, high = float(self.heights.min()), float(self.heights.max())
        spec.add_hfield(
            name="ground",
            nrow=CELLS,
            ncol=CELLS,
            size=[self.half_width_m, self.half_width_m, max(high - low, 1e-6), 0.1],
            userdata=((self.heights - low) / max(high - low, 1e-6)).ravel(),
        )
        world.add_geom(
            name="floor", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="ground", pos=[0, 0, low], material="ground",
            friction=friction,
        )  # fmt: skip


def make_ground(terrain: Terrain, robot_height_m: float, seed: int = 0) -> Ground:
    """Ground to the scale of a robot.

    Args:
        terrain: ``flat``; ``rough``: bumps of up to 4 % of the robot's height, another one every 0.4 of it;
            ``slopes``: hills of up to 15 % grade.
        robot_height_m: of its base in the home pose.
        seed: of the bumps.

    Raises:
        ValueError: there is no such terrain.
    """
    half = 25.0 * robot_height_m
    if terrain == "flat":
        return Ground("flat", half)
    axis = np.linspace(-half, half, CELLS)
    x, y = np.meshgrid(axis, axis)
    if terrain == "rough":
        random = np.random.default_rng([seed, CELLS])
        heights = 0.04 * robot_height_m * random.uniform(0.0, 1.0, (CELLS, CELLS))
    elif terrain == "slopes":
        wave = np.pi / (4.0 * robot_height_m)
        # The steepest place of a * sin(wave x) sin(wave y) has the grade a * wave.
        heights = GRADE / wave * np.sin(wave * x) * np.sin(wave * y)
    else:
        raise ValueError(f"There is no terrain named {terrain!r}; there are: {', '.join(TERRAINS)}.")
    middle = np.maximum(np.abs(x), np.abs(y)) / half
    return Ground(terrain, half, heights * np.clip((middle - START_SHARE) / START_SHARE, 0.0, 1.0))


def build_scene(spec: mujoco.MjSpec, ground: Ground, base: str, robot_height_m: float) -> mujoco.MjModel:
    """Compile a robot's spec with ground, light and a camera that follows it.

    Args:
        spec: of the robot; it is changed.
        ground: to stand on.
        base: the body that the camera follows.
        robot_height_m: sets the camera's distance.
    """
    spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        mark=mujoco.mjtMark.mjMARK_EDGE, rgb1=[0.42, 0.46, 0.5], rgb2=[0.36, 0.4, 0.44], markrgb=[0.6, 0.63, 0.65],
        width=300, height=300,
    )  # fmt: skip
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.65, 0.75, 0.85], rgb2=[0.95, 0.96, 0.97], width=256, height=1536,
    )  # fmt: skip
    material = spec.add_material(name="ground", texuniform=True, texrepeat=[2.0 / robot_height_m] * 2)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    ground.add_to(spec)
    spec.worldbody.add_light(
        pos=[0, 0, 10 * robot_height_m], dir=[0.3, 0.6, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        diffuse=[0.6, 0.6, 0.6], specular=[0.2, 0.2, 0.2],
    )  # fmt: skip
    # Many robots are black: without much light from the camera they are silhouettes.
    spec.visual.headlight.ambient = [0.45, 0.45, 0.45]
    spec.visual.headlight.diffuse = [0.55, 0.55, 0.55]
    spec.visual.headlight.specular = [0.3, 0.3, 0.3]
    away = 4.0 * robot_height_m
    spec.worldbody.add_camera(
        name="follow", pos=[0.35 * away, -away, 1.3 * robot_height_m], mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        targetbody=base, xyaxes=[1, 0.35, 0, 0, 0.1, 1],
    )  # fmt: skip
    return spec.compile()
