"""AWS clients as they are handed out."""

from __future__ import annotations

from typing import Any

from asyncjobs.aws import Clients


class FakeClient:
    def __init__(self) -> None:
        self.looked_at: list[str] = []

    @property
    def exceptions(self) -> None:
        self.looked_at.append("exceptions")


class FakeSession:
    def client(self, service: str, **_: Any) -> FakeClient:
        return FakeClient()


def test_a_clients_error_classes_are_made_before_any_thread_has_it():
    """botocore makes them on first use: two threads could each get classes of their own, and an `except` miss."""
    clients: Any = Clients(FakeSession())  # type: ignore[arg-type]
    assert clients.iam.looked_at == ["exceptions"]
    assert clients.iam is clients.iam
