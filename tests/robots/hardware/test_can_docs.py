"""What docs/can-motors.md tells people to do."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from can_rig import free_channel

from cadenza.robots.hardware.canbus.ranges import candidate, parse_ranges
from cadenza.robots.hardware.transports.canport import CanSpec

pytest.importorskip("can")
pytest.importorskip("msgpack")

PAGE = (Path(__file__).parents[3] / "docs" / "can-motors.md").read_text()


def test_the_first_example_runs_as_it_stands() -> None:
    (line,) = re.findall(r"```bash\n(.+)\n```", PAGE)
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    name, *arguments = shlex.split(line)
    assert (name, arguments[0]) == ("cadenza", "emulate")
    command = "import sys; from cadenza.scripts.emulate import main; sys.exit(main(sys.argv[1:]))"
    emulator = subprocess.Popen(
        [sys.executable, "-c", command, *arguments[1:], "--channel", free_channel()],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert emulator.stdout is not None
        port = json.loads(emulator.stdout.readline())["port"]
        usual = "udp_multicast:239.74.163.2:43113"
        assert usual in code
        # A busy machine may stop either process for longer than a person would set the watchdog.
        code = (
            code.replace(usual, port)
            .replace("watchdog_s=0.5", "watchdog_s=2.0")
            .replace("margin_s=0.05", "margin_s=0.5")
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("DM4310") == 3
        assert "-28." in done.stdout or "-27." in done.stdout  # 0.5 sin(99 / 20) rad is -27.9 deg
    finally:
        emulator.terminate()
        emulator.wait(timeout=20)
        if emulator.stdout is not None:
            emulator.stdout.close()


def test_names_in_the_page_exist() -> None:
    for text in ("can0", "socketcan:can0", "/dev/ttyACM0", "slcan:/dev/ttyACM0"):
        assert f"`{text}`" in PAGE
        CanSpec.parse(text)
    assert parse_ranges("RS-02=robstride-sdk")["RS-02"] == candidate("RS-02", "robstride-sdk")
    for text in re.findall(r'ranges="(RS-02=[^"]+)"', PAGE):
        parse_ranges(text)
