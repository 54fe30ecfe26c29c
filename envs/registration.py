"""Which environments there are, and one door to all of them. Importing this module loads neither Gymnasium nor MuJoCo.

Gymnasium 1 no longer looks for entry points, so that one of these comes first::

    env = make_env("cadenza/Humanoid-v0")  # registers, and explains what is wrong
    env = gymnasium.make("cadenza.envs:cadenza/Humanoid-v0")  # Gymnasium imports what is left of the colon
    register_environments()  # from here on gymnasium.make("cadenza/Humanoid-v0") works
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cadenza.envs.cable.episodes import episode_steps
from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.tasks import TASKS
from cadenza.envs.names import UnknownNameError, unknown_name
from cadenza.envs.tabletop.tasks import ARMS, EPISODE_STEPS
from cadenza.envs.tabletop.tasks import TASKS as TABLE_TASKS
from cadenza.robots import humanoid_names, load_arm, load_humanoid

if TYPE_CHECKING:
    from pathlib import Path

    import gymnasium as gym
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.robots.arm_description import ArmRobot
    from cadenza.robots.description import LeggedRobot


def legged_ids() -> dict[str, tuple[LeggedRobot, str]]:
    """Every robot at every task: id -> robot and name of the task."""
    robots = [load_humanoid(name) for name in humanoid_names()]
    return {f"cadenza/{robot.prefix}{TASKS[task].label}-v0": (robot, task) for robot in robots for task in TASKS}


def table_ids() -> dict[str, tuple[ArmRobot, str]]:
    """Every arm at every task: id -> arm and name of the task."""
    arms = [load_arm(name) for name in ARMS]
    return {f"cadenza/{arm.prefix}{TABLE_TASKS[task].label}-v0": (arm, task) for arm in arms for task in TABLE_TASKS}


CABLE_ROUTING = "cadenza/CableRouting-v0"

ENVIRONMENTS: dict[str, str] = {
    "cadenza/Humanoid-v0": "Gymnasium's Humanoid-v5 with actions in [-1, 1] scaled to the motors' range",
    "cadenza/HumanoidPaper-v0": "Humanoid-v4 as Symphony's paper drives it: actions in [-1, 1] clamped by the motors",
    **{env_id: f"{robot.title} {TASKS[task].summary}" for env_id, (robot, task) in legged_ids().items()},
    **{env_id: f"{arm.title} {TABLE_TASKS[task].summary}" for env_id, (arm, task) in table_ids().items()},
    CABLE_ROUTING: "Franka Emika Panda lays a cable into one, two or three clips; state or cameras",
}
"""Our environments: id -> one-line summary."""

MAX_EPISODE_STEPS = 1000

_ENTRY_POINTS = {
    "cadenza/Humanoid-v0": "cadenza.envs.humanoid:Humanoid",
    "cadenza/HumanoidPaper-v0": "cadenza.envs.humanoid:HumanoidPaper",
}


def cable_steps(settings: Mapping[str, Any]) -> int:
    """Length of an episode of cable routing, in control steps."""
    return episode_steps(int(settings.get("clips", 1)))


def register_environments() -> None:
    """Tell Gymnasium about :data:`ENVIRONMENTS`; calling it again changes nothing."""
    from gymnasium.envs.registration import register, registry

    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point, max_episode_steps=MAX_EPISODE_STEPS)
    if CABLE_ROUTING not in registry:
        entry_point = "cadenza.envs.cable.cable_routing:CableRouting"
        register(CABLE_ROUTING, entry_point=entry_point, max_episode_steps=cable_steps({}))
    for env_id, (robot, task) in legged_ids().items():
        if env_id not in registry:
            register(
                env_id,
                entry_point="cadenza.envs.legged.single:LeggedEnv",
                max_episode_steps=legged_steps(task, {}),
                kwargs={"robot": robot.name, "task": task},
            )
    for env_id, (arm, task) in table_ids().items():
        if env_id not in registry:
            register(
                env_id,
                entry_point=f"cadenza.envs.tabletop.single:{'TableEnv' if task == 'play' else 'GoalTableEnv'}",
                max_episode_steps=EPISODE_STEPS,
                kwargs={"arm": arm.name, "task": task},
            )


def legged_steps(task: str, settings: Mapping[str, Any]) -> int:
    """Length of an episode of a legged task, in control steps."""
    episode_s = settings.get("episode_s", TASKS[task].episode_s)
    return round(float(episode_s) / float(settings.get("control_dt_s", 0.02)))


def make_vec_env(env_id: str, n: int, *, dump_path: Path | None = None, **kwargs: Any) -> VecEnv | None:
    """n copies of one of our legged or table-top tasks, stepped together on MuJoCo's batch; None for any other id.

    Args:
        env_id: e.g. ``cadenza/OP3Walk-v0``.
        n: copies.
        dump_path: gets the last states before numbers are no longer finite.
        kwargs: settings of the task, as for :func:`make_env`.
    """
    if env_id in (tables := table_ids()):
        from cadenza.envs.tabletop.vectorized import TableVecEnv

        arm, task = tables[env_id]
        return TableVecEnv(arm.name, task, n, env_id=env_id, dump_path=dump_path, **kwargs)
    if env_id not in (found := legged_ids()):
        return None
    from cadenza.envs.legged.vectorized import LeggedVecEnv

    robot, task = found[env_id]
    return LeggedVecEnv(robot.name, task, n, env_id=env_id, dump_path=dump_path, **kwargs)


def make_env(env_id: str, *, render_mode: str | None = None, pictures: bool = True, **kwargs: Any) -> gym.Env:
    """``gymnasium.make``, with errors that name what exists or what to install.

    Args:
        env_id: one of ours or any other id that Gymnasium knows.
        render_mode: as in Gymnasium: None, ``rgb_array``, ``human``, ...
        pictures: whether anybody will look; without, our robots leave out the meshes that only show, which makes an
            environment in a tenth of the time and changes no number.
        kwargs: passed on to ``gymnasium.make``.

    Raises:
        UnknownNameError: there is no such environment.
        CadenzaError: the environment exists, but something it imports is missing.
    """
    import gymnasium as gym

    register_environments()
    try:
        if render_mode is not None:  # else left out: an environment that cannot render need not know the argument
            kwargs["render_mode"] = render_mode
        if env_id == CABLE_ROUTING:
            if kwargs.get("clips") in (2, 3):  # anything but 1, 2 and 3 is the environment's to refuse
                kwargs.setdefault("max_episode_steps", cable_steps(kwargs))
            if not pictures:
                kwargs.setdefault("visuals", kwargs.get("observe") == "camera")
        if env_id in (legged := legged_ids()):
            kwargs.setdefault("max_episode_steps", legged_steps(legged[env_id][1], kwargs))
            if not pictures:
                kwargs.setdefault("visuals", False)
        elif env_id in table_ids():
            steps = kwargs.get("episode_steps", EPISODE_STEPS)
            # What is no number of steps is the environment's to refuse, by name.
            kwargs.setdefault("max_episode_steps", steps if isinstance(steps, int) and steps > 0 else EPISODE_STEPS)
            if not pictures:
                kwargs.setdefault("visuals", bool(kwargs.get("camera")))
        return gym.make(env_id, **kwargs)
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown(env_id) from error
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        if env_id in gym.registry and env_id not in _available():
            raise _unknown(env_id) from error
        raise CadenzaError(f"{env_id} cannot be made: {error}", _import_advice(env_id)) from error
    except gym.error.Error as error:
        # Gymnasium has no class of its own for an id that is not even well formed.
        if "Malformed environment ID" in str(error):
            raise _unknown(env_id) from error
        raise


def _available() -> list[str]:
    """Every registered id but versions 2 and 3 of the MuJoCo tasks, which only raise that they needed mujoco-py."""
    from gymnasium.envs.registration import registry

    return [spec.id for spec in registry.values() if getattr(spec.entry_point, "__module__", "") != "gymnasium.envs"]


def _unknown(env_id: str) -> UnknownNameError:
    return unknown_name("environment", env_id, _available(), see="cadenza list envs")


def _import_advice(env_id: str) -> str:
    """What to install, or to put right in the id, when making ``env_id`` fails at an import."""
    if ":" in env_id:
        module = env_id.split(":")[0]
        return f"The part before the colon is a Python module: check that `import {module}` works in this environment."
    return (
        "Install what is missing into the same Python environment; for the MuJoCo tasks that is "
        "`pip install 'gymnasium[mujoco]'`, for the others Gymnasium's extra of that family."
    )


def environment_ids() -> list[str]:
    """Ours first, then Gymnasium's MuJoCo tasks in their newest version, by name."""
    from gymnasium.envs.registration import registry

    register_environments()
    newest: dict[str, int] = {}
    for spec in registry.values():
        if isinstance(spec.entry_point, str) and spec.entry_point.startswith("gymnasium.envs.mujoco."):
            newest[spec.name] = max(newest.get(spec.name, 0), spec.version or 0)
    return [*ENVIRONMENTS, *(f"{name}-v{newest[name]}" for name in sorted(newest))]
