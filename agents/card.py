"""A policy to ship: a bundle with a card that tells how it was trained and how well the bundle itself does.

The card is ``card.json``, and ``card.md`` rendered from it. Its evaluation plays the exported files, not the run, so
that it speaks of what is shipped; :mod:`cadenza.controllers.shipped` finds and reads them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadenza.agents.export import check_destination, export_bundle, move_into_place, task_facts
from cadenza.agents.runs.catalogue import DEFAULT_ENVS
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.evaluation import duration, evaluate
from cadenza.agents.runs.motors import MOTOR_ROWS
from cadenza.agents.runs.policies import EVALUATION, OpenedPolicy, Which, act_on, open_policy, staged
from cadenza.agents.runs.robustness import robustness, table
from cadenza.agents.runs.settings import RunFolder, RunSettings, provenance, write_bytes, write_json
from cadenza.agents.slim.skill_card import skill_figures, skill_lines
from cadenza.controllers.bundle import ONNX_FILE, PolicyBundle
from cadenza.controllers.shipped import CARD_FILE, CARD_FORMAT, CARD_PAGE, MAX_BUNDLE_BYTES
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import legged_ids, make_env

# Settings of a run by their option of `cadenza train`, beside those that every command of a card names.
_OPTIONS = {
    "n_envs": "--n-envs",
    "device": "--device",
    "evaluate_every": "--evaluate-every",
    "evaluate_episodes": "--evaluate-episodes",
    "checkpoint_every": "--checkpoint-every",
    "teacher": "--teacher",
}
_WITHOUT_OPTION = ("evaluate_every_s", "checkpoint_every_s", "normalize")


@dataclass(frozen=True)
class ShipReport:
    """What :func:`ship_policy` wrote."""

    path: Path
    card: dict[str, Any]
    parity_error: float
    """Largest difference between torch and ONNX, in units of the scaled action."""
    size_bytes: int


def ship_policy(
    run: str | Path,
    destination: str | Path,
    *,
    which: Which = "best",
    episodes: int = 25,
    seed: int = 0,
    overwrite: bool = False,
    note: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> ShipReport:
    """Export a run's policy to the folder ``destination``, play the bundle, and put its card beside it.

    Args:
        run: run folder.
        destination: folder to make, complete or not at all; its name becomes the policy's.
        which: the policy of the best evaluation, or of the last checkpoint.
        episodes: noise-free episodes of the card.
        seed: episode i of them is reset with ``seed + i``.
        overwrite: replace a bundle that is there.
        note: what a reader of the wall-clock should know, such as other programs on the machine.
        progress: called after each episode with its index and return.

    Raises:
        CadenzaError: no run there, a destination that is taken, a policy that cannot be exported, a bundle larger than
            :data:`cadenza.controllers.shipped.MAX_BUNDLE_BYTES`; nothing is written then.
    """
    destination = Path(os.path.abspath(destination))
    check_destination(destination, overwrite)
    policy = open_policy(run, which)
    if policy.model is None:
        raise CadenzaError(f"{run} is a bundle already.", "A card tells of a training: give the run folder.")
    which = which if policy.skills is None else "last"
    settings = RunFolder(run).read_settings()
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.card")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        report = export_bundle(
            policy.model, temporary, env_id=settings.env_id, env_kwargs=settings.env_kwargs, agent=settings.agent,
            preset=settings.preset, **task_facts(settings.env_id, settings.env_kwargs),
        )  # fmt: skip
        if report.size_bytes > MAX_BUNDLE_BYTES:
            raise CadenzaError(
                f"The bundle has {report.size_bytes / 1e6:.1f} MB; {MAX_BUNDLE_BYTES / 1e6:g} MB is the limit for a "
                "policy that ships. Nothing was written.",
                "Train a smaller network (--set hidden_size=128), or export it without --card.",
            )
        card = {
            "format": CARD_FORMAT,
            "name": destination.name,
            "policy_sha256": PolicyBundle.load(temporary).manifest.sha256[ONNX_FILE],
            "env_id": settings.env_id,
            "agent": settings.agent,
            "preset": settings.preset,
            "bundle_bytes": report.size_bytes,
            "note": note,
            "training": _training(Path(run), settings, policy, which),
            "evaluation": _evaluation(temporary, destination.name, episodes, seed, progress),
        }
        if policy.skills is not None:
            card["skills"] = skill_figures(temporary, destination.name, seed)
        if settings.env_id in legged_ids():
            card["robustness"] = _robustness(temporary, destination.name, episodes, seed)
        write_json(temporary / CARD_FILE, card)
        card = json.loads((temporary / CARD_FILE).read_text())  # what the page shows is what the file holds
        write_bytes(temporary / CARD_PAGE, render_card(card).encode())
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone; a wheel carries that on
        move_into_place(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ShipReport(destination, card, report.parity_error, report.size_bytes)


def _training(run: Path, settings: RunSettings, policy: OpenedPolicy, which: Which) -> dict[str, Any]:
    folder = RunFolder(run)
    record = folder.read_record()
    best = folder.best / EVALUATION
    if which == "best" and best.is_file():
        elapsed_s = float(json.loads(best.read_text())["elapsed_s"])
    else:
        elapsed_s = float(CheckpointStore(folder.checkpoints).latest()["extra"]["elapsed_s"])
    defaults = {field.name: field for field in dataclasses.fields(RunSettings)}
    beyond = {name: getattr(settings, name) for name in _WITHOUT_OPTION}
    return {
        "command": training_command(settings, f"runs/{Path(os.path.abspath(run)).name}"),
        "settings_without_option": {name: value for name, value in beyond.items() if value != _default(defaults[name])},
        "seed": settings.seed,
        "step": policy.step,
        "which": which,
        "elapsed_s": round(elapsed_s, 1),
        **{name: record.get(name) for name in ("versions", "git_commit", "machine")},
    }


def training_command(settings: RunSettings, run: str) -> str:
    """The ``cadenza train`` command that makes a run of these settings in the folder ``run``.

    Defaults that a later version might move are left out; the card names the versions.
    """
    words = ["cadenza", "train", settings.agent, settings.env_id]
    words += ["--preset", settings.preset] if settings.preset else []
    words += ["--steps", str(settings.total_steps), "--seed", str(settings.seed)]
    words += ["--torch-threads", str(settings.torch_threads)]
    fields = {field.name: field for field in dataclasses.fields(RunSettings)}
    for name, option in _OPTIONS.items():
        value = getattr(settings, name)
        default = DEFAULT_ENVS.get(settings.agent, 1) if name == "n_envs" else _default(fields[name])
        words += [option, str(value)] if value != default else []
    words += ["--randomised"] if settings.training_kwargs.get("randomised") else []
    alone = {name: value for name, value in settings.training_kwargs.items() if name != "randomised"}
    words += ["--train-set", *(f"{name}={value}" for name, value in alone.items())] if alone else []
    words += ["--run", run]
    if settings.env_kwargs:
        words += ["--env-set", *(f"{name}={value}" for name, value in settings.env_kwargs.items())]
    if settings.overrides:
        words += ["--set", *(f"{name}={value}" for name, value in settings.overrides.items())]
    return shlex.join(words)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _evaluation(
    folder: Path, name: str, episodes: int, seed: int, progress: Callable[[int, float], None] | None
) -> dict[str, Any]:
    policy = open_policy(folder)
    env = staged(policy.skills, make_env(policy.env_id, **policy.env_kwargs))
    began = time.perf_counter()
    try:
        result = evaluate(act_on(policy, env), env, episodes=episodes, seed=seed, progress=progress)
    finally:
        env.close()
    return {
        "command": f"cadenza evaluate {shlex.quote(name)} --episodes {episodes} --seed {seed}",
        "seed": seed,
        **result.to_dict(),
        "wall_clock_s": round(time.perf_counter() - began, 1),
        **provenance(),
    }


def _robustness(folder: Path, name: str, episodes: int, seed: int) -> dict[str, Any]:
    """The table of conditions, without the single episodes: a card must stay small."""
    outcomes = robustness(open_policy(folder), episodes=episodes, seed=seed)
    rows = [outcome.to_dict() for outcome in outcomes]
    return {
        "command": f"cadenza evaluate {shlex.quote(name)} --episodes {episodes} --seed {seed} --stress",
        "rows": [{key: row[key] for key in row if key not in ("returns", "lengths", "motors")} for row in rows],
    }


def readme_row(card: dict[str, Any]) -> str:
    """The policy's row in the README's table of shipped policies."""
    result, name = card["evaluation"], card["name"]
    interval = "" if result["return_ci95"] is None else " ({:,.0f} to {:,.0f})".format(*result["return_ci95"])
    trained = f"{card['training']['step']:,} steps, {duration(card['training']['elapsed_s'])}"
    return (
        f"| [`{name}`](assets/policies/{name}/{CARD_PAGE}) | `{card['env_id']}` | {trained} | "
        f"**{result['return_mean']:,.0f}**{interval} | {result['n']} | {result['survived']} of {result['n']} | "
        f"{_velocity(result)} | {card['bundle_bytes'] / 1e6:.1f} MB |"
    )


def render_card(card: dict[str, Any]) -> str:
    """``card.md`` from the content of ``card.json``."""
    training, result, name = card["training"], card["evaluation"], card["name"]
    learner = f"{card['agent']} `{card['preset']}`" if card["preset"] else card["agent"]
    interval = "-" if result["return_ci95"] is None else "{:,.0f} to {:,.0f}".format(*result["return_ci95"])
    of_which = {"best": "the best evaluation during training", "last": "the last checkpoint"}[training["which"]]
    lines = [
        f"# {name}",
        "",
        f"A policy for `{card['env_id']}`, trained from scratch with {learner}: {training['step']:,} steps, seed "
        f"{training['seed']}, {duration(training['elapsed_s'])}. The bundle has {card['bundle_bytes'] / 1e6:.2f} MB.",
        "",
        "```sh",
        f"cadenza record {shlex.quote(name)}",
        result["command"],
        "```",
        "",
        "## Evaluation",
        "",
        f"{result['n']} noise-free episodes, seeds {result['seed']} to {result['seed'] + result['n'] - 1}, played by "
        f"the files of this folder ({result['wall_clock_s']:,.0f} s). Every figure is in `{CARD_FILE}`.",
        "",
        "| Return (mean ± std) | 95 % interval | Lowest, highest | Episode length | To the limit | Forward velocity |",
        "|---|---|---|---|---|---|",
        f"| **{result['return_mean']:,.0f}** ± {result['return_std']:,.0f} | {interval} | "
        f"{min(result['returns']):,.0f}, {max(result['returns']):,.0f} | {result['length_mean']:,.0f} steps | "
        f"{result['survived']} of {result['n']} | {_velocity(result)} |",
        "",
        "## Training",
        "",
        "```sh",
        training["command"],
        "```",
        "",
        f"- The policy of {of_which}, at step {training['step']:,}, {training['elapsed_s']:,.0f} s after the start.",
        f"- Trained on {_place(training)}.",
        f"- Evaluated on {_place(result)}.",
    ]
    if training["settings_without_option"]:
        beyond = ", ".join(f"`{name} = {value!r}`" for name, value in training["settings_without_option"].items())
        lines.append(f"- Settings that the command line cannot give: {beyond}.")
    lines += [f"- {card['note']}"] if card["note"] else []
    lines += skill_lines(card["skills"], name) if "skills" in card else []
    if "robustness" in card:
        lines += ["", "## Robustness", "", "```sh", card["robustness"]["command"], "```", ""]
        lines += table(card["robustness"]["rows"])
    if result["motors"] is not None:
        lines += _motors(result["motors"])
    return "\n".join(lines) + "\n"


def _velocity(result: dict[str, Any]) -> str:
    velocity = result["forward_velocity_mean"]
    return "-" if velocity is None else f"{velocity:.2f} m/s"


def _place(record: dict[str, Any]) -> str:
    """Machine, versions and commit in words."""
    machine, versions = record["machine"], record["versions"]
    words = f"{machine['cores']} core{'s' * (machine['cores'] != 1)} of {machine['processor']} ({machine['system']}); "
    words += ", ".join(f"{name} {number}" for name, number in versions.items())
    return words + (f"; commit `{record['git_commit']}`" if record["git_commit"] else "")


def _motors(motors: dict[str, Any]) -> list[str]:
    length = f"{motors['steps']:,} steps" if motors["seconds"] is None else f"{motors['seconds']:,.1f} s"
    lines = [
        "",
        "## What the motors would say",
        "",
        f"After these {length}, from cold; `docs/motor-safety.md` has the definitions.",
        "",
        "| | Robot | Worst joint |",
        "|---|---|---|",
    ]
    for name, text, factor, decimals in MOTOR_ROWS:
        if motors[name] is None:
            continue
        joint = motors["worst_joint"].get(name)
        worst = "" if joint is None else f"{motors['joints'][joint][name] * factor:,.{decimals}f} (`{joint}`)"
        lines.append(f"| {text.strip()} | {motors[name] * factor:,.{decimals}f} | {worst} |")
    return lines
