"""Writes robots.jpg: the humanoids at home on one floor. Run it in the checkout: python docs/images/robots.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cadenza.envs.rendering.gl import ensure_gl_backend
from cadenza.robots import load_humanoid

PLACES = {"op3": -1.55, "berkeley_humanoid": -0.85, "booster_t1": -0.05, "unitree_g1": 0.8, "unitree_h1": 1.75}
WIDTH, HEIGHT = 1200, 600


def main() -> None:
    ensure_gl_backend()
    # MuJoCo reads MUJOCO_GL when it is imported.
    import mujoco

    from cadenza.robots.building import build_spec
    from cadenza.robots.pose import home_angles, home_qpos

    scene = mujoco.MjSpec()
    scene.option.timestep, scene.option.integrator = 0.004, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    scene.visual.global_.offwidth, scene.visual.global_.offheight = 2 * WIDTH, 2 * HEIGHT
    scene.visual.headlight.ambient = [0.45, 0.45, 0.45]
    scene.visual.headlight.diffuse = [0.4, 0.4, 0.4]
    scene.visual.quality.shadowsize = 4096
    scene.stat.extent, scene.stat.center = 2.0, [0, 0, 0.8]
    scene.worldbody.add_light(
        pos=[1.5, 0.5, 4], dir=[-0.5, -0.15, -0.8], diffuse=[0.4] * 3, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    )
    floor = mujoco.mjtGeom.mjGEOM_PLANE
    scene.worldbody.add_geom(type=floor, size=[40, 40, 0.1], rgba=[0.86, 0.88, 0.9, 1])
    sky = scene.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=384)
    sky.builtin, sky.rgb1, sky.rgb2 = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, [0.97, 0.98, 1], [0.86, 0.88, 0.9]
    heights = {}
    for name, across in PLACES.items():
        robot = load_humanoid(name)
        spec = build_spec(robot)
        heights[name] = home_qpos(robot, spec.compile())[2]
        scene.attach(spec, prefix=f"{name}/", frame=scene.worldbody.add_frame(pos=[0, across, 0]))
    model = scene.compile()
    data = mujoco.MjData(model)
    for name, across in PLACES.items():
        robot = load_humanoid(name)
        base = model.jnt_qposadr[model.body(f"{name}/{robot.base}").jntadr[0]]
        data.qpos[base : base + 7] = (0, across, heights[name], 1, 0, 0, 0)
        for joint, angle in zip(robot.joint_names, home_angles(robot), strict=True):
            data.joint(f"{name}/{joint}").qpos = angle
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.lookat, camera.distance, camera.azimuth, camera.elevation = [0, 0.1, 0.80], 3.2, 180, -5
    # The shadow's map covers a few metres round the robots; beyond it the floor would show its edge.
    model.vis.map.shadowclip = 3.0
    options = mujoco.MjvOption()
    options.geomgroup[:] = (1, 1, 1, 0, 0, 0)
    with mujoco.Renderer(model, 2 * HEIGHT, 2 * WIDTH) as renderer:
        renderer.update_scene(data, camera, options)
        pixels = np.asarray(renderer.render())
    image = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    image.save(Path(__file__).with_suffix(".jpg"), quality=88, optimize=True)


if __name__ == "__main__":
    main()
