"""A control loop on the screen while it runs: a table in a terminal, lines elsewhere. A thread of its own prints it."""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from cadenza.controllers.loop import ControlLoop, Health

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REFRESH_S = 0.25
LINE_EVERY_S = 5.0


def status_table(health: Health, joint_names: tuple[str, ...], title: str) -> Table:
    """What an operator wants to see at a glance."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", show_header=False, expand=False)
    table.add_column(style="bold")
    table.add_column(min_width=60)
    colour = {"active": "green", "homing": "cyan", "stopping": "yellow"}.get(health.state, "red")
    waiting = "  [reverse] press Enter to let the policy drive, space to stop [/]" if health.waiting else ""
    if health.resting:
        waiting = "  [reverse] hold the robot, then press Enter: its torque goes off [/]"
    table.add_row("state", f"[{colour}]{health.state}[/]  {health.seconds:.1f} s driven{waiting}")
    table.add_row("rate", f"{health.rate_hz:.2f} Hz; period {_three(health.period_ms)}")
    table.add_row("bus, policy", f"{_three(health.bus_ms)}; {_three(health.policy_ms)}")
    dropped = f", {health.dropped} not logged" if health.dropped else ""
    missed = f"[yellow]{health.missed_ticks} missed[/]" if health.missed_ticks else "0 missed"
    table.add_row("ticks", f"{health.ticks}, {missed}{dropped}")
    table.add_row("hottest", _hottest(health, joint_names))
    table.add_row("limited", ", ".join(health.limited[:6]) + (" ..." if len(health.limited) > 6 else "") or "-")
    table.add_row("last event", escape(health.last_event[:100]))
    return table


def status_line(health: Health, joint_names: tuple[str, ...]) -> str:
    """The same on one line."""
    waiting = ", waiting for the operator" if health.waiting or health.resting else ""
    return (
        f"{health.state}{waiting}, {health.seconds:.1f} s driven, {health.rate_hz:.2f} Hz "
        f"(period {_three(health.period_ms)}), {health.missed_ticks} missed, hottest {_hottest(health, joint_names)}, "
        f"{len(health.limited)} joints limited"
    )


def _three(values: tuple[float, float, float]) -> str:
    if math.isnan(values[0]):
        return "-"
    return "/".join(f"{value:.2f}" for value in values) + " ms"


def _hottest(health: Health, joint_names: tuple[str, ...]) -> str:
    heat = health.temperature
    if not np.isfinite(heat).any():
        return "-"
    order = np.argsort(-np.nan_to_num(heat, nan=-1.0))[:3]
    return ", ".join(f"{joint_names[row]} {heat[row]:.0f} degC" for row in order if np.isfinite(heat[row]))


class LiveStatus:
    """Shows a loop for the length of a ``with`` block.

    Args:
        console: where to.
        loop: whose health.
        title: of the table.
    """

    def __init__(self, console: Console, loop: ControlLoop, title: str):
        self._console, self._loop, self._title = console, loop, title
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, name="status", daemon=True)
        self._said = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _show(self) -> None:
        names = self._loop.hardware.joint_names
        if not self._console.is_terminal:
            left = LINE_EVERY_S
            while not self._ended.wait(REFRESH_S):
                self._say_events()
                left -= REFRESH_S
                if left <= 0:
                    left = LINE_EVERY_S
                    self._console.print(status_line(self._loop.health(), names), markup=False)
            self._say_events()
            return
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                ended = self._ended.wait(REFRESH_S)
                live.update(status_table(self._loop.health(), names, self._title), refresh=True)
                if ended:
                    return

    def _say_events(self) -> None:
        events = list(self._loop.events)
        for at_s, level, text in events[self._said :]:
            self._console.print(f"{at_s:10.2f} s  {level:7}  {text}", markup=False)
        self._said = len(events)
