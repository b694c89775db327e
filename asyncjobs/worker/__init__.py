"""What a handler imports, and the runtime that runs it (`python -m asyncjobs.worker`)."""

from asyncjobs.worker.job import Job, Reject

__all__ = ["Job", "Reject"]
