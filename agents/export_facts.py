"""What older bundles lack, added to them: observation terms, joints, rate, and what running on motors takes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from cadenza.agents.export import ExportError, check_destination, deployable, move_into_place, task_facts
from cadenza.controllers.bundle import MANIFEST_FILE, ONNX_FILE, TENSORS_FILE, PolicyBundle
from cadenza.controllers.shipped import CARD_FILE, CARD_PAGE


def export_facts(source: str | Path, destination: str | Path, *, overwrite: bool = False) -> Path:
    """Copy a bundle of a legged task and write what an older one lacks: terms, joints, rate and deployment facts.

    Weights and ONNX stay as they are; what observations to expect comes from a rollout.

    Raises:
        BundleError: no bundle in ``source``.
        ExportError: the destination is taken, or the bundle is of no legged task.
    """
    bundle, destination = PolicyBundle.load(source), Path(os.path.abspath(destination))
    check_destination(destination, overwrite)
    facts = task_facts(bundle.manifest.env_id, bundle.manifest.env_kwargs)
    if facts["deployment"] is None:
        raise ExportError(f"{bundle.manifest.env_id} is no task of a robot with motors; there is nothing to add.")
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name in (ONNX_FILE, TENSORS_FILE, CARD_FILE, CARD_PAGE):
            if (bundle.path / name).is_file():
                shutil.copyfile(bundle.path / name, temporary / name)
        manifest = replace(
            bundle.manifest,
            observation_terms=tuple(facts["observation_terms"][: bundle.manifest.observation_size]),
            joint_order=tuple(facts["joint_order"]),
            control_rate_hz=facts["control_rate_hz"],
        )
        (temporary / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        manifest = deployable(manifest, facts["deployment"], temporary, None)
        (temporary / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        PolicyBundle.load(temporary)
        move_into_place(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return destination
