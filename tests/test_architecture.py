"""Who may import whom, read from the source files. docs/architecture.md explains the rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room may import itself and these, wherever in a file the import stands.
ALLOWED = {
    "assets": set(),
    "robots": {"assets"},
    "envs": {"assets", "robots", "controllers"},
    "controllers": {"assets", "robots"},
    "agents": {"assets", "robots", "envs", "controllers"},
    "scripts": {"assets", "robots", "envs", "controllers", "agents"},
}
# Modules that any room but robots may import: the base of all our errors, and the nearest-name helper.
SHARED = {"cadenza.envs.errors", "cadenza.envs.names"}
# Where these two really live, for robots to use.
BASE = {"cadenza.robots.errors", "cadenza.robots.names"}

HEAVY = {
    "can", "cv2", "dynamixel_sdk", "gymnasium", "imageio_ffmpeg", "matplotlib", "mcap", "mink", "mujoco", "onnx",
    "onnxruntime", "sb3_contrib", "scservo_sdk", "stable_baselines3", "tensorboard", "torch",
}  # fmt: skip
# Importing these must load nothing of HEAVY, directly or through what they import.
LIGHT = [
    "cadenza.agents.slim",
    "cadenza.agents.slim.presets",
    "cadenza.agents.symphony.presets",
    "cadenza.agents",
    "cadenza.envs.errors",
    "cadenza.envs.names",
    "cadenza.envs.rendering.gl",
    "cadenza.envs.tabletop.tasks",
    "cadenza.envs.tabletop.workspaces",
    "cadenza.robots",
    "cadenza.robots.actuators",
    "cadenza.robots.menagerie",
    "cadenza.robots.motors",
    "cadenza.robots.wheels",
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("cadenza", *parts)).removesuffix(".__init__")


@cache
def modules() -> dict[str, ast.Module]:
    files = [path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in files}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, *, only_on_import: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements below ``node``; with ``only_on_import`` those that importing the module executes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif only_on_import and is_type_checking(child):
            continue
        elif not (only_on_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield from statements(child, only_on_import=only_on_import)


@cache
def imports(name: str, *, only_on_import: bool) -> frozenset[str]:
    """Full names of the modules that ``name`` imports; of ours, the module an imported name comes from."""
    found = set()
    for statement in statements(modules()[name], only_on_import=only_on_import):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        else:
            base = statement.module or ""
            inner = {f"{base}.{alias.name}" for alias in statement.names}
            ours = {full for full in inner if full in modules()}
            found |= ours if len(ours) == len(inner) else ours | {base}
    return frozenset(found)


def with_parents(name: str) -> list[str]:
    """Importing a.b.c runs a and a.b first."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def loads(name: str) -> set[str]:
    """Every module of ours that importing ``name`` executes."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in modules() and current not in seen:
            seen.add(current)
            waiting += with_parents(current)
            waiting += [full for other in imports(current, only_on_import=True) for full in with_parents(other)]
    return seen


def room_of(name: str) -> str:
    return name.split(".")[1] if name.startswith("cadenza.") else ""


def test_rooms_import_only_what_lies_below_them() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        for other in sorted(imports(name, only_on_import=False))
        if room_of(other)
        and room_of(other) != room_of(name)
        and room_of(other) not in ALLOWED[room_of(name)]
        and not (other in SHARED and room_of(name) != "robots")
    ]
    assert wrong == []


def test_the_shared_modules_import_nothing_of_ours() -> None:
    shared = SHARED | BASE
    assert {name for name in shared if name not in modules()} == set()
    used = {name: {other for other in imports(name, only_on_import=False) if room_of(other)} for name in shared}
    assert {name: others - BASE for name, others in used.items() if others - BASE} == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {other for other in imports(name, only_on_import=True) if other in modules() and other != name}
        for name in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


DRIVERS = tuple(f"cadenza.robots.hardware.{name}" for name in ("canbus", "dynamixel", "feetech", "transports"))
EMULATORS = "cadenza.robots.hardware.emulators"


def test_drivers_and_emulated_motors_share_no_code() -> None:
    """A mistake in a packet that both made would be none to either: each has its own codec and table."""
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name, only_on_import=False)
        if (name.startswith(EMULATORS) and other.startswith(DRIVERS))
        or (name.startswith(DRIVERS) and other.startswith(EMULATORS))
    ]
    assert wrong == []


def test_ours_is_imported_by_its_full_name() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name, only_on_import=False)
        if other.split(".")[0] in ALLOWED
    ]
    relative = [
        f"{name}:{statement.lineno}"
        for name, tree in modules().items()
        for statement in statements(tree, only_on_import=False)
        if isinstance(statement, ast.ImportFrom) and statement.level
    ]
    assert wrong + relative == []


def light_modules() -> list[str]:
    humanoids = [name for name in modules() if name.startswith("cadenza.robots.humanoids.")]
    arms = [name for name in modules() if name.startswith("cadenza.robots.arms.")]
    return LIGHT + humanoids + arms + [name for name in modules() if room_of(name) == "scripts"]


@pytest.mark.parametrize("name", light_modules())
def test_light_modules_load_nothing_heavy(name: str) -> None:
    assert name in modules()
    heavy = [
        f"{other} imports {imported}"
        for other in sorted(loads(name))
        for imported in imports(other, only_on_import=True)
        if imported.split(".")[0] in HEAVY
    ]
    assert heavy == []


def test_the_command_line_starts_light() -> None:
    """The same in a real interpreter: what the source scan cannot see (an import by third parties) shows here."""
    code = "import sys, cadenza.scripts.main; print(*(set(sys.modules) & set(sys.argv[1].split())))"
    command = [sys.executable, "-c", code, " ".join(sorted(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_library_code_does_not_reach_for_tests() -> None:
    wrong = [name for name in modules() for other in imports(name, only_on_import=False) if other.startswith("tests")]
    assert wrong == []
