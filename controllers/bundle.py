"""Policy bundles: a trained policy as a folder of plain data that acts without the training code.

``policy.onnx`` maps observations (batch, obs) to actions in [-1, 1]; ``policy.safetensors`` holds the same weights by
their torch names; ``manifest.json`` says what the policy was trained for. Where the policy plays skills,
``skills.safetensors`` holds the network that tells them apart. ``cadenza.agents.export`` writes bundles.
Whatever does not match the manifest is refused: a policy fed the wrong numbers moves, only not as it should.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.deployment_facts import DeploymentFacts
from cadenza.envs.errors import CadenzaError

BUNDLE_FORMAT = "cadenza-bundle-1"
ONNX_FILE = "policy.onnx"
TENSORS_FILE = "policy.safetensors"
SKILLS_FILE = "skills.safetensors"
MANIFEST_FILE = "manifest.json"
_OPTIONAL = ("deployment", "skills")
_EXPORT_AGAIN = "Export the policy again, or copy the whole bundle folder again."


class BundleError(CadenzaError):
    """A bundle that cannot be used, or an observation that does not fit it."""


@dataclass(frozen=True)
class BundleManifest:
    """What a bundle's policy was trained for; the content of ``manifest.json``.

    ``observation_size`` and what else is said of the observation is what the policy reads. Where the environment shows
    its critics more (``actor_observation_size``), these are the leading entries of its observation.
    """

    format: str
    cadenza_version: str
    env_id: str
    env_kwargs: dict[str, Any]
    agent: str
    preset: str | None
    observation_size: int
    observation_shape: tuple[int, ...]
    observation_dtype: str
    action_shape: tuple[int, ...]
    action_dtype: str
    action_low: tuple[float, ...]
    """Flat, in the environment's order; what -1 of the network means."""
    action_high: tuple[float, ...]
    seed: int | None
    num_timesteps: int
    observation_terms: tuple[str, ...] | None
    joint_order: tuple[str, ...] | None
    control_rate_hz: float | None
    parity_max_error: float
    """Largest difference between torch and ONNX at export, in units of the scaled action."""
    sha256: dict[str, str]
    created_with: dict[str, str]
    """Versions of the packages that wrote the bundle."""
    deployment: DeploymentFacts | None = None
    """What running it on motors takes; None where the task has no robot, or the bundle is older than that."""
    skills: dict[str, Any] | None = None
    """Settings of the skills that the last entries of the observation choose between; what tells them apart is in
    ``skills.safetensors`` (:mod:`cadenza.agents.slim.skill_bundle`). None where there are none."""

    def to_json(self) -> str:
        """Indented JSON, ending in a newline."""
        data = dataclasses.asdict(self)
        for name in _OPTIONAL:
            if data[name] is None:
                del data[name]  # as bundles were before there was such a field
        return json.dumps(data, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: Any, source: Path) -> Self:
        """Check and take over a parsed ``manifest.json``.

        Raises:
            BundleError: another format, or fields that are missing, unknown or of the wrong kind.
        """
        if not isinstance(data, dict) or data.get("format") != BUNDLE_FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise BundleError(
                f"{source} has format {found!r}; this version of Cadenza reads {BUNDLE_FORMAT!r}.",
                "Install the version of Cadenza that wrote it, or export the policy again with this one.",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        if names != data.keys() | set(_OPTIONAL):
            missing, unknown = sorted(names - data.keys() - set(_OPTIONAL)), sorted(data.keys() - names)
            raise BundleError(f"{source} lacks the fields {missing} and has unknown fields {unknown}.", _EXPORT_AGAIN)
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
            if fields.get("deployment") is not None:
                fields["deployment"] = DeploymentFacts.from_dict(data["deployment"])
            manifest = cls(**fields)
            manifest._check()
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise BundleError(f"{source} does not describe a policy: {error}.", _EXPORT_AGAIN) from error
        return manifest

    def _check(self) -> None:
        size, actions = int(np.prod(self.observation_shape)), int(np.prod(self.action_shape))
        if self.observation_size != size:
            raise ValueError(f"observation_size {self.observation_size} is not that of shape {self.observation_shape}")
        if not len(self.action_low) == len(self.action_high) == actions:
            raise ValueError(f"{actions} actions need as many bounds in action_low and action_high")
        low, high = np.asarray(self.action_low, np.float64), np.asarray(self.action_high, np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ValueError("action_low must be finite and below action_high")
        if not np.issubdtype(np.dtype(self.action_dtype), np.floating):
            raise ValueError(f"action_dtype {self.action_dtype} is not a float type")
        files = {ONNX_FILE, TENSORS_FILE} | ({SKILLS_FILE} if self.skills is not None else set())
        if self.sha256.keys() != files:
            raise ValueError(f"sha256 must name {' and '.join(sorted(files))}")


class BoundPolicy:
    """A bundle's policy on arrays of its own, for a control loop: nothing is allocated, checked or copied in a call.

    Write an observation into :attr:`observation`, call, read :attr:`action`.
    """

    def __init__(self, session: Any, manifest: BundleManifest):
        self.observation = np.zeros((1, manifest.observation_size), dtype=np.float32)
        """What the policy reads, (1, obs)."""
        self.action = np.zeros((1, len(manifest.action_low)), dtype=manifest.action_dtype)
        """As :meth:`PolicyBundle.act` gives it, (1, actions), after a call."""
        self._low = np.asarray(manifest.action_low, dtype=manifest.action_dtype)
        self._high = np.asarray(manifest.action_high, dtype=manifest.action_dtype)
        self._span = self._high - self._low
        self._scaled = np.zeros(self.action.shape, dtype=np.float32)
        self._session, self._binding = session, session.io_binding()
        # The binding keeps addresses only: these arrays live as long as it does.
        for bind, port, array in (
            (self._binding.bind_input, session.get_inputs()[0], self.observation),
            (self._binding.bind_output, session.get_outputs()[0], self._scaled),
        ):
            bind(port.name, "cpu", 0, np.float32, list(array.shape), array.ctypes.data)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)
        out = self.action
        np.clip(self._scaled, -1.0, 1.0, out=self._scaled)
        # In the order of PolicyBundle.act, so that both give the same bits.
        np.add(self._scaled, 1.0, out=self._scaled)
        np.multiply(self._scaled, 0.5, out=self._scaled)
        np.multiply(self._scaled, self._span, out=out)
        np.add(out, self._low, out=out)
        np.clip(out, self._low, self._high, out=out)


class PolicyBundle:
    """A policy that acts: numpy in, numpy out, on one thread. Made by :meth:`load`."""

    def __init__(self, path: Path, manifest: BundleManifest, session: Any):
        self.path = path
        self.manifest = manifest
        self._session = session
        self._input_name: str = session.get_inputs()[0].name
        self._low = np.asarray(manifest.action_low, dtype=manifest.action_dtype)
        self._high = np.asarray(manifest.action_high, dtype=manifest.action_dtype)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open the bundle in the folder ``path``.

        Raises:
            BundleError: a file is missing, damaged, changed since the export, or of another format.
        """
        import onnxruntime

        path = Path(path)
        manifest = read_manifest(path)
        for name, expected in manifest.sha256.items():
            if not (path / name).is_file():
                raise BundleError(f"The bundle {path} has no {name}.", _EXPORT_AGAIN)
            if file_sha256(path / name) != expected:
                raise BundleError(
                    f"{path / name} is not the file that was exported: its sha256 differs from the manifest's.",
                    f"It was changed or damaged. {_EXPORT_AGAIN}",
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(path / ONNX_FILE, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's classes share no public base
            raise BundleError(f"onnxruntime cannot open {path / ONNX_FILE}: {error}", _EXPORT_AGAIN) from error
        found = [[port.shape[1:] for port in ports] for ports in (session.get_inputs(), session.get_outputs())]
        if found != [[[manifest.observation_size]], [[len(manifest.action_low)]]]:
            raise BundleError(f"{path / ONNX_FILE} has other inputs or outputs than its manifest says.", _EXPORT_AGAIN)
        return cls(path, manifest, session)

    def act(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Noise-free action in the environment's action space.

        Args:
            observation: finite numbers of the manifest's ``observation_shape``, or a batch (batch, shape) of them.

        Returns:
            ``action_shape``, or (batch, action_shape); of ``action_dtype``, inside the bounds.

        Raises:
            BundleError: wrong shape, not numbers, or not finite.
        """
        shape = self.manifest.observation_shape
        try:
            with np.errstate(over="ignore"):
                array = np.asarray(observation, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise BundleError("The observation is not an array of numbers.", str(error)) from error
        if array.shape not in (shape, (*array.shape[:1], *shape)):
            raise BundleError(
                f"The observation has shape {array.shape}; this policy reads {shape} or a batch {('batch', *shape)}.",
                f"It was trained in {self.manifest.env_id} with env_kwargs {self.manifest.env_kwargs}; "
                "use that environment, and of its observation what its actor sees.",
            )
        if not np.isfinite(array).all():
            bad = np.unique(np.argwhere(~np.isfinite(array.reshape(-1, self.manifest.observation_size)))[:, 1])
            raise BundleError(
                f"The observation is not finite at {self._entries(bad)}.",
                "Check the sensor or the simulation state; do not let a policy act on it.",
            )
        single = array.shape == shape
        flat = np.ascontiguousarray(array).reshape(-1, self.manifest.observation_size)
        (scaled,) = self._session.run(None, {self._input_name: flat})
        action = self._low + 0.5 * (np.clip(scaled, -1.0, 1.0) + 1.0) * (self._high - self._low)
        action = np.clip(action, self._low, self._high).astype(self._low.dtype, copy=False)
        return action.reshape(self.manifest.action_shape if single else (-1, *self.manifest.action_shape))

    def bind(self) -> BoundPolicy:
        """The same policy for a control loop."""
        return BoundPolicy(self._session, self.manifest)

    def _entries(self, indices: NDArray[Any]) -> str:
        """Observation entries for a message: their term where the manifest has one name an entry."""
        terms = self.manifest.observation_terms
        named = terms is not None and len(terms) == self.manifest.observation_size
        shown = [f"{i} ({terms[i]})" if named and terms else str(i) for i in indices[:5].tolist()]
        return ", ".join(shown) + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")


def read_manifest(path: str | Path) -> BundleManifest:
    """The manifest of the bundle in the folder ``path``, without opening its policy.

    Raises:
        BundleError: no bundle there, or one of another format.
    """
    file = Path(path) / MANIFEST_FILE
    if not file.is_file():
        raise BundleError(
            f"{path} is no policy bundle: there is no {MANIFEST_FILE} in it.",
            f"A bundle is a folder with {ONNX_FILE}, {TENSORS_FILE} and {MANIFEST_FILE}, written by the export.",
        )
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}.", _EXPORT_AGAIN) from error
    return BundleManifest.from_dict(data, file)


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
