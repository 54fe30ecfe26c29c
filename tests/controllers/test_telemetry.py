"""Logs: what goes in comes out, by other readers too, and after the writer was killed."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.controllers.log_plot import plot_log
from cadenza.controllers.log_summary import RunLog, count_bits, read_log, summarise
from cadenza.controllers.telemetry import CHUNK_S, SCHEMAS, TIMINGS, Ring, Telemetry, TelemetryError, Tick
from cadenza.robots.hardware.safety import Applied, Limit
from cadenza.robots.hardware.types import Fault, ImuState, JointCommand, JointState, RobotState, Sent

NAMES = ("hip", "knee")
MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 1, 2, 3, 4, 5, 6, 15


def fill(tick: Tick, number: int, at_s: float, state: str = "active") -> None:
    """A tick whose numbers tell which one it is."""
    joints = JointState.unknown(2)
    joints.q, joints.dq = np.array([0.1 * number, -0.1]), np.array([1.0, np.nan])
    joints.temperature, joints.age = np.array([30.0 + number, np.nan]), np.array([0.001, np.inf])
    joints.fault = np.array([0, int(Fault.SILENT)])
    command = JointCommand.hold(np.array([0.1 * number + 0.05, np.nan]), 21.1, 0.5)
    shaped = JointCommand.hold(np.array([0.1 * number + 0.04, 0.0]), 21.1, 0.5)
    sent = Sent(JointCommand.hold(np.array([0.1 * number + 0.03, 0.0])), at_s)
    flags = np.array([int(Limit.SLEW | Limit.POSITION), 0])
    applied = Applied(command, shaped, sent, flags, ("too fast",), at_s)
    imu = ImuState(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, -1.0]), 0.002)
    tick.fill(
        number, at_s, state, RobotState(joints, imu, at_s), applied, np.array([0.5, -0.5]), np.array([0.2, 0.0, 0.0]),
        0.25, 0.0, np.arange(6.0) + number, 0,
    )  # fmt: skip


def write(path: Path, count: int, period_s: float = 0.02, **more: Any) -> None:
    last_s = (count - 1) * period_s
    with Telemetry(path, NAMES, period_s, {"bundle": "walk"}, slots_s=last_s + 1, clock=lambda: last_s) as log:
        for number in range(count):
            tick = log.ring.free()
            assert tick is not None
            fill(tick, number, number * period_s, **more)
            log.ring.put()
        log.event("warning", "stop category 1: done")


def test_a_full_ring_drops_and_counts_but_never_waits() -> None:
    ring = Ring(2, 3)
    for number in range(5):
        tick = ring.free()
        if tick is not None:
            tick.number = number
            ring.put()
    assert ring.dropped == 2
    taken = []
    while (oldest := ring.oldest()) is not None:
        taken.append(oldest.number)
        ring.took()
    assert taken == [0, 1, 2]
    assert ring.free() is not None


def test_a_tick_keeps_no_array_of_others() -> None:
    tick = Tick(2)
    fill(tick, 3, 0.06)
    before = tick.joints.copy()
    fill(Tick(2), 9, 0.18)
    np.testing.assert_array_equal(tick.joints, before)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 120)
    log = read_log(tmp_path / "a.mcap")
    assert (log.joint_names, log.period_s, log.complete) == (NAMES, 0.02, True)
    assert log.metadata["bundle"] == "walk"
    n = np.arange(120)
    np.testing.assert_allclose(log.time_s, 0.02 * n, atol=1e-6)
    np.testing.assert_allclose(log.joints["q"][:, 0], 0.1 * n, atol=1e-6)
    np.testing.assert_allclose(log.joints["requested_q"][:, 0], 0.1 * n + 0.05, atol=1e-6)
    np.testing.assert_allclose(log.joints["applied_q"][:, 0], 0.1 * n + 0.04, atol=1e-6)
    np.testing.assert_allclose(log.joints["sent_q"][:, 0], 0.1 * n + 0.03, atol=1e-6)
    for name, row in (("dq", 1), ("temperature", 1), ("age", 1), ("requested_q", 1), ("voltage", 0)):
        assert np.isnan(log.joints[name][:, row]).all(), f"{name}: unknown stays unknown"
    assert set(log.limited_by[:, 0].tolist()) == {int(Limit.SLEW | Limit.POSITION)}
    assert set(log.fault[:, 1].tolist()) == {int(Fault.SILENT)}
    np.testing.assert_allclose(log.loop["read_ms"], n)
    np.testing.assert_allclose(log.loop["period_ms"], 5.0 + n)
    np.testing.assert_allclose(log.command, np.tile([0.2, 0.0, 0.0], (120, 1)))
    assert log.events == [(pytest.approx(119 * 0.02), "warning", "stop category 1: done")]


def test_mcaps_own_reader_finds_index_schemas_and_metadata(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    write(tmp_path / "a.mcap", 200)
    with open(tmp_path / "a.mcap", "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        topics = {channel.id: channel.topic for channel in summary.channels.values()}
        assert set(topics.values()) == set(SCHEMAS)
        counts = {topics[key]: count for key, count in summary.statistics.channel_message_counts.items()}
        assert counts == {**dict.fromkeys(SCHEMAS, 200), "/events": 1}
        assert len(summary.chunk_indexes) >= 200 * 0.02 / 1.0, "no chunk holds more than a second"
        for index in summary.chunk_indexes:
            assert index.message_end_time - index.message_start_time <= 1_000_000_000
        (metadata,) = list(reader.iter_metadata())
        assert metadata.metadata["format"] == "cadenza-run-1"
        checked = Counter[str]()
        for schema, channel, message in reader.iter_messages():
            assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
            obeys(json.loads(message.data), json.loads(schema.data))
            checked[channel.topic] += 1
        assert checked == Counter(counts)


def obeys(value: Any, schema: dict[str, Any]) -> None:
    """The part of JSON schema that ours use."""
    kinds = {"number": (int, float), "integer": int, "string": str, "array": list, "object": dict, "null": type(None)}
    wanted = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    assert any(isinstance(value, kinds[kind]) for kind in wanted), (value, schema)
    if isinstance(value, dict):
        assert set(value) == set(schema["properties"])
        for name, inner in value.items():
            obeys(inner, schema["properties"][name])
    if isinstance(value, list):
        for inner in value:
            obeys(inner, schema["items"])


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of each record, by the format's specification (mcap.dev/spec): opcode, length, content."""
    at = 0
    while at < len(data):
        opcode, length = data[at], struct.unpack_from("<Q", data, at + 1)[0]
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length
    assert at == len(data)


def test_a_walk_over_the_bytes_by_the_specification(tmp_path: Path) -> None:
    """Independent of the library that wrote it, but for the decompressor."""
    import zstandard

    write(tmp_path / "a.mcap", 100)
    data = (tmp_path / "a.mcap").read_bytes()
    assert data[:8] == data[-8:] == MAGIC
    found = list(records(data[8:-8]))
    opcodes = [opcode for opcode, _ in found]
    assert (opcodes[0], opcodes[-1], opcodes.count(DATA_END)) == (HEADER, FOOTER, 1)
    messages = Counter[int]()
    topics: dict[int, str] = {}
    times = []
    for opcode, content in found[: opcodes.index(DATA_END)]:
        if opcode != CHUNK:
            continue
        start, end, size, crc, name_length = struct.unpack_from("<QQQII", content)
        at = 32 + name_length
        assert content[32:at] == b"zstd"
        (length,) = struct.unpack_from("<Q", content, at)
        inner = zstandard.decompress(content[at + 8 : at + 8 + length], size)
        assert (len(inner), zlib.crc32(inner)) == (size, crc)
        for kind, record in records(inner):
            if kind == CHANNEL:
                number, _, topic_length = struct.unpack_from("<HHI", record)
                topics[number] = record[8 : 8 + topic_length].decode()
            elif kind == MESSAGE:
                number, _, log_time, _ = struct.unpack_from("<HIQQ", record)
                assert start <= log_time <= end
                times.append(log_time)
                messages[number] += 1
                json.loads(record[22:])
    assert {topics[number]: count for number, count in messages.items()} == {
        **dict.fromkeys(SCHEMAS, 100), "/events": 1,
    }  # fmt: skip
    assert max(times) - min(times) == pytest.approx(99 * 0.02e9, abs=2)


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_telemetry import NAMES, fill
from cadenza.controllers.telemetry import Telemetry
log = Telemetry(sys.argv[1], NAMES, 0.01, {"bundle": "killed"})
start = time.monotonic()
for number in range(100_000):
    tick = log.ring.free()
    if tick is not None:
        fill(tick, number, time.monotonic())
        log.ring.put()
    print(number, flush=True)
    time.sleep(max(0.0, start + 0.01 * (number + 1) - time.monotonic()))
"""


def test_of_a_killed_program_all_but_the_last_chunk_is_read(tmp_path: Path) -> None:
    path = tmp_path / "killed.mcap"
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if int(line) == 300:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    log = read_log(path)
    assert not log.complete
    assert log.metadata["bundle"] == "killed"
    # At 100 Hz a chunk holds half a second; the writer may have been another behind on a busy machine.
    assert 300 - 100 * (2 * CHUNK_S + 0.5) <= len(log.time_s) <= 301
    np.testing.assert_allclose(log.joints["q"][:, 0], 0.1 * np.arange(len(log.time_s)), atol=1e-6)
    assert not summarise(log).complete


def test_a_file_cut_anywhere_reads_up_to_the_cut(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 150)
    data = (tmp_path / "a.mcap").read_bytes()
    counts = []
    for cut in np.linspace(0, len(data) - 1, 40).astype(int).tolist():
        (tmp_path / "cut.mcap").write_bytes(data[:cut])
        try:
            log = read_log(tmp_path / "cut.mcap")
        except TelemetryError:
            counts.append(0)
            continue
        assert not log.complete
        counts.append(len(log.time_s))
        np.testing.assert_allclose(log.joints["q"][:, 0], 0.1 * np.arange(counts[-1]), atol=1e-6)
    assert counts == sorted(counts)
    assert counts[-1] == 150


@pytest.mark.parametrize("content", [b"", b"not a log", MAGIC])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(TelemetryError):
        read_log(tmp_path / "a.mcap")
    with pytest.raises(TelemetryError, match="Cannot read"):
        read_log(tmp_path / "nowhere.mcap")


def test_a_full_disk_stops_the_log_not_the_loop(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(TelemetryError, match="Cannot write the log"):
        Telemetry(full, NAMES, 0.02, {})
    log = Telemetry(tmp_path / "a.mcap", NAMES, 0.02, {}, slots_s=0.2)

    class Full:
        closed = False

        def write(self, data: bytes = b"") -> int:
            raise OSError(28, "No space left on device")

        flush = write

        def close(self) -> None:
            self.closed = True

    log._file.close()
    log._file = Full()  # type: ignore[assignment]
    log._writer._Writer__stream = log._file
    for number in range(100):
        tick = log.ring.free()
        if tick is not None:
            fill(tick, number, 0.02 * number)
            log.ring.put()
    log.close()
    assert "No space left" in log.failure
    assert log.dropped > 0


def run_log(**given: Any) -> RunLog:
    """Five ticks of two joints, by hand."""
    ticks = 5
    unknown = np.full((ticks, 2), np.nan)
    joints = dict.fromkeys(
        ("requested_q", "applied_q", "sent_q", "q", "dq", "tau", "temperature", "voltage", "age"), unknown
    )
    settings: dict[str, Any] = {
        "path": Path("hand.mcap"), "metadata": {}, "joint_names": NAMES, "period_s": 0.02, "complete": True,
        "time_s": 0.02 * np.arange(ticks), "state": ["homing", "active", "active", "active", "stopping"],
        "limited_by": np.zeros((ticks, 2), dtype=np.int64), "fault": np.zeros((ticks, 2), dtype=np.int64),
        "loop": {name: np.zeros(ticks) for name in ("skipped", *TIMINGS)},
        "gravity": np.tile([0.0, 0.0, -1.0], (ticks, 1)), "command": np.zeros((ticks, 3)),
        "beyond_bounds": np.zeros(ticks), "events": [],
    }  # fmt: skip
    settings["joints"] = {**joints, **given.pop("joints", {})}
    return RunLog(**{**settings, **given})


def test_tracking_is_measured_against_what_was_sent_a_tick_before() -> None:
    sent = np.array([[9.0, 9.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [9.0, 9.0]])
    q = np.array([[9.0, 9.0], [9.0, 9.0], [1.3, 0.0], [1.6, 0.0], [9.0, 9.0]])
    summary = summarise(run_log(joints={"sent_q": sent, "q": q}))
    # Errors of driven ticks: 1.3 - 1 and 1.6 - 2: RMS sqrt((0.09 + 0.16) / 2).
    assert summary.joints[0].tracking_rms_rad == pytest.approx(np.sqrt(0.125))
    assert summary.joints[1].tracking_rms_rad == 0.0
    assert (summary.ticks, summary.active_ticks, summary.seconds) == (5, 3, pytest.approx(0.1))
    assert summary.states == (("homing", 0.0), ("active", 0.02), ("stopping", 0.08))


def test_limits_faults_saturation_heat_and_tilt_are_counted() -> None:
    limited, fault = np.zeros((5, 2), dtype=np.int64), np.zeros((5, 2), dtype=np.int64)
    limited[:, 0] = [int(Limit.SLEW), int(Limit.SLEW | Limit.RAMP), int(Limit.SLEW), 0, int(Limit.SLEW)]
    fault[2:, 1] = int(Fault.OVERHEATED)
    tau = np.array([[4.1, 0.0], [4.0, 0.0], [-3.95, 0.0], [3.8, np.nan], [4.1, 0.0]])
    heat = np.array([[25.0, np.nan], [26.0, np.nan], [31.0, np.nan], [30.0, np.nan], [30.0, np.nan]])
    gravity = np.tile([0.0, 0.0, -1.0], (5, 1))
    gravity[2] = [np.sin(0.3), 0.0, -np.cos(0.3)]
    gravity[0] = [1.0, 0.0, 0.0]  # not driven
    loop = {name: np.zeros(5) for name in ("skipped", *TIMINGS)}
    loop["skipped"][3] = 14
    log = run_log(limited_by=limited, fault=fault, joints={"tau": tau, "temperature": heat}, gravity=gravity, loop=loop)
    summary = summarise(log, torque_limits_nm=np.array([4.1, 4.1]))
    hip, knee = summary.joints
    assert hip.limited == {"slew": 2}
    assert (hip.saturated, hip.peak_torque_nm, hip.temperature_c) == (2, 4.0, (25.0, 31.0))
    assert knee.faults == {"overheated": 3}
    assert np.isnan(knee.temperature_c[1])
    assert summary.tilt_deg == pytest.approx(np.degrees(0.3))
    assert summary.missed_ticks == 14


def test_bits_are_counted_by_name() -> None:
    flags = np.array([0, 1, 3, 2], dtype=np.int64)
    assert count_bits(flags, Fault) == {"voltage": 2, "overheated": 2}


def test_pictures_are_written(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 60)
    paths = plot_log(read_log(tmp_path / "a.mcap"), tmp_path / "out" / "a", window_s=0.5)
    assert [path.name for path in paths] == ["a-joints.png", "a-timing.png", "a-temperatures.png"]
    for path in paths:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", data[16:24])
        assert width > 500
        assert height > 200
