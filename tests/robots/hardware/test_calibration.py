from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.calibration import Calibration, JointCalibration, same_model
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.types import Identity

OP3 = load_humanoid("op3")


def measured() -> Calibration:
    """A unit with serial numbers, whose right knee is mounted the other way round."""
    rows = tuple(
        replace(row, serial=f"S{row.bus_id}", firmware="45", method="sweep", range_rad=(-1.0, 1.0))
        for row in Calibration.for_robot(OP3).joints
    )
    return Calibration("op3", "2026-11-24", rows, unit="Lotte")


def answers() -> list[Identity]:
    return [Identity(row.bus_id, row.motor, "45", f"S{row.bus_id}") for row in OP3.joints]


def changed(calibration: Calibration, name: str, **values: Any) -> Calibration:
    rows = tuple(replace(row, **values) if row.name == name else row for row in calibration.joints)
    return replace(calibration, joints=rows)


def test_joint_and_motor_angles_by_hand() -> None:
    row = JointCalibration("j", 1, "XM430-W350", sign=-1, zero_rad=0.5, gear=2.0)
    assert row.to_motor(1.5) == pytest.approx(-2.0)  # -(1.5 - 0.5) * 2
    assert row.to_joint(-2.0) == pytest.approx(1.5)
    assert row.motor_range_rad(-0.5, 1.5) == pytest.approx((-2.0, 2.0))


def test_the_joint_table_is_a_nominal_calibration() -> None:
    calibration = Calibration.for_robot(OP3)
    assert calibration.nominal
    assert [row.bus_id for row in calibration.joints] == list(range(1, 21))
    assert {(row.sign, row.zero_rad) for row in calibration.joints} == {(1, 0.0)}
    assert not measured().nominal
    calibration.check(OP3)


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "robots" / "lotte.json"
    measured().save(path)
    assert Calibration.load(path, OP3) == measured()
    assert [file.name for file in path.parent.iterdir()] == ["lotte.json"], "no temporary file stays"


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not finite"):
        changed(measured(), "r_knee", zero_rad=math.nan).save(tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


def test_another_robots_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measured().save(path)
    with pytest.raises(RefusedError, match="'op3', not of 'unitree_g1'"):
        Calibration.load(path, load_humanoid("unitree_g1"))


def test_joints_in_another_order_are_refused() -> None:
    rows = measured().joints
    with pytest.raises(RefusedError, match="another order"):
        replace(measured(), joints=(rows[1], rows[0], *rows[2:])).check(OP3)
    with pytest.raises(RefusedError, match="missing: \\['head_tilt'\\]"):
        replace(measured(), joints=rows[:-1]).check(OP3)


def test_a_wrap_inside_the_range_is_refused() -> None:
    # The shoulder pitch swings +-179 deg: 2 deg of zero bring the wrap inside.
    with pytest.raises(RefusedError, match=r"r_sho_pitch runs from -181.0 to 177.0 deg"):
        changed(measured(), "r_sho_pitch", zero_rad=math.radians(2)).check(OP3)
    changed(measured(), "r_sho_pitch", zero_rad=math.radians(0.5)).check(OP3)


def test_every_difference_to_the_motors_that_answer_is_named() -> None:
    measured().compare(answers())
    found = answers()
    found[12] = replace(found[12], serial="S99")
    found[3] = replace(found[3], model="1120")
    found[4] = replace(found[4], firmware="44")
    del found[19]
    with pytest.raises(RefusedError) as caught:
        measured().compare(found)
    said = str(caught.value)
    assert "Lotte" in said
    assert "r_knee (id 13): serial 'S99', the file has 'S13'" in said
    assert "l_sho_roll (id 4): the file has a XM430-W350, there is a 1120" in said
    assert "r_el (id 5): firmware '44', the file has '45'" in said
    assert "head_tilt: no motor answered at id 20" in said
    assert said.count(";") == 3, "and nothing else"


def test_what_a_motor_does_not_tell_is_not_compared() -> None:
    measured().compare([replace(who, firmware="", serial="") for who in answers()])
    Calibration.for_robot(OP3).compare(answers())


def test_variants_that_no_register_tells_apart_are_one_model() -> None:
    assert same_model("STS3215-12V", "STS3215")
    assert not same_model("STS3215", "STS3215-12V")
    assert not same_model("STS3215-12V", "STS32")
    assert not same_model("XM430-W350", "XM540-W270")


def as_json() -> dict[str, Any]:
    rows = [
        {"name": row.name, "bus_id": row.bus_id, "motor": row.motor, "sign": 1, "zero_rad": 0.0}
        for row in measured().joints
    ]
    return {"format": "cadenza-calibration-1", "robot": "op3", "date": "2026-11-24", "joints": rows}


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("sign", 0, "sign is 0"),
        ("sign", True, "sign is True"),
        ("bus_id", "1", "bus_id is '1'"),
        ("bus_id", 2, "the id 2 stands twice"),
        ("name", "l_sho_pitch", "the name l_sho_pitch stands twice"),
        ("zero_rad", None, "zero_rad is None"),
        ("zero_rad", math.inf, "zero_rad is inf"),
        ("gear", 0.0, "gear is 0.0"),
        ("motor", "XM999", "no motor named 'XM999'"),
        ("range_rad", [0.0], "ValueError"),
        ("colour", "red", "unexpected keyword argument 'colour'"),
    ],
)
def test_damage_in_a_row_is_refused_with_advice(where: str, value: Any, said: str) -> None:
    data = as_json()
    data["joints"][0][where] = value
    with pytest.raises(RefusedError) as caught:
        Calibration.from_dict(data)
    assert said in str(caught.value)
    assert "cadenza calibrate" in caught.value.advice


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": "cadenza-calibration-2"}', '{"format": "cadenza-calibration-1"}'],
)
def test_a_damaged_file_is_refused_with_advice(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)
    assert "cadenza calibrate" in caught.value.advice


def test_a_missing_field_or_a_wrong_date_is_refused() -> None:
    for change in ({"date": "yesterday"}, {"robot": 3}, {"joints": [7]}, {"joints": None}, {"colour": "red"}):
        with pytest.raises(RefusedError, match="damaged"):
            Calibration.from_dict({**as_json(), **change})
    Calibration.from_dict(as_json())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="No such file"):
        Calibration.load(tmp_path / "none.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    measured().save(tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    assert data["joints"][12]["name"] == "r_knee"
    assert data["joints"][12]["serial"] == "S13"
