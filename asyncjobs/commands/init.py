"""`asyncjobs init`: a project that works as written."""

from __future__ import annotations

from pathlib import Path

from asyncjobs.commands.session import Session
from asyncjobs.scaffold import stack_name_for, write_project


def run(session: Session, *, directory: Path) -> None:
    """Write the project.

    Raises:
        UsageError: Files are in the way.
    """
    stack = session.options.stack or stack_name_for(directory.resolve().name)
    written = write_project(directory, stack=stack)
    if session.output.as_json:
        session.output.document({"stack": stack, "files": [str(path) for path in written]})
        return
    for path in written:
        session.output.data(str(path))
    here = directory.resolve() == Path.cwd()
    enter = "" if here else f"cd {directory} && "
    session.output.say(f"Next: {enter}asyncjobs up --local && asyncjobs submit sample.txt --wait")
