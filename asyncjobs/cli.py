"""The command line: parses, wires, calls, and maps errors to exit codes. No command's own work is here.

Nothing is imported at the top that a command may not need: `submit` and `status` must start in a fraction of the
time that importing boto3 takes (tests/unit/test_imports.py holds what each command may import).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from asyncjobs import __version__
from asyncjobs.commands.session import Options, Session
from asyncjobs.console.output import Output
from asyncjobs.errors import AsyncJobsError, ExitCode, UsageError

EVERYWHERE = "Before or after the command: --stack NAME, --region R, --profile P, --json, --quiet."
_WITH_VALUE = ("--stack", "--region", "--profile")
_FLAGS = ("--json", "--quiet", "-q")

# Plain help: the rich one alone costs three times the start-up.
app = typer.Typer(
    name="asyncjobs",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Put slow work behind an API: a queue, a table, workers and a REST API, with one command.",
    epilog="Start with: asyncjobs demo",
)

JobId = Annotated[str, typer.Argument(metavar="JOBID", help="What `asyncjobs submit` printed.")]
Local = Annotated[bool, typer.Option("--local", help="On this machine, without an AWS account.")]
TargetName = Annotated[str | None, typer.Option("--target", metavar="local|aws", help="Same as --local, or AWS.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up waiting then (exit code 7).")
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"asyncjobs {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="The stack; else ASYNCJOBS_STACK or asyncjobs.toml.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="R", help="AWS region; else ASYNCJOBS_REGION or asyncjobs.toml.")
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="P", help="AWS profile; else ASYNCJOBS_PROFILE.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="ASYNCJOBS_JSON", help="Print JSON, one document a line.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="ASYNCJOBS_QUIET", help="Print only data and errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    options = Options(stack=stack, region=region, profile=profile, as_json=as_json, quiet=quiet)
    context.obj = Session(options, Output(as_json=as_json, quiet=quiet))


@app.command(epilog=EVERYWHERE)
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Made if it is not there.")] = Path(),
) -> None:
    """Write a project that works as it is.

    \b
    Example:  asyncjobs init text-analysis
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import init

        init.run(session, directory=directory)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def up(
    context: typer.Context,
    local: Local = False,
    target: TargetName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until tasks run.")] = False,
    timeout: Timeout = None,
    image: Annotated[str | None, typer.Option(metavar="URI", help="The workers' image, already in a registry.")] = None,
    builder: Annotated[
        str | None, typer.Option(metavar="docker|python", help="What builds the image; else what can.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="auto|containers|processes", help="How tasks run on the local target.")
    ] = None,
) -> None:
    """Create the stack, or bring it up to date.

    Prints the URL of its API. What is there already and as it should be is left alone.

    \b
    Example:  asyncjobs up --local
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import up

        up.run(
            session,
            target=_target_name(local, target),
            dry_run=dry_run,
            yes=yes,
            wait=not no_wait,
            timeout=timeout,
            image=image,
            builder=_builder_name(builder),
            tasks=tasks,
        )

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def down(
    context: typer.Context,
    local: Local = False,
    target: TargetName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the table and the bucket; `up` takes them back.")
    ] = False,
    timeout: Timeout = None,
) -> None:
    """Delete everything the stack owns.

    Then looks again and says what is left (exit code 9 if anything is).

    \b
    Example:  asyncjobs down --yes
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import down

        down.run(session, target=_target_name(local, target), yes=yes, keep_data=keep_data, timeout=timeout)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def submit(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files; - is standard input.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait, and print the results (exit code 6 if a job failed).")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show each change until the end.")] = False,
    content_type: Annotated[
        str | None, typer.Option("--content-type", metavar="T", help="Else by the file's name.")
    ] = None,
    job_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The job's id: sent twice, it is one job.")
    ] = None,
    timeout: Timeout = None,
) -> None:
    """Submit files; prints a job id for each.

    What the API cannot take (1 MiB) goes into the stack's bucket, which takes AWS credentials.

    \b
    Example:  JOB=$(asyncjobs submit file.txt)
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import submit

        submit.run(
            session,
            files=files,
            content_type=content_type,
            job_id=job_id,
            wait=wait,
            follow=follow,
            timeout=timeout,
        )

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def status(
    context: typer.Context,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show each change until the end.")] = False,
    timeout: Timeout = None,
) -> None:
    """Show a job, or follow it to its end.

    With --follow it ends with exit code 6 if the job failed.

    \b
    Example:  asyncjobs status "$JOB" --follow
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import status

        status.run(session, job_id=job_id, follow=follow, timeout=timeout)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def result(
    context: typer.Context,
    job_id: JobId,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
) -> None:
    """Print a job's result, however big it is.

    \b
    Example:  asyncjobs result "$JOB" -o result.json
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import result

        result.run(session, job_id=job_id, file=file)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def cancel(context: typer.Context, job_id: JobId) -> None:
    """Cancel a job that has not ended.

    One in the queue never starts; one that runs is ended.

    \b
    Example:  asyncjobs cancel "$JOB"
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import cancel

        cancel.run(session, job_id=job_id)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def retry(context: typer.Context, job_id: JobId) -> None:
    """Run a job that has ended once more.

    With the payload that it had, from attempt 1. Needs AWS credentials, or the local engine.

    \b
    Example:  asyncjobs retry "$JOB"
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import retry

        retry.run(session, job_id=job_id)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def scale(
    context: typer.Context,
    count: Annotated[int, typer.Argument(metavar="N", min=0, help="How many tasks.")],
) -> None:
    """Have N tasks now, and at least N until the next `up`.

    Needs AWS credentials, or the local engine. Tasks that are at work finish first.

    \b
    Example:  asyncjobs scale 5
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import scale

        scale.run(session, count=count)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def logs(
    context: typer.Context,
    job_id: Annotated[str | None, typer.Argument(metavar="[JOBID]", help="Only this job's lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 90s, 10m, 2h, 1d.")] = "10m",
) -> None:
    """Print what the workers, or one job, logged.

    \b
    Example:  asyncjobs logs --follow --since 1h
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import logs

        logs.run(session, job_id=job_id, follow=follow, since=since)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def info(
    context: typer.Context,
    show_key: Annotated[bool, typer.Option("--show-key", help="The whole API key.")] = False,
) -> None:
    """Show where the parts of the stack are.

    \b
    Example:  asyncjobs info --show-key --json
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import info

        info.run(session, show_key=show_key)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def permissions(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="up, down or operate; all three if not given.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ID", help="The AWS account; else any, wherever ARNs name one.")
    ] = None,
    part: Annotated[
        int | None, typer.Option("--part", min=1, metavar="N", help="A part of a policy that is too long for IAM.")
    ] = None,
) -> None:
    """Print the smallest IAM policy for those who run these commands.

    `up` and `down` are the commands; `operate` is the others: info, logs, result, retry, big payloads and looking up
    a stack's API.

    \b
    Example:  asyncjobs permissions up --account 123456789012
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import permissions

        permissions.run(session, command=command, account=account, part=part)

    _run(context, work)


@app.command("run-handler", epilog=EVERYWHERE)
def run_handler(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The payload; - is standard input.")],
    content_type: Annotated[
        str | None, typer.Option("--content-type", metavar="T", help="Else by the file's name.")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the result there, not to standard output."),
    ] = None,
) -> None:
    """Run the project's handler once on a file, here.

    No AWS and no engine; isolation and timeout as in asyncjobs.toml. Exit code 6 if the handler failed.

    \b
    Example:  asyncjobs run-handler sample.txt
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import run_handler

        run_handler.run(session, file=file, content_type=content_type, result=result)

    _run(context, work)


@app.command(epilog=EVERYWHERE)
def demo(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give up then (exit code 7).")] = 300,
) -> None:
    """See it all work on this machine.

    Up, submit a real text, follow it, result, down.

    \b
    Example:  asyncjobs demo
    """

    def work(session: Session) -> None:
        from asyncjobs.commands import demo

        demo.run(session, timeout=timeout)

    _run(context, work)


def _target_name(local: bool, target: str | None) -> str | None:
    if target not in (None, "local", "aws"):
        raise UsageError(f"--target {target} is no target.", hint="It is local or aws.")
    if local and target == "aws":
        raise UsageError("--local and --target aws contradict each other.")
    return "local" if local else target


def _builder_name(builder: str | None) -> Literal["docker", "python"] | None:
    names: dict[str | None, Literal["docker", "python"] | None] = {None: None, "docker": "docker", "python": "python"}
    if builder not in names:
        raise UsageError(f"--builder {builder} is no builder.", hint="It is docker or python.")
    return names[builder]


def _run(context: typer.Context, work: Callable[[Session], None]) -> None:
    """Do a command's work; every expected end becomes its exit code, and none a traceback."""
    session: Session = context.obj
    try:
        work(session)
    except AsyncJobsError as error:
        session.output.error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        session.output.say("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            _end_of_reader()
        if session.env.get("ASYNCJOBS_DEBUG"):
            raise
        what = f"This should not have happened: {type(error).__name__}: {error}"
        session.output.error(
            AsyncJobsError(what, hint="Run it again with ASYNCJOBS_DEBUG=1 and report what it prints.")
        )
        raise typer.Exit(ExitCode.UNEXPECTED) from None


def _end_of_reader() -> NoReturn:
    """The reader went away (`asyncjobs logs | head`): a second failure while flushing must not show either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(ExitCode.UNEXPECTED)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the options of every command in front of the command, where the parser wants them."""
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(word)
        elif word in _WITH_VALUE:
            front += [word, *left[:1]]
            left = left[1:]
        else:
            rest.append(word)
    return front + rest


def main() -> None:
    """Parse and run; see `asyncjobs.__main__` for the program."""
    app(args=hoist(sys.argv[1:]), prog_name="asyncjobs")
