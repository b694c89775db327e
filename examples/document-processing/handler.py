"""PDF in, text and metadata out, page by page."""

from __future__ import annotations

import io
import re
import unicodedata
from datetime import datetime
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError

from asyncjobs.worker import Job, Reject


def handle(job: Job) -> dict[str, Any]:
    """Read a PDF: its metadata, its outline, the text of each page, and what could not be read."""
    reader = open_pdf(job.bytes)
    count = len(reader.pages)
    pages = []
    for number, page in enumerate(reader.pages, start=1):
        if job.cancelled:
            raise Reject("The job was cancelled.")
        pages.append(read_page(number, page))
        job.progress(number / count, f"page {number} of {count}")
    return {
        "pages": count,
        "words": sum(page["words"] for page in pages),
        "metadata": metadata(reader),
        "outline": outline(reader),
        # Pages without a text are most often scans: they need OCR, which this example does not do.
        "pagesWithoutText": [page["page"] for page in pages if not page["words"] and "error" not in page],
        "text": pages,
    }


def open_pdf(payload: bytes) -> PdfReader:
    """The document; a payload that no second attempt could read is rejected, so it is not retried."""
    # Readers accept a header within the first kilobyte: ISO 32000-1, annex H.3.4.1.
    if b"%PDF-" not in payload[:1024]:
        raise Reject("The payload is not a PDF: it does not start with %PDF-.")
    try:
        reader = PdfReader(io.BytesIO(payload))
        # Many files are encrypted only to forbid printing, and open with an empty password.
        if reader.is_encrypted and not reader.decrypt(""):
            raise Reject("The PDF is protected by a password.")
        if not reader.pages:
            raise Reject("The PDF has no pages.")
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Reject(f"The PDF is damaged: {error}") from error
    return reader


def read_page(number: int, page: PageObject) -> dict[str, Any]:
    try:
        text = tidy(page.extract_text())
    except Exception as error:  # one damaged page must not cost the others; pypdf raises many kinds here
        return {"page": number, "words": 0, "text": "", "error": f"{type(error).__name__}: {error}"}
    return {"page": number, "words": len(text.split()), "text": text}


def tidy(text: str) -> str:
    """Undo what the layout did: ligatures (ﬁ), words hyphenated at the end of a line, runs of spaces."""
    text = re.sub(r"[\ufb00-\ufb06]", lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = re.sub(r"(?<=[a-zà-ÿ])-\n(?=[a-zà-ÿ])", "", text.replace("\0", ""))
    lines = (re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def metadata(reader: PdfReader) -> dict[str, Any]:
    """What the document says about itself; what it does not say is left out."""
    info = reader.metadata
    box = reader.pages[0].mediabox
    found: dict[str, Any] = {
        "version": reader.pdf_header.removeprefix("%PDF-"),
        "encrypted": reader.is_encrypted,
    }
    found["pageSizeMillimetres"] = [round(float(side) / 72 * 25.4) for side in (box.width, box.height)]
    for name in ("title", "author", "subject", "creator", "producer"):
        if value := getattr(info, name, None):
            found[name] = str(value)
    for name, attribute in (("createdAt", "creation_date"), ("modifiedAt", "modification_date")):
        if value := date(info, attribute):
            found[name] = value
    return found


def date(info: object, attribute: str) -> str | None:
    try:
        value = getattr(info, attribute, None)
    except ValueError:  # a date that is not one; common in the wild
        return None
    return value.isoformat() if isinstance(value, datetime) else None


def outline(reader: PdfReader) -> list[dict[str, Any]]:
    """The bookmarks with their depth and page."""
    try:
        return list(_flatten(reader, reader.outline, 1))
    except Exception:  # a broken outline says nothing about the pages
        return []


def _flatten(reader: PdfReader, entries: list[Any], depth: int) -> list[dict[str, Any]]:
    flat: list[dict[str, Any]] = []
    for entry in entries:
        if isinstance(entry, list):
            flat += _flatten(reader, entry, depth + 1)
            continue
        number = reader.get_destination_page_number(entry)
        page = {"page": number + 1} if number is not None and number >= 0 else {}
        flat.append({"title": str(entry.title), "depth": depth, **page})
    return flat
