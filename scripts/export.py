"""``cadenza export``: a policy bundle from a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class Export:
    """Write a policy bundle: ONNX, safetensors and a manifest, normaliser inside, compared with torch.

    cadenza export runs/first --out bundle
    cadenza evaluate bundle
    """

    source: Annotated[Path, tyro.conf.Positional]
    """run folder"""
    out: Path = Path("bundle")
    """folder to write"""
    which: Literal["best", "last"] = "best"
    """the policy of the best evaluation, or of the last checkpoint"""
    overwrite: bool = False
    """replace a bundle that is there already"""


def main(arguments: list[str]) -> int:
    """Parse and export."""
    options = parse(Export, "export", arguments)
    from cadenza.agents.export import export_bundle
    from cadenza.agents.runs.policies import open_policy
    from cadenza.agents.runs.settings import RunFolder
    from cadenza.envs.errors import CadenzaError

    policy = open_policy(options.source, options.which)
    if policy.model is None:
        raise CadenzaError(f"{options.source} is a bundle already.", "Export takes a run folder.")
    settings = RunFolder(options.source).read_settings()
    report = export_bundle(
        policy.model, options.out, env_id=settings.env_id, env_kwargs=settings.env_kwargs, agent=settings.agent,
        preset=settings.preset, overwrite=options.overwrite,
    )  # fmt: skip
    out.print(f"{policy.label}: largest difference between torch and ONNX {report.parity_error:.1e}")
    out.print(f"written: {escape(str(report.path))} ({report.size_bytes / 1e6:.2f} MB)")
    return 0
