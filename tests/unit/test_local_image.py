"""Snapshots of projects: when they change, what is in them, and what becomes of them."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.image.dockerignore import is_ignored, parse_rules, project_files
from asyncjobs.local.image import ProcessImages, UnknownImageError
from asyncjobs.local.requirements import read_requirements
from asyncjobs.progress import NullProgress, RecordingProgress


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    (directory / "package").mkdir(parents=True)
    (directory / "handler.py").write_text("def handle(job): return 1\n")
    (directory / "package" / "data.bin").write_bytes(b"\x00\xff")
    (directory / "requirements.txt").write_text("asyncjobs>=0.1\n# nothing else\n")
    return directory


@pytest.fixture
def images(tmp_path: Path) -> ProcessImages:
    return ProcessImages(tmp_path / "state")


def build(images: ProcessImages, project: Path, stack: str = "demo") -> str:
    return images.build(project, stack, NullProgress())


def test_an_image_runs_the_projects_files_with_this_interpreter(images: ProcessImages, project: Path) -> None:
    reference = build(images, project)
    assert reference.startswith("asyncjobs.local/demo:")
    image = images.resolve(reference)
    assert image.python == Path(sys.executable)
    assert image.path_prefix == str(Path(sys.executable).parent)
    assert (image.workdir / "handler.py").read_text() == (project / "handler.py").read_text()
    assert (image.workdir / "package" / "data.bin").read_bytes() == b"\x00\xff"


def test_an_unchanged_project_is_not_built_again_and_that_is_said(images: ProcessImages, project: Path) -> None:
    assert images.find(project, "demo") is None
    reference = build(images, project)
    assert images.find(project, "demo") == reference
    progress = RecordingProgress()
    os.utime(project / "handler.py", (1, 1))
    assert images.build(project, "demo", progress) == reference
    assert [event.kind for event in progress.events] == ["kept"]


@pytest.mark.parametrize("change", ["content", "name", "mode", "new file", "link", "requirements"])
def test_any_change_is_a_new_image_and_the_old_one_stays(images: ProcessImages, project: Path, change: str) -> None:
    before = build(images, project)
    if change == "content":
        (project / "handler.py").write_text("def handle(job): return 2\n")
    elif change == "name":
        (project / "handler.py").rename(project / "other.py")
    elif change == "mode":
        (project / "handler.py").chmod(0o755)
    elif change == "new file":
        (project / "empty").touch()
    elif change == "link":
        (project / "link").symlink_to("handler.py")
    else:
        (project / "requirements.txt").write_text("asyncjobs>=0.1\npackaging\n")
    after = build(images, project)
    assert after != before
    assert (images.resolve(before).workdir / "handler.py").read_text() == "def handle(job): return 1\n"


def test_a_snapshot_does_not_follow_the_project(images: ProcessImages, project: Path) -> None:
    reference = build(images, project)
    (project / "handler.py").write_text("broken")
    copy = images.resolve(reference).workdir / "handler.py"
    assert copy.read_text() == "def handle(job): return 1\n"
    assert copy.stat().st_mode & 0o222 == 0


def test_what_is_not_part_of_the_image_does_not_change_it(images: ProcessImages, project: Path) -> None:
    (project / ".dockerignore").write_text("*.log\nsecret\n")
    reference = build(images, project)
    for name in (".git/HEAD", ".venv/bin/x", "__pycache__/a.pyc", "package/__pycache__/b.pyc", "run.log", "secret/key"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    assert build(images, project) == reference
    assert project_files(project) == [".dockerignore", "handler.py", "package/data.bin", "requirements.txt"]


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*.txt"], "a.txt", True),
        (["*.txt"], "deep/a.txt", False),
        (["**/*.txt"], "deep/er/a.txt", True),
        (["**/*.txt"], "a.txt", True),
        (["data"], "data/x/y", True),
        (["data/"], "data/x", True),
        (["/data"], "data/x", True),
        (["data"], "database", False),
        (["*", "!keep.py"], "keep.py", False),
        (["*", "!keep.py", "keep.*"], "keep.py", True),
        (["!keep.py", "*"], "keep.py", True),
        (["a?c"], "abc", True),
        (["a[0-9]"], "a5", True),
        (["# a.txt", "", "  "], "a.txt", False),
        (["a.b"], "axb", False),
    ],
)
def test_dockerignore(patterns: list[str], path: str, ignored: bool) -> None:
    assert is_ignored(path, parse_rules(patterns)) is ignored


@pytest.mark.parametrize(
    "reference",
    ["python:3.12", "asyncjobs.local/demo:0123456789abcdef", "asyncjobs.local/../x:0123456789abcdef", ""],
)
def test_unknown_references(images: ProcessImages, reference: str) -> None:
    with pytest.raises(UnknownImageError):
        images.resolve(reference)


def test_stacks_do_not_share_and_removing_one_leaves_the_other(images: ProcessImages, project: Path) -> None:
    one, two = build(images, project, "one"), build(images, project, "two")
    assert one != two
    images.remove("one")
    with pytest.raises(UnknownImageError):
        images.resolve(one)
    assert images.resolve(two)
    images.remove("never-there")


def test_requirements_that_are_there_need_no_environment(tmp_path: Path) -> None:
    version = metadata.version("packaging")
    file = tmp_path / "requirements.txt"
    (tmp_path / "more.txt").write_text("pytest>=1 ; python_version >= '3'\n")
    file.write_text(f"packaging=={version}  # pinned\n-r more.txt\nasyncjobs[local]\nnot-there ; sys_platform == 'x'\n")
    requirements = read_requirements(file)
    assert requirements.satisfied()
    assert not [line for line in requirements.lines if "asyncjobs" in line]


@pytest.mark.parametrize(
    "line", ["packaging==0.0.1", "surely-not-a-package", "./local", "--index-url https://x", "a @ https://x/a.whl"]
)
def test_requirements_that_are_not_there_need_one(tmp_path: Path, line: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(line + "\n")
    assert not read_requirements(file).satisfied()


def test_paths_in_requirements_mean_their_files_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.txt").write_text("-e ./package\n-c limits.txt\n")
    (tmp_path / "requirements.txt").write_text("-r sub/more.txt\n")
    lines = read_requirements(tmp_path / "requirements.txt").lines
    assert lines == [f"-e {tmp_path}/sub/package", f"-c {tmp_path}/sub/limits.txt"]


def test_requirements_that_are_no_text_are_the_persons_mistake(images: ProcessImages, project: Path) -> None:
    (project / "requirements.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"requirements\.txt"):
        build(images, project)


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_requirements_that_are_no_file_are_the_persons_mistake(images: ProcessImages, project: Path, kind: str) -> None:
    (project / "requirements.txt").unlink()
    if kind == "directory":
        (project / "requirements.txt").mkdir()
    else:
        (project / "requirements.txt").symlink_to("nowhere.txt")
    with pytest.raises(ConfigError, match=r"requirements\.txt"):
        build(images, project)
    with pytest.raises(ConfigError, match=r"requirements\.txt"):
        images.find(project, "demo")


def test_an_image_whose_manifest_was_damaged_is_built_again(
    images: ProcessImages, project: Path, tmp_path: Path
) -> None:
    reference = build(images, project)
    [manifest] = (tmp_path / "state" / "images").glob("*/*/image.json")
    manifest.write_text('{"a": 1}')
    with pytest.raises(UnknownImageError):
        images.resolve(reference)
    assert build(images, project) == reference
    assert images.resolve(reference)
