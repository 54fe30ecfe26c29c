from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cadenza.controllers.bundle import BUNDLE_FORMAT, PolicyBundle, read_manifest
from cadenza.envs.errors import CadenzaError


def write_bundle(folder: Path, **changes: Any) -> Path:
    """A policy worked out by hand: scaled action = (obs[0] + obs[1], obs[2]); no training code involved."""
    folder.mkdir()
    weight = numpy_helper.from_array(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["observation", "weight"], ["action"])],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "policy.onnx")
    (folder / "policy.safetensors").write_bytes(b"weights")
    names = ("policy.onnx", "policy.safetensors")
    manifest = {
        "format": BUNDLE_FORMAT,
        "cadenza_version": "0.1.0",
        "env_id": "cadenza/Test-v0",
        "env_kwargs": {"speed": 1.5},
        "agent": "symphony",
        "preset": "cpu",
        "observation_size": 3,
        "observation_shape": [3],
        "observation_dtype": "float64",
        "action_shape": [2],
        "action_dtype": "float32",
        "action_low": [-1.0, 0.0],
        "action_high": [3.0, 10.0],
        "seed": 0,
        "num_timesteps": 10,
        "observation_terms": ["height", "speed", "tilt"],
        "joint_order": None,
        "control_rate_hz": 50.0,
        "parity_max_error": 1e-7,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "created_with": {"torch": "2.0"},
    }
    manifest.update(changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_actions_are_unscaled_and_clipped(folder: Path) -> None:
    bundle = PolicyBundle.load(folder)
    # Middles (1, 5), half ranges (2, 5): (0.5, -0.2) -> (2, 4); (8, -3) -> the bounds (3, 0).
    np.testing.assert_allclose(bundle.act(np.array([0.25, 0.25, -0.2])), [2.0, 4.0], rtol=1e-6)
    actions = bundle.act(np.array([[0.25, 0.25, -0.2], [4.0, 4.0, -3.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(actions, [[2.0, 4.0], [3.0, 0.0], [1.0, 5.0]], rtol=1e-6)
    assert actions.dtype == np.float32


def test_shapes_are_the_environments(tmp_path: Path) -> None:
    bundle = PolicyBundle.load(write_bundle(tmp_path / "b", observation_shape=[3, 1], action_shape=[1, 2]))
    assert bundle.act(np.zeros((3, 1))).shape == (1, 2)
    assert bundle.act(np.zeros((5, 3, 1))).shape == (5, 1, 2)
    with pytest.raises(CadenzaError, match="shape"):
        bundle.act(np.zeros(3))


def test_the_manifest_is_frozen_and_complete(folder: Path) -> None:
    manifest = PolicyBundle.load(str(folder)).manifest
    assert manifest == read_manifest(folder)
    assert (manifest.env_kwargs, manifest.action_high) == ({"speed": 1.5}, (3.0, 10.0))
    assert json.loads(manifest.to_json()) == json.loads((folder / "manifest.json").read_text())
    with pytest.raises(AttributeError):
        manifest.agent = "other"  # type: ignore[misc]


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 4), (2, 2, 3), ()])
def test_an_observation_of_another_shape_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(CadenzaError, match="reads") as caught:
        PolicyBundle.load(folder).act(np.zeros(shape))
    assert "cadenza/Test-v0" in caught.value.advice


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_an_observation_that_is_not_finite_is_refused_with_its_term(folder: Path, value: float) -> None:
    bundle = PolicyBundle.load(folder)
    for observation in ([0.0, value, 0.0], [[0.0, 0.0, 0.0], [0.0, value, 0.0]]):
        with pytest.raises(CadenzaError, match=r"not finite at 1 \(speed\)"):
            bundle.act(np.array(observation))


def test_an_observation_that_is_no_array_is_refused(folder: Path) -> None:
    with pytest.raises(CadenzaError, match="not an array"):
        PolicyBundle.load(folder).act({"obs": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["policy.onnx", "policy.safetensors", "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CadenzaError, match=name) as caught:
        PolicyBundle.load(folder)
    assert caught.value.advice


@pytest.mark.parametrize("name", ["policy.onnx", "policy.safetensors"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CadenzaError, match="sha256"):
        PolicyBundle.load(folder)


@pytest.mark.parametrize("changes", [{"format": "cadenza-bundle-2"}, {"format": None}])
def test_another_format_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CadenzaError, match="has format"):
        PolicyBundle.load(write_bundle(tmp_path / "b", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"observation_size": 4},
        {"action_low": [-1.0]},
        {"action_low": [5.0, 0.0]},
        {"action_dtype": "int64"},
        {"action_low": None},
        {"sha256": {}},
        {"sha256": {"../policy.onnx": "0", "policy.safetensors": "0"}},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CadenzaError, match="does not describe a policy"):
        PolicyBundle.load(write_bundle(tmp_path / "b", **changes))


def test_a_manifest_for_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="other inputs or outputs"):
        PolicyBundle.load(write_bundle(tmp_path / "b", observation_size=4, observation_shape=[4]))


def test_a_field_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="gait"):
        PolicyBundle.load(write_bundle(tmp_path / "b", gait="trot"))
    (tmp_path / "b" / "manifest.json").write_text(json.dumps({"format": BUNDLE_FORMAT}))
    with pytest.raises(CadenzaError, match="action_low"):
        PolicyBundle.load(tmp_path / "b")


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_broken_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CadenzaError):
        PolicyBundle.load(folder)


def test_acting_needs_neither_torch_nor_gymnasium(folder: Path) -> None:
    code = """
import sys, numpy
from cadenza.controllers.bundle import PolicyBundle
print(PolicyBundle.load(sys.argv[1]).act(numpy.zeros(3)).tolist())
print({"torch", "gymnasium", "stable_baselines3", "mujoco", "onnx"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["[1.0, 5.0]", "set()"], done.stderr
