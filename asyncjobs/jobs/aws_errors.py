"""What AWS's clients raise, and what of it passes."""

from __future__ import annotations

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

# Boto3Error: what S3 transfers raise when a part of an upload fails. ResponseParserError: an answer that is not AWS's,
# such as a proxy's page.
AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, ResponseParserError)

# The ones that AWS sends with a 4xx status. Expired: the next try signs with fresh credentials.
_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ExpiredToken",
        "ExpiredTokenException",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later: throttling, AWS's own failures, and the way to it."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or error_code(error) in _PASSING_CODES
    return isinstance(error, AWS_ERRORS) and not isinstance(error, ParamValidationError)


def error_code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
