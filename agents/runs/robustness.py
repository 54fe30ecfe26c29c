"""How a policy of a legged robot holds up off its nominal conditions: a fixed list, the same for everybody."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cadenza.agents.runs.evaluation import Evaluation, evaluate
from cadenza.agents.runs.policies import OpenedPolicy, act_on
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import legged_ids, make_env


@dataclass(frozen=True)
class Stress:
    """One condition of the list."""

    name: str
    conditions: dict[str, float]
    """Of envs/legged/events.py."""
    delay_s: float = 0.0
    """Beside them: between a command and its motor; a whole number of physics steps is made of it."""
    randomised: bool = False
    command: tuple[float, float, float] | None = None
    """Where a task takes velocity commands: forward and left over the robot's easy speed, and turning, rad/s. None is
    straight on at the easy speed."""


STRESSES: tuple[Stress, ...] = (
    Stress("nominal", {}),
    *(Stress(f"pushes of {share:g} x easy speed", {"push": share}) for share in (0.5, 1.0, 1.5, 2.0)),
    *(Stress(f"friction {value:g}", {"friction": value}) for value in (0.4, 0.6, 1.0, 1.2)),
    Stress("payload of 10 %", {"payload": 0.1}),
    Stress("payload of 20 %", {"payload": 0.2}),
    Stress("right knee at half its torque", {"weak_knee": 0.5}),
    Stress("commands 20 ms late", {}, delay_s=0.02),
    Stress("everything randomised", {}, randomised=True),
)
"""Pushes come every 4 to 8 s, from any side. Where a task takes commands, all of these walk straight on."""
COMMANDS: tuple[Stress, ...] = (
    Stress("half speed", {}, command=(0.5, 0.0, 0.0)),
    Stress("backward at 0.4 x easy speed", {}, command=(-0.4, 0.0, 0.0)),
    Stress("left at 0.4 x easy speed", {}, command=(0.0, 0.4, 0.0)),
    Stress("turn on the spot, 0.4 rad/s", {}, command=(0.0, 0.0, 0.4)),
    Stress("stand", {}, command=(0.0, 0.0, 0.0)),
)
"""Beside them for Walk."""
RUN_COMMANDS: tuple[Stress, ...] = (
    Stress("2 x easy speed", {}, command=(2.0, 0.0, 0.0)),
    Stress("3 x easy speed", {}, command=(3.0, 0.0, 0.0)),
    Stress("turning while it runs, 0.3 rad/s", {}, command=(1.0, 0.0, 0.3)),
    Stress("stand", {}, command=(0.0, 0.0, 0.0)),
)
"""Beside them for Run."""
STAND_PUSHES: tuple[Stress, ...] = tuple(
    Stress(f"pushes of {share:g} x easy speed", {"push": share}) for share in (2.5, 3.0, 4.0)
)
"""Beside them for Stand, whose home pose takes more than a walk does."""
_BESIDE = {"walk": COMMANDS, "run": RUN_COMMANDS, "stand": STAND_PUSHES}
_TAKE_COMMANDS = ("walk", "run")


@dataclass(frozen=True)
class Outcome:
    """What became of one condition."""

    stress: str
    evaluation: Evaluation

    @property
    def survived_ci95(self) -> tuple[float, float]:
        """Wilson's interval of the share of episodes that ran to the time limit."""
        return wilson(self.evaluation.survived, self.evaluation.n)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found = self.evaluation.to_dict()
        return {"stress": self.stress, "survived_ci95": self.survived_ci95, **found}


def robustness(
    policy: OpenedPolicy,
    *,
    episodes: int,
    seed: int,
    env_kwargs: dict[str, Any] | None = None,
    stresses: tuple[Stress, ...] | None = None,
    progress: Callable[[Stress, int], None] | None = None,
) -> list[Outcome]:
    """Play a policy under every condition, with the same reset seeds.

    Args:
        policy: of a legged robot.
        episodes: under each condition.
        seed: episode i is reset with ``seed + i``.
        env_kwargs: settings that go before those it was trained with.
        stresses: the list; None takes :func:`stresses_of` the task.
        progress: told before each episode.

    Raises:
        CadenzaError: the policy's environment has no such conditions.
    """
    if policy.env_id not in legged_ids():
        raise CadenzaError(
            f"{policy.env_id} has no conditions to change.", "The list is for our legged robots: `cadenza list envs`."
        )
    robot, task = legged_ids()[policy.env_id]
    out = []
    for stress in stresses_of(policy.env_id) if stresses is None else stresses:
        given = {"visuals": False, **policy.env_kwargs, **(env_kwargs or {})}
        if task in _TAKE_COMMANDS and (stress.command is not None or given.get("command") is None):
            forward, left, turn = stress.command or (1.0, 0.0, 0.0)
            given["command"] = (forward * robot.speed_m_s, left * robot.speed_m_s, turn)
        env = make_env(policy.env_id, **under(stress, given, robot.physics_dt_s))
        if progress is not None:
            progress(stress, 0)
        try:
            told = None if progress is None else (lambda index, _, s=stress: progress(s, index + 1))
            result = evaluate(act_on(policy, env), env, episodes=episodes, seed=seed, progress=told)
        finally:
            env.close()
        out.append(Outcome(stress.name, dataclasses.replace(result, motors=None)))
    return out


def stresses_of(env_id: str) -> tuple[Stress, ...]:
    """The list for a task."""
    return (*STRESSES, *_BESIDE.get(legged_ids()[env_id][1], ()))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Outcomes (:meth:`Outcome.to_dict`) as lines of a Markdown table."""
    lines = [
        "| Condition | Survived | 95 % | Return | Forward velocity | Velocity error |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["survived_ci95"]
        forward, error = row["forward_velocity_mean"], row["measures"].get("velocity_error")
        lines.append(
            f"| {row['stress']} | {row['survived']} of {row['n']} | {100 * low:.0f} to {100 * high:.0f} % | "
            f"{row['return_mean']:,.0f} | {'-' if forward is None else f'{forward:.2f} m/s'} | "
            f"{'-' if error is None else f'{error:.2f} m/s'} |"
        )
    return lines


def under(stress: Stress, env_kwargs: dict[str, Any], physics_dt_s: float) -> dict[str, Any]:
    """Settings of an environment under a stress; conditions that it has already stay where the stress has none."""
    late = {"command_delay": float(round(stress.delay_s / physics_dt_s))} if stress.delay_s else {}
    conditions = {**env_kwargs.get("conditions", {}), **stress.conditions, **late}
    randomised = {"randomised": True} if stress.randomised else {}
    return {**env_kwargs, **randomised, **({"conditions": conditions} if conditions else {})}


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927): honest also near 0 and 1."""
    z = 1.959964
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2.0) / (1.0 + spread)
    half = z / (1.0 + spread) * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n))
    return max(0.0, centre - half), min(1.0, centre + half)
