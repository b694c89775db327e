"""`asyncjobs.toml`: what it may hold, its defaults, and every mistake in it at once.

A value is taken from the command line, else from `ASYNCJOBS_<SECTION>_<KEY>`, else from the file, else from here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from asyncjobs.errors import ConfigError
from asyncjobs.names import STACK_PATTERN, STACK_RULE

FILE_NAME = "asyncjobs.toml"

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html: CPU units → MiB.
FARGATE_MEMORY: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]
Count = Annotated[int, Field(strict=True, ge=1)]

# Set by asyncjobs itself in the task definition; a user's value would break the worker without a word.
RESERVED_ENV = re.compile(r"(ASYNCJOBS_|AWS_|ECS_)")


class _Section(BaseModel):
    # validate_default: a rule between two keys holds as well where one of them is left at its default.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Stack(_Section):
    name: str = "default"
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    tags: dict[str, str] = {}

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not STACK_PATTERN.match(value):
            raise ValueError(STACK_RULE)
        return value

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        # 50 tags a resource at most; ours takes some of them. The `aws:` prefix is AWS's own.
        if len(value) > 40 or any(key.lower().startswith(("aws:", "asyncjobs:")) for key in value):
            raise ValueError("at most 40 tags, none starting with aws: or asyncjobs:")
        return value


class Worker(_Section):
    handler: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None
    concurrency: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    isolation: Literal["process", "thread"] = "process"
    timeout: Annotated[int, Field(strict=True, ge=1, le=11 * 3600)] = 3600
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    cpu: int = 512
    memory: int = 1024
    architecture: Literal["auto", "x86_64", "arm64"] = "auto"
    env: dict[str, str] = {}
    secrets: dict[str, Annotated[str, Field(pattern=r"^arn:aws[\w-]*:(secretsmanager|ssm):")]] = {}
    dockerfile: str = "Dockerfile"
    base_image: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    builder: Literal["auto", "docker", "python"] = "auto"
    spot: Annotated[int, Field(strict=True, ge=0, le=100)] = 0

    @field_validator("env", "secrets")
    @classmethod
    def _reserved(cls, value: dict[str, str]) -> dict[str, str]:
        if reserved := sorted(key for key in value if RESERVED_ENV.match(key)):
            raise ValueError(f"names other than ASYNCJOBS_*, AWS_* and ECS_* (there is {', '.join(reserved)})")
        return value

    @field_validator("command")
    @classmethod
    def _one_of_them(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value and info.data.get("handler"):
            raise ValueError("either `handler` or `command`, not both")
        return value

    @field_validator("cpu")
    @classmethod
    def _cpu(cls, value: int) -> int:
        if value not in FARGATE_MEMORY:
            raise ValueError(f"one of {', '.join(map(str, FARGATE_MEMORY))}")
        return value

    @field_validator("memory")
    @classmethod
    def _memory(cls, value: int, info: ValidationInfo) -> int:
        cpu = info.data.get("cpu")
        allowed = FARGATE_MEMORY.get(cpu, ()) if cpu else ()
        if allowed and value not in allowed:
            steps = ", ".join(map(str, allowed[:3])) + (f", … {allowed[-1]}" if len(allowed) > 3 else "")
            raise ValueError(f"with cpu = {cpu}: {steps} (MiB)")
        return value

    @field_validator("secrets")
    @classmethod
    def _not_twice(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if shared := sorted(value.keys() & info.data.get("env", {}).keys()):
            raise ValueError(f"names that are not in `env` too (there is {', '.join(shared)})")
        return value


class Scaling(_Section):
    min: Annotated[int, Field(strict=True, ge=0, le=5000)] = 0
    max: Annotated[int, Field(strict=True, ge=1, le=5000)] = 10
    backlog_per_task: Count = 10

    @field_validator("max")
    @classmethod
    def _order(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min", 0):
            raise ValueError(f"at least `min`, which is {info.data['min']}")
        return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


class Api(_Section):
    auth: Literal["api-key", "iam", "none"] = "api-key"
    rate: Annotated[float, BeforeValidator(_number), Field(gt=0, le=10_000)] = 50.0
    burst: Annotated[int, Field(strict=True, ge=1, le=5_000)] = 100
    quota: Annotated[int, Field(strict=True, ge=1)] = 1_000_000
    cors_origins: list[Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.\-\[\]:]+)$")]] = ["*"]
    stage: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")] = "v1"


class Retention(_Section):
    result_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 30
    log_days: LogDays = 30
    queue_days: Annotated[int, Field(strict=True, ge=1, le=14)] = 14  # SQS keeps a message 14 days at most

    @field_validator("queue_days")
    @classmethod
    def _results_outlive_messages(cls, value: int, info: ValidationInfo) -> int:
        result_days = info.data.get("result_days", value)
        if result_days < value:
            raise ValueError(f"at most `result_days`, which is {result_days}, or an expired job would look queued")
        return value


class Network(_Section):
    subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$")]] = []
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-z]+$")]] = []
    assign_public_ip: Annotated[bool, Field(strict=True)] | None = None


class Config(_Section):
    """All of `asyncjobs.toml`."""

    stack: Stack = Stack()
    worker: Worker = Worker()
    scaling: Scaling = Scaling()
    api: Api = Api()
    retention: Retention = Retention()
    network: Network = Network()


def load(path: Path, *, env: Mapping[str, str], overrides: Mapping[str, Mapping[str, Any]]) -> Config:
    """Read and check the configuration.

    Args:
        path: The file; a missing one is an empty one.
        env: `ASYNCJOBS_<SECTION>_<KEY>` is looked up here.
        overrides: Sections and keys given on the command line; None values do not count.

    Raises:
        ConfigError: With every mistake: the key, the value, what is allowed.
    """
    values = read_file(path)
    source = str(path) if values else "the configuration"
    _merge_env(values, env)
    for section, keys in overrides.items():
        for key, value in keys.items():
            if value is not None:
                values.setdefault(section, {})[key] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise config_error(source, error) from error


def read_file(path: Path) -> dict[str, Any]:
    """The file as TOML, unchecked; empty when it is not there."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML.", why=str(error), hint="Correct it at that line.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read.", why=error.strerror or str(error)) from error


def _merge_env(values: dict[str, Any], env: Mapping[str, str]) -> None:
    for section, field in Config.model_fields.items():
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for key, info in model.model_fields.items():
            text = env.get(f"ASYNCJOBS_{section}_{key}".upper())
            if text is not None:
                values.setdefault(section, {})[key] = _from_text(text, info.annotation)


def _from_text(text: str, annotation: Any) -> Any:
    """A variable's text as the type the key has: TOML's own syntax where it is not a plain string."""
    if annotation is str or (str in get_args(annotation) and not _is_number_like(annotation)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_number_like(annotation: Any) -> bool:
    return bool({int, float, bool} & set(get_args(annotation)))


def config_error(source: str, error: ValidationError) -> ConfigError:
    """All mistakes in one error, a line each."""
    lines = [_line(dict(mistake)) for mistake in error.errors(include_url=False)]
    plural = "mistake" if len(lines) == 1 else "mistakes"
    return ConfigError(
        f"{source} has {len(lines)} {plural}:\n" + "\n".join(f"  {line}" for line in lines),
        hint="docs/configuration.md lists every key and what it may hold.",
    )


def _line(mistake: dict[str, Any]) -> str:
    place = [str(part) for part in mistake["loc"]]
    key = f"[{place[0]}]" + (f" {'.'.join(place[1:])}" if len(place) > 1 else "")
    if mistake["type"] == "extra_forbidden":
        return f"{key}: there is no such key; allowed: {', '.join(_siblings(place))}"
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = mistake["input"]
    shown = "" if isinstance(value, dict | BaseModel) or "(there is " in message else f" = {value!r}"
    message = message.replace("String should match pattern", "text that matches")
    return f"{key}{shown}: {message if message.startswith('should') else 'allowed: ' + message}"


def _siblings(place: list[str]) -> list[str]:
    if len(place) == 1:
        return [f"[{name}]" for name in Config.model_fields]
    section = Config.model_fields[place[0]].annotation
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
