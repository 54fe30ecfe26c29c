"""``cadenza export``: a policy bundle from a run; with a card, one to ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class Export:
    """Write a policy bundle: ONNX, safetensors and a manifest, normaliser inside, compared with torch.

    cadenza export runs/first --out bundle
    cadenza evaluate bundle
    cadenza export runs/long --out assets/policies/walker --card --episodes 25
    """

    source: Annotated[Path, tyro.conf.Positional]
    """run folder"""
    out: Path = Path("bundle")
    """folder to write"""
    which: Literal["best", "last"] = "best"
    """the policy of the best evaluation, or of the last checkpoint"""
    overwrite: bool = False
    """replace a bundle that is there already"""
    card: bool = False
    """play the bundle and put a card beside it (card.json, card.md); refuses what is too large to ship"""
    episodes: int = 25
    """with --card: noise-free episodes"""
    seed: int = 0
    """with --card: episode i is reset with seed + i"""
    note: str = ""
    """with --card: a sentence about the training, e.g. what else ran on the machine"""


def main(arguments: list[str]) -> int:
    """Parse and export."""
    options = parse(Export, "export", arguments)
    if options.card:
        return _ship(options)
    from cadenza.agents.export import export_bundle, task_facts
    from cadenza.agents.runs.policies import open_policy
    from cadenza.agents.runs.settings import RunFolder

    policy = open_policy(options.source, options.which)
    if policy.model is None:
        raise CadenzaError(f"{options.source} is a bundle already.", "Export takes a run folder.")
    settings = RunFolder(options.source).read_settings()
    report = export_bundle(
        policy.model, options.out, env_id=settings.env_id, env_kwargs=settings.env_kwargs, agent=settings.agent,
        preset=settings.preset, overwrite=options.overwrite, **task_facts(settings.env_id, settings.env_kwargs),
    )  # fmt: skip
    out.print(f"{policy.label}: largest difference between torch and ONNX {report.parity_error:.1e}")
    out.print(f"written: {escape(str(report.path))} ({report.size_bytes / 1e6:.2f} MB)")
    return 0


def _ship(options: Export) -> int:
    """A bundle with its card."""
    if options.episodes < 1:
        raise CadenzaError(f"--episodes must be at least 1, got {options.episodes}.")
    if options.seed < 0:
        raise CadenzaError(f"--seed must not be negative, got {options.seed}.")
    from rich.progress import Progress

    from cadenza.agents.card import readme_row, ship_policy

    import torch  # isort: skip

    torch.set_num_threads(1)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("playing the bundle", total=options.episodes)
        report = ship_policy(
            options.source, options.out, which=options.which, episodes=options.episodes, seed=options.seed,
            overwrite=options.overwrite, note=options.note,
            progress=lambda index, _: bar.update(task, completed=index + 1),
        )  # fmt: skip
    result = report.card["evaluation"]
    out.print(f"largest difference between torch and ONNX {report.parity_error:.1e}")
    out.print(f"return {result['return_mean']:,.0f} ± {result['return_std']:,.0f} in {result['n']} episodes")
    out.print(f"written: {escape(str(report.path))} ({report.size_bytes / 1e6:.2f} MB, card.md tells about it)")
    out.print("its row for a README:")
    out.print(escape(readme_row(report.card)))
    return 0
