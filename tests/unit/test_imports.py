"""Imports run one way, and a command loads no more than it needs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import asyncjobs

PACKAGE = Path(asyncjobs.__file__).parent

# Each level imports from the ones before it. Names on one level do not import each other, except inside a package.
LEVELS = (
    ("errors",),
    ("names", "progress", "assets", "state"),
    ("config", "permissions", "scaffold"),
    ("aws", "image", "jobs"),
    ("provision", "worker", "local", "client"),
    ("console", "testing"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}

NOT_IN_THE_WORKER = {"typer", "click", "rich", "docker", "pydantic", "tomllib", "ministack"}
JOB_ID = "1700000000000-imports"


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """All that a module imports, inside functions too: `from a import b` is a.b where that is a module, else a."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            source = node.module or ""
            found.update(
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names
            )
    return found


def top(module: str) -> str:
    """The part under `asyncjobs`: "provision" of asyncjobs.provision.queue; "" of asyncjobs itself."""
    return module.split(".")[1] if "." in module else ""


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "asyncjobs"}


def foreign(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)} - {"asyncjobs"}


def test_every_module_has_a_level() -> None:
    assert {top(module) for module in MODULES} - {""} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"asyncjobs"}))
def test_imports_run_one_way(module: str) -> None:
    mine = top(module)
    wrong = {name for name in ours(module) if top(name) not in ("", mine) and LEVEL[top(name)] >= LEVEL[mine]}
    assert not wrong, f"{module} is on level {LEVEL[mine]} and imports {wrong}"


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert ours("asyncjobs") == set()


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "worker"])
def test_worker_stays_small(module: str) -> None:
    assert {top(name) for name in ours(module)} <= {"", "worker", "jobs", "errors"}
    assert not foreign(module) & NOT_IN_THE_WORKER


def test_nothing_but_local_imports_the_emulator() -> None:
    emulator = {"ministack", "airspeed", "hypercorn"}
    assert {top(module) for module in MODULES if foreign(module) & emulator} <= {"local"}


@pytest.mark.parametrize("library", ["boto3", "botocore"])
def test_the_command_line_knows_no_boto3(library: str) -> None:
    allowed = {"aws", "jobs", "provision", "worker", "local", "testing"}
    assert {top(m) for m in MODULES if library in foreign(m)} <= allowed


def concrete_resources() -> set[str]:
    shared = {f"asyncjobs.provision.{name}" for name in ("context", "lock", "resource")}
    return ours("asyncjobs.provision.stack") - shared | {"asyncjobs.provision.image"}


def test_only_the_stack_lists_the_resources() -> None:
    found = {module: ours(module) & concrete_resources() for module in MODULES if module not in concrete_resources()}
    found.pop("asyncjobs.provision.stack")
    # Where the API and its key are looked up without the rest, and where the image of a target is chosen.
    single = {"asyncjobs.provision." + name for name in ("api_access", "image", "rest_api")}
    choosing = [found.pop(f"asyncjobs.commands.{name}") for name in ("target", "build", "local_image")]
    assert set().union(*choosing) <= single
    assert not {module: names for module, names in found.items() if names}


@pytest.mark.parametrize("resource", sorted(concrete_resources()))
def test_a_resource_knows_neither_plan_nor_engine_nor_stack(resource: str) -> None:
    assert not ours(resource) & {f"asyncjobs.provision.{name}" for name in ("plan", "engine", "stack")}


# What a command may load of ours and of others, by its arguments. Everything else would cost it start-up time.
BASE = {"", "cli", "commands", "commands.session", "console", "console.output", "errors", "names", "state"}
CLIENT = {"client", "jobs", "jobs.ids", "console.jobs"}
BASE_LIBRARIES = {"typer", "annotated_doc", "shellingham", "platformdirs"}
# brotli and zstandard: urllib3 loads them where they happen to be installed.
CLIENT_LIBRARIES = {"urllib3", "idna", "brotli", "_brotli", "brotlicffi", "zstandard", "backports"}
NEVER = ("boto3", "botocore", "pydantic", "rich", "ministack", "tenacity", "psutil")

COMMANDS = {
    ("--help",): (set(), set()),
    ("--version",): (set(), set()),
    ("up", "--help"): (set(), set()),
    ("permissions", "up"): (
        {"commands.permissions", "permissions", "permissions.calls", "permissions.policy"},
        set(),
    ),
    ("init", "project"): ({"commands.init", "scaffold", "assets"}, set()),
    ("submit", "payload.txt"): (CLIENT | {"commands.submit"}, CLIENT_LIBRARIES),
    ("submit", "payload.txt", "--json"): (CLIENT | {"commands.submit"}, CLIENT_LIBRARIES),
    ("submit", "payload.txt", "--wait"): (CLIENT | {"commands.submit", "commands.result"}, CLIENT_LIBRARIES),
    ("status", JOB_ID): (CLIENT | {"commands.status"}, CLIENT_LIBRARIES),
    ("status", JOB_ID, "--follow"): (CLIENT | {"commands.status"}, CLIENT_LIBRARIES),
    ("result", JOB_ID): (CLIENT | {"commands.result"}, CLIENT_LIBRARIES),
    ("cancel", JOB_ID): (CLIENT | {"commands.cancel"}, CLIENT_LIBRARIES),
}

RUN = """
import sys
before = set(sys.modules)
from asyncjobs.cli import main
sys.argv = ["asyncjobs", *sys.argv[1:]]
try:
    main()
finally:
    import json
    print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


class Api(BaseHTTPRequestHandler):
    """A job API whose every job has succeeded."""

    def do_GET(self) -> None:
        done = {"status": "SUCCEEDED", "submittedAt": "2023-11-14T22:13:20.000Z", "attempt": 1, "maxAttempts": 3}
        self._answer(200, {"jobId": self.path.rsplit("/", 1)[-1], **done, "result": {"words": 2}})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(202, {"jobId": self.path.rsplit("/", 1)[-1], "status": "QUEUED"})

    def do_DELETE(self) -> None:
        self._answer(200, {"jobId": self.path.rsplit("/", 1)[-1], "status": "CANCELLED"})

    def _answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def loaded_by(arguments: tuple[str, ...], directory: Path, variables: dict[str, str]) -> set[str]:
    """The modules that a command loads, having done its work."""
    (directory / "payload.txt").write_text("two words\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASYNCJOBS_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=directory,
        env={**kept, "ASYNCJOBS_STATE_DIR": str(directory / "state"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def check(loaded: set[str], allowed: set[str], libraries: set[str]) -> None:
    assert not {name.split(".")[0] for name in loaded} & set(NEVER)
    own = {name.removeprefix("asyncjobs").removeprefix(".") for name in loaded if name.split(".")[0] == "asyncjobs"}
    assert own <= BASE | allowed
    others = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"asyncjobs"}
    assert {name for name in others if not name.startswith("_")} <= BASE_LIBRARIES | libraries


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_loads_only_what_it_needs(arguments: tuple[str, ...], tmp_path: Path, api_url: str) -> None:
    loaded = loaded_by(arguments, tmp_path, {"ASYNCJOBS_API_URL": api_url, "ASYNCJOBS_API_KEY": "key"})
    check(loaded, *COMMANDS[arguments])


@pytest.mark.parametrize("target", ["aws", "local"])
def test_a_remembered_stack_needs_no_boto3_either(target: str, tmp_path: Path, api_url: str) -> None:
    memory = {"target": target, "region": "eu-west-1", "api_url": api_url, "api_key": "key"}
    stacks = tmp_path / "state" / "stacks"
    stacks.mkdir(parents=True)
    (stacks / "known.json").write_text(json.dumps(memory), encoding="utf-8")
    arguments = ("--stack", "known", "submit", "payload.txt")
    check(loaded_by(arguments, tmp_path, {}), *COMMANDS[("submit", "payload.txt")])


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import asyncjobs.worker.__main__", NOT_IN_THE_WORKER - {"tomllib"}),
        ("from asyncjobs.worker import Job, Reject", {*NOT_IN_THE_WORKER, "boto3", "botocore"}),
        ("from asyncjobs.testing import run", {*NOT_IN_THE_WORKER, "pytest"}),
    ],
    ids=["the worker", "a handler's import", "a handler's test"],
)
def test_loading_the_worker_loads_little(statement: str, never: set[str]) -> None:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & never
