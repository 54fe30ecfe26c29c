"""A policy at a task of :mod:`cadenza.agents.sequences`: settings of its demonstrations, whether it fits, its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cadenza.agents.demos.environment import as_mapping, clock_of
from cadenza.agents.demos.errors import DemoError, MismatchError
from cadenza.agents.demos.schema import Schema
from cadenza.agents.imitation.policy import ImitationPolicy, Inputs
from cadenza.agents.imitation.samples import inputs_of
from cadenza.agents.sequencer.primitive import Primitive
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.envs.errors import CadenzaError

OBSERVED = ("observe", "cameras", "camera_size")
"""Settings of an environment that decide what is seen; a policy needs those of its demonstrations."""


def seen_settings(inputs: Inputs, env_id: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a task for a policy: what its demonstrations saw, then what was ``given``.

    Args:
        inputs: of the policy.
        env_id: of the task's environment; another one than the demonstrations' gets what was given alone.
        given: these win.
    """
    settings = inputs.env_settings if env_id is not None and env_id == inputs.env_id else {}
    return {name: settings[name] for name in OBSERVED if name in settings} | dict(given)


def check_task(policy: ImitationPolicy, task: SequenceTask, seed: int) -> Mapping[str, Any]:
    """Whether the policy can act at the task, whose first observation (of ``seed``) is given back.

    Raises:
        MismatchError: another rate, or an observation that lacks what is read, with the settings that would fit.
    """
    reasons = []
    rate_hz = policy.inputs.rate_hz
    if rate_hz is not None and not math.isclose(rate_hz, task.rate_hz, rel_tol=1e-6):
        reasons.append(f"it was made for {rate_hz:g} Hz, the task has {task.rate_hz:g} Hz")
    observation = as_mapping(task.reset(seed)[0])
    try:
        policy.predict(observation)
    except CadenzaError as error:
        reasons.append(str(error).rstrip("."))
    if reasons:
        raise MismatchError(
            f"The policy does not fit the task {task.name}: {'; '.join(reasons)}.", _advice(policy.inputs)
        )
    return observation


def check_demonstrations(policy: ImitationPolicy, schema: Schema) -> None:
    """Whether the policy may learn on from demonstrations with this schema.

    Raises:
        MismatchError: another environment, rate or observation, with every reason.
    """
    check_same(policy.inputs, inputs_of(schema, policy.config))


def check_same(policy: Inputs, demos: Inputs, reasons: list[str] | None = None) -> None:
    """Whether a policy with these inputs may learn from what demonstrations give.

    Raises:
        MismatchError: it may not, with every reason; ``reasons`` are some that were found before.
    """
    if unlike := policy.differences(demos) + (reasons or []):
        raise MismatchError(
            f"The policy and these demonstrations do not fit together: {'; '.join(unlike)}.",
            "Named first is what the policy was made for. Use demonstrations of the same kind, or train from scratch.",
        )


def check_recordable(observation: Mapping[str, Any], task: SequenceTask, schema: Schema, inputs: Inputs) -> None:
    """Whether what the task shows can be recorded beside demonstrations with this schema.

    Raises:
        MismatchError: an observation is missing or has another shape, or the rate differs, with every reason.
    """
    reasons = []
    if not math.isclose(schema.rate_hz, task.rate_hz, rel_tol=1e-6):
        reasons.append(f"rate: {schema.rate_hz:g} Hz against {task.rate_hz:g} Hz")
    for name, feature in schema.observation.items():
        shape = np.shape(observation[name]) if name in observation else None
        if shape != tuple(feature.shape):
            reasons.append(f"{name!r}: {tuple(feature.shape)} against {shape or 'none'}")
    if reasons:
        raise MismatchError(
            f"The task {task.name} does not show what the demonstrations have: {'; '.join(reasons)}.", _advice(inputs)
        )


def _advice(inputs: Inputs) -> str:
    """Which settings show what the demonstrations had."""
    settings: dict[str, Any] = {name: inputs.env_settings[name] for name in OBSERVED if name in inputs.env_settings}
    if not settings and inputs.cameras and not inputs.env_settings:  # saved by an older version
        settings = {
            "observe": "camera",
            "cameras": tuple(inputs.cameras),
            "camera_size": next(iter(inputs.cameras.values()))[0],
        }
    if not settings:
        return "Make the task as the demonstrations were: leave out what --task-set says of observe and cameras."
    words = []
    for name, value in settings.items():
        plain = tuple(value) if isinstance(value, list) else value
        words.append(f'"{name}={plain}"' if isinstance(plain, tuple) else f"{name}={plain}")
    return f"The demonstrations were made with: --task-set {' '.join(words)}"


def put_in(task: SequenceTask, primitive: str, policy: Any, learner_of: Callable[[Any], Primitive]) -> None:
    """Let the policy do a primitive: by the task's own ``set_PRIMITIVE``, which keeps failures that are put in, if any.

    Args:
        task: whose primitive it becomes.
        primitive: its name.
        policy: with ``predict(observation)``.
        learner_of: the policy as a primitive, where the task has no method of its own.
    """
    own = getattr(task, f"set_{primitive}", None)
    if callable(own):
        own(policy)
    else:
        task.primitives = {**task.primitives, primitive: learner_of(policy)}


def task_clock(task: SequenceTask) -> Callable[[], float]:
    """What tells the time of the task's world, s.

    Raises:
        DemoError: it has no environment with a clock.
    """
    env = getattr(task, "env", None)
    if env is None:
        raise DemoError(f"The task {task.name} has no environment `env` whose clock could be read.")
    return clock_of(env)
