"""From a joint command to frames: what each mode means for the five numbers, and limits that no rounding passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.codec import Codec
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Array, JointCommand, Mode

_Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class Outgoing:
    """Frames for the motors of some settings.

    Args:
        codec: of their maker.
        settings: with their limits and gains.
    """

    def __init__(self, codec: Codec, settings: Sequence[MotorSettings]):
        self._codec, self._settings = codec, tuple(settings)
        self._windows: dict[int, _Window] = {}
        self._kp = np.array([row.kp for row in settings], dtype=np.float64)
        self._kd = np.array([row.kd for row in settings], dtype=np.float64)

    def forget(self) -> None:
        """Ranges may have changed: work out all limits anew."""
        self._windows.clear()

    def tuple_of(self, command: JointCommand, hold: Array) -> tuple[Array, Array, Array, Array, Array]:
        """q, dq, tau, kp, kd, each (n,), that stand for a command in its mode.

        Args:
            command: finite.
            hold: measured positions, rad, (n,), for the modes that keep to them.
        """
        zero = np.zeros(len(self._settings))
        if command.mode is Mode.IMPEDANCE:
            return command.q, command.dq, command.tau, command.kp, command.kd
        if command.mode is Mode.DAMP:
            return hold, zero, zero, zero, np.where(command.kd > 0, command.kd, self._kd)
        if command.mode is Mode.HOLD:
            return hold, zero, zero, self._kp, self._kd
        return command.q, zero, zero, self._kp, self._kd

    def frame(
        self, index: int, q: float, dq: float, tau: float, kp: float, kd: float
    ) -> tuple[Frame, tuple[float, float, float, float, float]]:
        """The frame of one motor, and what it says: q, dq, tau, kp, kd.

        q, dq and tau are cut to the settings' limits as codes, after truncation, so none lies beyond them on the wire.

        Raises:
            HardwareError: a value is not finite, or no code lies within a limit.
        """
        bus_id = self._settings[index].bus_id
        codes = self._codec.codes(bus_id)
        window = self._windows.get(index) or self._window(index)
        p, v, t = codes.p.encode(q), codes.v.encode(dq), codes.t.encode(tau)
        p, v, t = (min(max(code, low), high) for code, (low, high) in zip((p, v, t), window, strict=True))
        stiff, damp = codes.kp.encode(kp), codes.kd.encode(kd)
        said = (
            codes.p.decode(p), codes.v.decode(v), codes.t.decode(t), codes.kp.decode(stiff), codes.kd.decode(damp),
        )  # fmt: skip
        return self._codec.command(bus_id, p, v, stiff, damp, t), said

    def _window(self, index: int) -> _Window:
        row = self._settings[index]
        codes = self._codec.codes(row.bus_id)
        window = (
            codes.p.inward(*row.position_limits_rad),
            codes.v.inward(-row.velocity_limit_rad_s, row.velocity_limit_rad_s),
            codes.t.inward(-row.torque_limit_nm, row.torque_limit_nm),
        )
        self._windows[index] = window
        return window
