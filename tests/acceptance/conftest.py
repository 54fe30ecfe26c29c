"""The twelve promises of docs/hardware-tests.md, one file each: emulated robots to keep them with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wired import SharedOp3, WiredOp3

# The helpers of this folder, those of the tests of drivers and emulators, and their worked examples.
_HERE = Path(__file__).parent
for _folder in (_HERE, _HERE.parent / "robots" / "hardware", _HERE.parent / "controllers"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))
pytest.register_assert_rewrite("wired", "wire_reader", "deployed")


@pytest.fixture(scope="module")
def shared_op3(op3_is_here: None) -> Iterator[SharedOp3]:
    """The process of an emulated OP3 that hangs in the air, in lockstep."""
    pytest.importorskip("dynamixel_sdk")
    from wired import SharedOp3

    shared = SharedOp3()
    yield shared
    shared.stop()


@pytest.fixture
def op3(shared_op3: SharedOp3) -> Iterator[WiredOp3]:
    """That robot as after power-on, and a driver that has not connected yet."""
    robot = shared_op3.power_cycled()
    yield robot
    shared_op3.give_back(robot)
