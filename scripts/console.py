"""The console all subcommands write to, and how an error reaches the person at the keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cadenza.envs.errors import CadenzaError

__all__ = ["err", "escape", "out", "report", "write_result"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def report(error: CadenzaError) -> None:
    """Print what is wrong and what to do next."""
    err.print(f"[bold red]error:[/] {escape(str(error))}")
    for line in error.advice.splitlines():
        err.print(f"  {escape(line)}")


def write_result(path: Path | None, data: dict[str, Any]) -> None:
    """Write ``--json``'s file, if one was asked for.

    Raises:
        CadenzaError: it cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, sort_keys=False) + "\n")
    except OSError as error:
        raise CadenzaError(f"Cannot write {path}: {error.strerror}.", "Choose another place with --json.") from error
    out.print(f"written: {escape(str(path))}")
