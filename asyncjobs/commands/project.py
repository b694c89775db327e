"""The configuration of a project, for commands that run what it names."""

from __future__ import annotations

from asyncjobs.commands.session import Session
from asyncjobs.config import Config, load
from asyncjobs.errors import ConfigError


def load_config(session: Session) -> Config:
    """The checked configuration of a project that has something to run.

    Raises:
        ConfigError: It is wrong, or names neither a handler nor a command.
    """
    overrides = {"stack": {"name": session.given_stack, "region": session.region}}
    config = load(session.config_file, env=session.env, overrides=overrides)
    worker = config.worker
    if not worker.handler and not worker.command:
        missing = not session.config_file.exists()
        raise ConfigError(
            f"There is no asyncjobs.toml in {session.directory}."
            if missing
            else f"{session.config_file} names nothing to run.",
            why="A worker needs `handler` or `command` under [worker].",
            hint="`asyncjobs init` writes a project that works."
            if missing
            else 'For example: handler = "handler:handle"',
        )
    if worker.handler:
        module = session.directory / worker.handler.split(":")[0].replace(".", "/")
        if not module.with_suffix(".py").is_file() and not (module / "__init__.py").is_file():
            raise ConfigError(
                f"[worker] handler = {worker.handler!r}: there is no {module.with_suffix('.py')}.",
                hint="The part before the colon is a module in the project's directory.",
            )
    return config
