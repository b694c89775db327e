"""The examples on their own inputs and on what people send instead."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from handlers import REPOSITORY, load

from asyncjobs import config
from asyncjobs.worker import Job, Reject

DOCUMENTS = REPOSITORY / "examples" / "document-processing"
ENRICHMENT = REPOSITORY / "examples" / "data-enrichment"
documents = load(DOCUMENTS)
enrichment = load(ENRICHMENT)

pypdf = pytest.importorskip("pypdf")


def enrich(payload: str | bytes, directory: Path, **options: Any) -> list[dict[str, str]]:
    path = enrichment.handle(Job(payload, directory=directory, **options))
    assert path.suffix == ".csv"
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True))


def pdf(pages: int = 1, password: str = "", **metadata: str) -> bytes:
    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(width=595, height=842)
    if metadata:
        writer.add_metadata({f"/{name}": value for name, value in metadata.items()})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("example", [DOCUMENTS, ENRICHMENT], ids=lambda path: path.name)
def test_an_example_can_be_brought_up(example: Path) -> None:
    loaded = config.load(example / "asyncjobs.toml", env={}, overrides={})
    assert loaded.worker.handler == "handler:handle"
    template = REPOSITORY / "templates" / "project"
    for name in ("Dockerfile", ".dockerignore"):
        assert (example / name).read_bytes() == (template / name).read_bytes()


def test_the_sample_pdf_gives_text_metadata_and_outline() -> None:
    reports: list[tuple[float, str]] = []
    job = Job(
        (DOCUMENTS / "sample.pdf").read_bytes(), on_progress=lambda fraction, said: reports.append((fraction, said))
    )
    result = documents.handle(job)

    assert (result["pages"], result["words"], result["pagesWithoutText"]) == (3, 329, [])
    assert "It weighs 212 kilograms" in result["text"][0]["text"]
    assert "a gull flew into" in result["text"][0]["text"]
    assert result["metadata"]["title"] == "The Harbour Light: Report of the Year"
    assert result["metadata"]["createdAt"] == "2026-11-01T09:00:00+00:00"
    assert result["metadata"]["pageSizeMillimetres"] == [210, 297]
    assert {"title": "Visitors", "depth": 2, "page": 2} in result["outline"]
    assert reports == [(1 / 3, "page 1 of 3"), (2 / 3, "page 2 of 3"), (1.0, "page 3 of 3")]


def test_a_scan_is_told_by_its_pages_without_text() -> None:
    result = documents.handle(Job(pdf(pages=2, Title="Scan")))
    assert (result["words"], result["pagesWithoutText"]) == (0, [1, 2])
    assert result["metadata"]["title"] == "Scan"


def test_a_date_that_is_none_is_left_out() -> None:
    result = documents.handle(Job(pdf(CreationDate="last Tuesday")))
    assert "createdAt" not in result["metadata"]


def test_one_damaged_page_does_not_cost_the_others() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO((DOCUMENTS / "sample.pdf").read_bytes()))
    contents = writer.pages[1]["/Contents"].get_object()
    contents[pypdf.generic.NameObject("/Filter")] = pypdf.generic.NameObject("/Unheard-of")
    out = io.BytesIO()
    writer.write(out)
    result = documents.handle(Job(out.getvalue()))

    assert result["pages"] == 3
    assert "error" in result["text"][1]
    assert result["text"][2]["words"] > 50


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not a PDF"),
        (b"just text", "not a PDF"),
        (b"%PDF-1.7\n", "damaged"),
        (b"%PDF-1.7\n" + b"garbage " * 100, "damaged"),
        (pdf(password="secret"), "password"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_the_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        documents.handle(Job(payload))


def test_a_file_that_is_only_locked_for_printing_opens() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO((DOCUMENTS / "sample.pdf").read_bytes()))
    writer.encrypt("", owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    result = documents.handle(Job(out.getvalue()))
    assert result["words"] == 329
    assert result["metadata"]["encrypted"] is True


@pytest.mark.parametrize(
    ("handle", "sample"), [(documents.handle, DOCUMENTS / "sample.pdf"), (enrichment.handle, ENRICHMENT / "people.csv")]
)
def test_a_cancelled_job_stops(handle: Any, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(Reject, match="cancelled"):
        handle(Job(sample.read_bytes(), directory=tmp_path, is_cancelled=lambda: True))


def test_the_sample_people_are_enriched(tmp_path: Path) -> None:
    reports: list[float] = []
    sample = (ENRICHMENT / "people.csv").read_text(encoding="utf-8")
    rows = enrich(sample, tmp_path, on_progress=lambda fraction, _: reports.append(fraction))

    originals = list(csv.DictReader(io.StringIO(sample, newline="")))
    assert [{name: row[name] for name in originals[0]} for row in rows] == originals
    ada, bram, _, dafydd, elif_, *_ = rows
    assert ada["phone_e164"] == "+12025550143"
    assert (ada["country_code"], ada["country_name"], ada["country_flag"]) == ("US", "United States", "🇺🇸")
    assert ada["address_normalised"] == "12 Elm Street, Springfield, IL 62701"
    assert (bram["email_domain"], bram["phone_region"], bram["phone_kind"]) == ("example.nl", "NL", "fixed line")
    assert dafydd["address_normalised"] == "3 Harbour Road, Aberystwyth, SY23 2JB"
    assert dafydd["phone_e164"] == "+442079460958"
    assert [row["email_kind"] for row in rows[:5]] == ["reserved", "organisation", "free", "role", "disposable"]
    assert (elif_["phone_e164"], elif_["phone_kind"], elif_["country_name"]) == ("", "invalid", "Türkiye")
    atlantis = rows[9]
    assert (atlantis["country_code"], atlantis["address_normalised"]) == ("", "St Olof Square, Uppsala")
    assert reports == sorted(reports)
    assert reports[-1] == 1.0


def test_only_the_columns_that_are_there_are_enriched(tmp_path: Path) -> None:
    rows = enrich("\ufeffId;Country ;note\r\n1;uk;a, b\r\n2;;\r\n", tmp_path)
    assert list(rows[0]) == [
        "Id",
        "Country ",
        "note",
        "country_code",
        "country_name",
        "country_flag",
        "country_alpha_3",
    ]
    assert [row["country_code"] for row in rows] == ["GB", ""]
    assert rows[0]["note"] == "a, b"


def test_many_rows_report_about_fifty_times(tmp_path: Path) -> None:
    reports: list[float] = []
    rows = enrich(
        "email\n" + "a@example.com\n" * 5000, tmp_path, on_progress=lambda fraction, _: reports.append(fraction)
    )
    assert len(rows) == 5000
    assert 45 <= len(reports) <= 55


def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(tmp_path: Path) -> None:
    rows = enrich('email,phone,note\na@example.org,+49 30 901820,"=HYPERLINK(""http://x"")"\n', tmp_path)
    assert rows[0]["note"] == '\'=HYPERLINK("http://x")'
    assert rows[0]["phone"] == "+49 30 901820"
    assert rows[0]["phone_e164"] == "+4930901820"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "it has nothing"),
        (b"name,age\nAda,36\n", "none of email"),
        (b"email\n", "no rows"),
        (b"email,phone\na@example.com\n", "Line 2 does not have 2 columns"),
        (b"email\na@example.com,surplus\n", "Line 2 does not have 1 columns"),
        (b"email,Email\na,b\n", "same name"),
        (b"email\n\xff\xfe\n", "byte 6"),
        (b'email\n"open\n', "not CSV"),
    ],
)
def test_a_csv_that_cannot_be_read_is_rejected_with_the_reason(payload: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Reject, match=reason):
        enrich(payload, tmp_path)
