"""Job ids: `<13-digit epoch milliseconds>-<1 to 64 of A-Za-z0-9._->`. They sort by time of submission."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

ID_PATTERN = re.compile(r"[0-9]{13}-[A-Za-z0-9._-]{1,64}\Z")


def mint(now: Callable[[], float] = time.time) -> str:
    """A new id for a submission made now (`now` in epoch seconds)."""
    return f"{int(now() * 1000):013d}-{uuid.uuid4()}"


def is_well_formed(job_id: str) -> bool:
    return ID_PATTERN.match(job_id) is not None


def submitted_ms(job_id: str) -> int:
    """The epoch milliseconds an id carries. The id must be well formed."""
    return int(job_id[:13])
