"""`asyncjobs demo`: the whole journey on the embedded engine, with a real text."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncjobs.commands import down, result, submit, up
from asyncjobs.commands.session import Session
from asyncjobs.console import jobs as show
from asyncjobs.console.output import Output
from asyncjobs.errors import JobFailedError
from asyncjobs.scaffold import write_project

STACK = "demo"
SAMPLE = "sample.txt"


def run(session: Session, *, timeout: float) -> None:
    """Up, submit, follow, result, down; the stack is taken down however it ends.

    Raises:
        JobFailedError: The sample's job failed.
        TimedOutError: It had not ended by `timeout` seconds.
    """
    say = session.output.say
    scratch = session.state.path / "demo"
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _tidy_on_signals(), tempfile.TemporaryDirectory(dir=scratch) as directory:
        project = Path(directory)
        write_project(project, stack=STACK)
        inner = _inner(session, project)
        say("1/5  asyncjobs up --local")
        try:
            up.run(inner, target="local", tasks="processes")
            job = _journey(inner, project / SAMPLE, timeout)
        finally:
            say("5/5  asyncjobs down")
            down.run(inner, target="local", yes=True)
    if session.output.as_json:
        session.output.document(job)
    else:
        result.show_result(session, job)


def _inner(session: Session, project: Path) -> Session:
    """The steps' session: what a user has set for real stacks must not lead the demo to one."""
    env = {
        name: value
        for name, value in session.env.items()
        if not name.startswith("ASYNCJOBS_") or name == "ASYNCJOBS_STATE_DIR"
    }
    options = replace(session.options, stack=STACK, region=None, profile=None, as_json=False)
    talk = Output(quiet=session.output.quiet, stdout=sys.stderr)
    return replace(session, options=options, output=talk, env=env, directory=project)


def _journey(session: Session, sample: Path, timeout: float) -> dict[str, Any]:
    say = session.output.say
    payload = sample.read_bytes()
    say(f"2/5  asyncjobs submit {sample.name}   ({len(payload):,} bytes)")
    client = session.client()
    job_id = client.submit(payload, content_type=submit.guess_type(sample.name, sample))
    say(f"     {job_id}")
    say(f"3/5  asyncjobs status {job_id} --follow")
    job: dict[str, Any] = {}
    for job in client.follow(job_id, timeout=timeout):
        say(f"     {show.change(job)}")
    if job["status"] != "SUCCEEDED":
        raise JobFailedError(f"The demo's job is {job['status']}.", why=str(job.get("error", "")))
    say(f"4/5  asyncjobs result {job_id}   (printed when all is taken down)")
    return job


@contextmanager
def _tidy_on_signals() -> Iterator[None]:
    """A closed terminal or a `kill` takes the demo's stack down too, as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
