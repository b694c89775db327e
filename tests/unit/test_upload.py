"""A payload that the API cannot take: what stands in the way of the stack's bucket, and what goes into it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from asyncjobs.aws import translated
from asyncjobs.commands import upload
from asyncjobs.commands.session import Options, Session
from asyncjobs.commands.submit import opened
from asyncjobs.console.output import Output
from asyncjobs.errors import ApiError, CredentialsError, NotFoundError, UsageError
from asyncjobs.jobs.uploads import Uploads

ID = "1795416232123-abc"
ACCOUNT = "123456789012"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "big.pdf"
    file.write_bytes(b"x" * 2_000_000)
    return file


def session(directory: Path, env: Mapping[str, str], stack: str | None = None) -> Session:
    env = {"ASYNCJOBS_STATE_DIR": str(directory / "state"), **env}
    return Session(Options(stack=stack), Output(stderr=io.StringIO(), env={}), env, directory)


def test_a_url_alone_does_not_say_which_stack(tmp_path: Path, file: Path):
    """Never the bucket of the stack that happens to be the default."""
    with pytest.raises(ApiError) as caught:
        upload.submit(session(tmp_path, {"ASYNCJOBS_API_URL": "https://api.example/v1"}), file, ID, "text/plain")
    error = caught.value
    assert (error.status, error.code) == (413, "PayloadTooLarge")
    assert "2,000,000 bytes" in error.what
    assert "1 MiB" in error.why
    assert "--stack" in error.hint


def test_without_credentials_it_says_what_they_would_be_for(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    env = {"ASYNCJOBS_API_URL": "https://api.example/v1"}
    with pytest.raises(CredentialsError) as caught:
        upload.submit(session(tmp_path, env, stack="demo"), file, ID, "text/plain")
    assert "2,000,000 bytes" in caught.value.what
    assert "bucket" in caught.value.why


class NoSuchQueueError(Exception):
    pass


class Aws:
    """S3 and SQS that keep what they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.uploading: Callable[[], object] = lambda: None
        self.queues = {"jobs"}
        self.exceptions = type("exceptions", (), {"QueueDoesNotExist": NoSuchQueueError})

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        if QueueName not in self.queues:
            raise NoSuchQueueError
        return {"QueueUrl": f"https://sqs/{QueueName}"}

    def upload_file(self, _file: str, bucket: str, key: str, **settings: Any) -> None:
        self.uploading()
        self.calls.append(("upload", (bucket, key, settings["ExtraArgs"])))

    def send_message(self, **request: Any) -> None:
        self.calls.append(("send", request))


def submit(aws: Aws, file: Path, queue: str = "jobs") -> None:
    uploads = Uploads(aws, aws, bucket="bucket", queue=queue, account=ACCOUNT)
    uploads.submit(file, job_id=ID, content_type="application/pdf")


def test_the_object_is_there_before_the_message_points_at_it(file: Path):
    aws = Aws()
    submit(aws, file)
    (first, (bucket, key, settings)), (second, request) = aws.calls
    assert (first, second, bucket) == ("upload", "send", "bucket")
    assert key.startswith(f"payloads/{ID}/")
    assert settings == {"ContentType": "application/pdf", "ExpectedBucketOwner": ACCOUNT}
    sent = {name: value["StringValue"] for name, value in request["MessageAttributes"].items()}
    assert sent == {
        "jobId": ID,
        "contentType": "application/pdf",
        "submittedAt": "1795416232123",
        "payloadKey": key,
    }


def test_sent_again_it_is_the_same_object_and_another_payload_is_another(file: Path):
    aws = Aws()
    submit(aws, file)
    submit(aws, file)
    file.write_bytes(b"y" * 2_000_000)
    submit(aws, file)
    first, second, third = [key for call, (_, key, _) in [one for one in aws.calls if one[0] == "upload"]]
    assert first == second != third


def test_a_file_that_is_written_to_meanwhile_is_not_submitted(file: Path):
    aws = Aws()
    aws.uploading = lambda: file.write_bytes(b"more")
    with pytest.raises(UsageError, match="written to"):
        submit(aws, file)
    assert [call for call, _ in aws.calls] == ["upload"]


def test_without_the_queue_nothing_is_uploaded(file: Path):
    aws = Aws()
    with pytest.raises(NotFoundError):
        submit(aws, file, queue="other")
    assert aws.calls == []


def refused() -> None:
    """As boto3 raises what S3 says of an upload: with the cause as its context only."""
    try:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "PutObject")
    except ClientError as error:
        raise S3UploadFailedError(f"Failed to upload: {error}")  # noqa: B904


def test_a_refused_upload_says_which_permission_is_missing():
    with pytest.raises(CredentialsError, match="s3:PutObject"), translated("payload"):
        refused()


def test_streams_are_copied_and_files_are_not(tmp_path: Path, file: Path):
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    with opened([str(file), f"/dev/fd/{reader}"]) as (same, copy):
        assert same == file
        assert copy.read_bytes() == b"from a pipe"
    os.close(reader)
    assert not copy.exists()
    with pytest.raises(UsageError, match="cannot be read"), opened([str(tmp_path / "none")]):
        pass
