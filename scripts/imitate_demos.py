"""Demonstrations for the commands of ``cadenza imitate``: opened, read, and what was damaged told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from cadenza.agents.demos import DemoSet
    from cadenza.agents.imitation.config import CloningConfig
    from cadenza.agents.imitation.policy import Inputs
    from cadenza.agents.imitation.samples import Samples


def load(folder: Path, config: CloningConfig) -> tuple[Samples, Inputs, DemoSet]:
    """What ``config`` learns from in a folder, what is read of it, and the set with its list of damaged episodes."""
    from cadenza.agents.demos import DemoSet
    from cadenza.agents.imitation.samples import load_samples
    from cadenza.agents.sequences import primitive_names

    demos = DemoSet(folder, verify=False)
    return *load_samples(demos, config, primitive_names(demos.schema.env_id)), demos


def transitions(folder: Path, config: CloningConfig) -> Samples:
    """All steps of a folder with what was done at each, for inverse dynamics."""
    from cadenza.agents.imitation.samples import everything

    return load(folder, everything(config))[0]


def tell_damaged(demos: DemoSet) -> None:
    """Print which episodes were left out, and why."""
    for path, reason in demos.corrupt:
        out.print(f"  [red]left out:[/] {escape(path.name)}: {escape(reason)}")
