"""What SQS refuses and emulators may take. Source: the SendMessage page of the SQS API reference."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_MESSAGE_BYTES = 1_048_576

# Allowed: #x9 | #xA | #xD | #x20-#xD7FF | #xE000-#xFFFD | #x10000-#x10FFFF.
_REFUSED = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sqs_refuses(text: str) -> bool:
    """Whether SQS refuses a message body or attribute value for the characters in it (`InvalidMessageContents`)."""
    return _REFUSED.search(text) is not None


def message_bytes(body: str, attributes: Mapping[str, tuple[str, str]]) -> int:
    """What SQS counts against its limit: the body, and each attribute's name, type and value, in UTF-8.

    Args:
        attributes: By name, their type and value.
    """
    parts = [body, *(part for name, (type_, value) in attributes.items() for part in (name, type_, value))]
    return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)
