"""What an image is made of: the tag that stands for it, the build context, the worker's own part, and Dockerfiles."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_imports import MODULES, foreign, ours

from asyncjobs import __version__
from asyncjobs.config import Worker
from asyncjobs.errors import ConfigError
from asyncjobs.image import dockerfile
from asyncjobs.image.architecture import Architecture
from asyncjobs.image.context import write_context
from asyncjobs.image.prepare import prepare
from asyncjobs.image.recipe import BaseImage, Recipe
from asyncjobs.image.runtime import LIBRARIES, Runtime, runtime

ROOT = Path(__file__).resolve().parents[2]
SLIM = "public.ecr.aws/docker/library/python:3.12-slim"


class Bases:
    """A builder that finds every base image."""

    name = "docker"

    def base(self, reference: str, architecture: str) -> BaseImage:
        return BaseImage(reference, f"sha256:{len(reference):064x}", "arm64" if architecture == "arm64" else "x86_64")

    def publish(self, *_: object) -> str:
        raise NotImplementedError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    (directory / "package").mkdir(parents=True)
    (directory / "handler.py").write_text("def handle(job): ...\n")
    (directory / "package" / "run.sh").write_text("#!/bin/sh\n")
    (directory / "package" / "run.sh").chmod(0o750)
    (directory / "link").symlink_to("handler.py")
    return directory


def recipe(project: Path, **worker: object) -> Recipe:
    return prepare(project, Worker.model_validate({"handler": "handler:handle", **worker}), Bases())  # type: ignore[arg-type]


# The tag.


def test_a_copy_elsewhere_at_another_time_has_the_same_tag(project: Path, tmp_path: Path):
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    os.utime(tmp_path / "copy" / "handler.py", (1, 1))
    (tmp_path / "copy" / "handler.py").chmod(0o600)
    assert recipe(tmp_path / "copy").tag == recipe(project).tag
    assert len(recipe(project).tag) == 32


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda project: (project / "handler.py").write_text("def handle(job): return 1\n"),
    "a new file": lambda project: (project / "new").touch(),
    "another name": lambda project: (project / "handler.py").rename(project / "handlers.py"),
    "mode": lambda project: (project / "handler.py").chmod(0o755),
    "a link's target": lambda project: ((project / "link").unlink(), (project / "link").symlink_to("package")),
    "a file for a link": lambda project: ((project / "link").unlink(), (project / "link").write_text("handler.py")),
    "a Dockerfile": lambda project: (project / "Dockerfile").write_text("FROM x\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_tag_changes_with_the_project(project: Path, change: Callable[[Path], object]):
    before = recipe(project).tag
    change(project)
    assert recipe(project).tag != before


def test_the_tag_changes_with_all_that_is_not_the_project(project: Path):
    one = recipe(project)
    base, own = one.base, one.runtime
    others = [
        replace(one, bases=(replace(base, digest="sha256:1"),)),
        replace(one, bases=(replace(base, architecture="arm64"),)),
        replace(one, bases=(replace(base, reference="another"),)),
        replace(one, dockerfile=one.dockerfile + "# more\n"),
        replace(one, runtime=replace(own, version="9")),
        replace(one, runtime=replace(own, requirements=())),
        replace(one, runtime=replace(own, files=(*own.files[:-1], (own.files[-1][0], b"other")))),
    ]
    assert len({one.tag, *(other.tag for other in others)}) == len(others) + 1


def test_what_dockerignore_names_and_what_python_leaves_does_not_count(project: Path):
    (project / ".dockerignore").write_text("*.log\n.dockerignore\n")
    before = recipe(project).tag
    (project / "x.log").write_text("noise")
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "handler.pyc").write_bytes(b"x")
    assert recipe(project).tag == before


def test_a_file_that_cannot_be_read_is_named(project: Path):
    one = recipe(project)
    (project / "handler.py").unlink()
    with pytest.raises(ConfigError, match=r"handler\.py cannot be read"):
        _ = one.tag


# The build context.


def context(one: Recipe) -> bytes:
    stream = io.BytesIO()
    write_context(one, stream)
    return stream.getvalue()


def test_the_context_holds_the_project_the_dockerfile_and_the_worker(project: Path):
    with tarfile.open(fileobj=io.BytesIO(context(recipe(project)))) as archive:
        members = {member.name: member for member in archive}
        given = archive.extractfile(".asyncjobs/Dockerfile")
        assert given is not None
        assert given.read().decode() == dockerfile.ours()
    assert list(members) == [
        ".asyncjobs",
        "package",
        ".asyncjobs/Dockerfile",
        f".asyncjobs/asyncjobs-{__version__}-py3-none-any.whl",
        "handler.py",
        "link",
        "package/run.sh",
        "requirements.txt",
    ]
    assert members["link"].linkname == "handler.py"
    assert [oct(members[name].mode) for name in ("handler.py", "package/run.sh", "package")] == [
        "0o644",
        "0o755",
        "0o755",
    ]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, 0, "")}


def test_the_context_is_the_same_to_the_byte_wherever_it_is_made(project: Path, tmp_path: Path):
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    assert context(recipe(project)) == context(recipe(tmp_path / "copy"))


def test_requirements_of_the_project_are_its_own(project: Path):
    (project / "requirements.txt").write_text("numpy\n")
    with tarfile.open(fileobj=io.BytesIO(context(recipe(project)))) as archive:
        found = archive.extractfile("requirements.txt")
        assert found is not None
        assert found.read() == b"numpy\n"
        assert archive.getnames().count("requirements.txt") == 1


# The worker's own part.


def closure(*modules: str) -> set[str]:
    """All of ours that these import, and the packages they are in."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module not in MODULES:
            continue
        found.add(module)
        waiting += [*ours(module), module.rpartition(".")[0]]
    return found


WORKER = ("asyncjobs.worker.__main__", "asyncjobs.worker.health", "asyncjobs.worker.child")


def test_the_runtime_has_the_modules_that_the_worker_imports():
    have = {name for name, _ in runtime().files}
    need = {MODULES[module].relative_to(MODULES["asyncjobs"].parent.parent).as_posix() for module in closure(*WORKER)}
    assert need <= have
    assert {name.split("/")[1] for name in have} == {name.split("/")[1] for name in need}


def test_it_requires_the_libraries_that_those_import():
    libraries = {name for module in closure(*WORKER) for name in foreign(module)} - set(sys.stdlib_module_names)
    assert {name for name in libraries if not name.startswith("mypy_boto3")} == LIBRARIES
    assert [line.split(">")[0] for line in runtime().requirements] == sorted(LIBRARIES)


RUN = """
import sys
for name in ("typer", "click", "rich", "docker", "pydantic", "tenacity", "platformdirs", "ministack", "typer"):
    sys.modules[name] = None
import asyncjobs.worker.__main__, asyncjobs.worker.health, asyncjobs.worker.child
print(asyncjobs.__file__)
sys.exit(asyncjobs.worker.__main__.main())
"""


def test_the_worker_starts_from_these_files_alone(tmp_path: Path):
    """As far as saying that it is told nothing of a queue: everything is imported by then."""
    for name, content in runtime().files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYNCJOBS_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN],
        env={**kept, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[0] == str(tmp_path / "asyncjobs" / "__init__.py"), done.stderr
    assert done.returncode == 3
    assert "ASYNCJOBS_QUEUE_URL" in done.stdout + done.stderr


def test_the_wheel_is_one_that_pip_takes_and_always_the_same(tmp_path: Path):
    one = runtime()
    assert one.wheel() == one.wheel()
    (tmp_path / one.wheel_name).write_bytes(one.wheel())
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, *install, tmp_path / "site", tmp_path / one.wheel_name], check=True, timeout=120)
    assert (tmp_path / "site" / "asyncjobs" / "worker" / "loop.py").is_file()
    assert not (tmp_path / "site" / "asyncjobs" / "cli.py").exists()
    with zipfile.ZipFile(tmp_path / one.wheel_name) as archive:
        metadata = archive.read(f"asyncjobs-{__version__}.dist-info/METADATA").decode()
    assert [line for line in metadata.splitlines() if "Requires" in line] == [
        f"Requires-Dist: {line}" for line in one.requirements
    ]


def test_a_requirement_with_a_marker_stays_whole():
    wheel = Runtime("1", (), ('x>=1; python_version < "3.12"',)).wheel()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        assert (
            'Requires-Dist: x>=1; python_version < "3.12"\n' in archive.read("asyncjobs-1.dist-info/METADATA").decode()
        )


# Dockerfiles.


def test_a_project_without_a_dockerfile_or_with_what_init_writes_has_none_of_its_own(project: Path):
    assert not recipe(project).own_dockerfile
    text = (ROOT / "templates/project/Dockerfile").read_text()
    (project / "Dockerfile").write_text(text.replace("\n", "\r\n"), newline="")
    assert not recipe(project).own_dockerfile
    assert recipe(project).base.reference == SLIM
    (project / "Dockerfile").write_text(text.replace("3.12", "3.13"))
    assert recipe(project).own_dockerfile
    assert recipe(project).base.reference == SLIM.replace("3.12", "3.13")


def test_another_dockerfile_can_be_named_and_must_be_there(project: Path):
    (project / "worker.Dockerfile").write_text("FROM mine:1\n")
    one = recipe(project, dockerfile="worker.Dockerfile")
    assert (one.own_dockerfile, one.base.reference) == (True, "mine:1")
    with pytest.raises(ConfigError, match=r"There is no other\.Dockerfile"):
        recipe(project, dockerfile="other.Dockerfile")


def test_base_image_takes_the_place_of_the_default(project: Path):
    assert recipe(project, base_image="mine:2").base.reference == "mine:2"
    (project / "Dockerfile").write_text("FROM fixed:1\n")
    with pytest.raises(ConfigError, match="would not be used"):
        recipe(project, base_image="mine:2")


@pytest.mark.parametrize(
    ("text", "arguments", "found"),
    [
        ("FROM a:1", {}, ["a:1"]),
        ("from --platform=linux/arm64 a:1 as x\nFROM b\nCOPY --from=x / /", {}, ["a:1", "b"]),
        ("FROM a AS build\nFROM b AS run\nFROM build", {}, ["b", "a"]),
        ("ARG V=3\nFROM a:$V\nARG V=4\nFROM b:${V}", {}, ["a:3", "b:3"]),
        ("ARG V=3\nFROM a:${V:-9}-${W:-slim}${V:+-x}", {"V": "7"}, ["a:7-slim-x"]),
        ('ARG R="r/" A\nFROM \\\n  # a comment\n  ${R}a', {}, ["r/a"]),
        ("FROM a\nFROM scratch\nCOPY --from=0 / /", {}, ["a"]),
        ("FROM a\nFROM a", {}, ["a"]),
    ],
)
def test_the_images_that_a_dockerfile_builds_on(text: str, arguments: dict[str, str], found: list[str]):
    assert dockerfile.bases(text, arguments) == found


@pytest.mark.parametrize("text", ["", "RUN x", "FROM scratch", "ARG X\nFROM ${X}"])
def test_a_dockerfile_that_builds_on_nothing_is_refused(text: str):
    with pytest.raises(ConfigError):
        dockerfile.bases(text, {})


def test_the_arguments_that_a_dockerfile_takes():
    assert dockerfile.arguments("ARG A=1 B\nFROM a\narg C\n# ARG D\n") == {"A", "B", "C"}
    assert {"BASE_IMAGE", "PIP_INDEX_URL"} <= dockerfile.arguments(dockerfile.ours())


@pytest.mark.parametrize("wanted", ["x86_64", "arm64"])
def test_the_architecture_is_that_of_the_base_image(project: Path, wanted: Architecture):
    assert recipe(project, architecture=wanted).architecture == wanted


def test_hadolint_has_nothing_to_say(tmp_path: Path):
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("the `dev` extra is not installed")
    files = [*ROOT.glob("templates/**/Dockerfile"), *ROOT.glob("examples/**/Dockerfile")]
    assert len(files) == 3
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
