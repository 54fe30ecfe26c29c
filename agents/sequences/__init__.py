"""What there is to sequence: each task puts an environment, its primitives and an expert together.

:mod:`cadenza.agents.sequencer` knows none of them; it is handed one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

if TYPE_CHECKING:
    from cadenza.agents.sequencer.primitive import Primitive
    from cadenza.agents.sequencer.task import SequenceTask

TASKS: dict[str, tuple[str, str]] = {
    "cable": ("cadenza.agents.sequences.cable", "a cable through 1, 2 or 3 clips, Panda"),
    "op3": ("cadenza.agents.sequences.op3", "OP3: stand up (a script), stand, walk"),
    "latches": ("cadenza.agents.sequences.latches", "a toy of milliseconds: latches that jam and must be cleared"),
}
"""Name -> module with ``make_task(stages, **settings)``, summary."""


PRIMITIVES_OF: dict[str, tuple[str, str]] = {
    "cadenza/CableRouting-v0": ("cadenza.agents.cable_routing.scripted", "PRIMITIVES"),
    "latches": ("cadenza.agents.sequences.latches", "NAMES"),
}
"""Environment id -> module and name of its primitives, in the order of their numbers in demonstrations."""


def primitive_names(env_id: str) -> tuple[str, ...]:
    """What the numbers in demonstrations of that environment mean; empty where they mean nothing."""
    if env_id not in PRIMITIVES_OF:
        return ()
    module, name = PRIMITIVES_OF[env_id]
    return tuple(getattr(import_module(module), name))


def env_id_of(task: str) -> str | None:
    """The environment of a task, as demonstrations name it; None where it has none."""
    if task not in TASKS:
        raise unknown_name("task to sequence", task, TASKS)
    found: str | None = getattr(import_module(TASKS[task][0]), "ENV_ID", None)
    return found


def make_task(name: str, stages: int | None = None, /, **settings: Any) -> SequenceTask:
    """A task by its name.

    Args:
        name: one of :data:`TASKS`.
        stages: how long it is; None: as the task thinks best.
        settings: of the task.

    Raises:
        CadenzaError: unknown name or setting.
    """
    if name not in TASKS:
        raise unknown_name("task to sequence", name, TASKS)
    if "stages" in settings:
        raise CadenzaError(
            "How many stages there are is no setting of the task.",
            "Say it with --stages, where the command has it; `imitate pretraining` measures at one stage.",
        )
    module = import_module(TASKS[name][0])
    try:
        task: SequenceTask = module.make_task(stages, **settings)
    except TypeError as error:
        raise CadenzaError(f"{name} cannot be made with these settings: {error}.") from error
    return task


def learner_for(task: str, primitive: str) -> Callable[[Any], Primitive]:
    """What turns a policy into that primitive of that task.

    Raises:
        CadenzaError: this task's primitive cannot be learned.
    """
    if task not in TASKS:
        raise unknown_name("task to sequence", task, TASKS)
    makers: dict[str, Callable[[Any], Primitive]] = getattr(import_module(TASKS[task][0]), "LEARNABLE", {})
    if primitive not in makers:
        raise unknown_name(f"primitive of {task} that can be learned", primitive, makers)
    return makers[primitive]


def first_primitive(task: str) -> str | None:
    """The primitive of a task whose failure its other primitives make up for."""
    if task not in TASKS:
        raise unknown_name("task to sequence", task, TASKS)
    found: str | None = getattr(import_module(TASKS[task][0]), "RECOVERED", None)
    return found
