"""Pictures of an environment: our own MuJoCo renderer with a camera that follows the robot, or ``env.render()``."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, Literal, Self

import cv2
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.gl import ensure_gl_backend

Image = NDArray[np.uint8]
Quality = Literal["fast", "nice"]

AZIMUTH_DEG = 120.0
"""A robot that walks along +x is seen from the side and a little from the front, and walks to the right."""
ELEVATION_DEG = -10.0
MARGIN = 1.22
FOLLOW = 0.15
"""Share of the way to the robot that the tracking camera goes per frame: footsteps do not shake the picture."""


class Camera:
    """Renders one Gymnasium environment, wrapped or not, into images of a fixed size.

    MuJoCo environments are drawn by a renderer of our own, whatever their ``render_mode``; physics and the model's
    own settings stay as they were. Others need ``render_mode="rgb_array"``; their picture is resized.

    Args:
        env: the environment, already reset or not.
        width: of the images, in pixels.
        height: of the images, in pixels.
        quality: ``fast`` has no shadows, reflections or smoothing and is about ten times quicker than ``nice``.
        camera: name or index of a camera in the model; None follows the robot.

    Raises:
        CadenzaError: an unknown camera; an environment that gives no pictures; drawing that does not start.
        NoGraphicsLibraryError: no graphics library.
    """

    def __init__(
        self,
        env: Any,
        *,
        width: int = 480,
        height: int = 480,
        quality: Quality = "fast",
        camera: str | int | None = None,
    ):
        if quality not in ("fast", "nice"):
            raise CadenzaError(f"No quality {quality!r}.", "Choose fast or nice.")
        if width < 1 or height < 1:
            raise CadenzaError(f"No picture has {width}x{height} pixels.")
        self.width = width
        self.height = height
        self.quality = quality
        self._env = env
        self._renderer: Any = None
        self._view: _TrackingView | None = None
        self._camera: str | int | None = None
        self._mujoco = _is_mujoco(env)
        if self._mujoco:
            self._camera = checked_camera(env.unwrapped.model, camera)
            self._open()
        elif camera is not None:
            raise CadenzaError(f"Camera {camera!r} was asked for, but the environment has no MuJoCo model.")
        elif getattr(env, "render_mode", None) != "rgb_array":
            raise CadenzaError("The environment gives no pictures.", 'Make it with render_mode="rgb_array".')

    def _open(self) -> None:
        self.close()
        model = self._env.unwrapped.model
        self._renderer = make_renderer(model, self.width, self.height, self.quality)
        self._view = _TrackingView(model, self.width / self.height) if self._camera is None else None

    def frame(self) -> Image:
        """The environment as it is now, shape (height, width, 3), RGB."""
        if not self._mujoco:
            try:
                picture = self._env.render()
            except (ImportError, gym.error.DependencyNotInstalled) as error:
                raise CadenzaError(f"The environment cannot draw itself: {error}") from error
            return _resized(picture, self.width, self.height)
        env = self._env.unwrapped
        if self._renderer is None or self._renderer.model is not env.model:  # a reset may have built a new model
            self._open()
        view = self._camera if self._view is None else self._view.update(env.data)
        self._renderer.update_scene(env.data, view)
        if self.quality == "fast":
            import mujoco

            flags = self._renderer.scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return np.asarray(self._renderer.render())

    def cut(self) -> None:
        """Jump to the robot in the next frame instead of gliding: after a reset."""
        if self._view is not None:
            self._view.cut()

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_mujoco(env: Any) -> bool:
    if not hasattr(env.unwrapped, "model") or not hasattr(env.unwrapped, "data"):
        return False
    import mujoco

    return isinstance(env.unwrapped.model, mujoco.MjModel)


def camera_names(model: Any) -> list[str]:
    """The names of the model's own cameras; a camera without one is called by its index."""
    return [model.camera(index).name or str(index) for index in range(model.ncam)]


def checked_camera(model: Any, camera: str | int | None) -> str | int | None:
    """The camera as MuJoCo's renderers take it; CadenzaError, with the names there are, for one that is not there."""
    names = camera_names(model)
    known = camera is None or camera in names or (isinstance(camera, int) and 0 <= camera < len(names))
    if not known:
        advice = f"Its cameras are: {', '.join(names)}." if names else "It has none: leave out the camera."
        raise CadenzaError(
            f"The model has no camera {camera!r}.", f"{advice} Without a name the view follows the robot."
        )
    if isinstance(camera, str) and model.camera(names.index(camera)).name != camera:
        return int(camera)
    return camera


def make_renderer(model: Any, width: int, height: int, quality: Quality) -> Any:
    """A renderer, on machines without a display too.

    The model's settings for pictures are read once, here, so they are lent to it and put back.

    Raises:
        CadenzaError: drawing does not start.
        NoGraphicsLibraryError: no graphics library.
    """
    ensure_gl_backend()
    import mujoco

    size, look = model.vis.global_, model.vis.quality
    before = size.offwidth, size.offheight, look.offsamples, look.shadowsize
    try:
        size.offwidth, size.offheight = max(size.offwidth, width), max(size.offheight, height)
        look.offsamples = 0 if quality == "fast" else 4
        if quality == "fast":
            look.shadowsize = 0
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # each backend fails with a class of its own
        raise CadenzaError(
            f"MuJoCo cannot draw: {error}",
            "Set MUJOCO_GL=egl (or osmesa) in the shell before Python starts.",
        ) from error
    finally:
        size.offwidth, size.offheight, look.offsamples, look.shadowsize = before


def robot_root(model: Any) -> int:
    """The child of the world that carries most actuated joints (then: most degrees of freedom): the robot's root."""
    import mujoco

    dofs = np.bincount(model.body_rootid[model.dof_bodyid], minlength=model.nbody)
    on_joints = np.isin(model.actuator_trntype, [mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT])
    joints = np.unique(model.actuator_trnid[on_joints, 0])
    driven = np.bincount(model.body_rootid[model.jnt_bodyid[joints]], minlength=model.nbody)
    rank = driven * (model.nv + 1) + dofs
    rank[0] = 0
    return int(np.argmax(rank))


class _TrackingView:
    """A free camera held on the robot, at the distance from which all of it is visible in any posture."""

    def __init__(self, model: Any, aspect: float):
        import mujoco

        self._model = model
        self._root = robot_root(model)
        self._geoms = np.flatnonzero((model.body_rootid[model.geom_bodyid] == self._root) & (model.geom_rbound > 0))
        self._follows = bool(model.body_dofnum[self._root])
        half_angle = math.radians(model.vis.global_.fovy) / 2
        self._per_radius = MARGIN / math.sin(math.atan(math.tan(half_angle) * min(1.0, aspect)))
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._camera)
        self._camera.azimuth, self._camera.elevation = AZIMUTH_DEG, ELEVATION_DEG
        self._fresh = True
        self._framed = False

    def cut(self) -> None:
        self._fresh = True

    def update(self, data: Any) -> Any:
        """The camera for this state."""
        if not self._root or not len(self._geoms):
            return self._camera
        if not self._framed:
            self._frame(data)
        target = np.asarray(data.subtree_com[self._root])
        if self._fresh:
            self._camera.lookat[:] = target + self._offset
        elif self._follows:
            self._camera.lookat[:] += FOLLOW * (target + self._offset - self._camera.lookat)
        self._fresh = False
        return self._camera

    def _frame(self, data: Any) -> None:
        """Distance and centre, once: the box around the robot as it stands at the start."""
        reach = self._model.geom_rbound[self._geoms, None]
        # A long limb's bounding sphere sticks out to all sides; its half counts.
        low = (data.geom_xpos[self._geoms] - reach / 2).min(axis=0)
        high = (data.geom_xpos[self._geoms] + reach / 2).max(axis=0)
        self._offset = (low + high) / 2 - data.subtree_com[self._root]
        self._camera.distance = float(np.linalg.norm(high - low)) / 2 * self._per_radius
        self._framed = True


def _resized(picture: Any, width: int, height: int) -> Image:
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise CadenzaError("The environment's render() gives no picture.", 'Make it with render_mode="rgb_array".')
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture, dtype=np.uint8)
    smaller = picture.shape[0] > height
    return np.asarray(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.uint8
    )
