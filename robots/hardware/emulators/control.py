"""A Unix socket beside the emulated wire: time in lockstep, faults, the truth about shafts. JSON, one object a line.

A request is ``{"do": "advance", "until_s": 0.02}``; the answer ``{"ok": true, ...}``, or ``{"ok": false, "error": ...,
"advice": ...}``. :class:`EmulatorControl` is the client; docs/emulators.md lists what can be asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cadenza.robots.errors import CadenzaError
from cadenza.robots.hardware.emulators.faults import FaultSpec
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.names import nearest

_MOST_BYTES = 16_000_000


class ControlServer:
    """Answers on a Unix socket until it is stopped.

    Args:
        world: what it is about.
        path: of the socket; an old one there is replaced.
        on_shutdown: called when a client asks the emulator to end.

    Raises:
        HardwareError: the socket cannot be made.
    """

    def __init__(self, world: World, path: Path, on_shutdown: Callable[[], None] = lambda: None):
        self.world, self.path, self._on_shutdown = world, Path(path), on_shutdown
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "advance": self._advance,
            "fault": self._fault,
            "clear_faults": self._clear_faults,
            "state": lambda _: {"state": world.state()},
            "pose": self._pose,
            "set": self._set,
            "log": self._log,
            "release": self._release,
            "shutdown": self._shutdown,
        }
        self._ended = threading.Event()
        self._clients: set[socket.socket] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.path.is_socket():
                self.path.unlink()
            self._socket.bind(str(self.path))
        except OSError as error:
            self._socket.close()
            raise HardwareError(
                f"The control socket {self.path} cannot be made: {error.strerror or error}.",
                "Name another with --control; a path of a Unix socket has at most 107 characters.",
            ) from error
        os.chmod(self.path, 0o600)
        self._socket.listen()

    def start(self) -> None:
        """Accept clients, in a thread."""
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody; may be called twice."""
        self._ended.set()
        for connection in [self._socket, *self._clients]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._clients.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(_MOST_BYTES):
                    answer = json.dumps(self.answer(line)) + "\n"
                    connection.sendall(answer.encode())
        except (OSError, ValueError):  # the client went away
            pass
        finally:
            self._clients.discard(connection)

    # ------------------------------------------------------------------ commands

    def answer(self, line: bytes) -> dict[str, Any]:
        """Obey one request; never raises."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or "do" not in request:
                raise HardwareError(
                    'A request is an object with a field "do".', f"There are: {_names(self._commands)}."
                )
            name = request.pop("do")
            if name not in self._commands:
                near = nearest(str(name), self._commands)
                raise HardwareError(
                    f"The emulator cannot {name!r}.",
                    (f"Did you mean {near[0]}? " if near else "") + f"There are: {_names(self._commands)}.",
                )
            return {"ok": True, **self._commands[name](request)}
        except CadenzaError as error:
            return {"ok": False, "error": str(error), "advice": error.advice}
        except (ValueError, KeyError, TypeError) as error:
            return {
                "ok": False,
                "error": f"This request cannot be read: {error!r}.",
                "advice": "See docs/emulators.md.",
            }

    def _advance(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self.world.lockstep:
            raise HardwareError("This emulator runs in real time; nobody can advance it.", "Start it with --lockstep.")
        until_s = request["until_s"] if "until_s" in request else self.world.now_s + request["by_s"]
        self.world.advance(float(until_s))
        return {"time_s": self.world.now_s}

    def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = FaultSpec.from_json(request)
        with self.world.lock:
            self.world.faults.add(fault, self.world.now_s)
            return {"time_s": self.world.now_s}

    def _clear_faults(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.world.lock:
            return {"cleared": self.world.faults.clear(request.get("kind"))}

    def _pose(self, _: dict[str, Any]) -> dict[str, Any]:
        with self.world.lock:
            return {"time_s": self.world.now_s, "qpos": self.world.plant.data.qpos.tolist()}

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        device = request.pop("device", None)
        if not request:
            raise HardwareError("Nothing to set.", '{"do": "set", "device": 3, "supply_v": 11.1}')
        for name, value in request.items():
            self.world.set_motor(None if device == "all" else device, name, float(value))
        return {}

    def _log(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.world.lock:
            found = self.world.log.since(int(request.get("since", 0)), int(request.get("most", 10_000)))
        return {"entries": [entry.to_json() for entry in found]}

    def _release(self, _: dict[str, Any]) -> dict[str, Any]:
        self.world.release()
        return {}

    def _shutdown(self, _: dict[str, Any]) -> dict[str, Any]:
        threading.Timer(0.05, self._on_shutdown).start()  # after the answer
        return {}


class EmulatorControl:
    """The client.

    Args:
        path: of the socket, as the emulator printed it.
        timeout_s: for each answer; lockstep steps of a whole robot take their time.

    Raises:
        HardwareError: nobody listens there.
    """

    def __init__(self, path: str | Path, timeout_s: float = 20.0):
        self.path = Path(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        try:
            self._socket.connect(str(self.path))
        except OSError as error:
            self._socket.close()
            raise HardwareError(
                f"No emulator answers on {self.path}: {error.strerror or error}.",
                "Start one with `cadenza emulate`; it prints the path of its control socket.",
            ) from error
        self._lines = self._socket.makefile("rb")

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """One request, and its answer without ``ok``.

        Raises:
            HardwareError: the emulator refused, with its reason; or it is gone, or did not answer in time.
        """
        with self._lock:
            try:
                self._socket.sendall((json.dumps({"do": do, **fields}) + "\n").encode())
                line = self._lines.readline()
            except TimeoutError as error:
                self.close()
                raise HardwareError(
                    f"The emulator did not answer {do!r} within {self._timeout_s:g} s.", "Is its process stopped?"
                ) from error
            except (OSError, ValueError) as error:
                raise HardwareError(f"The emulator is gone: {error}.", "Start it again.") from error
        if not line:
            raise HardwareError("The emulator is gone: it hung up.", "Start it again; its own output says why.")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise HardwareError(answer["error"], answer.get("advice", ""))
        return answer

    def advance(self, until_s: float) -> None:
        """Let simulated time pass to ``until_s``; a follower of :class:`cadenza.robots.hardware.clock.VirtualClock`."""
        self.ask("advance", until_s=until_s)

    def fault(self, kind: str, **fields: Any) -> None:
        """Add a fault, from now on unless ``at_s`` is given; see :class:`FaultSpec` for the fields."""
        self.ask("fault", kind=kind, **fields)

    def clear_faults(self, kind: str | None = None) -> int:
        """End all faults, or those of a kind; how many there were."""
        return int(self.ask("clear_faults", kind=kind)["cleared"])

    def state(self) -> dict[str, Any]:
        """See :meth:`World.state`."""
        state: dict[str, Any] = self.ask("state")["state"]
        return state

    def motor(self, bus_id: int) -> dict[str, Any]:
        """That motor's part of :meth:`state`.

        Raises:
            HardwareError: there is none.
        """
        for motor in self.state()["motors"]:
            if motor["bus_id"] == bus_id:
                return dict(motor)
        raise HardwareError(f"The emulator has no motor with bus id {bus_id}.")

    def set(self, device: int | None = None, **values: float) -> None:
        """``supply_v=11.1`` or ``temperature_c=70`` of a device, or of all."""
        self.ask("set", device=device, **values)

    def log(self, since: int = 0) -> Sequence[dict[str, Any]]:
        """Bytes on the wires from entry ``since`` on, see :class:`Captured`; ``data`` as bytes."""
        found: list[dict[str, Any]] = []
        while part := self.ask("log", since=since)["entries"]:
            found += [{**entry, "data": bytes.fromhex(entry["data"])} for entry in part]
            since = part[-1]["number"] + 1
        return found

    def release(self) -> None:
        """Put a robot down that was held (``--held``)."""
        self.ask("release")

    def shutdown(self) -> None:
        """End the emulator."""
        with contextlib.suppress(HardwareError):
            self.ask("shutdown")
        self.close()

    def close(self) -> None:
        """Hang up; the emulator goes on."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _names(commands: dict[str, Any]) -> str:
    return ", ".join(commands)
