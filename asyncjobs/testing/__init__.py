"""For tests: a handler run as a worker runs it, and the worker's queue, table and bucket in memory.

    from asyncjobs.testing import run

    def test_words_are_counted():
        assert run(handle, "three small words").result == {"words": 3}

The fakes keep the conditions of the real ones: visibility timeouts, leases, fencing tokens, generations.
"""

from asyncjobs.testing.clock import Clock
from asyncjobs.testing.lines import Lines
from asyncjobs.testing.objects import InMemoryObjects
from asyncjobs.testing.queue import InMemoryQueue
from asyncjobs.testing.runs import Run, run
from asyncjobs.testing.slots import FakeSlot
from asyncjobs.testing.store import InMemoryStore, Record

__all__ = [
    "Clock",
    "FakeSlot",
    "InMemoryObjects",
    "InMemoryQueue",
    "InMemoryStore",
    "Lines",
    "Record",
    "Run",
    "run",
]
