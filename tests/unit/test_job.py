from __future__ import annotations

import gc
from pathlib import Path

import pytest

from asyncjobs.worker import Job, Reject


def test_a_job_made_by_hand_needs_only_its_payload() -> None:
    job = Job(b"some text")
    job.progress(0.5, "half")
    assert (job.bytes, job.text, job.cancelled, job.attempt) == (b"some text", "some text", False, 1)


def test_text_is_taken_as_utf_8() -> None:
    assert Job("naïve ☕").bytes == "naïve ☕".encode()
    assert Job("naïve ☕").text == "naïve ☕"


def test_json_is_parsed_from_bytes() -> None:
    assert Job(b'{"a": [1, null]}').json() == {"a": [1, None]}


@pytest.mark.parametrize("payload", [b"\xff\xfe\x00", b"\xc3"])
def test_bytes_that_are_no_text_reject_the_job(payload: bytes) -> None:
    with pytest.raises(Reject, match="UTF-8"):
        _ = Job(payload).text


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"{'a': 1}", b"[" * 200_000])
def test_a_payload_that_is_no_json_rejects_the_job(payload: bytes) -> None:
    with pytest.raises(Reject, match="not JSON"):
        Job(payload).json()


def test_the_payload_as_a_file_is_written_once(tmp_path: Path) -> None:
    job = Job(b"\x00\xff", directory=tmp_path)
    assert job.path.read_bytes() == b"\x00\xff"
    job.path.write_bytes(b"changed by the handler")
    assert job.path.read_bytes() == b"changed by the handler"
    assert job.path.parent == tmp_path == job.directory


def test_a_folder_nobody_gave_goes_with_its_job() -> None:
    job = Job(b"some text")
    folder = job.path.parent
    assert folder == job.directory
    assert job.path.read_bytes() == b"some text"
    del job
    gc.collect()
    assert not folder.exists()


def test_a_folder_that_was_given_stays(tmp_path: Path) -> None:
    job = Job(b"some text", directory=tmp_path)
    file = job.path
    del job
    gc.collect()
    assert file.exists()


@pytest.mark.parametrize(("said", "heard"), [(-1, 0.0), (0, 0.0), (0.4, 0.4), (7, 1.0), (float("nan"), 0.0)])
def test_progress_is_kept_between_0_and_1(said: float, heard: float) -> None:
    reports: list[tuple[float, str]] = []
    Job(b"", on_progress=lambda fraction, text: reports.append((fraction, text))).progress(said, "x")
    assert reports == [(heard, "x")]


def test_cancelled_asks_each_time() -> None:
    answers = iter([False, True])
    job = Job(b"", is_cancelled=lambda: next(answers))
    assert [job.cancelled, job.cancelled] == [False, True]
