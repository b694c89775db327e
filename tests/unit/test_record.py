from __future__ import annotations

import pytest

from asyncjobs.jobs import ids
from asyncjobs.jobs.record import SHARDS, iso_time, shard_key

ID = "1795416232123-abc"


def test_times_are_iso_8601_utc_with_milliseconds() -> None:
    assert iso_time(1_795_416_232_123) == "2026-11-23T06:43:52.123Z"
    assert iso_time(1_795_416_232_000) == "2026-11-23T06:43:52.000Z"
    assert iso_time(1_795_416_232_007) == "2026-11-23T06:43:52.007Z"


def test_a_minted_id_is_well_formed_and_says_when() -> None:
    job_id = ids.mint(lambda: 1_795_416_232.123)
    assert ids.is_well_formed(job_id)
    assert ids.submitted_ms(job_id) == 1_795_416_232_123


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        "1795416232123",
        "1795416232123-",
        "179541623212-abc",
        "1795416232123-a b",
        "1795416232123-" + "x" * 65,
        "1795416232123-abc\n",
        "1795416232123-é",
        "x1795416232123-abc",
        "١٧٩٥٤١٦٢٣٢١٢٣-abc",
    ],
)
def test_malformed_ids_are_none(job_id: str) -> None:
    assert not ids.is_well_formed(job_id)


def test_jobs_of_a_status_spread_over_the_shards() -> None:
    shards = {shard_key("QUEUED", ids.mint()) for _ in range(400)}
    assert shards == {f"QUEUED#{number}" for number in range(SHARDS)}
    assert shard_key("QUEUED", ID) == shard_key("QUEUED", ID)
