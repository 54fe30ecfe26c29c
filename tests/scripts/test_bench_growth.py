"""``cadenza bench growth``: exponents, turns, full buffers and the picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from cadenza.scripts.bench import growth
from cadenza.scripts.bench.growth import CURVES, Growth, Turns, exponent, exponents, full_buffer
from cadenza.scripts.bench.growth_plot import draw_growth
from cadenza.scripts.main import run


def test_exponent_of_power_laws() -> None:
    x = [1.0, 2.0, 8.0, 32.0]
    assert exponent(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)
    assert exponent(x, [7.0] * 4) == pytest.approx(0.0)
    # Least squares in the logs by hand: x = 1, e, e^2; log y = 0, 0, 3 has slope (-1 * 0 + 1 * 3) / 2.
    assert exponent(np.exp([0, 1, 2]).tolist(), np.exp([0, 0, 3]).tolist()) == pytest.approx(1.5)
    assert np.isnan(exponent([5.0], [1.0]))


def test_turns_visit_every_point_in_every_round_and_begin_elsewhere_each_time() -> None:
    visits: list[str] = []
    ticks: list[int] = []
    turns = Turns(3, lambda: ticks.append(len(visits)))
    result = turns.measure({"a": lambda: visits.append("a"), "b": lambda: visits.append("b")}, before=lambda: None)
    assert "".join(visits) == "aabb" + "aaaabbbb" + "bbbbaaaa" + "aaaabbbb"  # two to warm up, then four a round
    assert ticks == [12, 20, 28]
    assert set(result) == {"a", "b"}
    assert all(0 < figures["fastest_ms"] <= figures["ms"] for figures in result.values())


def test_full_buffer_shows_every_slot() -> None:
    buffer = full_buffer(25_000, "cpu")  # not a multiple of the block that is copied
    assert buffer.size() == 25_000
    flags = buffer.storage()["flags"]
    assert flags.all()
    records = buffer.storage()["records"]
    assert np.array_equal(records[20_000:], records[:5_000])
    assert buffer.dirty_slots_since(0) == [(0, 25_000)]


def test_replay_rows_count_the_memory() -> None:
    rows = growth._capacities(Growth(quick=True, largest=30_000), Turns(1))
    assert [row["capacity"] for row in rows] == [10_000, 30_000]
    # (2 * 376 + 17) float16, 4 bytes of reward, 1 of flags.
    assert [row["array_mb"] for row in rows] == pytest.approx([15.43, 46.29])
    assert rows[1]["resident_mb"] == pytest.approx(46.29, rel=0.25)
    assert all(row["add_ms"] > 0 and row["draw_ms"] > 0 and row["cold_draw_ms"] > 0 for row in rows)


def test_capacity_beyond_the_ram_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "available_bytes", lambda: growth._RAM_RESERVE + 20_000_000)
    rows = growth._capacities(Growth(quick=True, largest=30_000), Turns(1))
    assert [row["capacity"] for row in rows] == [10_000]
    assert "a full buffer of 30,000 needs 0.0 GB" in capsys.readouterr().out


def made_up() -> growth.Record:
    """A record whose times grow with the square root of the size and all else with the size."""
    record: growth.Record = {"preset": "cpu", "repeats": 3}
    for series, (size, columns) in CURVES.items():
        record[series] = [{size: x, **{c: x**0.5 if "ms" in c else x for c in columns}} for x in (16, 64, 256)]
    for row in record["replay"]:
        row["resident_mb"] = row["array_mb"]
    return record


def test_picture_has_the_exponents(tmp_path: Path) -> None:
    record = made_up()
    assert exponents(record)["replay"] == {
        "add_cpu_ms": 0.5, "draw_cpu_ms": 0.5, "cold_draw_cpu_ms": 0.5, "array_mb": 1.0,
    }  # fmt: skip
    from matplotlib import pyplot

    pyplot.rcParams["svg.fonttype"] = "none"  # text as text
    draw_growth(record, tmp_path / "growth.svg")
    shown = (tmp_path / "growth.svg").read_text()
    for words in ("hidden width h", "batch B", "capacity N", "number of environments n", "0.50", "1.00"):
        assert words in shown


@pytest.mark.slow
def test_quick_run_writes_figures_and_picture(tmp_path: Path) -> None:
    paths = ["--json", str(tmp_path / "g.json"), "--plot", str(tmp_path / "g.png")]
    assert run(["bench", "growth", "--quick", "--repeats", "2", "--largest", "20000", *paths]) == 0
    record = json.loads((tmp_path / "g.json").read_text())
    assert [row["width"] for row in record["width"]] == [64, 256]
    assert [row["capacity"] for row in record["replay"]] == [10_000, 20_000]
    for row in record["envs"]:
        assert row["env_steps_per_cpu_s"] == pytest.approx(1e3 * row["envs"] / row["step_cpu_ms"], rel=1e-3)
    assert record["exponents"]["replay"]["array_mb"] == pytest.approx(1.0, abs=0.01)
    assert record["width"][1]["cpu_ms"] > record["width"][0]["cpu_ms"]
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
