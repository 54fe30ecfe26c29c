"""Faults on purpose: the plan's format, when each kind holds, and that the same seed draws the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cadenza.robots.hardware.emulators.faults import KINDS, FaultPlan, FaultSpec
from cadenza.robots.hardware.errors import HardwareError

DATA = bytes(range(20))


def test_unknown_kinds_and_fields_are_refused_with_those_that_exist() -> None:
    with pytest.raises(HardwareError, match="brownout") as error:
        FaultSpec.from_json({"kind": "brownout"})
    assert "brown_out" in error.value.advice
    assert all(kind in error.value.advice for kind in KINDS)
    with pytest.raises(HardwareError, match="until_s") as error:
        FaultSpec.from_json({"kind": "drop", "until_s": 3})
    assert "for_s" in error.value.advice


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "drop", "share": 1.5},
        {"kind": "drop", "share": float("nan")},
        {"kind": "drop", "at_s": -1},
        {"kind": "drop", "for_s": "long"},
        {"kind": "drop", "way": "up"},
        {"kind": "mute", "devices": ["three"]},
        {"kind": "mute", "devices": [True]},
        {"share": 0.1},
        "drop",
    ],
)
def test_wrong_values_are_refused(record: object) -> None:
    with pytest.raises(HardwareError):
        FaultSpec.from_json(record)  # type: ignore[arg-type]


def test_a_plan_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"seed": 4, "faults": [{"kind": "mute", "device": 3, "at_s": 1.0, "for_s": 0.5}]}))
    plan = FaultPlan.from_file(path)
    assert plan.holding("mute", 3, 0.99) is None
    assert plan.holding("mute", 3, 1.0) is not None
    assert plan.holding("mute", 4, 1.2) is None
    assert plan.holding("mute", 3, 1.5) is None
    path.write_text("[{]")
    with pytest.raises(HardwareError, match="cannot be read"):
        FaultPlan.from_file(path)
    with pytest.raises(HardwareError, match="cannot be read"):
        FaultPlan.from_file(tmp_path / "none.json")
    with pytest.raises(HardwareError, match="a list of faults"):
        FaultPlan.from_json({"fault": []})


def test_a_live_fault_begins_when_it_is_added() -> None:
    plan = FaultPlan()
    plan.add(FaultSpec("mute", for_s=1.0), now_s=5.0)
    assert plan.holding("mute", 1, 4.9) is None
    assert plan.holding("mute", 1, 5.9) is not None
    assert plan.holding("mute", 1, 6.1) is None


def test_the_share_of_dropped_replies_is_the_one_asked_for() -> None:
    plan = FaultPlan([FaultSpec("drop", share=0.1, way="reply")], seed=1)
    lost = sum(not plan.reply(DATA, 1, 0.0) for _ in range(5_000))
    assert 400 < lost < 600  # 500 expected, standard deviation 21
    assert all(plan.request(DATA, 0.0).reaches(1) for _ in range(100))


def test_the_same_seed_draws_the_same() -> None:
    def draws(seed: int) -> list[bool]:
        plan = FaultPlan([FaultSpec("drop", share=0.5)], seed=seed)
        return [bool(plan.reply(DATA, 1, 0.0)) for _ in range(200)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_a_dropped_request_reaches_nobody_or_not_the_named() -> None:
    everybody = FaultPlan([FaultSpec("drop", way="request")]).request(DATA, 0.0)
    assert not everybody.reaches(1)
    some = FaultPlan([FaultSpec("drop", way="request", devices=(1,))]).request(DATA, 0.0)
    assert not some.reaches(1)
    assert some.reaches(2)


def test_corrupt_turns_as_many_bits_as_asked() -> None:
    plan = FaultPlan([FaultSpec("corrupt", amount=1, way="reply")])
    for _ in range(50):
        ((found, late_s),) = plan.reply(DATA, 1, 0.0)
        turned = np.unpackbits(np.frombuffer(found, np.uint8) ^ np.frombuffer(DATA, np.uint8))
        assert turned.sum() == 1
        assert late_s == 0
    heard = FaultPlan([FaultSpec("corrupt", way="request")]).request(DATA, 0.0)
    assert heard.data != DATA
    assert heard.reaches(1)


def test_delay_and_duplicate() -> None:
    plan = FaultPlan([FaultSpec("delay", amount=0.03), FaultSpec("duplicate", devices=(2,))])
    assert plan.reply(DATA, 1, 0.0) == [(DATA, 0.03)]
    assert plan.reply(DATA, 2, 0.0) == [(DATA, 0.03)] * 2


def test_mute_and_unplug_silence_the_named_only() -> None:
    plan = FaultPlan([FaultSpec("mute", devices=(1,)), FaultSpec("unplug", devices=(2,))])
    assert plan.reply(DATA, 1, 0.0) == []
    assert plan.reply(DATA, 2, 0.0) == []
    assert plan.reply(DATA, 3, 0.0) == [(DATA, 0.0)]
    assert plan.request(DATA, 0.0).reaches(1), "a mute device hears"
    assert not plan.request(DATA, 0.0).reaches(2)
    assert not plan.port_gone(0.0)


def test_unplug_without_devices_is_the_hosts_adapter() -> None:
    plan = FaultPlan([FaultSpec("unplug", at_s=1.0, for_s=1.0)])
    assert [plan.port_gone(t) for t in (0.5, 1.0, 1.9, 2.0)] == [False, True, True, False]
    assert not plan.unplugged(1, 1.5), "its motors keep their power"


def test_an_id_clash_mixes_bytes_so_that_only_zeros_are_added() -> None:
    ((found, _),) = FaultPlan([FaultSpec("id_clash")], seed=2).reply(b"\xff" * 20, 1, 0.0)
    assert found[:4] == b"\xff" * 4
    assert found != b"\xff" * 20
    assert len(found) == 20


def test_what_happens_once_is_handed_out_once() -> None:
    plan = FaultPlan([FaultSpec("reboot", at_s=1.0, devices=(4,))])
    assert plan.once("reboot", 0.5) == []
    assert [fault.devices for fault in plan.once("reboot", 1.2)] == [(4,)]
    assert plan.once("reboot", 1.3) == []


def test_clear_ends_faults_and_counts_them() -> None:
    plan = FaultPlan([FaultSpec("mute"), FaultSpec("drop"), FaultSpec("mute", devices=(2,))])
    assert plan.clear("mute") == 2
    assert plan.reply(DATA, 1, 0.0) == [], "drop still holds"
    assert plan.clear() == 1
    assert plan.reply(DATA, 1, 0.0) == [(DATA, 0.0)]
    assert plan.to_json() == []
