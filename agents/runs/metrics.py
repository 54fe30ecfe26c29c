"""CSV files that a resumed run continues: rows beyond the checkpoint are cut, then new ones are appended."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter


class Table:
    """A CSV file of growing rows; its first column is ``step``. Columns may be added later.

    Args:
        path: the file.
        keep_until: rows whose step is larger are dropped now (they were written after the checkpoint).
    """

    def __init__(self, path: Path, keep_until: int | None = None):
        self.path = path
        rows = read_table(path) if path.exists() and keep_until is not None else []
        self._columns: list[str] = list(rows[0]) if rows else []
        kept = [row for row in rows if float(row["step"]) <= (keep_until or 0)]
        self._rewrite(kept)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            if self._columns:
                writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row at once; unseen keys become new columns."""
        new = [name for name in row if name not in self._columns]
        if new:
            rows = read_table(self.path)
            self._columns += new
            self._rewrite(rows)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(row)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as strings by column; a last line cut off by a crash is left out."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return [row for row in rows if None not in row.values() and row.get("step")]


class TableWriter(KVWriter):
    """Stable-Baselines3's logger output as a :class:`Table`."""

    def __init__(self, path: Path, keep_until: int | None = None):
        self._table = Table(path, keep_until)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        numbers = {key: value for key, value in sorted(key_values.items()) if isinstance(value, int | float)}
        self._table.append({"step": step, **numbers})

    def close(self) -> None:
        """Nothing is held open."""


class ForgivingWriter(KVWriter):
    """Another logger output whose full disk is told to somebody instead of ending the training."""

    def __init__(self, writer: KVWriter, on_problem: Callable[[str], None]):
        self._writer, self._on_problem = writer, on_problem

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        try:
            self._writer.write(key_values, key_excluded, step)
        except OSError as error:
            self._on_problem(f"Training statistics were not written: {error.strerror or error}.")

    def close(self) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self._on_problem(f"Training statistics were not written: {error.strerror or error}.")
