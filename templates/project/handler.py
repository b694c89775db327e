"""Text analysis: words, sentences, reading time, readability, language, key phrases, sentiment and a short summary.

This is the one function asyncjobs runs for each job: replace its body with your own slow work. It gets the payload
(`job.text`, `job.bytes`, `job.json()` or `job.path`) and returns any JSON value, bytes or a Path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import analysis

from asyncjobs.worker import Job, Reject


def handle(job: Job, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Analyse the payload as UTF-8 text."""
    text = readable(job.bytes)
    watch = Watch(job)
    watch.report(0.0, "guessing the language")
    language = analysis.language(text)
    figures = analysis.read(text, english=language["code"] == "en", report=watch.part(0.0, 0.1, "reading"))
    pace(figures.words, watch.part(0.1, 0.6, "reading slowly"), sleep)
    result = {
        "characters": len(text),
        "words": figures.words,
        "uniqueWords": len(figures.counts),
        "sentences": len(figures.spoken),
        "paragraphs": figures.paragraphs,
        "readingTime": reading_time(figures.words),
        "language": language,
        "keyPhrases": analysis.key_phrases(figures),
        "summary": analysis.summary(figures, report=watch.part(0.6, 0.7, "comparing sentences")),
    }
    if figures.english:  # the formulas and the word list are made for English
        result |= in_english(figures, watch)
    watch.report(1.0, "done")
    return result


def in_english(figures: analysis.Figures, watch: Watch) -> dict[str, Any]:
    """Readability and sentiment, with 95 % intervals: the more `RESAMPLES`, the steadier and the slower."""
    resamples = max(1, int(os.environ.get("RESAMPLES", "2000")))
    between = analysis.intervals(figures, resamples=resamples, report=watch.part(0.7, 0.98, "measuring certainty"))
    readability, sentiment = analysis.readability(figures), analysis.sentiment(figures)
    return {
        "readability": readability | {"fleschReadingEaseInterval": between["fleschReadingEase"]},
        "sentiment": sentiment | {"interval": between["sentiment"]},
    }


def readable(payload: bytes) -> str:
    """The payload as text; what no second attempt could read is rejected, so it is not retried."""
    try:
        text = payload.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Reject(f"The payload is not UTF-8 text: byte {error.start} cannot be read.") from error
    if "\0" in text:
        raise Reject("The payload holds NUL bytes: it looks like a binary file, not a text.")
    if not analysis.words(text[:100_000]) and not analysis.words(text):
        raise Reject("The text has no words.")
    return text


def reading_time(words: int) -> dict[str, Any]:
    seconds = round(words * 60 / analysis.WORDS_PER_MINUTE)
    return {"seconds": seconds, "text": f"{seconds // 60} min {seconds % 60} s"}


def pace(words: int, report: analysis.Report, sleep: Callable[[float], None]) -> None:
    """For demonstrations: `PACE_SECONDS_PER_1000_WORDS=30` makes a small text take as long as a big one does."""
    seconds = float(os.environ.get("PACE_SECONDS_PER_1000_WORDS", "0")) * words / 1000
    steps = max(1, round(seconds * 2)) if seconds > 0 else 0
    for step in range(steps):
        sleep(seconds / steps)
        report((step + 1) / steps)


class Watch:
    """Passes progress on, at most once for each percent, and stops the work when the job was cancelled."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last = -1.0

    def part(self, start: float, end: float, message: str) -> analysis.Report:
        """A report for a stage that takes the job from one fraction to another."""
        return lambda done: self.report(start + (end - start) * done, message)

    def report(self, fraction: float, message: str) -> None:
        if fraction < 1 and fraction - self._last < 0.01:
            return
        self._last = fraction
        if self._job.cancelled:
            raise Reject("The job was cancelled.")
        self._job.progress(fraction, message)
