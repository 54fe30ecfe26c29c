"""What a run folder remembers of its settings."""

import dataclasses
import json
from pathlib import Path

import pytest

from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.agents.symphony import presets
from cadenza.envs.errors import CadenzaError


def test_a_preset_that_changes_later_does_not_change_the_runs_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RunSettings(agent="symphony", env_id="Hopper-v5", preset="cpu", overrides={"batch_size": 32})
    folder = RunFolder(tmp_path / "run")
    folder.create(settings)
    assert folder.read_settings() == settings
    before = presets.PRESETS["cpu"]
    changed = dataclasses.replace(before, hidden_size=before.hidden_size + 1, batch_size=7, summary="another")
    monkeypatch.setitem(presets.PRESETS, "cpu", changed)
    overrides = {"hidden_size": before.hidden_size, "batch_size": 32}
    assert folder.read_settings() == dataclasses.replace(settings, overrides=overrides)


def test_what_a_preset_got_since_is_off_in_the_runs_it_began(tmp_path: Path) -> None:
    """Before batches were mirrored nobody wrote that they are not."""
    settings = RunSettings(agent="symphony", env_id="Hopper-v5", preset="cpu", overrides={"batch_size": 32})
    folder = RunFolder(tmp_path / "run")
    folder.create(settings)
    record = json.loads(folder.config.read_text())
    del record["preset_settings"]["mirror"]
    folder.config.write_text(json.dumps(record))
    assert folder.read_settings().overrides == {"mirror": False, "batch_size": 32}


def test_settings_of_a_later_version_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(RunSettings(agent="symphony", env_id="Hopper-v5", preset="cpu"))
    record = json.loads(folder.config.read_text())
    record["settings"]["preset"] = "of_tomorrow"
    folder.config.write_text(json.dumps(record))
    with pytest.raises(CadenzaError, match="does not know"):
        folder.read_settings()
