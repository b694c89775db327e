"""HTTP as registries speak it: log in where asked to, try again what may pass, and say plainly what does not.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md and, for tokens,
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urljoin

import urllib3
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Timeout

from asyncjobs.errors import DockerError

T = TypeVar("T")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


Body = bytes | Readable

_TRIES = 6
_LONGEST_PAUSE = 30.0
# Redirects lead to where the blobs are: S3, a CDN. urllib3 leaves the password behind when the host is another.
_REDIRECTS = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5, raise_on_redirect=True)
_PASSING = (408, 429, 500, 502, 503, 504)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_ERROR_TEXT = 400


class PassingError(Exception):
    """Something that may go well next time.

    Args:
        error: What to say when it never does.
        pause: Seconds that the registry asks to wait.
    """

    def __init__(self, error: DockerError, pause: float = 0.0) -> None:
        super().__init__(error.what)
        self.error = error
        self.pause = pause


class RefusedError(Exception):
    """The registry's answer is an error that a repeat would not change."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code} {message}".strip())
        self.status = status
        self.code = code
        self.message = message


class Transport:
    """One registry. Threads may share it.

    Args:
        host: With its port.
        insecure: Plain HTTP.
        credentials: User and password; None for nobody.
        sleep: Waits between tries.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool = False,
        credentials: tuple[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self._base = f"{'http' if insecure else 'https'}://{host}"
        self._credentials = credentials
        self._sleep = sleep
        self._pool = _pool(self._base, proxied=not insecure)
        # What to send in `Authorization`, by what it is for: "pull" or "push".
        self._authorization: dict[str, str] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        accepts: Collection[int],
        purpose: str = "pull",
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send one request once; log in first, or again, if the registry asks for it.

        Args:
            url: A path ("/v2/..."), or what a `Location` said, which may be a path too.
            body: Opens what is to be sent, again for each try.
            stream: Leave the answer's body to be read, and the connection to be released, by the caller.

        Raises:
            PassingError: Worth a repeat.
            RefusedError: Any status that is not in `accepts`.
            DockerError: TLS, or a login that cannot be done.
        """
        sent = self._authorization.get(purpose)
        answer = self._send(method, url, headers, sent, body, stream)
        if answer.status == 401 and self._log_in(answer.headers.get("www-authenticate", ""), purpose, sent):
            answer.release_conn()
            answer = self._send(method, url, headers, self._authorization.get(purpose), body, stream)
        if answer.status in accepts:
            return answer
        raise self._failure(answer)

    def repeat(self, call: Callable[[], T]) -> T:
        """Call until it raises no PassingError.

        Raises:
            DockerError: It still did at the last try.
        """
        growing = wait_exponential(multiplier=0.5, max=_LONGEST_PAUSE) + wait_random(0, 0.5)

        def pause(state: Any) -> float:
            asked = state.outcome.exception().pause
            return float(min(_LONGEST_PAUSE, max(asked, growing(state))))

        retrying = Retrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(_TRIES),
            wait=pause,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(call)
        except PassingError as error:
            raise error.error from error

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        authorization: str | None,
        body: Callable[[], Body] | None,
        stream: bool,
    ) -> BaseHTTPResponse:
        full = urljoin(f"{self._base}/", url)
        sent = dict(headers or {})
        if authorization and full.startswith(f"{self._base}/"):
            sent["authorization"] = authorization  # a `Location` may lead elsewhere
        opened = body() if body else None
        try:
            with self.reading():
                return self._pool.urlopen(
                    method,
                    full,
                    body=opened,
                    headers=sent,
                    retries=_REDIRECTS,
                    preload_content=not stream,
                    decode_content=False,
                )
        finally:
            if opened is not None and not isinstance(opened, bytes):
                opened.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Translate what urllib3 raises while a request is sent or its answer is read."""
        try:
            yield
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            why = str(cause).split(": ", 1)[-1]
            if isinstance(cause, SSLError):
                raise DockerError(
                    f"The registry {self.host} cannot be trusted: TLS failed.",
                    why=why,
                    hint="Behind a proxy that looks into TLS, name its certificates in SSL_CERT_FILE.",
                ) from error
            raise PassingError(
                DockerError(
                    f"The registry {self.host} cannot be reached.",
                    why=why,
                    hint="Check the network and HTTPS_PROXY, and run the command again: what was uploaded is kept.",
                )
            ) from error

    def _log_in(self, challenge: str, purpose: str, sent: str | None) -> bool:
        """Do what `WWW-Authenticate` asks for; whether that makes a second try worth while."""
        with self._lock:
            known = self._authorization.get(purpose)
            if known != sent:
                return True  # another thread has just done it
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                new = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)))}"
            elif scheme.lower() == "basic" and self._credentials:
                new = _basic(self._credentials)
            else:
                return False
            self._authorization[purpose] = new
            return new != sent

    def _token(self, challenge: Mapping[str, str]) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not self._base.startswith("http://"):
            raise DockerError(f"The registry {self.host} asks to log in without TLS at {realm!r}.")
        # Scopes of several repositories, as for a mount, are parameters of their own.
        asked = [("service", challenge["service"])] if "service" in challenge else []
        asked += [("scope", scope) for scope in challenge.get("scope", "").split(" ") if scope]
        headers = {"authorization": _basic(self._credentials)} if self._credentials else {}
        with self.reading():
            joint = "&" if "?" in realm else "?"
            answer = self._pool.request("GET", f"{realm}{joint}{urlencode(asked)}", headers=headers, retries=_REDIRECTS)
        if answer.status != 200:
            raise self._failure(answer)
        try:
            document = json.loads(answer.data)
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise DockerError(f"{realm} gave no token for the registry {self.host}.") from error

    def _failure(self, answer: BaseHTTPResponse) -> Exception:
        with self.reading():
            code, message = _said(answer.data)
        if answer.status in _PASSING:
            return PassingError(self._busy(answer.status, message), _seconds(answer.headers.get("retry-after", "")))
        return RefusedError(answer.status, code, message)

    def _busy(self, status: int, message: str) -> DockerError:
        if status == 429:
            return DockerError(
                f"The registry {self.host} limits how often it is asked, and the limit is reached.",
                why=message,
                hint="Wait a while and run the command again, log in with `docker login`, or take a `base_image` from "
                "public.ecr.aws.",
            )
        return DockerError(
            f"The registry {self.host} failed: {status}.",
            why=message,
            hint="Run the command again in a while: what was uploaded is kept.",
        )


def _pool(base: str, *, proxied: bool) -> urllib3.PoolManager:
    """Through the proxy of the environment; with the certificates that boto3 would take."""
    scheme, _, host = base.partition("://")
    settings: dict[str, Any] = {
        "timeout": Timeout(connect=10, read=120),
        "maxsize": 8,
        "blocksize": 1 << 20,
        "ca_certs": os.environ.get("AWS_CA_BUNDLE") or None,
    }
    proxy = urllib.request.getproxies().get(scheme)
    if proxied and proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy, **settings)
    return urllib3.PoolManager(**settings)


def _basic(credentials: tuple[str, str]) -> str:
    return "Basic " + b64encode(":".join(credentials).encode()).decode("ascii")


def _said(data: bytes) -> tuple[str, str]:
    """Code and message of an answer in the form the specification gives to errors."""
    try:
        first = json.loads(data)["errors"][0]
        return str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", data[:_ERROR_TEXT].decode("utf-8", "replace").strip()


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 0.0
