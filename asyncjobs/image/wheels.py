"""A worker's libraries, from wheels for the image's Python: nothing of them is run, and nothing compiled.

They are installed by what the person has: uv, or else pip. Both would take the running Python's `python_version`,
`sys_platform` and the like for the image's; uv is told otherwise by an option, and pip by `_PIP`.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PathDistribution
from pathlib import Path

from asyncjobs.errors import DockerError
from asyncjobs.image.architecture import Architecture
from asyncjobs.image.archive import Entry
from asyncjobs.image.base import Python
from asyncjobs.image.recipe import content

VENV = "venv"
_PIP = """
import json, runpy, sys
from pip._vendor.packaging import markers
here, there = markers.default_environment, json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**here(), **there}
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
# The platforms that uv has names for; of glibc 2.
_UV_GLIBC = (17, 28, *range(31, 41))
# Names that wheels had before PEP 600.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Settings of the person's that would have something else installed, or elsewhere.
_MISLEADING = re.compile(
    r"(?:PIP|UV)_(?:TARGET|PREFIX|ROOT|USER|REPORT|DRY_RUN|PLATFORM|PYTHON\w*|ABI|IMPLEMENTATION|LOG|SRC"
    r"|NO_BINARY|ONLY_BINARY|NO_BUILD|COMPILE_BYTECODE|LINK_MODE|REQUIRE_VIRTUALENV|SYSTEM_PYTHON|NO_DEPS)\Z"
)
# What pip is told by variables, uv is told too; it does not read pip's files.
_SAME = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CERT": "SSL_CERT_FILE",
}
_NO_WHEEL = re.compile(
    r"Wheels are required for `([^`]+)`|Because (?:only )?([\w.-]+)\S* has no (?:usable )?wheels"
    r"|No matching distribution found for (\S+)"
)
# How installers note what they did: of no use in an image, and different each time.
_NOTES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
_PYTHON_LINE = re.compile(rb"\A#!(?:[^\n]*python[^\n]*|/bin/sh\n'''exec' [^\n]*\n' ''')\n")
_SCRIPT = """#!/{venv}/bin/python
import sys
from {module} import {first}
sys.exit({attribute}())
"""
_TAIL = 12


def find_uv() -> str | None:
    """Beside the running Python, or in PATH."""
    return shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def install(
    requirements: Path | None, runtime: Path, python: Python, architecture: Architecture, target: Path, uv: str | None
) -> None:
    """Install what a worker needs into a folder.

    Args:
        requirements: The project's requirements.txt.
        runtime: asyncjobs itself, as a wheel.
        target: Gets the packages, and the programs in `bin`.
        uv: The program; without it, pip does it.

    Raises:
        DockerError: There is no wheel of something for the image, or it cannot be had.
    """
    wanted = ["-r", str(requirements.resolve())] if requirements else []
    command = [*_installer(python, architecture, uv), "--target", str(target), "--only-binary", ":all:", *wanted]
    done = subprocess.run(
        [*command, str(runtime)],
        cwd=requirements.parent if requirements else None,
        env=_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise _failed(done.stdout, python, architecture)


def site_packages(python: Python) -> str:
    return f"{VENV}/lib/python{python.version}/site-packages"


def environment(python: Python) -> dict[str, tuple[str, bytes]]:
    """The files that make /venv an environment of the image's Python: https://peps.python.org/pep-0405/."""
    home = python.path.rpartition("/")[0]
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {python.version}\n"
    return {
        f"{VENV}/pyvenv.cfg": ("-", settings.encode()),
        f"{VENV}/bin/python": ("link", python.path.encode()),
        f"{VENV}/bin/python3": ("link", b"python"),
        f"{VENV}/bin/python{python.version}": ("link", b"python"),
        f"{VENV}/lib64": ("link", b"lib"),
    }


def installed(target: Path, python: Python) -> Iterator[Entry]:
    """What `install` has installed, as a layer's entries below /venv: the same for both installers.

    asyncjobs itself is left out: it changes with every version, and the libraries do not.
    """
    found: dict[str, Path | tuple[str, bytes]] = {**environment(python)}
    for file in _files(target):
        name = file.relative_to(target).as_posix()
        found[f"{VENV}/{name}" if name.startswith("bin/") else f"{site_packages(python)}/{name}"] = file
    for info in target.glob("*.dist-info"):
        for point in PathDistribution(info).entry_points:
            if point.group in ("console_scripts", "gui_scripts"):
                first = point.attr.partition(".")[0]
                text = _SCRIPT.format(venv=VENV, module=point.module, first=first, attribute=point.attr)
                found[f"{VENV}/bin/{point.name}"] = ("x", text.encode())
    for path in sorted(found):
        one = found[path]
        mode, data = one if isinstance(one, tuple) else content(one)
        if path.startswith(f"{VENV}/bin/") and mode != "link":
            mode, data = "x", _PYTHON_LINE.sub(f"#!/{VENV}/bin/python\n".encode(), data)
        elif path.endswith(".dist-info/RECORD"):
            data = _record(data)
        yield path, mode, data


def _files(target: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(target):
        at = Path(folder)
        top = at == target
        folders[:] = [each for each in folders if each != "__pycache__" and not (top and _is_ours(each))]
        for name in names:
            noted = name in _NOTES and at.name.endswith(".dist-info")
            if not (noted or name.endswith(".pyc") or (top and name == ".lock")):
                yield at / name


def _is_ours(name: str) -> bool:
    return name == "asyncjobs" or (name.startswith("asyncjobs-") and name.endswith(".dist-info"))


def _record(content: bytes) -> bytes:
    """The list of a distribution's files, without those that are not as they came."""
    rows = [row for row in csv.reader(io.StringIO(content.decode())) if row]
    kept = sorted(
        row
        for row in rows
        if not (row[0].startswith(("bin/", "..")) or row[0].endswith((".pyc", *(f"/{name}" for name in _NOTES))))
    )
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(kept)
    return out.getvalue().encode()


def _installer(python: Python, architecture: Architecture, uv: str | None) -> list[str]:
    machine = _MACHINES[architecture]
    if uv:
        command = [uv, "pip", "install", "--quiet", "--link-mode", "hardlink", "--no-compile-bytecode"]
        platform = ["--python-platform", _uv_platform(python, machine), "--python-version", python.version]
        folders = [f"--find-links={folder}" for folder in os.environ.get("PIP_FIND_LINKS", "").split()]
        nowhere_else = ["--no-index"] if os.environ.get("PIP_NO_INDEX") else []
        return [*command, "--python", sys.executable, *platform, *folders, *nowhere_else]
    if importlib.util.find_spec("pip") is None:
        raise DockerError(
            "Neither uv nor pip is there to fetch the worker's libraries.",
            hint=f"Install uv, or run `{sys.executable} -m ensurepip`, or build with `--builder docker`.",
        )
    markers = json.dumps(_markers(python, machine))
    command = [sys.executable, "-c", _PIP, markers, "install", "--no-input", "--disable-pip-version-check"]
    platforms = [option for tag in _platforms(python, machine) for option in ("--platform", tag)]
    target = [*platforms, "--python-version", python.version, "--implementation", "cp"]
    return [*command, "--no-compile", "--no-warn-conflicts", "--root-user-action", "ignore", *target]


def _uv_platform(python: Python, machine: str) -> str:
    if python.libc == "musl":
        return f"{machine}-unknown-linux-musl"
    return f"{machine}-manylinux_2_{max(known for known in _UV_GLIBC if known <= max(17, python.libc_version[1]))}"


def _platforms(python: Python, machine: str) -> Iterator[str]:
    """Tags of the wheels that run there, best first: https://peps.python.org/pep-0600/ and pep-0656."""
    if python.libc == "musl":
        yield from (f"musllinux_1_{minor}_{machine}" for minor in range(python.libc_version[1], -1, -1))
        return
    for minor in range(python.libc_version[1], 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _OLD_NAMES:
            yield f"{_OLD_NAMES[minor]}_{machine}"


def _markers(python: Python, machine: str) -> dict[str, str]:
    """https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers"""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python.version}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python.version}.0",
        "python_version": python.version,
        "sys_platform": "linux",
    }


def _environment(mine: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in mine.items() if not _MISLEADING.match(name)}
    same = {theirs: kept[name] for name, theirs in _SAME.items() if name in kept}
    return {**same, **kept, "PYTHONDONTWRITEBYTECODE": "1"}


def _failed(said: str, python: Python, architecture: Architecture) -> DockerError:
    where = f"Python {python.version} on {architecture} with {python.libc}"
    lines = [line.rstrip() for line in said.splitlines() if line.strip() and not line.startswith("WARNING")]
    why = "\n       ".join(lines[-_TAIL:])
    if missing := _NO_WHEEL.search(" ".join(said.split())):
        name = next(filter(None, missing.groups()))
        return DockerError(
            f"There is no wheel of {name} for {where}.",
            why=why,
            hint="Take a version that has one, or build with `--builder docker`, which compiles what has none.",
        )
    return DockerError(
        f"The worker's libraries cannot be installed for {where}.",
        why=why,
        hint="Check requirements.txt and the network, and run the command again.",
    )
