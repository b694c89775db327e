"""The text analysis that `asyncjobs init` writes."""

from __future__ import annotations

from typing import Any

import pytest
from handlers import REPOSITORY, load

from asyncjobs.worker import Job, Reject

PROJECT = REPOSITORY / "templates" / "project"
handler = load(PROJECT)
analysis: Any = handler.analysis

KNOWN = """Dr. Fox ran home. "Was he late?" asked Mrs. Hen. He wasn't!

The well-known fox, e.g. this one, paid 3.50 for tea... and smiled."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESAMPLES", "20")


def test_words_sentences_and_paragraphs_of_a_known_text_are_exact() -> None:
    result = handler.handle(Job(KNOWN))

    assert result["sentences"] == 4
    assert result["words"] == 4 + 6 + 2 + 14
    assert result["paragraphs"] == 2
    assert result["uniqueWords"] == len(set(analysis.words(KNOWN.lower())))
    assert result["characters"] == len(KNOWN)
    assert result["language"]["code"] == "en"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("J. R. R. Tolkien wrote it. It is long.", ["J. R. R. Tolkien wrote it.", "It is long."]),
        ("“Stop!” he said. “Why?”", ["“Stop!” he said.", "“Why?”"]),
        ("Version 2.0 costs 3.50 now.", ["Version 2.0 costs 3.50 now."]),
        ("Wrapped\nover  lines. Yes.", ["Wrapped over lines.", "Yes."]),
        ("今日は。元気ですか？はい", ["今日は。", "元気ですか？", "はい"]),
        ("... !!! ---", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert list(analysis.sentences(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don’t stop the mother-in-law", ["don’t", "stop", "the", "mother-in-law"]),
        ("naïve café 🎈 Straße", ["naïve", "café", "Straße"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("日本語 word", ["日", "本", "語", "word"]),
        ("_under_score_ -- 'quoted'", ["under", "score", "quoted"]),
    ],
)
def test_words_of_any_script_are_whole(text: str, expected: list[str]) -> None:
    assert analysis.words(text) == expected


@pytest.mark.parametrize(
    ("word", "count"),
    [("fox", 1), ("the", 1), ("table", 2), ("wanted", 2), ("walked", 1), ("machines", 2), ("places", 2),
     ("beautiful", 3), ("yes", 1), ("rhythm", 1), ("university", 5), ("42", 1)],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert analysis.syllables(word) == count


def test_readability_is_the_formulas_and_simple_prose_is_easier() -> None:
    simple = handler.handle(Job("The cat sat on the mat. The dog ran to the cat. They all had fun."))["readability"]
    # 16 words of one syllable in 3 sentences: 206.835 - 1.015 * 16 / 3 - 84.6.
    assert simple["fleschReadingEase"] == 116.8
    assert simple["fleschKincaidGrade"] == round(0.39 * 16 / 3 + 11.8 - 15.59, 1)
    assert simple["level"] == "very easy"
    low, high = simple["fleschReadingEaseInterval"]
    assert low <= simple["fleschReadingEase"] <= high

    hard = handler.handle(
        Job("Notwithstanding considerable administrative difficulties, international organisations "
            "systematically reconsidered the implementation of interdisciplinary recommendations.")
    )["readability"]  # fmt: skip
    assert hard["level"] == "very difficult"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this wonderful day. It is great and I am very happy.", "positive"),
        ("What a terrible, ugly and sad failure. I hate it.", "negative"),
        ("The table has four legs. The room has two doors.", "neutral"),
    ],
)
def test_sentiment(text: str, label: str) -> None:
    assert handler.handle(Job(text))["sentiment"]["label"] == label


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Der Hund läuft jeden Morgen durch den Wald und freut sich über den frischen Schnee.", "de"),
        ("Le chat dort toute la journée sur le canapé et ne se lève que pour manger.", "fr"),
        ("今日はとても天気がいいので、散歩に行きました。", "ja"),
    ],
)
def test_other_languages_get_the_figures_that_make_sense_for_them(text: str, code: str) -> None:
    result = handler.handle(Job(text))

    assert result["language"]["code"] == code
    assert result["words"] > 10
    assert "readability" not in result
    assert "sentiment" not in result


def test_the_sample_text_gives_its_real_figures() -> None:
    result = handler.handle(Job((PROJECT / "sample.txt").read_bytes()))

    assert (result["words"], result["sentences"], result["paragraphs"]) == (4270, 173, 56)
    assert result["language"]["code"] == "en"
    phrases = {entry["phrase"]: entry["count"] for entry in result["keyPhrases"]}
    assert phrases["alice"] == 36
    assert "white kid gloves" in phrases
    assert len(result["summary"]) == 3
    assert result["readingTime"] == {"seconds": 1076, "text": "17 min 56 s"}


def test_the_same_text_gives_the_same_answer_again() -> None:
    assert handler.handle(Job(KNOWN * 20)) == handler.handle(Job(KNOWN * 20))


def test_progress_only_grows_and_ends_at_one() -> None:
    reports: list[tuple[float, str]] = []
    handler.handle(
        Job((PROJECT / "sample.txt").read_bytes(), on_progress=lambda fraction, said: reports.append((fraction, said)))
    )

    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(set(fractions))
    assert (fractions[0], reports[-1]) == (0.0, (1.0, "done"))
    assert 15 < len(reports) <= 110
    said = list(dict.fromkeys(message for _, message in reports))
    assert said == ["guessing the language", "reading", "comparing sentences", "measuring certainty", "done"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no words"),
        (b" \n\t ", "no words"),
        ("… — 🎈!?".encode(), "no words"),
        (b"caf\xe9", "byte 3"),
        (b"%PDF-1.7\0\0", "NUL"),
    ],
)
def test_what_is_no_text_is_rejected_with_the_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        handler.handle(Job(payload))


@pytest.mark.parametrize(
    "text", ["a", "42", "\ufeffHello", "x" * 5000, "word " * 3, "\r\n\r\nHi.\r\n\r\n\r\nYou.", "\u202eabc"]
)
def test_odd_texts_are_analysed(text: str) -> None:
    assert handler.handle(Job(text))["words"] >= 1


def test_a_cancelled_job_stops_at_the_next_report() -> None:
    reports: list[float] = []
    job = Job(
        (PROJECT / "sample.txt").read_bytes(),
        on_progress=lambda fraction, _: reports.append(fraction),
        is_cancelled=lambda: len(reports) >= 3,
    )
    with pytest.raises(Reject, match="cancelled"):
        handler.handle(job)
    assert len(reports) == 3


def test_pace_slows_a_demonstration_down_by_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACE_SECONDS_PER_1000_WORDS", "10")
    slept: list[float] = []
    messages: list[str] = []
    handler.handle(
        Job("Some words here. " * 1000, on_progress=lambda _, said: messages.append(said)), sleep=slept.append
    )

    assert sum(slept) == pytest.approx(30)
    assert max(slept) <= 0.5
    assert "reading slowly" in messages


def test_without_pace_nothing_sleeps() -> None:
    slept: list[float] = []
    handler.handle(Job(KNOWN), sleep=slept.append)
    assert slept == []


@pytest.mark.parametrize(
    "text",
    [
        (PROJECT / "sample.txt").read_text(encoding="utf-8") * 46,
        "." * 500_000 + " a" + "\n" * 500_000,
        "word-" * 200_000,
        '."' * 500_000 + "a",
        "but good, " * 100_000,
    ],
    ids=["prose", "dots and blank lines", "hyphens", "quotes", "one sentence"],
)
def test_a_megabyte_is_finished_whatever_it_looks_like(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESAMPLES", "2")
    assert len(text) > 900_000
    assert handler.handle(Job(text))["words"] >= 1
