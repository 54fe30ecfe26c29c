from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cadenza.envs.rendering import gl


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A Linux shell with no choice made, restored afterwards."""
    monkeypatch.setattr(gl, "_CHOSEN_IN", ())  # MuJoCo, loaded long ago by other tests, stays with what works here
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")  # so that what the test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "linux")
    return monkeypatch


def offer(patch: pytest.MonkeyPatch, *, egl: bool, osmesa: bool, display: bool = False) -> list[str]:
    asked: list[str] = []

    def probe(name: str, works: bool) -> None:
        def answer() -> bool:
            asked.append(name)
            return works

        patch.setattr(gl, name, answer)

    probe("egl_works", egl)
    probe("osmesa_works", osmesa)
    probe("display_present", display)
    return asked


def test_egl_comes_first(bare: pytest.MonkeyPatch) -> None:
    asked = offer(bare, egl=True, osmesa=True, display=True)
    assert gl.ensure_gl_backend() == "egl"
    assert asked == ["egl_works"]
    assert (os.environ["MUJOCO_GL"], os.environ["PYOPENGL_PLATFORM"]) == ("egl", "egl")


def test_osmesa_where_egl_has_no_device(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("PYOPENGL_PLATFORM", "egl")  # left by something else: MuJoCo would refuse to import
    offer(bare, egl=False, osmesa=True, display=True)
    assert gl.ensure_gl_backend() == "osmesa"
    assert (os.environ["MUJOCO_GL"], os.environ["PYOPENGL_PLATFORM"]) == ("osmesa", "osmesa")


def test_a_display_is_the_last_resort(bare: pytest.MonkeyPatch) -> None:
    asked = offer(bare, egl=False, osmesa=False, display=True)
    assert gl.ensure_gl_backend() == "glfw"
    assert asked == ["egl_works", "osmesa_works", "display_present"]
    assert os.environ["MUJOCO_GL"] == "glfw"
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_the_users_choice_is_kept(bare: pytest.MonkeyPatch) -> None:
    asked = offer(bare, egl=True, osmesa=True)
    bare.setenv("MUJOCO_GL", "osmesa")
    assert gl.ensure_gl_backend() == "osmesa"
    assert asked == []
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_nothing_there_names_the_packages(bare: pytest.MonkeyPatch) -> None:
    offer(bare, egl=False, osmesa=False)
    with pytest.raises(gl.NoGraphicsLibraryError) as caught:
        gl.ensure_gl_backend()
    assert "neither EGL nor OSMesa" in str(caught.value)
    assert "sudo apt-get install libegl1 libgl1" in caught.value.advice
    assert "sudo apt-get install libosmesa6" in caught.value.advice
    assert "MUJOCO_GL" not in os.environ


def test_a_library_that_does_not_load_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(gl.ctypes, "CDLL", refuse)
    assert not gl.egl_works()
    assert not gl.osmesa_works()


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("first", ["choose", "import"])
def test_mujoco_draws_with_what_was_chosen(first: str) -> None:
    """In a new process, without any variable: what was chosen draws, before MuJoCo is imported and after."""
    lines = ["from cadenza.envs.rendering.gl import ensure_gl_backend; ensure_gl_backend()", "import mujoco"]
    code = "\n".join(lines if first == "choose" else reversed(lines)) + (
        "\n"
        'xml = \'<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size=".1"/></worldbody></mujoco>\'\n'
        "model = mujoco.MjModel.from_xml_string(xml); data = mujoco.MjData(model); mujoco.mj_forward(model, data)\n"
        "renderer = mujoco.Renderer(model, 32, 32); renderer.update_scene(data)\n"
        "print(renderer.render().max() > 0); renderer.close()\n"
    )
    shell = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-c", code], env=shell, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.usefixtures("needs_gl")
def test_a_table_with_cameras_needs_no_preparation() -> None:
    """As a user's script would: nothing said about graphics, two environments with pictures in one process."""
    code = (
        "import gymnasium, cadenza.envs\n"
        "for task in ('Push', 'Reach'):\n"
        "    how = dict(camera=('scene',), camera_size=64, render_mode='rgb_array')\n"
        "    env = gymnasium.make(f'cadenza/Panda{task}-v0', **how)\n"
        "    print(env.reset(seed=0)[0]['scene'].max() > 0, env.render().max() > 0)\n"
    )
    shell = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-c", code], env=shell, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 4, done.stderr
