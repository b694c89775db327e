"""Starting, finding and stopping the local engine from a command.

Imports only the standard library, because every command that may touch a local stack loads it. Whether an engine
lives is decided by a lock that the kernel drops with the process, and by its own answer: a pid in a file may have
been given to another program since.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from asyncjobs import __version__
from asyncjobs.errors import LocalEngineError, NotFoundError
from asyncjobs.local.paths import EnginePaths, clean_environment, python_command, read_json
from asyncjobs.progress import Event, Progress

START_SECONDS = 30.0
STOP_SECONDS = 45.0
_POLL_SECONDS = 0.05
_LOG_LINES = 12
_NEEDED = ("ministack", "hypercorn", "packaging")
TOKEN_HEADER = "x-asyncjobs-token"


@dataclass(frozen=True)
class EngineInfo:
    """A running engine.

    Args:
        pid: Its process id.
        port: Where it listens on 127.0.0.1.
        endpoint_url: What AWS clients take as endpoint URL.
        started_at: ISO 8601 UTC.
        token: Lets its owner shut it down.
        access_key: What AWS clients must sign with.
        version: The asyncjobs version that started it.
    """

    pid: int
    port: int
    endpoint_url: str
    started_at: str
    token: str = field(repr=False)
    access_key: str = field(repr=False)
    version: str


class LocalEngine:
    """The local engine of one state directory. All local stacks of a user share one."""

    def __init__(
        self,
        state_dir: Path,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = EnginePaths(Path(state_dir).absolute())
        self._sleep = sleep
        self._clock = clock

    @property
    def state_dir(self) -> Path:
        return self._paths.root

    def running(self) -> EngineInfo | None:
        """The engine, if it lives and answers; None when there is none, whatever old files say.

        Raises:
            ConfigError: The state directory cannot be used.
        """
        if not self._alive():
            return None
        info = self._read_info()
        if info is None:
            return None
        health = self._ask(info, "GET", "/_asyncjobs/health", timeout=5.0)
        return info if health is not None and health.get("pid") == info.pid else None

    def start(self, progress: Progress) -> EngineInfo:
        """The running engine, started first if there is none. It outlives this process and its terminal.

        Raises:
            LocalEngineError: The extra is missing, or the engine died or did not answer.
            ConfigError: The state directory cannot be used.
        """
        found = self.running()
        if found is not None and found.version == __version__:
            return found
        _require_extra()
        self._paths.create()
        with self._starting():
            found = self.running()
            if found is not None and found.version == __version__:
                return found
            if found is not None:
                # After an upgrade. Its state is read by the new one; its tasks hand their jobs back and start again.
                self.stop(progress)
            progress.emit(Event("engine", "started", "starting the local engine"))
            if not self._alive():
                self._spawn()
            info = self._wait_for_health()
        progress.emit(Event("engine", "done", f"local engine listens on {info.endpoint_url}"))
        return info

    def stop(self, progress: Progress) -> None:
        """Stop the engine and every task it runs; its data stays. Nothing happens when none runs.

        Raises:
            LocalEngineError: It is still there afterwards.
        """
        if not self._alive():
            with self._paths.usable():
                self._paths.info.unlink(missing_ok=True)
            return
        progress.emit(Event("engine", "started", "stopping the local engine"))
        info = self._read_info()
        asked = info and self._ask(info, "POST", "/_asyncjobs/shutdown", timeout=10.0)
        if info and not asked:
            self._signal(info, signal.SIGTERM)
        if not self._wait_until_gone(STOP_SECONDS) and info:
            self._signal(info, signal.SIGKILL)
            self._wait_until_gone(5.0)
        if self._alive():
            raise LocalEngineError(
                "The local engine does not stop.", why=self._log_tail(), hint=f"see {self._paths.log}"
            )
        self._paths.info.unlink(missing_ok=True)
        progress.emit(Event("engine", "done", "local engine stopped"))

    def forget(self) -> None:
        """Delete the data of a stopped engine. Virtual environments stay: they are a cache that takes time to make.

        Raises:
            LocalEngineError: It is running.
        """
        if self._alive():
            raise LocalEngineError("The local engine's data cannot be deleted while it runs.", hint="asyncjobs down")
        for directory in (self._paths.data, self._paths.images, self._paths.root / "rest-apis", self._paths.tmp):
            shutil.rmtree(directory, ignore_errors=True)
        files = (self._paths.ports, self._paths.scaling, self._paths.tasks, self._paths.log, self._paths.credentials)
        for file in files:
            file.unlink(missing_ok=True)

    def api_url(self, rest_api_id: str) -> str:
        """Where the engine serves this REST API: the URL in front of `/<stage>/...`.

        Raises:
            LocalEngineError: The engine is not running.
            NotFoundError: It has no such API.
        """
        answer = self._ask(self._require(), "GET", f"/_asyncjobs/apis/{rest_api_id}", timeout=15.0)
        if not answer or "url" not in answer:
            raise NotFoundError(f"The local engine has no REST API {rest_api_id}.", hint="asyncjobs up --local")
        return str(answer["url"])

    def stacks_left(self) -> list[str]:
        """Names of the stacks that still own anything in the engine."""
        answer = self._ask(self._require(), "GET", "/_asyncjobs/stacks", timeout=15.0)
        return [str(name) for name in (answer or {}).get("stacks", [])]

    def containers_unavailable(self) -> str | None:
        """Why the engine cannot run containers, in a line; None when it can.

        Raises:
            LocalEngineError: The engine is not running.
        """
        answer = self._ask(self._require(), "POST", "/_asyncjobs/containers", timeout=60.0)
        if answer is None:
            return "the local engine did not find out in time"
        why = answer.get("unavailable")
        return None if why is None else str(why)

    def _require(self) -> EngineInfo:
        info = self.running()
        if info is None:
            raise LocalEngineError(
                "The local engine is not running.",
                why="It was stopped, was killed, or the machine restarted.",
                hint="asyncjobs up --local starts it again with the data it had",
            )
        return info

    def _alive(self) -> bool:
        """Whether some process holds the engine's lock. The kernel drops it with the process, even on SIGKILL."""
        try:
            with self._paths.lock.open("r") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise self._paths.unusable(error) from error
        return False

    def _read_info(self) -> EngineInfo | None:
        value = read_json(self._paths.info)
        kinds = {each.name: int if each.name in ("pid", "port") else str for each in fields(EngineInfo)}
        if not isinstance(value, dict) or any(type(value.get(name)) is not kind for name, kind in kinds.items()):
            return None
        return EngineInfo(**{name: value[name] for name in kinds})

    def _ask(self, info: EngineInfo, method: str, path: str, *, timeout: float) -> dict[str, Any] | None:
        """One request to the engine. http.client: no proxy setting can send it elsewhere."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", info.port, timeout=timeout)
        try:
            connection.request(method, path, headers={TOKEN_HEADER: info.token})
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else None

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Only one command starts the engine; the others wait here and then find it."""
        with self._paths.usable():
            stream = self._paths.start_lock.open("w")
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _spawn(self) -> None:
        """Start the engine detached. The child forks once more and its parent exits, so that no zombie stays."""
        with self._paths.usable():
            self._paths.info.unlink(missing_ok=True)
            if self._paths.log.exists() and self._paths.log.stat().st_size > 5_000_000:
                self._paths.log.replace(self._paths.log.with_suffix(".log.1"))
            opened = self._paths.log.open("ab")
        with opened as log:
            done = subprocess.run(
                python_command("asyncjobs.local.server", "--state-dir", str(self._paths.root), "--detach"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._paths.root,
                env=clean_environment(self._paths.tmp),
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0 and not self._alive():
            raise self._failure("The local engine did not start.")

    def _wait_for_health(self) -> EngineInfo:
        deadline = self._clock() + START_SECONDS
        while self._clock() < deadline:
            info = self.running()
            if info is not None:
                return info
            if not self._alive():
                raise self._failure("The local engine died while it was starting.")
            self._sleep(_POLL_SECONDS)
        raise self._failure(f"The local engine did not answer within {START_SECONDS:.0f} s.")

    def _wait_until_gone(self, seconds: float) -> bool:
        deadline = self._clock() + seconds
        while self._alive():
            if self._clock() > deadline:
                return False
            self._sleep(_POLL_SECONDS)
        return True

    def _signal(self, info: EngineInfo, number: signal.Signals) -> None:
        """Signal the engine if that pid is still the engine: the lock is held and the process runs our module."""
        import psutil

        with suppress(psutil.Error, ProcessLookupError):
            if "asyncjobs.local.server" in psutil.Process(info.pid).cmdline():
                os.kill(info.pid, number)

    def _failure(self, what: str) -> LocalEngineError:
        return LocalEngineError(what, why=self._log_tail(), hint=f"the whole log is in {self._paths.log}")

    def _log_tail(self) -> str:
        try:
            text = self._paths.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-_LOG_LINES:])


def _require_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalEngineError(
            "The local engine is not installed.",
            why=f"asyncjobs {__version__} was installed without its `local` extra (no {', '.join(missing)}).",
            hint="pipx install --force 'asyncjobs[local]'   (or: pip install 'asyncjobs[local]')",
        )
