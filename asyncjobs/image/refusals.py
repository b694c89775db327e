"""What engines and registries say when they refuse something, as errors that say what to do.

Most of it reaches a client as text, under an HTTP status that tells little or in the middle of a stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from asyncjobs.errors import DockerError, TagTakenError, TokenExpiredError

Doing = Literal["pull", "build", "push"]

_FULL = re.compile(r"no space left on device|disk quota exceeded", re.I)
_FORMAT = re.compile(r"exec format error", re.I)
_EXPIRED = re.compile(r"token has expired|token is expired", re.I)
_TAKEN = re.compile(r"cannot be overwritten|is immutable|ImageTagAlreadyExists", re.I)
_TOO_MANY = re.compile(r"toomanyrequests|too many requests|rate limit", re.I)
_PLATFORM = re.compile(
    r"no matching manifest|no match for platform|does not (match|provide) the specified platform", re.I
)
_NETWORK = re.compile(
    r"no such host|connection refused|i/o timeout|dial tcp|network is unreachable|temporary failure in name|x509"
    r"|tls handshake|deadline exceeded|connection reset|EOF$|server gave HTTP response to HTTPS",
    re.I,
)
_DENIED = re.compile(r"denied|unauthorized|no basic auth|authentication required|forbidden", re.I)
_ABSENT = re.compile(r"manifest unknown|name unknown|not found|no such image|does not exist|pull access denied", re.I)

_SPACE = "See what takes it with `docker system df`; `docker system prune` frees what nothing uses."
_MIRROR = "public.ecr.aws/docker/library/python:3.12-slim"


def disk_full(said: str) -> DockerError | None:
    """Of a build's output too, where the other patterns could match what a program prints."""
    return DockerError("The disk of the Docker engine is full.", why=said, hint=_SPACE) if _FULL.search(said) else None


def not_emulated(said: str, architecture: str) -> DockerError | None:
    if not _FORMAT.search(said):
        return None
    return DockerError(
        f"The Docker engine cannot run programs for {architecture}.",
        why=said,
        hint='Set [worker] architecture to the engine\'s own or to "auto", or have it emulate the other: '
        "`docker run --privileged --rm tonistiigi/binfmt --install all`.",
    )


def wrong_architecture(image: str, architecture: str, has: str) -> DockerError:
    return DockerError(
        f"{image} is not there for {architecture}.",
        why=f"It is for {has}." if has else "",
        hint="Set [worker] architecture to one that it is there for, or [worker] base_image to another image.",
    )


def pull_refused(image: str, said: str, architecture: str) -> DockerError:
    """Why an image cannot be pulled or looked up."""
    if error := disk_full(said):
        return error
    registry = image.split("/")[0] if "/" in image and re.search(r"[.:]", image.split("/")[0]) else "docker.io"
    reasons: tuple[tuple[re.Pattern[str], str, str], ...] = (
        (
            _TOO_MANY,
            f"{registry} refuses the pull of {image} for now: there were too many.",
            f"Wait, or `docker login {registry}`, or set [worker] base_image to a copy elsewhere, such as {_MIRROR}.",
        ),
        (
            _EXPIRED,
            f"{registry} refuses the pull of {image}: Docker's login there has expired.",
            f"`docker logout {registry}` for a public image, else log in again.",
        ),
        (
            _NETWORK,
            f"{registry} cannot be reached for the base image {image}, and the engine has no copy of it.",
            "Check the network and the engine's proxy, then run it again.",
        ),
        (
            _ABSENT,
            f"There is no base image {image}, or it is not public.",
            f"Correct [worker] base_image or the Dockerfile's FROM; `docker login {registry}` where it is private.",
        ),
        (
            _DENIED,
            f"{registry} does not let the engine pull {image}.",
            f"`docker login {registry}`, then run it again.",
        ),
    )
    if _PLATFORM.search(said):
        return wrong_architecture(image, architecture, "")
    for pattern, what, hint in reasons:
        if pattern.search(said):
            return DockerError(what, why=said, hint=hint)
    return DockerError(f"The base image {image} cannot be pulled.", why=said)


def push_refused(repository: str, said: str) -> DockerError:
    """Why an image cannot be pushed."""
    if error := disk_full(said):
        return error
    reasons: tuple[tuple[re.Pattern[str], Callable[..., DockerError], str, str], ...] = (
        (
            _EXPIRED,
            TokenExpiredError,
            f"{repository} does not take the image: the registry's token has expired.",
            "Run it again. If it goes on, this machine's clock may be wrong.",
        ),
        (
            _TAKEN,
            TagTakenError,
            f"{repository} has another image under that tag, and tags there cannot be moved.",
            "Run it again: it uses the image that is there.",
        ),
        (
            _NETWORK,
            DockerError,
            f"The Docker engine cannot reach {repository}.",
            "Check the network and the engine's proxy, then run it again: layers that are there are not pushed twice.",
        ),
        (
            _DENIED,
            DockerError,
            f"{repository} does not take the image: the push is not allowed.",
            "`asyncjobs permissions up` prints what a push takes; see whether the repository's own policy denies it.",
        ),
    )
    for pattern, kind, what, hint in reasons:
        if pattern.search(said):
            return kind(what, why=said, hint=hint)
    return DockerError(f"The image cannot be pushed to {repository}.", why=said, hint="Run it again.")
