"""Requirements of projects in real virtual environments. Nothing is downloaded: the package is made here."""

from __future__ import annotations

import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.local.image import ProcessImages
from asyncjobs.local.tasks import process_environment
from asyncjobs.progress import NullProgress, RecordingProgress


def make_wheel(directory: Path, name: str, version: str) -> str:
    """A wheel with one module that says its version."""
    file = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file.name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    wheel = make_wheel(directory, "tinypackage", "1.5")
    (directory / "requirements.txt").write_text(f"./{wheel}\n")
    return directory


def test_a_project_with_other_requirements_gets_an_environment_that_also_has_ours(
    project: Path, tmp_path: Path
) -> None:
    images = ProcessImages(tmp_path / "state")
    progress = RecordingProgress()
    image = images.resolve(images.build(project, "demo", progress))
    assert ("requirements", "done") in [(event.step, event.kind) for event in progress.events]
    environment = process_environment(image, {}, tmp_path)
    code = "import tinypackage, asyncjobs, boto3; print(tinypackage.VERSION)"
    done = subprocess.run([image.python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.5"

    (project / "more.py").touch()
    again = RecordingProgress()
    other = images.resolve(images.build(project, "other", again))
    assert other.python == image.python
    assert ("requirements", "kept") in [(event.step, event.kind) for event in again.events]
    images.remove("demo")
    assert other.python.exists(), "another stack still uses it"
    images.remove("other")
    assert not other.python.exists()


def test_requirements_that_cannot_be_installed_say_what_pip_said(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("./missing-1.0-py3-none-any.whl\n")
    images = ProcessImages(tmp_path / "state")
    with pytest.raises(ConfigError) as caught:
        images.build(project, "demo", NullProgress())
    assert "missing-1.0" in caught.value.why
    assert list((tmp_path / "state" / "venvs").iterdir()) == []
    assert images.find(project, "demo") is None


def test_what_pip_says_is_said_once(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("--no-index\nsurely-not-a-package==1\n")
    progress = RecordingProgress()
    with pytest.raises(ConfigError) as caught:
        ProcessImages(tmp_path / "state").build(project, "demo", progress)
    said = [*(event.text for event in progress.events), *caught.value.why.splitlines()]
    assert any("No matching distribution" in line for line in said)
    assert len(said) == len(set(said))


def test_pip_writes_into_the_state_folder_only(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("TMPDIR", "XDG_CACHE_HOME", "PIP_CACHE_DIR", "PIP_TARGET", "PIP_SRC", "PIP_LOG"):
        monkeypatch.setenv(name, str(elsewhere / name.lower()))
    monkeypatch.setenv("PIP_USER", "1")
    images = ProcessImages(tmp_path / "state")
    image = images.resolve(images.build(project, "demo", NullProgress()))
    assert list(image.python.parent.parent.rglob("tinypackage.py"))
    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "project", "state"]


def test_two_builds_at_once_make_one_image(project: Path, tmp_path: Path) -> None:
    references: list[str] = []
    builds = [
        threading.Thread(
            target=lambda: references.append(ProcessImages(tmp_path / "state").build(project, "demo", NullProgress()))
        )
        for _ in range(3)
    ]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    assert len(references) == 3
    assert len(set(references)) == 1
    assert len(list((tmp_path / "state" / "images" / "demo").iterdir())) == 1
