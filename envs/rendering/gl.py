"""Chooses how MuJoCo draws without a window. Light; best called before MuJoCo is imported, which reads the choice."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import sys
from collections.abc import Callable

from cadenza.envs.errors import CadenzaError

logger = logging.getLogger(__name__)

INSTALL_ADVICE = "sudo apt-get install libegl1 libgl1    # or: sudo apt-get install libosmesa6"

_CHOSEN_IN = ("mujoco.rendering.classic.gl_context", "mujoco.gl_context")
"""Modules, of MuJoCo 4 and 3, that read MUJOCO_GL when they are imported."""
_EGL_PLATFORM_DEVICE_EXT = 0x313F
_MAX_DEVICES = 16


class NoGraphicsLibraryError(CadenzaError):
    """Neither EGL nor OSMesa nor a display: MuJoCo cannot draw. Training works all the same."""

    def __init__(
        self, message: str = "No graphics library for pictures and videos: neither EGL nor OSMesa works here."
    ):
        super().__init__(message, INSTALL_ADVICE)


def ensure_gl_backend() -> str:
    """Set MUJOCO_GL and PYOPENGL_PLATFORM, unless the user did; the name of the backend.

    EGL comes first (it uses a GPU where there is one), then OSMesa (processor only), then GLFW on a machine with a
    display. macOS and Windows draw with what the system brings; nothing is set there.

    Raises:
        NoGraphicsLibraryError: none of them works; its advice is the line that installs one.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen:
        return chosen
    if sys.platform != "linux":
        return "cgl" if sys.platform == "darwin" else "wgl"
    for name, works in _probes():
        if works():
            _choose(name)
            return name
    raise NoGraphicsLibraryError


def _probes() -> list[tuple[str, Callable[[], bool]]]:
    return [("egl", egl_works), ("osmesa", osmesa_works), ("glfw", display_present)]


def _choose(name: str) -> None:
    os.environ["MUJOCO_GL"] = name
    if name == "glfw":
        os.environ.pop("PYOPENGL_PLATFORM", None)
    else:
        os.environ["PYOPENGL_PLATFORM"] = name  # MuJoCo refuses to import with another value
    for module in [sys.modules[known] for known in _CHOSEN_IN if known in sys.modules]:
        # MuJoCo was imported first, as in most people's scripts: its renderer looks for the context here each time.
        try:
            importlib.reload(module)
        except (ImportError, AttributeError) as error:  # PyOpenGL is bound to another platform
            logger.warning("MuJoCo was imported before MUJOCO_GL=%s was set; pictures may fail: %s", name, error)


def _load(*names: str) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def egl_works() -> bool:
    """True if EGL, and OpenGL beside it, load and some device's display initialises, as MuJoCo will want it.

    The default display is no measure: without X or Wayland it fails where a device's display works.
    """
    egl = _load("libEGL.so.1")
    if egl is None or _load("libOpenGL.so.0", "libGL.so.1") is None:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    get_display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not get_display:
        return False
    pointer, number = ctypes.c_void_p, ctypes.c_int
    query_devices = ctypes.CFUNCTYPE(number, number, pointer, pointer)(query)
    platform_display = ctypes.CFUNCTYPE(pointer, number, pointer, pointer)(get_display)
    devices = (pointer * _MAX_DEVICES)()
    count = number(0)
    if not query_devices(_MAX_DEVICES, ctypes.addressof(devices), ctypes.addressof(count)):
        return False
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    egl.eglTerminate.argtypes = [pointer]
    for device in devices[: count.value]:
        display = platform_display(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            egl.eglTerminate(display)
            return True
    return False


def osmesa_works() -> bool:
    """True if OSMesa's library loads; it needs no device."""
    return _load("libOSMesa.so", "libOSMesa.so.8", "libOSMesa.so.6") is not None


def display_present() -> bool:
    """True on a machine with a screen (X or Wayland), where GLFW can open a hidden window."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
