"""The slots that run handlers, with real child processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncjobs.testing import Lines
from asyncjobs.worker.command_slot import CommandSlot
from asyncjobs.worker.executor import Attempt, BlockingSlot, Control, StartError
from asyncjobs.worker.logs import RECORD_MARK, parse_record
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded
from asyncjobs.worker.process_slot import ProcessSlot
from asyncjobs.worker.thread_slot import HandlerLoop, ThreadSlot

WITHIN = 10.0  # seconds; reached only by a test that fails
HANDLERS = '''
import asyncio, inspect, logging, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from asyncjobs.worker import Reject

def what(job):
    return job.text

def blob(job):
    return b"\\x00\\xff" * 3

def file(job):
    out = job.directory / "out.csv"
    out.write_text("a,b")
    return out

def nothing(job):
    pass

def sizes(job):
    return [job.path.stat().st_size, len(job.bytes), len(job.text), len(job.json())]

def place(job):
    return str(job.path)

def long_bytes(job):
    return bytes(3_000_000)

def long_value(job):
    return "é" * 3_000_000

def kill(job):
    os.kill(os.getpid(), signal.SIGKILL)

def litter(job):
    for _ in range(30):
        threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
    return os.getpid()

def flood(job):
    for _ in range(20_000):
        print("x" * 100)
    return "done"

def silence(job):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.stderr.close()
    sys.stderr = None
    return "silent"

async def sleep(job):
    await asyncio.sleep(300)

meeting = []

async def meet(job):
    meeting.append(job)
    while len(meeting) < 2:
        await asyncio.sleep(0.001)
    return "met"

def exhaust(job):
    raise MemoryError("no room for 8 GB")

async def later(job):
    await asyncio.sleep(0.01)
    return {"waited": job.json()}

def reject(job):
    raise Reject("no such page")

def boom(job):
    raise ValueError("boom \\udcff")

def leave(job):
    sys.exit(4)

def die(job):
    os._exit(3)

def segfault(job):
    os.kill(os.getpid(), signal.SIGSEGV)

def no_json(job):
    return {1, 2}

def attributes(job):
    return [job.id, job.attempt, job.max_attempts, job.content_type, job.path.read_text(), str(job.directory)]

def progress(job):
    for step in range(200):
        job.progress(step / 200, f"step {step}")

def until_cancelled(job):
    job.progress(0, "waiting")
    while not job.cancelled:
        time.sleep(0.005)
    return "saw it"

def talk(job):
    print("printed")
    print("with é\\nand another line")
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("first\\nsecond")
    logging.getLogger("mine").info("quiet")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("mine").exception("failed")

def family(job):
    """A child, a grandchild whose parent is gone, and an endless loop."""
    child = subprocess.Popen(["sleep", "300"])
    orphan = subprocess.run(["sh", "-c", "sleep 300 >&- 2>&- & echo $!"], stdout=subprocess.PIPE, text=True).stdout
    job.progress(0, f"{child.pid} {orphan}")
    while True:
        pass

def die_with_family(job):
    child = os.fork()  # holds every file and socket of its parent open
    if child == 0:
        time.sleep(300)
    job.progress(0, str(child))
    os._exit(3)

def terminate(job):
    program = subprocess.Popen(["sleep", "300"])
    program.terminate()
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    forked.start()
    forked.terminate()
    forked.join(10)
    return [program.wait(10), forked.exitcode]

def interrupt(job):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"

def handle(job):
    return globals()[job.id.partition("-")[2]](job)

async def handle_async(job):
    value = handle(job)
    return await value if inspect.isawaitable(value) else value
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project directory, and the working directory of this module's tests."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "slot_handlers.py").write_text(HANDLERS)
    (directory / "broken_handler.py").write_text("import no_such_module_anywhere\n")
    (directory / "dying_handler.py").write_text("import os\nos._exit(1)\n")
    before, path = Path.cwd(), list(sys.path)
    os.chdir(directory)
    yield directory
    os.chdir(before)
    sys.path[:] = path


@pytest.fixture(scope="module")
def log() -> Lines:
    return Lines()


@pytest.fixture(scope="module")
def process_slot(project: Path, log: Lines) -> Iterator[ProcessSlot]:
    """One slot for all tests, as a worker keeps one for all jobs."""
    slot = ProcessSlot("slot_handlers:handle", log)
    slot.start()
    yield slot
    slot.close()


class Waiting:
    """A slot of the worker's loop, for who waits for it."""

    def __init__(self, handler: str) -> None:
        self._slot = ThreadSlot(handler, HandlerLoop())

    def start(self) -> None:
        asyncio.run(self._slot.start())

    def run(self, attempt: Attempt) -> Outcome:
        return asyncio.run(self._slot.run(attempt))

    def close(self) -> None:
        asyncio.run(self._slot.close())
        # The handlers' loop closes itself.
        eventually(lambda: not any(thread.name == "handlers" for thread in threading.enumerate()))


@pytest.fixture
def thread_slot(project: Path) -> Iterator[Waiting]:
    slot = Waiting("slot_handlers:handle")
    slot.start()
    yield slot
    slot.close()


@pytest.fixture
def async_slot(project: Path) -> Iterator[Waiting]:
    slot = Waiting("slot_handlers:handle_async")
    slot.start()
    yield slot
    slot.close()


class Runs:
    """Runs attempts, each in a folder of its own, and keeps what they report."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self.progress: list[tuple[float, str]] = []
        self.control = Control()

    def __call__(
        self, slot: BlockingSlot, do: str, payload: bytes = b"hello", *, timeout: float = WITHIN, attempt: int = 2
    ) -> Outcome:
        return slot.run(self.attempt(do, payload, timeout=timeout, attempt=attempt))

    def attempt(self, do: str, payload: bytes = b"hello", *, timeout: float = WITHIN, attempt: int = 2) -> Attempt:
        return Attempt(
            job_id=f"1795416232123-{do}",
            attempt=attempt,
            max_attempts=3,
            content_type="text/plain",
            payload=payload,
            folder=str(self._directory / str(next(self._numbers))),
            timeout=timeout,
            on_progress=lambda fraction, message: self.progress.append((fraction, message)),
            control=self.control,
        )

    def when_progress(self, act: Callable[[], None]) -> threading.Thread:
        """Act, in a thread, once the handler has said something."""

        def wait() -> None:
            eventually(lambda: self.progress)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.005)


def value(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.json_text is not None
    return json.loads(outcome.json_text)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


EACH = pytest.mark.parametrize("kind", ["process_slot", "thread_slot", "async_slot"])


@EACH
def test_results(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    slot = request.getfixturevalue(kind)
    assert value(run(slot, "what", "naïve ☕".encode())) == "naïve ☕"
    assert value(run(slot, "nothing")) is None
    assert value(run(slot, "later", b"[1]")) == {"waited": [1]}
    assert run(slot, "blob") == Succeeded(data=b"\x00\xff" * 3, content_type="application/octet-stream")
    file = run(slot, "file")
    assert isinstance(file, Succeeded)
    assert file.file is not None
    assert (file.file.read_text(), file.content_type) == ("a,b", "text/csv")


def attempt_on_a_file(run: Runs, do: str, data: bytes) -> Attempt:
    attempt = run.attempt(do)
    attempt.payload = attempt.make_directory() / "payload"
    attempt.payload.write_bytes(data)
    return attempt


@EACH
def test_a_payload_that_is_a_file_reads_like_any_other(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    slot = request.getfixturevalue(kind)
    data = json.dumps("x" * 2_000_000).encode()
    assert value(slot.run(attempt_on_a_file(run, "sizes", data))) == [2_000_002, 2_000_002, 2_000_002, 2_000_000]
    # No second file is made of it.
    attempt = attempt_on_a_file(run, "place", data)
    assert value(slot.run(attempt)) == str(attempt.payload)


def test_a_process_hands_over_big_results_as_files(process_slot: ProcessSlot, run: Runs) -> None:
    done = run(process_slot, "long_bytes")
    assert isinstance(done, Succeeded)
    assert done.file is not None
    assert done.file.read_bytes() == bytes(3_000_000)
    assert (done.content_type, done.is_value) == ("application/octet-stream", False)
    done = run(process_slot, "long_value")
    assert isinstance(done, Succeeded)
    assert done.file is not None
    assert json.loads(done.file.read_bytes()) == "é" * 3_000_000
    assert (done.content_type, done.is_value) == ("application/json", True)


@EACH
def test_what_the_job_says_of_itself(request: pytest.FixtureRequest, kind: str, run: Runs, tmp_path: Path) -> None:
    assert value(run(request.getfixturevalue(kind), "attributes", b"payload")) == [
        "1795416232123-attributes",
        2,
        3,
        "text/plain",
        "payload",
        str(tmp_path / "1"),
    ]


@EACH
def test_errors(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    slot = request.getfixturevalue(kind)
    assert run(slot, "reject") == Failed("Rejected", "no such page", final=True)
    assert run(slot, "what", b"\xff") == Failed(
        "Rejected",
        "the payload is not UTF-8 text: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        final=True,
    )
    boom = run(slot, "boom")
    assert isinstance(boom, Failed)
    assert (boom.error_type, boom.message, boom.final) == ("ValueError", "boom \udcff", False)
    assert "Traceback" in boom.detail
    assert "in boom" in boom.detail
    exhausted = run(slot, "exhaust")
    assert isinstance(exhausted, Failed)
    assert (exhausted.error_type, exhausted.message) == ("OutOfMemory", "no room for 8 GB")
    assert run(slot, "leave") == Failed("SystemExit", "the handler called sys.exit(4)")
    no_json = run(slot, "no_json")
    assert isinstance(no_json, Failed)
    assert no_json.error_type == "InvalidResult"


@EACH
def test_progress_comes_in_order(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    run(request.getfixturevalue(kind), "progress")
    assert run.progress == [(step / 200, f"step {step}") for step in range(200)]


@EACH
def test_the_handler_sees_a_cancellation(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    teller = run.when_progress(run.control.cancelled.set)
    assert value(run(request.getfixturevalue(kind), "until_cancelled")) == "saw it"
    teller.join()


@EACH
def test_stopped_from_outside(request: pytest.FixtureRequest, kind: str, run: Runs) -> None:
    stopper = run.when_progress(run.control.stop)
    outcome = run(request.getfixturevalue(kind), "until_cancelled")
    stopper.join()
    # A handler in a thread may have seen the cancellation first.
    assert isinstance(outcome, Stopped) or (kind != "process_slot" and value(outcome) == "saw it")


@pytest.mark.parametrize(("do", "how"), [("die", "exit 3"), ("segfault", "SIGSEGV")])
def test_a_handler_that_kills_its_process(process_slot: ProcessSlot, run: Runs, do: str, how: str) -> None:
    assert run(process_slot, do) == Failed(f"Crashed ({how})", f"the handler's process died: {how}")
    assert value(run(process_slot, "what", b"a new process took its place")) == "a new process took its place"


def test_a_process_that_the_kernel_ended_for_its_memory(project: Path, log: Lines, run: Runs) -> None:
    kills = itertools.count()
    slot = ProcessSlot("slot_handlers:handle", log, oom_kills=lambda: next(kills))
    slot.start()
    try:
        assert run(slot, "kill") == Failed(
            "OutOfMemory", "the handler's process died: the container's memory is used up"
        )
    finally:
        slot.close()


def test_killed_by_someone_else_it_crashed(process_slot: ProcessSlot, run: Runs) -> None:
    assert run(process_slot, "kill") == Failed("Crashed (SIGKILL)", "the handler's process died: SIGKILL")


def test_a_process_is_replaced_when_its_handlers_have_left_too_much_behind(
    process_slot: ProcessSlot, run: Runs
) -> None:
    pids = [value(run(process_slot, "litter")) for _ in range(5)]
    assert len(set(pids[:4])) == 1
    assert pids[4] != pids[3]


def test_a_flood_of_output_does_not_block_the_handler(process_slot: ProcessSlot, run: Runs) -> None:
    assert value(run(process_slot, "flood")) == "done"


def test_the_rest_of_a_flood_is_not_logged_as_the_next_job_s(process_slot: ProcessSlot, log: Lines, run: Runs) -> None:
    before = len(log.lines)
    for _ in range(3):
        run(process_slot, "flood")
        run(process_slot, "what")
    of = {line["jobId"] for line in log.lines[before:] if line["message"] == "x" * 100}
    assert of == {"1795416232123-flood"}


def test_a_handler_that_does_away_with_its_output_has_its_result(process_slot: ProcessSlot, run: Runs) -> None:
    assert value(run(process_slot, "silence")) == "silent"
    assert value(run(process_slot, "what")) == "hello"
    run(process_slot, "kill")  # the next tests have a new process


def test_a_timeout_ends_all_that_the_handler_started(process_slot: ProcessSlot, run: Runs) -> None:
    outcome = run(process_slot, "family", timeout=0.5)
    assert outcome == Failed("Timeout", "the handler ran longer than 0.5 s and was ended")
    ((_, pids),) = run.progress
    child, orphan = map(int, pids.split())
    eventually(lambda: gone(child) and gone(orphan))
    assert value(run(process_slot, "what")) == "hello"


def test_a_dead_handler_is_noticed_though_its_child_holds_on(process_slot: ProcessSlot, run: Runs) -> None:
    started = time.monotonic()
    outcome = run(process_slot, "die_with_family")
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "Crashed (exit 3)"
    assert time.monotonic() - started < 3
    eventually(lambda: gone(int(run.progress[0][1])))


def test_a_handler_can_terminate_what_it_started(process_slot: ProcessSlot, run: Runs) -> None:
    assert value(run(process_slot, "terminate")) == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_signal_to_everyone_does_not_cut_work_off(process_slot: ProcessSlot, run: Runs) -> None:
    assert value(run(process_slot, "interrupt")) == "still here"


def test_a_child_that_died_between_jobs_is_replaced(process_slot: ProcessSlot, run: Runs) -> None:
    (child,) = [child for child in psutil.Process().children() if "asyncjobs.worker.child" in child.cmdline()]
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # all of its threads; the slot reaps it
    outcome = run(process_slot, "what")
    assert value(outcome) == "hello"


def test_what_a_handler_says_becomes_log_lines_of_its_job(process_slot: ProcessSlot, log: Lines, run: Runs) -> None:
    run(process_slot, "talk")
    job = {"jobId": "1795416232123-talk", "attempt": 2}

    def said() -> list[tuple[str, str]]:
        return [(line["level"], line["message"]) for line in log.lines if {key: line.get(key) for key in job} == job]

    eventually(lambda: len(said()) == 7)
    # In order within each stream; the two streams are read side by side.
    printed = [message for level, message in said() if level == "info" and message != "mine: quiet"]
    assert printed == ["printed", "with é", "and another line"]
    assert ("warning", "to stderr") in said()
    assert ("warning", "mine: first\nsecond") in said()
    assert ("info", "mine: quiet") in said()
    (error,) = [message for level, message in said() if level == "error"]
    assert error.startswith("mine: failed\nTraceback")
    assert error.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("line", ["plain", RECORD_MARK, RECORD_MARK + "{}", RECORD_MARK + "[" * 60_000])
def test_a_line_that_only_looks_like_a_record_is_plain(line: str) -> None:
    assert parse_record(line) is None


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        ("broken_handler:handle", "No module named 'no_such_module_anywhere'"),
        ("slot_handlers:no_such", "slot_handlers has no function no_such"),
        ("slot_handlers:HANDLER", "slot_handlers has no function HANDLER"),
        ("dying_handler:handle", "importing dying_handler:handle ended the process"),
    ],
)
def test_a_handler_that_cannot_be_imported(project: Path, log: Lines, handler: str, why: str) -> None:
    with pytest.raises(StartError, match=why):
        ProcessSlot(handler, log).start()
    if "dying" not in handler:
        with pytest.raises(StartError, match=why):
            Waiting(handler).start()


def test_a_thread_that_will_not_end_is_left_behind(thread_slot: Waiting, run: Runs) -> None:
    outcome = run(thread_slot, "until_cancelled", timeout=0.05)
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "Timeout"
    assert run.control.cancelled.is_set()  # its last chance to end by itself
    assert value(run(thread_slot, "what")) == "hello"


def test_a_coroutine_that_will_not_end_is_cancelled(async_slot: Waiting, run: Runs) -> None:
    outcome = run(async_slot, "sleep", timeout=0.05)
    assert outcome == Failed("Timeout", "the handler ran longer than 0.05 s; its task was cancelled")
    assert run.control.cancelled.is_set()
    assert value(run(async_slot, "what")) == "hello"


def test_coroutines_run_side_by_side(project: Path, run: Runs) -> None:
    handlers = HandlerLoop()
    slots = [ThreadSlot("slot_handlers:handle_async", handlers) for _ in range(2)]

    async def both() -> list[Outcome]:
        await asyncio.gather(*(slot.start() for slot in slots))
        try:
            return await asyncio.gather(*(slot.run(run.attempt("meet")) for slot in slots))
        finally:
            await asyncio.gather(*(slot.close() for slot in slots))

    assert [value(outcome) for outcome in asyncio.run(both())] == ["met", "met"]


@pytest.fixture
def command(log: Lines) -> Callable[[str], CommandSlot]:
    def make(code: str) -> CommandSlot:
        slot = CommandSlot([sys.executable, "-c", "import os, sys, time\n" + textwrap.dedent(code)], log)
        slot.start()
        return slot

    return make


Make = Callable[[str], CommandSlot]


def test_a_command_s_output_is_its_result(command: Make, run: Runs) -> None:
    echo = command("sys.stdout.buffer.write(sys.stdin.buffer.read())")
    assert value(run(echo, "x", b'{"a": [1, "\xc3\xa9"]}')) == {"a": [1, "é"]}
    assert value(run(echo, "x", "just text ☕\n".encode())) == "just text ☕\n"
    assert value(run(echo, "x", b"")) == ""
    assert run(echo, "x", b"\xff\xd8") == Succeeded(data=b"\xff\xd8", content_type="application/octet-stream")
    big = b"x" * 1_000_000  # more than a pipe holds
    assert value(run(echo, "x", big)) == big.decode()


@pytest.mark.parametrize(
    "output", ["NaN", "-Infinity", "[1, NaN]", "1e999", '"\\ud800"', "[" * 200_000, "9" * 5_000, "{'a': 1}"]
)
def test_output_that_is_no_json_is_text(command: Make, run: Runs, output: str) -> None:
    echo = command("sys.stdout.buffer.write(sys.stdin.buffer.read())")
    assert value(run(echo, "x", output.encode())) == output


def test_a_command_reads_a_payload_that_is_a_file(command: Make, run: Runs) -> None:
    data = os.urandom(3_000_000)
    done = command("sys.stdout.buffer.write(sys.stdin.buffer.read())").run(attempt_on_a_file(run, "job", data))
    assert isinstance(done, Succeeded)
    assert done.file is not None
    assert done.file.read_bytes() == data
    assert done.content_type == "application/octet-stream"


def test_a_command_may_clear_its_folder(command: Make, run: Runs) -> None:
    clear = "import subprocess; subprocess.run('rm -rf $ASYNCJOBS_JOB_DIRECTORY/*', shell=True); print('cleared')"
    assert value(run(command(clear), "job")) == "cleared\n"


def test_a_command_knows_its_job(command: Make, run: Runs, tmp_path: Path) -> None:
    slot = command(
        """
        import json
        print(json.dumps({key: value for key, value in os.environ.items() if key.startswith("ASYNCJOBS_")}))
        """
    )
    environment = value(run(slot, "x"))
    assert (
        environment.items()
        >= {
            "ASYNCJOBS_JOB_ID": "1795416232123-x",
            "ASYNCJOBS_ATTEMPT": "2",
            "ASYNCJOBS_MAX_ATTEMPTS": "3",
            "ASYNCJOBS_CONTENT_TYPE": "text/plain",
            "ASYNCJOBS_JOB_DIRECTORY": str(tmp_path / "1"),
        }.items()
    )


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("sys.exit('no such page')", Failed("Exit 1", "no such page")),
        ("sys.exit(3)", Failed("Exit 3", "the command ended with exit code 3")),
        ("print('bad input', file=sys.stderr); sys.exit(65)", Failed("Rejected", "bad input", final=True)),
        ("sys.exit(65)", Failed("Rejected", "the command ended with exit code 65", final=True)),
        ("os.kill(os.getpid(), 9)", Failed("Crashed (SIGKILL)", "the command was ended by SIGKILL")),
    ],
)
def test_a_command_that_fails(command: Make, run: Runs, code: str, outcome: Failed) -> None:
    assert run(command(code), "x") == outcome


def test_a_command_that_the_kernel_ended_for_its_memory(log: Lines, run: Runs) -> None:
    kills = itertools.count()
    slot = CommandSlot([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], log, oom_kills=lambda: next(kills))
    assert run(slot, "x") == Failed("OutOfMemory", "the command was ended by SIGKILL")


def test_a_command_s_standard_error_is_logged(command: Make, log: Lines, run: Runs) -> None:
    run(command("print('one\\n\\ntwo é', file=sys.stderr)"), "errors")
    lines = [line["message"] for line in log.lines if line.get("jobId") == "1795416232123-errors"]
    assert lines == ["one", "two é"]


def test_a_command_s_timeout_ends_all_it_started(command: Make, log: Lines, run: Runs) -> None:
    slot = command(
        """
        import subprocess
        print(subprocess.Popen(["sleep", "300"]).pid, file=sys.stderr, flush=True)
        time.sleep(300)
        """
    )
    outcome = run(slot, "slow", timeout=0.5)
    assert outcome == Failed("Timeout", "the command ran longer than 0.5 s and was ended")
    (pid,) = [int(line["message"]) for line in log.lines if line.get("jobId") == "1795416232123-slow"]
    eventually(lambda: gone(pid))


def test_a_command_is_stopped_from_outside(command: Make, run: Runs) -> None:
    slot = command("time.sleep(300)")
    timer = threading.Timer(0.1, run.control.stop)
    timer.start()
    assert run(slot, "x") == Stopped()
    timer.join()


def test_a_program_that_is_not_there(log: Lines) -> None:
    with pytest.raises(StartError, match="there is no program no-such-program-anywhere"):
        CommandSlot(["no-such-program-anywhere"], log).start()


def test_a_slot_may_be_closed_by_several_at_once(process_slot: ProcessSlot):
    """Its attempt's end and whoever cancelled it both close it; an error in a thread fails a test."""
    for _ in range(3):
        process_slot.start()
        closing = [threading.Thread(target=process_slot.close) for _ in range(8)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
