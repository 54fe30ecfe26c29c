"""A network in a folder: weights as safetensors, and a JSON file that says what they are and holds their sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cadenza.agents.runs.settings import provenance, write_bytes, write_json
from cadenza.envs.errors import CadenzaError

UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
"""What opening damaged files may raise."""


class WeightFiles(NamedTuple):
    """Which files, and in which format."""

    weights: str
    description: str
    format: str

    def write(self, folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write both files into ``folder``, weights first, with the versions that made them."""
        folder.mkdir(parents=True, exist_ok=True)
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        write_bytes(folder / self.weights, data)
        sha256 = hashlib.sha256(data).hexdigest()
        write_json(folder / self.description, {"format": self.format, **facts, "sha256": sha256, **provenance()})

    def read(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What was written: the description and the weights.

        Raises:
            CadenzaError: another format, or weights that are not those described.
            OSError, ValueError, KeyError, SafetensorError: damaged or missing files, see :data:`UNREADABLE`.
        """
        description = json.loads((folder / self.description).read_text())
        if description["format"] != self.format:
            raise CadenzaError(
                f"{folder} has the format {description['format']!r}; this version reads {self.format!r}."
            )
        data = (folder / self.weights).read_bytes()
        if hashlib.sha256(data).hexdigest() != description["sha256"]:
            raise CadenzaError(
                f"{folder / self.weights} is not the file that {self.description} describes.",
                "Copy the whole folder again.",
            )
        return description, load(data)
