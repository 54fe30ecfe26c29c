"""Teachers: who chooses the parameters of the next episode (docs/curriculum.md).

This import loads neither scikit-learn nor Gymnasium; :mod:`cadenza.envs.teachers.curriculum` loads the latter.
"""

from __future__ import annotations

from cadenza.envs.names import unknown_name
from cadenza.envs.teachers.alp_gmm import AlpGmmConfig, AlpGmmTeacher
from cadenza.envs.teachers.random_teacher import RandomTeacher
from cadenza.envs.teachers.teacher import ParameterError, ParameterSpace, Teacher, TeacherStateError

__all__ = [
    "TEACHERS",
    "AlpGmmConfig",
    "AlpGmmTeacher",
    "ParameterError",
    "ParameterSpace",
    "RandomTeacher",
    "Teacher",
    "TeacherStateError",
    "make_teacher",
]

TEACHERS: dict[str, str] = {
    "random": "every task equally often",
    "alp-gmm": "tasks where the return is changing (Portelas et al. 2019)",
}
"""Name -> one-line summary."""

_CLASSES: dict[str, type[Teacher]] = {cls.name: cls for cls in (RandomTeacher, AlpGmmTeacher)}


def make_teacher(name: str, space: ParameterSpace, seed: int) -> Teacher:
    """A teacher with its default settings.

    Args:
        name: one of :data:`TEACHERS`.
        space: it chooses from.
        seed: of its own generator.

    Raises:
        UnknownNameError: there is no such teacher.
    """
    if name not in _CLASSES:
        raise unknown_name("teacher", name, TEACHERS)
    return _CLASSES[name](space, seed)
