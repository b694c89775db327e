"""How long it takes until a worker's image is built and in a registry: without an engine, and with Docker.

    python benchmarks/image.py [--base IMAGE] [--rounds N] [--bundle FILE]

The sample project, with the same libraries and the same asyncjobs, is built by each of four contenders in turn and
pushed to Debian's docker-registry on loopback: for the first time, with other code, and unchanged. Every round each
contender begins with a base image of its own (the same layers under another label), so that nothing of an earlier round
is found in a cache; its layers are in the engine, in the builder's cache and in the registry, as after any earlier
build. uv's and pip's caches are empty at each first build. Needs a Docker engine with the base image in it, which has
python3 and venv, docker-registry, uv, and a way to PyPI. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import docker

from asyncjobs.config import Worker
from asyncjobs.image.blobs import BlobCache
from asyncjobs.image.docker_builder import DockerBuilder
from asyncjobs.image.prepare import prepare
from asyncjobs.image.python_builder import PythonBuilder
from asyncjobs.image.recipe import Builder, Repository
from asyncjobs.image.registry import Registry
from asyncjobs.image.runtime import runtime
from asyncjobs.progress import NullProgress
from asyncjobs.scaffold import write_project

STEPS = ("first build", "other code", "no change")
# Seconds of ours over those of another, by step.
GOALS = {
    ("pip", "first build"): 0.25,
    ("uv", "first build"): 0.5,
    ("pip", "other code"): 0.5,
    ("uv", "other code"): 0.5,
}
TITLES = {
    "pip": "`docker build` and push, one stage, pip",
    "uv": "`docker build` and push, two stages, uv",
    "docker": "asyncjobs with Docker",
    "ours": "asyncjobs without Docker",
}
PIP = """\
FROM {base}
WORKDIR /app
RUN python3 -m venv /venv
COPY requirements.txt *.whl ./
RUN /venv/bin/pip install --no-cache-dir -r requirements.txt ./*.whl
COPY . .
CMD ["/venv/bin/python", "-m", "asyncjobs.worker"]
"""
UV = """\
FROM {base} AS build
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv
WORKDIR /build
COPY requirements.txt *.whl ./
RUN /uv/bin/uv venv -q --python python3 /venv && \\
    /uv/bin/uv pip install -q --no-cache --python /venv/bin/python -r requirements.txt ./*.whl

FROM {base}
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
CMD ["/venv/bin/python", "-m", "asyncjobs.worker"]
"""


class Contender(Protocol):
    def publish(self, project: Path, base: str, repository: str) -> str:
        """Build and push; the tag or digest that it is under."""


class Dockerfile:
    """`docker build` and `docker push`, as one would by hand."""

    def __init__(self, text: str) -> None:
        self._text = text

    def publish(self, project: Path, base: str, repository: str) -> str:
        wheel = project / runtime().wheel_name
        if not wheel.exists():
            wheel.write_bytes(runtime().wheel())
        (project / "Dockerfile").write_text(self._text.format(base=base), encoding="utf-8")
        run("docker", "build", "-q", "-t", f"{repository}:1", str(project))
        run("docker", "push", "-q", f"{repository}:1")
        return "1"


class Ours:
    """As `up` does: the recipe, then the builder."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def publish(self, project: Path, base: str, repository: str) -> str:
        recipe = prepare(project, Worker(handler="handler:handle", base_image=base), self._builder)
        target = Repository(repository, "", "", insecure=True)
        return self._builder.publish(recipe, target, recipe.tag, NullProgress())


@dataclass
class Figures:
    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    megabytes: float = 0.0

    def median(self, step: str) -> float:
        return statistics.median(self.seconds[step])


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def measure(
    make: Callable[[Path], Contender], host: str, base: str, name: str, bundle: Path | None, figures: Figures
) -> None:
    """One round of one contender."""
    with tempfile.TemporaryDirectory() as folder:
        own_base = labelled(base, host, name, Path(folder), bundle)
        project = Path(folder) / "project"
        write_project(project, stack="demo")
        contender = make(Path(folder))
        version = ""
        for step in STEPS:
            if step == "other code":
                with (project / "handler.py").open("a", encoding="utf-8") as out:
                    out.write("# another line\n")
            began = time.perf_counter()
            version = contender.publish(project, own_base, f"{host}/{name}")
            figures.seconds[step].append(time.perf_counter() - began)
        figures.megabytes = pushed(host, name, version, own_base)
        for repository in (f"{host}/{name}", own_base):
            listed = ["docker", "images", "--quiet", "--no-trunc", repository]
            images = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
            subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)


def labelled(base: str, host: str, name: str, folder: Path, bundle: Path | None) -> str:
    """A base image like the other, which no cache knows; in the engine and in the registry."""
    reference = f"{host}/base:{name}"
    lines = [f"FROM {base}", f"LABEL round={name}-{time.time_ns()}"]
    context = folder / "base"
    context.mkdir()
    if bundle:
        shutil.copy(bundle, context / "ca-certificates.crt")
        lines += ["COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt"]
        lines += ["ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt"]
    (context / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
    run("docker", "build", "-q", "-t", reference, str(context))
    run("docker", "push", "-q", reference)
    return reference


def pushed(host: str, name: str, version: str, base: str) -> float:
    """Megabytes of an image's layers beyond those of its base image."""

    def layers(repository: str, version: str) -> dict[str, int]:

        document = json.loads(Registry(host, repository, insecure=True).manifest(version).content)
        return {layer["digest"]: layer["size"] for layer in document["layers"]}

    below = layers("base", base.rpartition(":")[2])
    return sum(size for digest, size in layers(name, version).items() if digest not in below) / 1e6


@contextmanager
def registry(folder: Path) -> Iterator[str]:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = folder / "config.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: '{folder}/data'}}}}"
    settings.write_text(f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{host}'}}\n{storage}\n", encoding="utf-8")
    log = (folder / "log").open("w")
    with log, subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log) as process:
        time.sleep(1)
        try:
            yield host
        finally:
            process.terminate()


def compete(base: str, rounds: int, bundle: Path | None) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as host:
        blobs = Path(folder) / "blobs"

        def python(place: Path) -> Contender:
            """With the base image's layers and nothing else in its cache."""
            os.environ["UV_CACHE_DIR"] = str(place / "uv")
            for file in blobs.glob("libraries-*"):
                file.unlink()
            return Ours(PythonBuilder(BlobCache(blobs)))

        contenders: dict[str, Callable[[Path], Contender]] = {
            "pip": lambda _place: Dockerfile(PIP),
            "uv": lambda _place: Dockerfile(UV),
            "docker": lambda _place: Ours(DockerBuilder(docker.from_env())),
            "ours": python,
        }
        measure(python, host, base, "warm-up", bundle, Figures())
        figures = {name: Figures() for name in contenders}
        for number in range(rounds):
            for name, make in contenders.items():
                measure(make, host, base, f"{name}-{number}", bundle, figures[name])
                said = ", ".join(f"{step} {figures[name].seconds[step][-1]:.2f}" for step in STEPS)
                sys.stderr.write(f"round {number + 1}, {name}: {said}\n")
        return figures


def report(figures: dict[str, Figures]) -> bool:
    """Print the table and the goals; whether all are met."""
    lines = [f"| seconds | {' | '.join(STEPS)} | MB pushed |", "| --- |" + " ---: |" * (len(STEPS) + 1)]
    for name, one in figures.items():
        cells = " | ".join(f"{one.median(step):.2f}" for step in STEPS)
        lines.append(f"| {TITLES[name]} | {cells} | {one.megabytes:.1f} |")
    missed = 0
    for (name, step), goal in GOALS.items():
        ratio = figures["ours"].median(step) / figures[name].median(step)
        missed += ratio > goal
        lines.append(f"{step}, {TITLES['ours']} / {TITLES[name]}: {ratio:.2f}, goal ≤ {goal}")
    sys.stdout.write("\n".join(lines) + f"\n{missed} goals missed\n")
    return not missed


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--base", default="asyncjobs-test-base:latest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", type=Path, help="certificates for the base image, where a proxy needs them")
    given = parser.parse_args(arguments)
    return 0 if report(compete(given.base, given.rounds, given.bundle)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
