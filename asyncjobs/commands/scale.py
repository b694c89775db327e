"""`asyncjobs scale`: a number of tasks by hand."""

from __future__ import annotations

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import existing_target, no_stack
from asyncjobs.provision.capacity import keep_tasks


def run(session: Session, *, count: int) -> None:
    """Have so many tasks, and at least so many until the next `up`.

    Raises:
        NotFoundError: There is no such stack.
    """
    target = existing_target(session)
    with translated():
        found = keep_tasks(target.clients, target.names, count)
    if not found:
        raise no_stack(target)
    if session.output.as_json:
        session.output.document({"stack": session.stack, "desiredTasks": count})
        return
    kept = f"at least {count} stay until the next `up`" if count else "the next job starts one"
    session.output.say(f"Stack {session.stack} goes to {count} tasks; {kept}.")
