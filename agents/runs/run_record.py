"""``config.json`` of a run that may be continued: what was asked, and whether it is asked again.

For trainings whose folder holds a ``config.json`` with a ``format`` of their own beside a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cadenza.agents.runs.settings import provenance, write_json
from cadenza.envs.errors import CadenzaError

CONFIG = "config.json"


def begin_run(folder: Path, record: Mapping[str, Any], advice: str) -> None:
    """Make the folder of a new run and note ``record`` in it, with the versions.

    Args:
        folder: may be there, if it is empty.
        record: JSON-able; ``format`` and ``config`` among it.
        advice: what to do where the run exists already.

    Raises:
        CadenzaError: it exists already, or cannot be made.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise CadenzaError(f"The run folder {folder} exists already; nothing was changed.", advice)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, {**record, **provenance()})
    except OSError as error:
        raise CadenzaError(f"Cannot make the run folder {folder}: {error.strerror}.") from error


def read_run(folder: str | Path, wanted: str, kind: str, advice: str) -> dict[str, Any]:
    """What :func:`begin_run` noted.

    Args:
        folder: of the run.
        wanted: its format.
        kind: what such a run is called, with its article.
        advice: how one is made.

    Raises:
        CadenzaError: there is no such run.
    """
    try:
        record: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text())
        if record["format"] != wanted:
            raise CadenzaError(f"{folder} is a run of another kind: {record['format']}.", advice)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CadenzaError(f"{folder} is not {kind}: {error}.", advice) from error
    return record


def check_resumed(
    folder: Path, stored: Mapping[str, Any], record: Mapping[str, Any], others: Sequence[str] = ()
) -> None:
    """Whether a run that is continued is asked for what it was begun with.

    Args:
        folder: of the run.
        stored: what :func:`read_run` found.
        record: what is asked for now.
        others: names of entries that must be the same beside ``config``, e.g. what is learned from.

    Raises:
        CadenzaError: something differs; every name of it is told.
    """
    now: dict[str, Any] = json.loads(json.dumps(dict(record)))
    settings = [
        f"{name} {stored['config'].get(name)!r}, not {value!r}"
        for name, value in sorted(now["config"].items())
        if stored["config"].get(name) != value
    ]
    if settings:
        raise CadenzaError(
            f"The run {folder} was begun with other settings: {'; '.join(settings)}.", "Resume it without --set."
        )
    if different := [name for name in others if stored.get(name) != now.get(name)]:
        raise CadenzaError(
            f"The run {folder} was begun with another thing to learn from; different: {', '.join(different)}.",
            "Resume it with what it was begun with, or begin a new run with --run.",
        )
