"""CSV in, the same CSV with more columns out: e-mail, phone, country and address, checked and put in order.

Everything comes from tables in the packages: no person's data leaves the worker.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import phonenumbers
import pycountry
from phonenumbers import PhoneNumberType

from asyncjobs.worker import Job, Reject

TABLES = tomllib.loads(Path(__file__).with_name("tables.toml").read_text(encoding="utf-8"))
RESERVED_MAIL = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost)$")  # RFC 2606
EMAIL = re.compile(r"[^@\s,;<>()\"]{1,64}@((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9])")
PHONE_TYPES = {
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE: "fixed line",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed line or mobile",
    PhoneNumberType.TOLL_FREE: "toll free",
    PhoneNumberType.PREMIUM_RATE: "premium rate",
    PhoneNumberType.VOIP: "internet",
}
CODES = re.compile(
    r"\b(?:[a-z]{1,2}\d[a-z\d]? ?\d[a-z]{2}|[a-z]\d[a-z] ?\d[a-z]\d|[a-z]{2}(?= \d{5}\b))\b", re.IGNORECASE
)

Row = dict[str, str]


def handle(job: Job) -> Path:
    """Enrich a CSV with any of the columns email, phone, country and address; all columns are kept as they are."""
    reader = open_csv(job.bytes)
    rows = list(read_rows(reader))
    steps = [step for column, step in ENRICHERS.items() if column in names(reader)]
    for number, row in enumerate(rows, start=1):
        values = {name.strip().lower(): value.strip() for name, value in row.items()}
        for step in steps:
            row |= step(values)
        if number % max(1, len(rows) // 50) == 0 or number == len(rows):
            if job.cancelled:
                raise Reject("The job was cancelled.")
            job.progress(number / len(rows), f"row {number} of {len(rows)}")
    return write_csv(rows, job.directory / "enriched.csv")


def open_csv(payload: bytes) -> csv.DictReader[str]:
    """A reader for the payload; what no second attempt could read is rejected, so it is not retried."""
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Reject(f"The CSV is not UTF-8: byte {error.start} cannot be read.") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        found = names(reader)
    except csv.Error as error:
        raise Reject(f"The header is not CSV: {error}.") from error
    if not ENRICHERS.keys() & set(found):
        raise Reject(f"The header has none of {', '.join(ENRICHERS)}; it has {', '.join(found) or 'nothing'}.")
    if len(set(found)) < len(found):
        raise Reject("Two columns have the same name.")
    return reader


def names(reader: csv.DictReader[str]) -> list[str]:
    return [name.strip().lower() for name in reader.fieldnames or []]


def read_rows(reader: csv.DictReader[str]) -> Iterator[Row]:
    found = False
    try:
        for row in reader:
            if None in row or None in row.values():
                raise Reject(f"Line {reader.line_num} does not have {len(reader.fieldnames or [])} columns.")
            found = True
            yield row
    except csv.Error as error:
        raise Reject(f"Line {reader.line_num} is not CSV: {error}.") from error
    if not found:
        raise Reject("The CSV has no rows under its header.")


def write_csv(rows: list[Row], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    return path


def harmless(value: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; phone numbers are left as they are."""
    return f"'{value}" if value[:1] in ("=", "@", "\t", "\r") or re.match(r"[+-][^\d\s(]", value) else value


def email(values: Row) -> Row:
    match = EMAIL.fullmatch(values["email"].lower())
    if match is None:
        return {"email_domain": "", "email_kind": "invalid" if values["email"] else ""}
    domain = match[1]
    return {"email_domain": domain, "email_kind": kind_of_mail(values["email"].lower().split("@")[0], domain)}


def kind_of_mail(name: str, domain: str) -> str:
    if domain in TABLES["mail"]["disposable"]:
        return "disposable"
    if name.split("+")[0] in TABLES["mail"]["roles"]:
        return "role"
    if RESERVED_MAIL.search(domain):
        return "reserved"
    return "free" if domain in TABLES["mail"]["free"] else "organisation"


def phone(values: Row) -> Row:
    """E.164 form, region and kind; a national number is read as one of the row's country."""
    try:
        number = phonenumbers.parse(values["phone"], country_code(values.get("country", "")) or None)
    except phonenumbers.NumberParseException:
        return {"phone_e164": "", "phone_region": "", "phone_kind": "invalid" if values["phone"] else ""}
    valid = phonenumbers.is_valid_number(number)
    return {
        "phone_e164": phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164),
        "phone_region": phonenumbers.region_code_for_number(number) or "",
        "phone_kind": PHONE_TYPES.get(phonenumbers.number_type(number), "other") if valid else "not in use",
    }


def country(values: Row) -> Row:
    code = country_code(values["country"])
    found: Any = pycountry.countries.get(alpha_2=code) if code else None
    return {
        "country_code": code,
        "country_name": getattr(found, "common_name", found.name) if found else "",
        "country_flag": getattr(found, "flag", "") if found else "",
        "country_alpha_3": found.alpha_3 if found else "",
    }


@lru_cache(maxsize=2_000)
def country_code(text: str) -> str:
    """The ISO 3166 code of a country's name or code in common use, or nothing."""
    key = " ".join(text.lower().split())
    if alias := TABLES["countries"].get(key):
        return str(alias)
    try:
        return str(pycountry.countries.lookup(key).alpha_2) if key else ""
    except LookupError:
        return ""


def address(values: Row) -> Row:
    """One line, with street types written out; British, Canadian and US codes in capitals."""
    parts = (" ".join(part.split()) for part in re.split(r"[,\n]+", values["address"]))
    line = ", ".join(part for part in parts if part)
    if line.isupper() or line.islower():
        line = re.sub(r"[^\W\d_]+(?:['’][^\W\d_]+)*", lambda word: word[0].capitalize(), line)
    # Only at the end of a part: "St" before a name is a saint.
    line = re.sub(r"\b(\w{2,4})\.?(?=,|$)", lambda word: TABLES["streets"].get(word[1].lower(), word[0]), line)
    line = re.sub(r"\b(apt|ste)\.?(?= \d)", lambda word: TABLES["streets"][word[1].lower()], line, flags=re.IGNORECASE)
    return {"address_normalised": CODES.sub(lambda code: code[0].upper(), line)}


ENRICHERS: dict[str, Callable[[Row], Row]] = {
    "email": email,
    "phone": phone,
    "country": country,
    "address": address,
}
