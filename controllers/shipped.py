"""Trained policies that ship with Cadenza: bundles in ``assets/policies``, one folder each, with a card beside.

The card (``card.json``, and ``card.md`` for people) tells how the policy was trained and how well it does;
:mod:`cadenza.agents.card` writes it. ``CADENZA_POLICIES`` names a folder to look into in place of ours.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cadenza.controllers.bundle import MANIFEST_FILE, ONNX_FILE, BundleError, BundleManifest, read_manifest
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import nearest

POLICIES_VARIABLE = "CADENZA_POLICIES"
CARD_FILE = "card.json"
CARD_PAGE = "card.md"
CARD_FORMAT = "cadenza-card-1"
MAX_BUNDLE_BYTES = 5_000_000
"""Of a shipped policy's folder: what everybody downloads stays small."""


@dataclass(frozen=True)
class ShippedPolicy:
    """One policy of the folder: what its manifest and its card say. ``PolicyBundle.load(policy.path)`` opens it."""

    name: str
    path: Path
    manifest: BundleManifest
    card: dict[str, Any] | None
    """Content of ``card.json``; None where a bundle was put there without one."""
    size_bytes: int

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The card's evaluation: the fields of :class:`cadenza.agents.runs.evaluation.Evaluation`, and more."""
        return None if self.card is None else dict(self.card["evaluation"])

    @property
    def trained_s(self) -> float | None:
        """Wall-clock of its training [s], by the card."""
        return None if self.card is None else float(self.card["training"]["elapsed_s"])


def policies_folder() -> Path:
    """Where shipped policies lie; the folder may be absent."""
    chosen = os.environ.get(POLICIES_VARIABLE)
    # onnxruntime wants a real path. Installers unpack wheels, so that the resource is one.
    return Path(chosen) if chosen else Path(str(files("cadenza.assets"))) / "policies"


def shipped_names() -> list[str]:
    """Names of the policies that ship, in alphabetical order; no file is opened."""
    folder = policies_folder()
    if not folder.is_dir():
        return []
    found = [entry.name for entry in folder.iterdir() if (entry / MANIFEST_FILE).is_file()]
    return sorted(name for name in found if not name.startswith("."))  # hidden: one that is being written


def read_shipped(name: str) -> ShippedPolicy:
    """The shipped policy ``name``.

    Raises:
        CadenzaError: no policy of this name.
        BundleError: its manifest or card is damaged, or the card is another policy's.
    """
    if name not in shipped_names():
        raise CadenzaError(f"No policy {name!r} ships with Cadenza.", naming_advice(name))
    path = policies_folder() / name
    manifest = read_manifest(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    return ShippedPolicy(name, path, manifest, _read_card(path, manifest), size)


def shipped_policies() -> list[ShippedPolicy]:
    """Every policy that ships, in alphabetical order. Errors are those of :func:`read_shipped`."""
    return [read_shipped(name) for name in shipped_names()]


def locate(source: str | Path) -> tuple[Path, str | None]:
    """What a user named: a path that exists as it is; else the folder and name of the shipped policy so called.

    What is neither comes back as it is, with None, for the caller to complain about (:func:`naming_advice` helps).
    """
    path = Path(source)
    if not path.exists() and str(source) in shipped_names():
        return policies_folder() / str(source), str(source)
    return path, None


def naming_advice(wrong: str) -> str:
    """One line for an error: every shipped name, those near ``wrong`` first, or that there are none."""
    names = shipped_names()
    if not names:
        return "No trained policy ships with this copy of Cadenza (`cadenza list policies`)."
    near = nearest(wrong, names)
    ordered = near + [name for name in names if name not in near]
    return f"Shipped policies: {', '.join(ordered)} (`cadenza list policies`)."


def _read_card(path: Path, manifest: BundleManifest) -> dict[str, Any] | None:
    file = path / CARD_FILE
    if not file.is_file():
        return None
    again = "Write it again with `cadenza export RUN --out FOLDER --card --overwrite`."
    try:
        card: Any = json.loads(file.read_text(encoding="utf-8"))
        form, sha256 = card["format"], card["policy_sha256"]
        numbers = [card["evaluation"]["return_mean"], card["training"]["elapsed_s"]]
        readable = form == CARD_FORMAT and all(isinstance(number, int | float) for number in numbers)
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{file} is damaged: {error!r}.", again) from error
    if not readable:
        raise BundleError(f"{file} is no {CARD_FORMAT} card.", again)
    if sha256 != manifest.sha256[ONNX_FILE]:
        raise BundleError(f"{file} speaks of another policy than the one beside it.", again)
    return dict(card)
