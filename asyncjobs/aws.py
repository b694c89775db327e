"""AWS clients, made lazily from one session, and the one place where botocore's errors become ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config as BotoConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOError,
    TokenRetrievalError,
)
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random
from tenacity.wait import wait_base

from asyncjobs.errors import AsyncJobsError, ConfigError, CredentialsError, ProvisionError
from asyncjobs.permissions import denied
from asyncjobs.progress import Event, Progress

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sts import STSClient

T = TypeVar("T")

CREDENTIALS_HINT = (
    "Run the stack on this machine with `asyncjobs up --local`, or configure AWS: `aws configure`, `aws sso login`, "
    "the AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY variables, or `--profile NAME`."
)

_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    SSOError,
    TokenRetrievalError,
    ProfileNotFound,
)
_BAD_CREDENTIALS = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "AuthFailure",
}
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
    "AuthorizationErrorException",
    "NotAuthorized",
}


LONGEST_WAIT = 10.0  # seconds between two looks at what takes minutes


class Clients:
    """The AWS clients of one account and region.

    Clients are made on first use under a lock: `Session.client` is not thread-safe, the clients themselves are.

    Args:
        session: Where credentials and the region come from.
        endpoint_url: Overrides every service's endpoint (the local engine); None leaves boto3's own rules,
            `AWS_ENDPOINT_URL` among them.
    """

    def __init__(self, session: boto3.session.Session, *, endpoint_url: str | None = None) -> None:
        self._session = session
        self._endpoint_url = endpoint_url
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def region(self) -> str:
        return self._session.region_name

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                client = self._session.client(  # type: ignore[call-overload]
                    service,
                    endpoint_url=self._endpoint_url,
                    config=BotoConfig(
                        retries={"mode": "standard", "total_max_attempts": 5},
                        connect_timeout=10,
                        read_timeout=60,
                        max_pool_connections=32,
                    ),
                )
                # Made on first use, by two threads maybe twice: an `except` would name another class than is raised.
                _ = client.exceptions
                self._clients[service] = client
            return self._clients[service]

    @property
    def apigateway(self) -> APIGatewayClient:
        return self._client("apigateway")  # type: ignore[no-any-return]

    @property
    def autoscaling(self) -> ApplicationAutoScalingClient:
        return self._client("application-autoscaling")  # type: ignore[no-any-return]

    @property
    def cloudwatch(self) -> CloudWatchClient:
        return self._client("cloudwatch")  # type: ignore[no-any-return]

    @property
    def dynamodb(self) -> DynamoDBClient:
        return self._client("dynamodb")  # type: ignore[no-any-return]

    @property
    def ec2(self) -> EC2Client:
        return self._client("ec2")  # type: ignore[no-any-return]

    @property
    def ecr(self) -> ECRClient:
        return self._client("ecr")  # type: ignore[no-any-return]

    @property
    def ecs(self) -> ECSClient:
        return self._client("ecs")  # type: ignore[no-any-return]

    @property
    def iam(self) -> IAMClient:
        return self._client("iam")  # type: ignore[no-any-return]

    @property
    def logs(self) -> CloudWatchLogsClient:
        return self._client("logs")  # type: ignore[no-any-return]

    @property
    def s3(self) -> S3Client:
        return self._client("s3")  # type: ignore[no-any-return]

    @property
    def sqs(self) -> SQSClient:
        return self._client("sqs")  # type: ignore[no-any-return]

    @property
    def sts(self) -> STSClient:
        return self._client("sts")  # type: ignore[no-any-return]


def connect(*, region: str | None, profile: str | None) -> Clients:
    """Clients for the caller's own AWS account.

    Raises:
        CredentialsError: No credentials or no such profile.
        ConfigError: No region.
    """
    with translated():
        session = boto3.session.Session(region_name=region, profile_name=profile)
        if session.get_credentials() is None:
            raise NoCredentialsError
        if session.region_name is None:
            raise NoRegionError
        return Clients(session)


# The engine's access key id is random and secret; of signatures it verifies none but those in URLs.
LOCAL_SECRET_KEY = "local"


def connect_local(endpoint_url: str, region: str, access_key: str) -> Clients:
    """Clients for the local engine, with its own key whatever the environment holds.

    Args:
        access_key: The engine's access key id.
    """
    session = boto3.session.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=LOCAL_SECRET_KEY,
        region_name=region,
    )
    return Clients(session, endpoint_url=endpoint_url)


def error_code(error: BaseException) -> str:
    """The AWS error code of a ClientError, else ""."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


def error_message(error: BaseException) -> str:
    return error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)


def translate(error: Exception, doing: str = "") -> AsyncJobsError:
    """Turn a botocore error into ours. `doing` names what was being done ("table asyncjobs-demo")."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__  # why an upload failed
    prefix = f"{doing}: " if doing else ""
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsError(f"{prefix}there are no usable AWS credentials.", why=str(error), hint=CREDENTIALS_HINT)
    if isinstance(error, NoRegionError):
        return ConfigError(
            "No AWS region is set.", hint="Give `--region`, set AWS_DEFAULT_REGION, or put `region` under [stack]."
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError):
        return ProvisionError(
            f"{prefix}AWS cannot be reached.", why=str(error), hint="Check the network and AWS_ENDPOINT_URL."
        )
    if isinstance(error, ClientError):
        return _translate_client_error(error, doing)
    return ProvisionError(f"{prefix}{error}")


def is_denied(error: BaseException) -> bool:
    """Whether AWS refused a call for want of a permission."""
    return isinstance(error, ClientError) and (error_code(error) in _DENIED or denied.is_denial(error_message(error)))


def _translate_client_error(error: ClientError, doing: str) -> AsyncJobsError:
    prefix = f"{doing}: " if doing else ""
    code, message, call = error_code(error), error_message(error), error.operation_name
    if code in _BAD_CREDENTIALS:
        return CredentialsError(f"{prefix}AWS refused the credentials ({code}).", why=message, hint=CREDENTIALS_HINT)
    if is_denied(error):
        missing = denied.missing(call, message, doing)
        return CredentialsError(
            f"{prefix}{call} is not allowed: {denied.sentence(missing)} is missing.",
            why=message,
            hint=denied.hint(call, message),
            details={"missing": missing},
        )
    return ProvisionError(f"{prefix}{call} failed with {code}.", why=message)


def was_repeated(answer: Any) -> bool:
    """Whether botocore sent a call more than once: it may then have taken effect more than once."""
    return bool(answer["ResponseMetadata"].get("RetryAttempts"))


def all_denied(errors: Mapping[str, Exception]) -> AsyncJobsError:
    """One error for calls that were refused, by what was being done: all that is missing is named at once."""
    ours = [translate(error, doing) for doing, error in errors.items()]
    if len(ours) == 1:
        return ours[0]
    missing = denied.together(error.details for error in ours)
    return CredentialsError(
        f"{len(ours)} reads are not allowed: {denied.sentence(missing)} are missing.",
        why="\n       ".join(error.why for error in ours),
        hint=ours[0].hint,
        details={"missing": missing},
    )


@contextmanager
def translated(doing: str = "") -> Iterator[None]:
    """Within it, botocore's errors come out as ours."""
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise translate(error, doing) from error


class Waiter:
    """Retries calls that AWS refuses for a while, and says what is being waited for.

    Args:
        progress: Where "waiting" events go.
        sleep: Seconds; injected in tests.
        clock: Monotonic seconds, in which `sleep` passes.
    """

    def __init__(
        self,
        progress: Progress,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._sleep = sleep
        self._clock = clock

    def retry(
        self,
        call: Callable[[], T],
        *,
        step: str,
        on: Callable[[Exception], bool],
        reason: str,
        timeout: float,
        first_wait: float = 1.0,
        at_most: float | None = None,
    ) -> T:
        """Call until it stops raising what `on` accepts.

        Args:
            timeout: Seconds, after which the last error is raised.
            at_most: How many seconds AWS says it takes: the display counts them down.
        """
        began = self._clock()
        until = None if at_most is None else began + at_most

        def say(_state: RetryCallState) -> None:
            self._progress.emit(Event(step, "waiting", reason, until))

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and on(error)),
            stop=lambda _state: self._clock() - began >= timeout,
            wait=_InProportion(first_wait) + wait_random(0, first_wait / 2),
            sleep=self._sleep,
            before_sleep=say,
            reraise=True,
        )
        return retrying(call)

    def find(
        self,
        look: Callable[[], T | None],
        *,
        step: str,
        reason: str,
        timeout: float,
        first_wait: float = 1.0,
        at_most: float | None = None,
    ) -> T:
        """Look until there is something.

        Raises:
            TimeoutError: Nothing within `timeout` seconds.
        """

        def found() -> T:
            answer = look()
            if answer is None:
                raise _NotReadyError(f"{reason}: not within {timeout:.0f} s")
            return answer

        return self.retry(
            found,
            step=step,
            on=lambda error: isinstance(error, _NotReadyError),
            reason=reason,
            timeout=timeout,
            first_wait=first_wait,
            at_most=at_most,
        )

    def until(
        self, ready: Callable[[], bool], *, step: str, reason: str, timeout: float, first_wait: float = 1.0
    ) -> None:
        """Poll until `ready()`.

        Raises:
            TimeoutError: Not ready within `timeout` seconds.
        """
        self.find(lambda: ready() or None, step=step, reason=reason, timeout=timeout, first_wait=first_wait)


class _InProportion(wait_base):
    """A tenth of what has been waited so far, so that a wait ends late by a tenth at most.

    Waits that double end late by as much as they took: a service that is stable after 45 s was seen to be so after 51.

    Args:
        least: Seconds; a wait takes no less than that, and no more than `LONGEST_WAIT`.
    """

    def __init__(self, least: float) -> None:
        self._least = least

    def __call__(self, retry_state: RetryCallState) -> float:
        return min(LONGEST_WAIT, max(self._least, retry_state.idle_for / 10))


class _NotReadyError(TimeoutError):
    pass


def has_code(*codes: str, message: str = "") -> Callable[[Exception], bool]:
    """A test for `Waiter.retry`: one of these error codes, and the message containing `message`."""

    def matches(error: Exception) -> bool:
        return error_code(error) in codes and message.lower() in error_message(error).lower()

    return matches
