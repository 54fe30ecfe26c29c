"""``--command`` of evaluate and record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cadenza.envs.legged.commands import CommandError
from cadenza.robots.menagerie import is_fetched
from cadenza.scripts.commanded import commanded
from cadenza.scripts.main import run

pytestmark = pytest.mark.skipif(not is_fetched("robotis_op3"), reason="the OP3 is not fetched: make robots")


def test_a_command_joins_the_settings() -> None:
    assert commanded("cadenza/OP3Walk-v0", {"history": 2}, None) == {"history": 2}
    made = commanded("cadenza/OP3Walk-v0", {"history": 2}, (0.2, 0.0, 0.0))
    assert made == {"history": 2, "command": (0.2, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("env_id", "command", "says"),
    [
        ("cadenza/OP3Walk-v0", (9.0, 0.0, 0.0), "forward_m_s = 9 lies beyond"),
        ("cadenza/OP3Stand-v0", (0.1, 0.0, 0.0), "OP3Stand takes no velocity command"),
        ("cadenza/Humanoid-v0", (0.1, 0.0, 0.0), "takes no velocity command"),
    ],
)
def test_a_command_that_is_not_taken_is_refused(env_id: str, command: tuple[float, float, float], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        commanded(env_id, {}, command)


def test_a_wider_range_takes_more() -> None:
    wide = {"forward_m_s": (0.0, 9.0)}
    assert commanded("cadenza/OP3Walk-v0", wide, (9.0, 0.0, 0.0)) == {**wide, "command": (9.0, 0.0, 0.0)}


def test_evaluate_plays_and_notes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    words = [
        "evaluate",
        "op3-walk",
        "--episodes",
        "1",
        "--json",
        str(figures),
        "--env-set",
        "episode_s=0.2",
        "--command",
    ]
    assert run([*words, "0", "0", "0"]) == 0
    record = json.loads(figures.read_text())
    assert record["env_kwargs"]["command"] == [0.0, 0.0, 0.0]
    assert "--command 0 0 0" in record["command"]
    assert run([*words, "2", "0", "0"]) != 0
    assert "forward_m_s -0.08 to 0.24" in capsys.readouterr().err
