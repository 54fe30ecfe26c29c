from __future__ import annotations

import subprocess
import sys
import time

import pytest
from can_rig import free_channel

from cadenza.robots.hardware.errors import HardwareError, MissingSdkError
from cadenza.robots.hardware.transports.canport import CanPort, CanSpec, Frame, FrameLog, open_can

can = pytest.importorskip("can")
pytest.importorskip("msgpack")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("can0", CanSpec("socketcan", "can0")),
        ("socketcan:vcan1", CanSpec("socketcan", "vcan1")),
        ("/dev/ttyACM0", CanSpec("slcan", "/dev/ttyACM0")),
        ("slcan:/dev/pts/3", CanSpec("slcan", "/dev/pts/3")),
        ("udp_multicast", CanSpec("udp_multicast", "239.74.163.2", 43113)),
        ("udp_multicast:239.1.2.3", CanSpec("udp_multicast", "239.1.2.3", 43113)),
        ("udp_multicast:239.1.2.3:5000", CanSpec("udp_multicast", "239.1.2.3", 5000)),
        ("udp_multicast:[ff15::1]:5000", CanSpec("udp_multicast", "ff15::1", 5000)),
        ("virtual:bench", CanSpec("virtual", "bench")),
    ],
)
def test_channels_by_name(text: str, spec: CanSpec) -> None:
    assert CanSpec.parse(text) == spec
    assert CanSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "pcan:PCAN_USBBUS1", "udp_multicast:239.1.2.3:99999", "virtual:"])
def test_what_is_no_channel_is_refused(text: str) -> None:
    with pytest.raises(HardwareError):
        CanSpec.parse(text)


def test_frames_cross_a_virtual_channel_both_ways_and_are_logged() -> None:
    one, other = open_can("virtual:cross"), open_can("virtual:cross")
    log = FrameLog()
    one.taps.append(log)
    sent = [Frame(0x7FF, b"\1\2"), Frame(0x0195547F, bytes(range(8)), extended=True)]
    for frame in sent:
        one.send(frame)
    assert [other.receive(time.monotonic() + 1) for _ in sent] == sent
    other.send(Frame(3, b""))
    assert one.receive(time.monotonic() + 1) == Frame(3, b"")
    assert one.receive(time.monotonic() - 1) is None
    assert log.frames("sent") == sent
    assert log.frames("received") == [Frame(3, b"")]
    one.close()
    one.close()
    other.close()


def test_multicast_reaches_another_process_and_not_its_sender() -> None:
    channel = free_channel()
    group, port = channel.split(":")
    echo = (
        "import can, sys\n"
        f"bus = can.Bus(interface='udp_multicast', channel='{group}', port={port}, fd=False)\n"
        "print('ready', flush=True)\n"
        "message = bus.recv(20)\n"
        "bus.send(can.Message(arbitration_id=message.arbitration_id + 1, data=message.data, is_extended_id=False))\n"
        "bus.shutdown()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", echo], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ours = open_can(f"udp_multicast:{channel}")
        ours.send(Frame(0x10, b"abc"))
        assert ours.receive(time.monotonic() + 20) == Frame(0x11, b"abc")
        assert ours.receive(time.monotonic() + 0.05) is None
        ours.close()
    finally:
        process.kill()
        process.communicate()


def test_a_datagram_that_is_no_frame_is_an_error_frame() -> None:
    import socket

    channel = free_channel()
    group, port = channel.split(":")
    ours = open_can(f"udp_multicast:{channel}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\xff\xffnot msgpack", (group, int(port)))
    found = ours.receive(time.monotonic() + 5)
    assert found is not None
    assert found.error
    ours.close()


def test_a_bus_that_went_off_is_an_error_until_it_is_opened_again() -> None:
    ours, adapter = open_can("virtual:off"), can.Bus(interface="virtual", channel="off")
    adapter.send(can.Message(arbitration_id=0x40, data=bytes(8), is_error_frame=True))
    with pytest.raises(HardwareError, match="bus is off"):
        ours.receive(time.monotonic() + 1)
    with pytest.raises(HardwareError, match="bus is off"):
        ours.send(Frame(1, bytes(8)))
    ours.close()
    ours.open()
    ours.send(Frame(1, bytes(8)))
    ours.close()
    adapter.shutdown()


def test_other_error_frames_are_handed_on() -> None:
    ours, adapter = open_can("virtual:noise"), can.Bus(interface="virtual", channel="noise")
    adapter.send(can.Message(arbitration_id=0x80, data=bytes(8), is_error_frame=True))
    found = ours.receive(time.monotonic() + 1)
    assert found is not None
    assert (found.error, found.id) == (True, 0x80)
    ours.close()
    adapter.shutdown()


def test_a_closed_channel_is_an_error() -> None:
    port = CanPort(CanSpec("virtual", "closed"))
    with pytest.raises(HardwareError, match="not open"):
        port.send(Frame(1, bytes(8)))
    port.open()
    port.close()
    with pytest.raises(HardwareError, match="not open"):
        port.receive(0.0)


def test_what_cannot_be_opened_says_what_to_do() -> None:
    with pytest.raises(HardwareError) as caught:
        open_can("socketcan:nosuchcan7")
    assert "ip link" in caught.value.advice
    with pytest.raises(HardwareError):
        open_can("slcan:/dev/nosuchtty")
    with pytest.raises(HardwareError):
        open_can("udp_multicast:1.2.3.4")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "can", None)
    with pytest.raises(MissingSdkError) as caught:
        open_can("can0")
    assert "cadenza[can]" in caught.value.advice


def test_socketcan_where_the_machine_has_it() -> None:
    try:
        ours, theirs = open_can("socketcan:vcan0"), open_can("socketcan:vcan0")
    except HardwareError as error:
        pytest.skip(f"no vcan0 on this machine (modprobe vcan; ip link add vcan0 type vcan): {error}")
    ours.send(Frame(0x123, b"\1"))
    assert theirs.receive(time.monotonic() + 1) == Frame(0x123, b"\1")
    ours.close()
    theirs.close()
