"""Deployment facts of a legged task, read from the task itself at export.

What is written is proven on the spot: an observation put together from the facts by the program that will run on the
robot (:mod:`cadenza.controllers.observation`) must be, bit by bit, the one that the task puts together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.deployment_facts import (
    POSITION_ACTION,
    DeploymentFacts,
    JointFacts,
    ObservationBounds,
    TermFacts,
    normaliser_bounds,
    rollout_bounds,
)
from cadenza.controllers.observation import ObservationBuilder, UndeployableError
from cadenza.envs.legged.single import LeggedEnv

Act = Callable[[NDArray[Any]], NDArray[Any]]
ROLLOUT_STEPS = 2_000
PROOF_STEPS = 200
COMMAND_DRAWS = 2_000


def legged_facts(env: LeggedEnv) -> DeploymentFacts:
    """Facts of the task in ``env``, with bounds that let everything pass: :func:`with_bounds` gives it real ones.

    Raises:
        UndeployableError: the actor is told something that the program on the robot cannot compute.
    """
    task, robot = env.task, env.task.robot
    terms = tuple(
        TermFacts(
            name=term.name,
            size=term.size,
            source=term.source,
            scale=float(term.scale),
            factors=tuple(float(factor) for factor in term.factors or (1.0,) * term.size),
        )
        for term in task.layout.actor
    )
    size = sum(term.size for term in terms)
    facts = DeploymentFacts(
        robot=robot.name,
        joints=tuple(
            JointFacts(
                name=row.name,
                home_rad=float(row.home_rad),
                limits_rad=(float(row.limits_rad[0]), float(row.limits_rad[1])),
                kp=float(row.kp),
                kd=float(row.kd),
                torque_nm=float(row.torque_nm),
                velocity_rad_s=float(row.velocity_rad_s),
            )
            for row in robot.joints
        ),
        action=POSITION_ACTION,
        action_scale_rad=float(task.action_scale),
        control_dt_s=float(task.dt),
        terms=terms,
        history=task.layout.history,
        gait_period_s=float(task.gait_period_s()),
        bounds=rollout_bounds([np.zeros(size)]),
    ).sealed()
    ObservationBuilder(facts)
    return facts


def with_bounds(
    facts: DeploymentFacts,
    env: LeggedEnv,
    act: Act,
    normaliser: tuple[NDArray[Any], NDArray[Any]] | None,
) -> DeploymentFacts:
    """Play the policy, prove the facts on the way, and put bounds of the observation into them.

    Args:
        facts: of :func:`legged_facts`.
        env: the environment that they were read from; it is reset.
        act: observation of the actor, (obs,) -> action, (joints,).
        normaliser: mean and standard deviation, (obs,) each, that the policy reads observations with, if it has one.
            Without, the play takes :data:`ROLLOUT_STEPS`; with one :data:`PROOF_STEPS`, for the proof alone.

    Raises:
        UndeployableError: an observation from the facts is not the task's.
    """
    steps = ROLLOUT_STEPS if normaliser is None else PROOF_STEPS
    layout, builder = env.task.layout, ObservationBuilder(facts)
    shown = np.empty((steps, facts.sample_size))
    samples = np.empty((facts.history, facts.sample_size))
    observation, _ = env.reset(seed=0)
    fresh = True
    for step in range(steps):
        seen = env.seen()
        sample = layout.sample(seen)[0]
        if fresh:
            builder.begin(float(seen.phase[0]))
            samples[:] = sample
        samples[1:] = samples[:-1].copy()
        samples[0] = sample
        built = builder.observe(
            seen.joint_angle, seen.joint_velocity, seen.gyro, seen.gravity, seen.command, seen.action
        )
        _compare(built, samples.reshape(-1), facts)
        shown[step] = observation[: facts.sample_size]
        observation, _, terminated, _, _ = env.step(act(observation[: facts.observation_size]))
        fresh = terminated or bool(env.task.steps[0] >= env.task.episode_steps)
        if fresh:
            observation, _ = env.reset()
    bounds = rollout_bounds(shown) if normaliser is None else normaliser_bounds(*normaliser, facts.sample_size)
    return replace(facts, bounds=_with_commands(bounds, facts, env)).sealed()


def _with_commands(bounds: ObservationBounds, facts: DeploymentFacts, env: LeggedEnv) -> ObservationBounds:
    """A rollout meets few commands: their bounds are those of many draws."""
    part = env.task.layout.slices().get("command")
    if part is None:
        return bounds
    random = np.random.default_rng(0)
    gains = next(term.gains for term in facts.terms if term.name == "command")
    drawn = np.array([env.task.draw_command(0, random) for _ in range(COMMAND_DRAWS)]) * gains
    low, high = np.array(bounds.low), np.array(bounds.high)
    low[part], high[part] = drawn.min(axis=0), drawn.max(axis=0)
    return replace(bounds, low=tuple(low.tolist()), high=tuple(high.tolist()))


def _compare(built: NDArray[np.float64], expected: NDArray[np.float64], facts: DeploymentFacts) -> None:
    wrong = np.flatnonzero(built != expected)
    if wrong.size:
        names = facts.entry_names()
        raise UndeployableError(
            f"The observation that would be put together on the robot differs from the task's at "
            f"{', '.join(names[index] for index in wrong[:3])}.",
            "A term of the task is not what cadenza/robots/observing.py computes: give it a name of its own.",
        )
