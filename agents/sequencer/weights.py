"""Which weights stand in a folder: a path alone does not say, as a network may be trained anew at the same place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def weights_sha256(folder: str | Path) -> str | None:
    """Of the weights that loading a sequencer or an imitation policy from ``folder`` reads; None where there are none.

    A sequencer's embedding counts with it. Checkpoints, which nobody plays, do not.
    """
    from cadenza.agents.imitation.policy import WEIGHTS as POLICY
    from cadenza.agents.sequencer.selector import EMBEDDING, WEIGHTS

    places = (WEIGHTS, f"{EMBEDDING}/{POLICY}") if (Path(folder) / WEIGHTS).is_file() else (POLICY, f"policy/{POLICY}")
    files = [path for place in places if (path := Path(folder) / place).is_file()]
    if not files:
        return None
    found = hashlib.sha256()
    for path in files:
        found.update(path.read_bytes())
    return found.hexdigest()


def weights_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Of the settings that name a folder with weights: name -> their sha256."""
    folders = {name: value for name, value in settings.items() if isinstance(value, str | Path) and str(value)}
    found = {name: weights_sha256(folder) for name, folder in folders.items() if Path(folder).is_dir()}
    return {name: sha256 for name, sha256 in found.items() if sha256 is not None}
