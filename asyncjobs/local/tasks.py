"""Runs the containers of ECS tasks.

`TaskRunner` is the seam: what starts a container and what it hands back. `ProcessRunner` is the runner that needs no
container engine: a container is a child process in a session of its own, started from a snapshot of the project.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from asyncjobs.local.access import Endpoint
from asyncjobs.local.image import ProcessImages, RunnableImage, UnknownImageError
from asyncjobs.local.paths import EnginePaths, import_paths
from asyncjobs.local.process_tree import kill_tree, signal_group
from asyncjobs.local.watchdog import TaskRegister

DEFAULT_STOP_SECONDS = 30.0
# CloudWatch Logs takes events of up to 1 MB; Fargate's awslogs driver splits long lines long before.
_LONGEST_LINE = 256 * 1024
_SHELL_PATH = "/usr/local/bin:/usr/bin:/bin"

LogSink = Callable[[Sequence[str]], None]
Health = Literal["HEALTHY", "UNHEALTHY", "UNKNOWN"]


@dataclass(frozen=True)
class ContainerSpec:
    """One container of one task, as a runner needs it.

    Args:
        definition: Of the container, from the task definition, with RunTask's overrides in it.
        task_definition: The whole of it.
        environment: Everything the container's environment must have; nothing of the host's is added but PATH.
        log: Takes the lines the container writes.
    """

    task_arn: str
    definition: Mapping[str, Any]
    task_definition: Mapping[str, Any]
    environment: Mapping[str, str]
    log: LogSink

    @property
    def task_id(self) -> str:
        return self.task_arn.rsplit("/", 1)[-1]

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def image(self) -> str:
        return str(self.definition["image"])

    @property
    def stop_seconds(self) -> float:
        """From SIGTERM to SIGKILL."""
        return float(self.definition.get("stopTimeout") or DEFAULT_STOP_SECONDS)


class StartError(Exception):
    """A container could not be started. The text is what ECS puts into the task's stoppedReason."""


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended.

    Args:
        code: 128 + n when signal n ended it.
        reason: What ECS says of it besides; "" for nothing.
    """

    code: int
    reason: str = ""


class RunningContainer(Protocol):
    """A started container."""

    @property
    def runtime_id(self) -> str: ...

    @property
    def health(self) -> Health:
        """What its health check says; UNKNOWN without one."""

    def wait(self) -> ContainerExit:
        """Block until it ended."""

    def stop(self, within: float | None = None) -> None:
        """Ask it to end and see that it does, within its stop timeout or `within` seconds. Returns at once."""


class TaskRunner(Protocol):
    """Starts containers."""

    def endpoint(self) -> Endpoint:
        """Where its containers reach the engine.

        Raises:
            StartError: They could not.
        """

    def start(self, spec: ContainerSpec) -> RunningContainer:
        """Start one container.

        Raises:
            StartError: It could not be started.
        """

    def close(self) -> None:
        """The engine ends; every container has been stopped."""


class ProcessRunner:
    """Containers as child processes of the engine."""

    def __init__(self, paths: EnginePaths, register: TaskRegister, endpoint: Endpoint) -> None:
        self._paths = paths
        self._endpoint = endpoint
        self._register = register
        self._images = ProcessImages(paths.root)

    def endpoint(self) -> Endpoint:
        return self._endpoint

    def start(self, spec: ContainerSpec) -> RunningContainer:
        try:
            image = self._images.resolve(spec.image)
        except UnknownImageError as error:
            raise StartError(
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve "
                f"ref {spec.image}: {error}"
            ) from None
        home = self._paths.tmp / "tasks" / f"{spec.task_id}-{spec.name}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = process_environment(image, spec.environment, home)
        wanted = [*spec.definition.get("entryPoint", []), *spec.definition.get("command", [])]
        command = _resolve_command(wanted or image.command, image, environment["PATH"])
        try:
            process = subprocess.Popen(
                command,
                cwd=_working_directory(image, spec.definition.get("workingDirectory", "")),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(
                f"CannotStartContainerError: Error response from daemon: failed to create task for container: "
                f'exec: "{command[0]}": {error.strerror or error}'
            ) from None
        self._register.add(process.pid)
        return _Process(process, spec, home, self._register)

    def close(self) -> None:
        self._register.close()


class _Process:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        spec: ContainerSpec,
        home: Path,
        register: TaskRegister,
    ) -> None:
        self._process = process
        self._spec = spec
        self._home = home
        self._register = register
        self._stop_timer: threading.Timer | None = None
        self._reader = threading.Thread(target=self._read, name=f"log-{spec.task_id[:8]}", daemon=True)
        self._reader.start()

    @property
    def runtime_id(self) -> str:
        return str(self._process.pid)

    @property
    def health(self) -> Health:
        return "UNKNOWN"

    def wait(self) -> ContainerExit:
        code = self._process.wait()
        # What the main process leaves behind ends with it, as the rest of a container does; that also closes
        # the last writing ends of the log pipe.
        kill_tree(self._process.pid)
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        self._register.remove(self._process.pid)
        self._reader.join(timeout=5.0)
        shutil.rmtree(self._home, ignore_errors=True)
        return ContainerExit(128 - code if code < 0 else code)

    def stop(self, within: float | None = None) -> None:
        # Only the main process gets SIGTERM, and only once, as in a container; it has until the timeout to end
        # the rest. A second call can only shorten that.
        if self._stop_timer is None:
            self._process.send_signal(signal.SIGTERM)
        timer = threading.Timer(self._spec.stop_seconds if within is None else within, self._kill)
        timer.daemon = True
        self._stop_timer = timer
        timer.start()

    def _kill(self) -> None:
        if self._process.poll() is None:
            kill_tree(self._process.pid)
            signal_group(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            lines = LineSplitter()
            while chunk := os.read(stream.fileno(), 65536):
                self._emit(lines.feed(chunk))
            self._emit(lines.rest())

    def _emit(self, lines: Sequence[str]) -> None:
        if lines:
            self._spec.log(lines)


class LineSplitter:
    """Turns chunks of a stream into lines; a line that never ends is cut."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> list[str]:
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            whole.append(self._partial)
            self._partial = b""
        return [_text(line) for line in whole if line.strip()]

    def rest(self) -> list[str]:
        line, self._partial = self._partial, b""
        return [_text(line)] if line.strip() else []


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", errors="replace")


def process_environment(image: RunnableImage, wanted: Mapping[str, str], home: Path) -> dict[str, str]:
    """A container's environment: what the task definition says and what every image has; no secret of the host."""
    path = os.pathsep.join([image.path_prefix, os.environ.get("PATH", _SHELL_PATH)])
    python_path = os.pathsep.join(filter(None, [*import_paths(), wanted.get("PYTHONPATH", "")]))
    return {
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        **wanted,
        "PATH": wanted["PATH"] + os.pathsep + path if "PATH" in wanted else path,
        **({"PYTHONPATH": python_path} if python_path else {}),
    }


def _working_directory(image: RunnableImage, wanted: str) -> Path:
    """The project, or a directory in it. A path of the container image (`/app`) is the project's root here."""
    inside = image.workdir / wanted.lstrip("/")
    return inside if inside.is_dir() else image.workdir


def _resolve_command(command: Sequence[str], image: RunnableImage, path: str) -> list[str]:
    """`python` is the image's interpreter; another program is looked for as a shell would."""
    program, *rest = command
    if program in ("python", "python3"):
        return [str(image.python), *rest]
    if "/" in program:
        return [program, *rest]
    found = shutil.which(program, path=path)
    if found is None:
        raise StartError(
            "CannotStartContainerError: Error response from daemon: failed to create task for container: "
            f'exec: "{program}": executable file not found in $PATH'
        )
    return [found, *rest]
