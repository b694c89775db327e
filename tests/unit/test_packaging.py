"""What is installed: a wheel carries the templates and the type marker, an editable install finds the checkout's."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncjobs

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"

FIND = (
    "import asyncjobs.assets as a; print(a.__file__); print(a.templates_dir()); print(len(a.read_template({name!r})))"
)


def files_below(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the `dev` extra is not installed")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--wheel-dir", str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel's content, as an installer lays it out."""
    directory = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def test_wheel_has_every_template(installed: Path) -> None:
    assert files_below(installed / "asyncjobs" / "_templates") == files_below(TEMPLATES)


def test_wheel_has_every_module_and_the_type_marker(installed: Path) -> None:
    ours = {name for name in files_below(installed / "asyncjobs") if not name.startswith("_templates/")}
    assert ours == files_below(ROOT / "asyncjobs")
    assert "py.typed" in ours


def test_wheel_has_nothing_else(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} == {"asyncjobs", f"asyncjobs-{asyncjobs.__version__}.dist-info"}


def test_wheel_carries_its_licence_and_its_program(installed: Path) -> None:
    info = installed / f"asyncjobs-{asyncjobs.__version__}.dist-info"
    assert (info / "licenses" / "LICENSE").read_text(encoding="utf-8").strip().startswith("Apache License")
    assert "asyncjobs = asyncjobs.__main__:main" in (info / "entry_points.txt").read_text(encoding="utf-8")


def run_installed(installed: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the unpacked wheel, away from the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYNCJOBS_")}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_wheel_finds_its_templates(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, tmp_path, "-c", FIND.format(name="api/get-job.vtl"))
    module, found, _length = done.stdout.splitlines()
    assert Path(module) == installed / "asyncjobs" / "assets.py"
    assert Path(found) == installed / "asyncjobs" / "_templates"


def test_wheel_writes_a_project(installed: Path, tmp_path: Path) -> None:
    run_installed(installed, tmp_path, "-m", "asyncjobs", "init", "project")
    assert files_below(tmp_path / "project") == files_below(TEMPLATES / "project")


def test_editable_install_finds_the_checkout(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FIND.format(name="frontend/index.html")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    module, found, _length = done.stdout.splitlines()
    if Path(module).parent != ROOT / "asyncjobs":
        pytest.skip("this checkout is not installed in editable form")
    assert not (ROOT / "asyncjobs" / "_templates").exists()
    assert Path(found) == TEMPLATES


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level packages that a module imports when it runs: not those for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        yield from imported(node)


def test_every_import_is_a_declared_dependency() -> None:
    """A library that only some other package brings along would be missing one day."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0].replace("-", "_") for requirement in declared}
    used = set()
    for file in (ROOT / "asyncjobs").rglob("*.py"):
        used.update(imported(ast.parse(file.read_text(encoding="utf-8"))))
    # The distribution airspeed-ext holds the package airspeed.
    assert used - set(sys.stdlib_module_names) <= names | {"asyncjobs", "airspeed"}
    assert names - used <= {"airspeed_ext"}, "declared and never imported"
