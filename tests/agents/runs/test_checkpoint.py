"""Checkpoints that are damaged, forged, of another run, or do not fit on the disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cadenza.agents.runs import checkpoint, metrics
from cadenza.agents.runs.checkpoint import CheckpointStore, _without_covered
from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.settings import RunSettings, write_bytes
from cadenza.agents.runs.training import resume, train
from cadenza.envs.errors import CadenzaError

Tiny = Callable[..., RunSettings]


@pytest.fixture
def run(tiny: Tiny, tmp_path: Path) -> Path:
    """A finished run with checkpoints at 50 and 70."""
    train(tiny(total_steps=70), tmp_path / "run")
    return tmp_path / "run"


def manifests(run: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (run / "checkpoints").glob("checkpoint-*.json"))


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], None]] = [truncate, flip, Path.unlink]


def test_two_checkpoints_and_nothing_else_are_kept(run: Path) -> None:
    assert manifests(run) == [50, 70]
    named: set[str] = set()
    for step in (50, 70):
        path = run / "checkpoints" / f"checkpoint-{step:09d}.json"
        content = json.loads(path.read_text())
        named |= {path.name, *content["files"], *(segment["name"] for segment in content["segments"])}
    assert {path.name for path in (run / "checkpoints").iterdir()} == named


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("checkpoint-{}.json", truncate),  # it has no checksum of its own against a single bit; what it names has
        ("checkpoint-{}.json", Path.unlink),
        *((kind, damage) for kind in ("weights-{}.pt", "state-{}.npz", "replay-{}.npz") for damage in DAMAGES),
    ],
)
def test_falls_back_to_the_one_before(
    run: Path, kind: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = run / "checkpoints" / kind.format("000000070")
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert CheckpointStore(run / "checkpoints").latest()["step"] == 50
    if path.exists() or "json" not in kind:  # a manifest that is missing was never written
        assert path.name in caplog.text
        assert "step 50" in caplog.text


@pytest.mark.parametrize("name", ["checkpoint-000000070.json", "weights-000000070.pt"])
def test_training_goes_on_after_a_fall_back(run: Path, tiny: Tiny, same_runs: Any, tmp_path: Path, name: str) -> None:
    """Checkpoints are written beside the damaged one, which then goes; the end is that of an unbroken run."""
    truncate(run / "checkpoints" / name)
    resume(run, total_steps=60)  # a checkpoint older than the damaged one
    assert CheckpointStore(run / "checkpoints").latest()["step"] == 60
    assert manifests(run) == [50, 60]
    resume(run, total_steps=70)
    train(tiny(total_steps=70), tmp_path / "whole")
    same_runs(run, tmp_path / "whole", skip=(60,))


def test_all_damaged(run: Path) -> None:
    for path in (run / "checkpoints").glob("weights-*.pt"):
        truncate(path)
    with pytest.raises(CadenzaError, match=r"No checkpoint in .* is whole") as caught:
        resume(run)
    assert "weights-000000050.pt" in caught.value.advice
    assert "weights-000000070.pt" in caught.value.advice
    assert open_policy(run).step == 50 or open_policy(run).step == 70  # best/ is another matter


def test_none_yet(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CadenzaError, match="There is no checkpoint"):
        resume(run)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'"text"', b'{"step": 80, "files": 3, "segments": []}', b"\xff\xfe\x00", b""]
)
def test_a_manifest_of_nonsense_is_passed_over(run: Path, content: bytes) -> None:
    (run / "checkpoints" / "checkpoint-000000080.json").write_bytes(content)
    assert CheckpointStore(run / "checkpoints").latest()["step"] == 70


def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(
    tiny: Tiny, same_runs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run folder is copied around every rename and every deletion of three checkpoints; each copy resumes.

    In the copies, what is about to be renamed is half written, which is the worst a kill can leave.
    """
    settings = tiny(total_steps=90, evaluate_every=0, checkpoint_every=30, overrides={"buffer_size": 70})
    live, copies = tmp_path / "live", tmp_path / "copies"
    replace, unlink = os.replace, Path.unlink
    moments: list[Path] = []

    def keep() -> Path:
        moments.append(copies / f"{len(moments):03d}")
        shutil.copytree(live, moments[-1])
        return moments[-1]

    def replacing(source: Path, target: Path) -> None:
        if source.parent.name == "checkpoints":
            truncate(keep() / "checkpoints" / source.name)
        replace(source, target)
        if source.parent.name == "checkpoints":
            keep()

    def unlinking(self: Path, missing_ok: bool = False) -> None:
        existed = self.parent == live / "checkpoints" and self.exists()
        unlink(self, missing_ok=missing_ok)
        if existed:
            keep()

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        patch.setattr(Path, "unlink", unlinking)
        train(settings, live)
    assert len(moments) > 25
    steps = []
    for copy in moments:
        try:
            steps.append(CheckpointStore(copy / "checkpoints").latest()["step"])
        except CadenzaError:
            steps.append(0)
    assert steps == sorted(steps)
    assert set(steps) == {0, 30, 60, 90}
    # Resuming is slow beside looking: the moments right after each change of the step, and a few between.
    for index in [i for i, step in enumerate(steps) if step and (steps[i - 1] != step or i % 5 == 0)]:
        resume(moments[index])
        same_runs(live, moments[index])


# ------------------------------------------------------------------ a full disk


def full(monkeypatch: pytest.MonkeyPatch, when: Callable[[Path], bool]) -> None:
    """Let writing of these files fail half-way, as on a full disk."""

    def write(path: Path, data: bytes | memoryview) -> None:
        if when(path):
            write_bytes(path, bytes(data)[: len(data) // 2])  # what is worse than nothing
            path.unlink()
            raise OSError(errno.ENOSPC, "No space left on device")
        write_bytes(path, data)

    monkeypatch.setattr(checkpoint, "write_bytes", write)


@pytest.mark.parametrize("kind", ["weights", "state", "replay"])
def test_full_disk_while_saving(
    kind: str, tiny: Tiny, spy: Any, same_runs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The checkpoint at 100 fails; training goes on, the one at 50 stays whole, the one at 150 holds everything."""
    settings = tiny(total_steps=160)
    train(settings, tmp_path / "whole")
    run = tmp_path / "run"
    seen: list[int] = []
    leftovers: list[str] = []

    def look() -> None:
        seen.append(CheckpointStore(run / "checkpoints").latest()["step"])
        leftovers.extend(path.name for path in (run / "checkpoints").iterdir() if "100" in path.name)

    spy.at = {120: look}
    full(monkeypatch, lambda path: path.name.startswith(f"{kind}-000000100"))
    assert train(settings, run, spy).step == 160
    assert seen == [50]
    assert leftovers == []  # the next one needs the room
    (problem,) = spy.problems
    assert "step 100 was not stored: the disk is full" in problem
    same_runs(run, tmp_path / "whole")


def test_full_disk_at_every_fsync(tiny: Tiny, spy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither checkpoints nor the best policy fit: told each time; only the last checkpoint is an error."""
    real = os.fsync
    state = {"full": False}

    def fsync(number: int) -> None:
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    spy.at = {60: lambda: state.update(full=True)}
    with pytest.raises(CadenzaError, match="step 120 was not stored: the disk is full"):
        train(tiny(total_steps=120), tmp_path / "run", spy)
    assert any("step 100 was not stored" in problem for problem in spy.problems)
    assert CheckpointStore(tmp_path / "run" / "checkpoints").latest()["step"] == 50
    assert not [path for path in (tmp_path / "run").rglob("*") if path.name.endswith(".tmp")]
    state["full"] = False
    assert resume(tmp_path / "run").step == 120


def test_full_disk_for_the_tables(tiny: Tiny, spy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row less is no reason to end a training."""

    def append(self: Any, row: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics.Table, "append", append)
    assert train(tiny(total_steps=70), tmp_path / "run", spy).step == 70
    assert any("episodes.csv" in problem for problem in spy.problems)
    assert any("statistics" in problem for problem in spy.problems)


def test_interrupted_on_a_full_disk_does_not_claim_to_be_stored(
    tiny: Tiny, interrupt_at: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full(monkeypatch, lambda path: "000000060" in path.name)
    with pytest.raises(CadenzaError, match="step 60 was not stored"):
        train(tiny(total_steps=70), tmp_path / "run", interrupt_at(60))
    assert CheckpointStore(tmp_path / "run" / "checkpoints").latest()["step"] == 50


def test_leftovers_of_a_crash_are_removed(run: Path) -> None:
    names = [".weights-000000090.pt.tmp", "weights-000000090.pt", "replay-000000090.npz"]
    for name in names:
        (run / "checkpoints" / name).write_bytes(b"half")
    resume(run, total_steps=80)
    assert not {path.name for path in (run / "checkpoints").iterdir()} & set(names)


# ------------------------------------------------------------------ other runs' and forged files


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hidden_size", 16), ("critic_nodes", 4), ("buffer_size", 60)],
)
def test_config_of_another_run(run: Path, setting: str, value: int) -> None:
    record = json.loads((run / "config.json").read_text())
    record["settings"]["overrides"][setting] = value
    (run / "config.json").write_text(json.dumps(record))
    with pytest.raises(CadenzaError, match="does not fit"):
        resume(run)


@pytest.mark.parametrize("changes", [{"env_id": "Hopper-v5", "env_kwargs": {}}, {"n_envs": 2}, {"agent": "sac"}])
def test_settings_of_another_run(run: Path, changes: dict[str, Any]) -> None:
    record = json.loads((run / "config.json").read_text())
    record["settings"].update(changes)
    if "agent" in changes:
        record["settings"]["overrides"] = {"buffer_size": 2000}
    (run / "config.json").write_text(json.dumps(record))
    with pytest.raises(CadenzaError):
        resume(run)


def test_other_networks_policies_are_refused(run: Path) -> None:
    record = json.loads((run / "config.json").read_text())
    record["settings"]["overrides"]["hidden_size"] = 16
    (run / "config.json").write_text(json.dumps(record))
    for which in ("best", "last"):
        with pytest.raises(CadenzaError, match=r"does not fit the run's config.json"):
            open_policy(run, which)


class Malice:
    """Unpickling this creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def forge(run: Path, name: str, data: bytes) -> None:
    """Replace a checkpoint's file with a matching checksum, as an attacker would."""
    (run / "checkpoints" / name).write_bytes(data)
    for path in (run / "checkpoints").glob("checkpoint-*.json"):
        content = json.loads(path.read_text())
        for part in [content["files"].get(name), *(s for s in content["segments"] if s["name"] == name)]:
            if part is not None:
                part.update(bytes=len(data), crc32=zlib.crc32(data))
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("as_torch", [True, False])
def test_no_code_runs_from_forged_weights(run: Path, tmp_path: Path, as_torch: bool) -> None:
    trap, file = tmp_path / "trap", tmp_path / "malice.pt"
    if as_torch:
        torch.save({"policy": Malice(trap)}, file)
    else:
        file.write_bytes(pickle.dumps(Malice(trap), protocol=2))
    forge(run, "weights-000000070.pt", file.read_bytes())
    (run / "best" / "policy.pt").write_bytes(file.read_bytes())
    with pytest.raises(CadenzaError):
        resume(run)
    with pytest.raises(CadenzaError):
        open_policy(run, "last")
    with pytest.raises(CadenzaError):
        open_policy(run, "best")
    assert not trap.exists()
    if as_torch:  # the trap works
        torch.load(file, weights_only=False)
        assert trap.exists()


@pytest.mark.parametrize("kind", ["state", "replay"])
def test_no_code_runs_from_forged_arrays(run: Path, tmp_path: Path, kind: str) -> None:
    trap, file = tmp_path / "trap", tmp_path / "malice.npz"
    np.savez(file, tree=np.array([Malice(trap)], dtype=object), records_0=np.array([Malice(trap)], dtype=object))
    forge(run, f"{kind}-000000070.npz", file.read_bytes())
    with pytest.raises(CadenzaError):
        resume(run)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["policy.pt", "evaluation.json"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])
def test_damaged_best_policy(run: Path, name: str, damage: Callable[[Path], None]) -> None:
    """Said, with the way out, or passed over for the last checkpoint where there simply is no best policy."""
    damage(run / "best" / name)
    if name == "policy.pt" and damage is Path.unlink:
        assert open_policy(run).step == 70
        return
    with pytest.raises(CadenzaError) as caught:
        open_policy(run)
    assert "--which last" in caught.value.advice
    assert open_policy(run, "last").step == 70


# ------------------------------------------------------------------ segments


def test_segments_that_later_ones_cover_are_dropped() -> None:
    """Worked by hand: a ring of 10 rows written 4, 4, 4 (wrapping), 10 at a time."""

    def segment(name: str, *ranges: tuple[int, int]) -> dict[str, Any]:
        return {"name": name, "ranges": list(ranges)}

    a, b, c = segment("a", (0, 4)), segment("b", (4, 8)), segment("c", (8, 10), (0, 2))
    assert _without_covered([a, b]) == [a, b]
    assert _without_covered([a, b, c]) == [a, b, c]  # rows 2 and 3 are only in a
    d = segment("d", (2, 6))
    assert _without_covered([a, b, c, d]) == [b, c, d]  # b still has rows 6 and 7
    assert _without_covered([b, c, d, segment("e", (0, 10))]) == [segment("e", (0, 10))]


def test_the_replay_on_disk_does_not_grow_without_end(tiny: Tiny, tmp_path: Path) -> None:
    """A ring of 90 rows, checkpoints every 20 steps: at most the five or six newest segments cover it."""
    train(tiny(total_steps=500, checkpoint_every=20, evaluate_every=0, overrides={"buffer_size": 90}), tmp_path / "run")
    assert len(CheckpointStore(tmp_path / "run" / "checkpoints").latest()["segments"]) <= 6
